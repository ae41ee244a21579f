"""A small verdict on made-up recordings: the candidate hears more, loses one word, and one transcript is markup."""

from types import SimpleNamespace
from typing import Literal

import pytest

from mondegreen.config import Params
from mondegreen.loop.verdict import decide
from mondegreen.records import Domain, Hypothesis, Utterance

MARKUP = "<script>alert(1)</script> & more"


def utterance(number: int, domain: Domain = "target") -> Utterance:
    return Utterance(
        id=f"{domain}{number:02}", path=f"data/{domain}/<b>{number}</b>.wav", sha256="0" * 64, duration=1.0,
        condition=("clean", "noisy")[number % 2], speaker=f"s{number}", recording=f"r{number}",
        reference="the quick brown fox jumps over it", split="test", domain=domain,
    )  # fmt: skip


def heard(spoken: Utterance, text: str, model: Literal["old", "new"]) -> Hypothesis:
    return Hypothesis(
        id=spoken.id, path=spoken.path, text=text, confidence=0.9, duration=1.0, words=[], nbest=[], model=model
    )


@pytest.fixture(scope="session")
def case() -> SimpleNamespace:
    utterances = [utterance(n) for n in range(30)] + [utterance(n, "retention") for n in range(15)]
    old, new = [], []
    for spoken in utterances:
        bad = spoken.domain == "target" and int(spoken.id[-2:]) % 3 != 0
        old.append(heard(spoken, "the quick crown fox jumps" if bad else spoken.reference, "old"))
        new.append(heard(spoken, spoken.reference, "new"))
    new[0] = heard(utterances[0], "the quick brown fox jumps over", "new")
    new[1] = heard(utterances[1], f"{MARKUP} quick brown fox", "new")
    params = Params()
    return SimpleNamespace(
        verdict=decide(utterances, old, new, params), utterances=utterances, baseline=old, candidate=new, params=params
    )
