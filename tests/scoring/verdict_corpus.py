"""Made-up utterances and what two models misheard of them, for tests of verdicts."""

from collections.abc import Callable
from typing import Any

from mondegreen.config import Params
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.decision import decide
from mondegreen.scoring.paired_sets import pair_test_sets
from mondegreen.scoring.verdict import Look, Verdict

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
Wrong = Callable[[int], int]  # number of the utterance -> misheard words


def params(**changes: Any) -> Params:
    """Few samples, so that tests are quick."""
    return Params.model_validate({"validate": {"bootstrap_samples": 1000, "permutations": 2000} | changes})


def corpus(size: int, prefix: str = "t", **changes: Any) -> list[Utterance]:
    """Utterances of ten words by twenty speakers, each a recording of its own."""
    rows = []
    for number in range(size):
        key = f"{prefix}{number:03}"
        fields = {
            "id": key, "path": f"data/{key}.wav", "sha256": key, "duration": 4.0, "speaker": f"s{number % 20}",
            "condition": "noisy" if number % 2 else "clean", "recording": key, "reference": " ".join(WORDS),
            "split": "test", "domain": "target",
        }  # fmt: skip
        rows.append(Utterance.model_validate(fields | changes))
    return rows


def hyps(utterances: list[Utterance], wrong: Wrong, model: str = "base") -> list[Hypothesis]:
    """Hypotheses with so many substituted words in each utterance."""
    return [
        Hypothesis(
            id=row.id, path=row.path, text=" ".join(["eleven"] * wrong(number) + WORDS[wrong(number) :]),
            confidence=0.5, duration=row.duration, words=[], nbest=[], model=model,
        )
        for number, row in enumerate(utterances)
    ]  # fmt: skip


def verdict_on(
    utterances: list[Utterance],
    baseline: list[Hypothesis],
    candidate: list[Hypothesis],
    rules: Params,
    look: Look | None = None,
) -> Verdict:
    """The verdict on what two models said."""
    return decide(pair_test_sets(utterances, baseline, candidate, rules), rules, look)


def judge(
    before: Wrong,
    after: Wrong,
    retained: Wrong = lambda number: 1,
    speakers: dict[str, str] | None = None,
    size: int = 60,
    rules: Params | None = None,
    look: Look | None = None,
) -> Verdict:
    """The verdict on so many misheard words before and after, in the test set and (after) in the retention set."""
    test = corpus(size, **(speakers or {}))
    guard = corpus(20, "r", domain="retention", recording="", speaker="")
    return verdict_on(
        test + guard,
        hyps(test, before) + hyps(guard, lambda number: 1),
        hyps(test, after, "tuned") + hyps(guard, retained, "tuned"),
        rules or params(),
        look,
    )
