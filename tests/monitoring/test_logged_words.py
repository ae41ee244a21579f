"""What a failed case keeps for the person who will correct it."""

from pathlib import Path

import pytest

from mondegreen.cases.store import DataManager
from mondegreen.detector.detector import Detection
from mondegreen.monitoring.tracker import Inference, MetadataTracker, inference_of
from mondegreen.records import Alternative, Word
from mondegreen.review.page import choices_of, hypothesis_words
from mondegreen.speech.transcriber import Transcription
from tests.cases.conftest import recording


class Suspicious:
    """A detector that finds everything misheard."""

    def detect(self, result: Transcription, waveform: object) -> object:
        return Detection(error_score=0.9, error_types=("low_confidence",), is_error=True, calibrated=False)


def test_a_logged_transcription_keeps_words_and_nbest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    heard = Transcription(
        path=str(recording(tmp_path / "0.wav", 0)),
        text="HOLE LINE",
        confidence=0.5,
        duration=0.1,
        words=[
            Word(text="HOLE", start=0.0, end=0.04, confidence=0.3),
            Word(text="LINE", start=0.05, end=0.1, confidence=0.9),
        ],
        nbest=[Alternative(text="HOLE LINE", score=-1.0), Alternative(text="HOLD LINE", score=-1.5)],
        real_time_factor=0.1,
        model="m",
    )
    manager = DataManager(tmp_path / "var")
    logged = inference_of(heard, Suspicious(), 30.0)  # type: ignore[arg-type]
    MetadataTracker(data_manager=manager).log_inferences([logged])
    (case,) = manager.find_cases().cases
    assert case.metadata["calibrated"] is False
    assert [(word.text, word.doubtful) for word in hypothesis_words(case, 0.6)] == [("hole", True), ("line", False)]
    assert [(choice.text, choice.chosen) for choice in choices_of(case, None)] == [
        ("hole line", "heard"),
        ("hold line", "nbest"),
    ]


def test_an_hour_of_words_is_not_kept_with_a_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    manager = DataManager(tmp_path / "var")
    words = tuple(Word(text="A", start=number, end=number + 1, confidence=1.0) for number in range(9_000))
    text = " ".join(word.text for word in words)
    path = recording(tmp_path / "0.wav", 0)
    fields = {"model_version": "m", "duration": 9_000.0, "latency": 1.0, "is_error": True}
    logged = Inference(audio_path=path, transcript=text, words=words, **fields)
    MetadataTracker(data_manager=manager).log_inferences([logged])
    (case,) = manager.find_cases().cases
    assert len(case.metadata["words"]) == 500 and case.original_transcript == text
    # Those that are left are not of the whole.
    assert {word.confidence for word in hypothesis_words(case, 0.6)} == {None}
