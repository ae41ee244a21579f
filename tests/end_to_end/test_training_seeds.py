"""The benchmark over training seeds: each seed is a round of its own, and nothing else of it is drawn anew."""

from pathlib import Path

import pytest

from benchmarks import training_seeds
from benchmarks.training_seeds import MEASURED, Round, shown, trial
from mondegreen.config import Params, TrainParams
from mondegreen.errors import UsageError
from mondegreen.files import write_jsonl
from mondegreen.records import Example, Utterance
from mondegreen.speech.corpus_transcription import transcribe_corpus
from mondegreen.speech.model import SpeechModel, load_model
from mondegreen.speech.transcriber import load_transcriber
from tests.speech.tones import tone_corpus
from tests.tiny import save_model


def judged(example: Example, domain: str, split: str = "test") -> Utterance:
    return Utterance.model_validate(
        example.model_dump(include={"id", "path", "sha256", "duration"})
        | {"condition": "clean", "speaker": "", "recording": example.id, "reference": example.text}
        | {"split": split, "domain": domain}
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SpeechModel, Params]:
    """Outputs of prepare, transcribe and select, of a tiny model."""
    monkeypatch.chdir(tmp_path)
    base = load_model(str(save_model(tmp_path / "base")))
    params = Params(train=TrainParams(epochs=2, batch_seconds=3.0, learning_rate=1e-2))
    learnt, known = tone_corpus(Path("learnt"), pitch=1.05), tone_corpus(Path("known"))
    rows = [judged(row, "target") for row in learnt[:4]] + [judged(row, "retention") for row in known[:4]]
    rows.append(judged(learnt[4], "target", "train"))
    for name, examples in (("train", learnt[4:]), ("dev", learnt[4:]), ("retention", known[4:])):
        write_jsonl(Path(f"build/select/{name}.jsonl"), examples)
    write_jsonl(Path("build/prepare/manifest.jsonl"), rows)
    heard = transcribe_corpus(rows, load_transcriber(str(tmp_path / "base"), params), tmp_path / "memory")
    write_jsonl(Path("build/transcribe/hypotheses.jsonl"), heard)
    return base, params


def test_only_the_training_differs_and_what_was_measured_is_not_measured_again(
    project: tuple[SpeechModel, Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, params = project
    data = Round.read(Path("build"), base)
    assert {row.split for row in data.judging} == {"test"} and len(data.judging) == len(data.baseline) == 8
    one, other = (trial(base, data, params.seed + more, params) for more in (0, 1))
    assert one.verdict.candidate_model != other.verdict.candidate_model
    for name in ("reference_digest", "baseline_model", "baseline", "alpha", "look", "words"):
        assert getattr(one.verdict, name) == getattr(other.verdict, name)
    assert one.dev_before == other.dev_before and one.verdict.look and one.verdict.look.number == 1
    assert not list(Path().rglob("*.db")), "no look was to be counted"
    assert shown(one)["verdict"] == one.verdict.outcome

    def refused(*_: object) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(training_seeds, "finetune", refused)
        assert [trial(base, data, params.seed + more, params) for more in (0, 1)] == [one, other]
        stricter = params.model_copy(update={"validate_": params.validate_.model_copy(update={"alpha": 0.01})})
        with pytest.raises(AssertionError, match="trained again"):
            trial(base, data, params.seed, stricter)
    MEASURED.unlink()
    assert trial(base, data, params.seed, params).verdict == one.verdict


def test_hypotheses_of_other_weights_are_refused(project: tuple[SpeechModel, Params], tmp_path: Path) -> None:
    other = load_model(str(save_model(tmp_path / "other", seed=1)))
    with pytest.raises(UsageError, match=other.digest[:12]):
        Round.read(Path("build"), other)
