"""The benchmark of the rule for merge weights: deals are fair, and both rules see the same recordings."""

from pathlib import Path

import pytest

from benchmarks import merge_weight
from benchmarks.merge_weight import Heard, chosen, deals, measure
from benchmarks.training_seeds import Round
from mondegreen.config import Params, TrainParams
from mondegreen.records import Utterance
from mondegreen.speech.model import SpeechModel
from tests.end_to_end.test_training_seeds import project

__all__ = ["project"]  # a fixture
PARAMS = Params(train=TrainParams(merge_weights=(0.5, 1.0)))


def said(number: int, domain: str, speaker: str = "") -> Utterance:
    name = f"{domain}{number}"
    return Utterance.model_validate(
        {"id": name, "path": f"{name}.wav", "sha256": name, "duration": 1.0, "condition": "clean", "speaker": speaker}
        | {"recording": name, "reference": "five words are in it", "split": "test", "domain": domain}
    )


ROWS = [*(said(number, "target") for number in range(40)), *(said(number, "retention") for number in range(60))]


def test_a_deal_has_the_sizes_and_every_recording_once_and_is_the_same_again() -> None:
    found = list(deals(ROWS, (10, 90), 5, PARAMS))
    for deal in found:
        assert [len(part) for part in deal.choosing] == [10, 30]  # half the set at most
        for domain, choosing, judging in zip(("target", "retention"), deal.choosing, deal.judging, strict=True):
            assert sorted([*choosing, *judging]) == sorted(row.id for row in ROWS if row.domain == domain)
    assert found == list(deals(ROWS, (10, 90), 5, PARAMS)) and len({str(deal) for deal in found}) == 5
    spoken = [said(number, "target", f"s{number % 12}") for number in range(36)]
    for deal in deals([*spoken, *ROWS[40:]], (7, 9), 3, PARAMS):
        voices = [{int(name.removeprefix("target")) % 12 for name in part[0]} for part in (deal.choosing, deal.judging)]
        assert not voices[0] & voices[1] and len(deal.choosing[0]) == 9  # whole speakers


def test_the_bound_forgoes_what_few_recordings_cannot_vouch_for() -> None:
    """At weight 1 eight of sixty retention recordings lose a word of five, 2.7 points; a small part may hold fewer."""
    lost = {f"retention{number}" for number in range(8)}
    counts = {
        weight: {
            row.id: (wrong if row.domain == "target" else int(weight == 1.0 and row.id in lost), 5) for row in ROWS
        }
        for weight, wrong in ((0.0, 4), (0.5, 2), (1.0, 1))
    }
    heard = Heard(key="k", seed=1, counts=counts)
    pairs = [
        [chosen(heard, deal, rule, PARAMS) for rule in ("estimate", "bound")]
        for deal in deals(ROWS, (10, 20), 30, PARAMS)
    ]
    old, new = zip(*pairs, strict=True)
    assert any(choice.weight == 1.0 and choice.promised_loss <= 0.02 < choice.loss for choice in old)
    assert sum(choice.weight for choice in new) < sum(choice.weight for choice in old)
    assert max(choice.loss for choice in new if choice.weight == 0.5) == 0
    assert {round(choice.improvement, 9) for choice in new if choice.weight == 0.5} == {0.4}


def test_a_training_is_heard_once_at_every_weight(
    project: tuple[SpeechModel, Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, params = project
    params = params.model_copy(update={"train": params.train.model_copy(update={"merge_weights": (0.5, 1.0)})})
    data = Round.read(Path("build"), base)
    first = measure(base, data, params.seed, params)
    assert set(first.counts) == {0.0, 0.5, 1.0}
    assert all(set(found) == {row.id for row in data.judging} for found in first.counts.values())
    monkeypatch.setattr(merge_weight, "finetune", lambda *inputs: pytest.fail("trained again"))
    assert measure(base, data, params.seed, params) == first

    monkeypatch.setattr(merge_weight, "load_params", lambda: params)
    monkeypatch.setattr(merge_weight, "load_model", lambda name: base)
    monkeypatch.setattr("sys.argv", ["merge_weight", "--trainings", "1", "--deals", "2"])
    merge_weight.main()
    lines = capsys.readouterr().out.splitlines()
    own = f"| {params.seed}"
    assert [line.split(" | ")[:2] for line in lines if line.startswith(own)] == [[own, "1"], [own, "2"]]
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| estimate", "| bound"]
