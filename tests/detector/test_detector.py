import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.config import DetectorParams
from mondegreen.detector.calibration import calibrate, save
from mondegreen.detector.detector import ErrorDetector, calibration_path
from mondegreen.errors import CaseError, UsageError
from mondegreen.records import Alternative, Hypothesis, Word
from mondegreen.speech.transcriber import Transcription
from tests.detector.detector_corpus import MODEL, corpus, examples, hypothesis

SENTENCE = "please hold the line while we try to reach the person"


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("\n".join({*SENTENCE.split(), "nine", "no", "Clipped"}), encoding="utf-8")
    return path


@pytest.fixture
def detector(tmp_path: Path, lexicon: Path) -> ErrorDetector:
    return ErrorDetector.load(tmp_path / "detector", MODEL, DetectorParams(lexicon=lexicon))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a calibration of MODEL."""
    folder = tmp_path_factory.mktemp("detector")
    utterances, hypotheses, _ = corpus(240, seed=1, strength=3.0)
    learnt = examples(utterances, hypotheses, "train", "dev")
    save(calibrate(learnt, DetectorParams(), "spoken", 7), folder)
    return folder


def speech(noise: float = 0.001, gain: float = 0.3) -> np.ndarray:
    """Three seconds of tone bursts with pauses between them, and steady noise."""
    seconds = np.arange(48_000) / 16_000
    bursts = np.sin(2 * np.pi * 200 * seconds) * (np.sin(2 * np.pi * 1.5 * seconds) > 0)
    return (gain * bursts + np.random.default_rng(0).normal(0, noise, 48_000)).clip(-1, 1).astype(np.float32)


def test_a_clean_transcript_has_no_error_type_and_a_low_score(detector: ErrorDetector) -> None:
    found = detector.detect(hypothesis(SENTENCE, 0.99), speech())
    assert found.error_types == () and not found.is_error and found.error_score < 0.2
    assert not detector.calibrated and "mondegreen detector calibrate" in detector.reason


@pytest.mark.parametrize(
    ("kind", "heard", "waveform"),
    [
        ("low_confidence", hypothesis(SENTENCE, 0.4), speech()),
        ("empty_output", hypothesis(""), speech()),
        ("empty_output", hypothesis("", error="the file is damaged"), None),
        ("rate_anomaly", hypothesis(SENTENCE, duration=60.0), speech()),
        ("rate_anomaly", hypothesis(SENTENCE, duration=0.9), speech()),
        ("repeats", hypothesis("please hold " + "the line " * 6), speech()),
        ("repeats", hypothesis("no no no no no"), speech()),
        ("out_of_lexicon", hypothesis("please hold xbf kjh wqr line"), speech()),
        ("noise", hypothesis(SENTENCE), speech(noise=0.15)),
        ("clipped_audio", hypothesis(SENTENCE), speech(gain=3.0)),
    ],
)
def test_each_error_type_fires_on_its_own_case(
    detector: ErrorDetector, kind: str, heard: Hypothesis, waveform: np.ndarray | None
) -> None:
    assert detector.detect(heard, waveform).error_types == (kind,)


def test_a_loop_that_the_model_is_sure_of_is_an_error(detector: ErrorDetector) -> None:
    assert detector.detect(hypothesis("please hold " + "the line " * 6, 0.999)).is_error


def test_a_hypothesis_with_an_error_and_an_empty_one_score_1(detector: ErrorDetector, calibrated: Path) -> None:
    for judge in (detector, ErrorDetector.load(calibrated, MODEL, DetectorParams())):
        for heard in (hypothesis("", error="unreadable"), hypothesis(""), hypothesis(" . ")):
            found = judge.detect(heard)
            assert found.error_score == 1.0 and found.is_error and "empty_output" in found.error_types


def test_noise_and_clipping_are_named_but_do_not_raise_an_uncalibrated_score(detector: ErrorDetector) -> None:
    clean, bad = (detector.detect(hypothesis(SENTENCE, 0.99), speech(gain=gain)) for gain in (0.3, 3.0))
    assert bad.error_types == ("clipped_audio",) and bad.error_score == clean.error_score and not bad.is_error


def test_the_uncalibrated_score_grows_as_confidence_falls(detector: ErrorDetector) -> None:
    scores = [detector.detect(hypothesis(SENTENCE, confidence)).error_score for confidence in (1, 0.99, 0.95, 0.9, 0.5)]
    assert scores == sorted(scores) and scores[0] == 0.0 and scores[1] == pytest.approx(1 - 0.99**11, abs=1e-6)


def test_a_larger_error_wer_forgives_single_words() -> None:
    strict, lenient = (ErrorDetector(DetectorParams(error_wer=wer)) for wer in (0.0, 0.5))
    heard = hypothesis(SENTENCE, 0.9)
    assert lenient.detect(heard).error_score < 0.01 < 0.5 < strict.detect(heard).error_score


def test_an_unexplained_error_gets_the_type_that_weighs_most(calibrated: Path) -> None:
    detector = ErrorDetector.load(calibrated, MODEL, DetectorParams(threshold=0.3))
    limit = detector.thresholds.confidence
    heard = hypothesis("balte bamse danse fonte", limit + 0.001)
    found = detector.detect(heard)
    assert found.is_error and found.error_types == ("low_confidence",)
    assert detector.detect(hypothesis("balte bamse danse fonte", 0.98)).error_types == ()


def test_the_calibrated_score_falls_with_confidence(calibrated: Path) -> None:
    detector = ErrorDetector.load(calibrated, MODEL, DetectorParams())
    assert detector.calibrated and detector.reason == ""
    sure, unsure = (detector.detect(hypothesis("balte bamse danse fonte", value)).error_score for value in (0.97, 0.6))
    assert sure < 0.4 < 0.6 < unsure


def test_a_transcription_is_judged_like_its_hypothesis(detector: ErrorDetector) -> None:
    heard = hypothesis(SENTENCE, 0.6)
    live = Transcription(**heard.model_dump(exclude={"id", "error"}), real_time_factor=0.1)
    assert detector.detect(live, speech()) == detector.detect(heard, speech())


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "models:/x", "ab" * 32])
def test_an_unknown_model_gets_the_rules_whatever_it_is_called(tmp_path: Path, digest: str) -> None:
    assert calibration_path(tmp_path, digest).parent == tmp_path
    assert not ErrorDetector.load(tmp_path, digest, DetectorParams()).calibrated


def test_a_calibration_for_other_parameters_is_not_used(
    calibrated: Path, lexicon: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for params in (DetectorParams(error_wer=0.25), DetectorParams(lexicon=lexicon)):
            detector = ErrorDetector.load(calibrated, MODEL, params)
            assert not detector.calibrated and "detector." in detector.reason
    assert caplog.text.count("mondegreen detector calibrate") == 2


def test_a_calibration_of_a_model_with_the_same_first_digits_is_not_used(calibrated: Path) -> None:
    detector = ErrorDetector.load(calibrated, MODEL[:16] + "0" * 48, DetectorParams())
    assert not detector.calibrated and "another" not in detector.reason and MODEL[:12] in detector.reason


@pytest.mark.parametrize("damage", ["{", '{"model": 1}', ""])
def test_a_damaged_calibration_is_an_error_that_names_the_file(tmp_path: Path, damage: str) -> None:
    path = calibration_path(tmp_path, MODEL)
    path.write_text(damage, encoding="utf-8")
    with pytest.raises(CaseError, match=path.name) as caught:
        ErrorDetector.load(tmp_path, MODEL, DetectorParams())
    assert "mondegreen detector calibrate" in caught.value.next_step


def test_a_calibration_with_other_features_is_an_error(calibrated: Path, tmp_path: Path) -> None:
    record = json.loads(calibration_path(calibrated, MODEL).read_text())
    record["features"].pop("snr")
    calibration_path(tmp_path, MODEL).write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(CaseError, match="features"):
        ErrorDetector.load(tmp_path, MODEL, DetectorParams())


def test_a_lexicon_that_cannot_be_read_is_an_error_that_names_the_knob(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for path in (tmp_path / "none.txt", tmp_path / "latin", tmp_path):
        with pytest.raises(UsageError, match=r"detector\.lexicon"):
            ErrorDetector.load(tmp_path, MODEL, DetectorParams(lexicon=path))


any_float = st.one_of(st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, -1.0, 1e308]))


@given(
    text=st.one_of(st.text(max_size=40), st.sampled_from([SENTENCE, "", "a" * 500, "na " * 200])),
    confidence=any_float,
    duration=any_float,
    scores=st.lists(any_float, max_size=4),
    samples=st.one_of(st.none(), st.lists(st.floats(width=32), max_size=20), st.just([0.0] * 4000)),
)
def test_whatever_comes_in_the_score_is_a_probability_and_the_same_twice(
    calibrated: Path, text: str, confidence: float, duration: float, scores: list[float], samples: list[float] | None
) -> None:
    words = [Word.model_construct(text=word, start=0.0, end=0.1, confidence=confidence) for word in text.split()]
    nbest = [Alternative.model_construct(text=text + "x" * n, score=score) for n, score in enumerate(scores)]
    heard = Transcription.model_construct(
        path="", text=text, confidence=confidence, duration=duration, words=words, nbest=nbest, model=MODEL
    )
    waveform = None if samples is None else np.array(samples, np.float32)
    for detector in (ErrorDetector(DetectorParams()), ErrorDetector.load(calibrated, MODEL, DetectorParams())):
        found = detector.detect(heard, waveform)
        assert 0 <= found.error_score <= 1 and found.is_error == (found.error_score >= 0.5)
        assert found == detector.detect(heard, waveform)


@pytest.mark.parametrize("samples", [0, 1, 10])
def test_tiny_and_silent_waveforms_have_no_noise(detector: ErrorDetector, samples: int) -> None:
    heard = hypothesis(SENTENCE)
    assert detector.detect(heard, np.zeros(samples, np.float32)) == detector.detect(heard)
    assert detector.detect(heard, np.full(samples, np.nan, np.float32)) == detector.detect(heard)
