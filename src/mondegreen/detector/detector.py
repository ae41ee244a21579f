"""Finding misheard transcripts without references: an error score, and what is odd about the transcript.

A model that was calibrated has a logistic regression on the features; others are scored by built-in rules.
"""

import hashlib
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from mondegreen.config import DetectorParams
from mondegreen.detector.features import (
    TYPE_OF,
    Acoustics,
    DetectedType,
    Features,
    SpeechRate,
    features,
    measure,
    transcript_words,
)
from mondegreen.errors import CaseError, UsageError
from mondegreen.files import path_text, read_json
from mondegreen.records import Hypothesis, Split
from mondegreen.speech.audio import Waveform

if TYPE_CHECKING:
    from mondegreen.speech.transcriber import Transcription

Goal = Literal["precision", "recall"]
ERROR_TYPES: tuple[DetectedType, ...] = get_args(DetectedType)
SUSPICIOUS = 0.9  # least score of a transcript that has a shape that speech does not have
_SHAPES: frozenset[DetectedType] = frozenset({"rate_anomaly", "repeats", "out_of_lexicon"})
_MARGIN = 1e-3  # probabilities are kept so far from 0 and 1 before their log odds are taken
_LOG_ODDS = ("confidence", "worst_word", "word_errors")
_AGAIN = "run `mondegreen detector calibrate`"
logger = logging.getLogger(__name__)


class _CalibrationPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TypeThresholds(_CalibrationPart):
    """From where on a transcript gets an error type. The defaults are the built-in ones, which calibration moves."""

    confidence: float = 0.8  # low_confidence below it
    rate: float = 3.0  # rate_anomaly above so many standard deviations, on either side
    repeats: float = 0.3  # repeats above this share
    out_of_lexicon: float = 0.5  # out_of_lexicon above this share, or
    burst: float = 2.0  # above so many words in a row
    snr: float = 12.0  # noise below it, dB as `features.measure` gives it
    clipped: float = 0.01  # clipped_audio above this share


class FeatureWeight(_CalibrationPart):
    """A feature's part in the logistic regression: weight * (value - mean) / scale; nothing where it is unknown."""

    mean: float
    scale: float = Field(gt=0)
    weight: float


class OperatingThreshold(_CalibrationPart):
    """The score from which on the cross-fitted calibration data reach a precision, or down to which a recall."""

    goal: Goal
    at: float
    threshold: float | None  # None: they do not reach it at any


class Calibration(_CalibrationPart):
    """<folder>/<first 16 digits of the model's digest>.json: everything that a score depends on."""

    version: Literal[1] = 1
    model: str
    error_wer: float
    normalizer: str
    lexicon_file: str  # sha256 of detector.lexicon, "" without one
    data: str  # sha256 of what was learnt from: ids, references, hypotheses
    splits: tuple[Split, ...]
    utterances: int  # with a reference; nobody chose them by what the detector said
    misheard: int  # of these
    cases: int = 0  # corrected cases of production beside them, which the figures below leave out
    misheard_cases: int = 0  # of these
    recordings: int
    regularisation: float  # scikit-learn's C
    roc_auc: float  # cross-fitted
    calibration_error: float  # expected, cross-fitted
    operating: tuple[OperatingThreshold, ...]
    thresholds: TypeThresholds
    rate: SpeechRate
    intercept: float
    features: dict[str, FeatureWeight]
    lexicon: tuple[str, ...]

    def contributions(self, found: Features) -> dict[str, float]:
        """Log odds that each feature adds to the intercept."""
        values = as_numbers(found)
        return {
            name: part.weight * (values[name] - part.mean) / part.scale if math.isfinite(values[name]) else 0.0
            for name, part in self.features.items()
        }

    def score(self, contributions: dict[str, float]) -> float:
        """The probability that the transcript is misheard."""
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, self.intercept + sum(contributions.values())))))


class Detection(BaseModel):
    """What the detector says of one transcript.

    `error_types` name what is odd, also where the transcript is most likely right (clipped, yet understood).
    """

    model_config = ConfigDict(frozen=True)

    error_score: float = Field(ge=0, le=1)  # calibrated: the probability that the WER is above detector.error_wer
    error_types: tuple[DetectedType, ...]
    is_error: bool  # error_score >= detector.threshold
    calibrated: bool  # False: by the built-in rules, whose score is no probability


class ErrorDetector:
    """Scores transcripts of one model.

    Args:
        params: detector section of params.yaml.
        calibration: of this model; None for the built-in rules.
        reason: why there is none, for people.
    """

    def __init__(self, params: DetectorParams, calibration: Calibration | None = None, reason: str = "") -> None:
        self.params, self.calibration, self.reason = params, calibration, reason
        self.thresholds = calibration.thresholds if calibration else TypeThresholds()
        self.rate = calibration.rate if calibration else SpeechRate()
        self.lexicon = lexicon_file(params) | frozenset(calibration.lexicon if calibration else ())

    @classmethod
    def load(cls, folder: Path, model_digest: str, params: DetectorParams) -> "ErrorDetector":
        """The detector of a model: calibrated where <folder>/<digest[:16]>.json fits, else by the built-in rules.

        Raises:
            CaseError: the calibration is damaged.
            UsageError: the file of detector.lexicon cannot be read.
        """
        calibration = read_calibration(folder, model_digest)
        if calibration is None:
            return cls(params, None, f"this model is not calibrated: {_AGAIN}")
        if reason := outdated(calibration, model_digest, params):
            logger.warning("The error detector falls back to its uncalibrated rules: %s.", reason)
            return cls(params, None, reason)
        return cls(params, calibration)

    @property
    def calibrated(self) -> bool:
        return self.calibration is not None

    def detect(self, transcript: "Hypothesis | Transcription", waveform: Waveform | None = None) -> Detection:
        """Scores one transcript.

        An empty transcript has score 1: whoever recorded something meant to say something.

        Args:
            transcript: of the model; a hypothesis with an error is an empty one.
            waveform: float32 (num_samples,), 16 kHz; without it noise and clipping are not looked for.
        """
        return self.detect_measured(transcript, measure(waveform))

    def detect_measured(self, transcript: "Hypothesis | Transcription", acoustics: Acoustics) -> Detection:
        """Like `detect`, for a waveform that was measured before."""
        found = features(transcript, acoustics, self.rate, self.lexicon, self.params.error_wer)
        types = error_types(found, self.thresholds)
        if is_empty(transcript):
            audible: tuple[DetectedType, ...] = tuple(kind for kind in types if kind in ("noise", "clipped_audio"))
            kinds: tuple[DetectedType, ...] = ("empty_output", *audible)
            return Detection(error_score=1.0, error_types=kinds, is_error=True, calibrated=self.calibrated)
        if self.calibration:
            contributions = self.calibration.contributions(found)
            score = round(self.calibration.score(contributions), 6)
        else:
            contributions = {"confidence": 1.0}
            score = round(rule_score(found, types), 6)
        is_error = score >= self.params.threshold
        if is_error and not types:
            types = types_by_weight(contributions)
        return Detection(error_score=score, error_types=types, is_error=is_error, calibrated=self.calibrated)


def is_empty(transcript: "Hypothesis | Transcription") -> bool:
    """There is no word in it, or there is no transcript."""
    return not transcript_words(transcript.text) or bool(getattr(transcript, "error", ""))


def calibration_path(folder: Path, model_digest: str) -> Path:
    """Where the calibration of a model lies: <first 16 digits of the digest>.json.

    What is no digest is digested first, so that it cannot name another folder.
    """
    name = model_digest[:16]
    if not (name.isalnum() and name.isascii()):
        name = hashlib.sha256(model_digest.encode()).hexdigest()[:16]
    return folder / f"{name}.json"


def read_calibration(folder: Path, model_digest: str) -> Calibration | None:
    """The calibration of a model, None when there is no file; CaseError when it is damaged."""
    path = calibration_path(folder, model_digest)
    if not path.exists():
        return None
    try:
        calibration = read_json(path, Calibration)
    except UsageError as error:
        raise CaseError(error.problem, "Delete it and run `mondegreen detector calibrate`.") from None
    if set(calibration.features) != set(Features.__dataclass_fields__):
        raise CaseError(f"{path}: field features: other features than this version of mondegreen measures.",
                        "Run `mondegreen detector calibrate`.")  # fmt: skip
    return calibration


def outdated(calibration: Calibration, model_digest: str, params: DetectorParams) -> str:
    """Why a calibration does not fit the model and the parameters, "" when it does."""
    if calibration.model != model_digest:
        return f"it was calibrated for the model {calibration.model[:12]}, not {model_digest[:12]}: {_AGAIN}"
    if calibration.error_wer != params.error_wer:
        return f"it was calibrated for detector.error_wer {calibration.error_wer:g}, not {params.error_wer:g}: {_AGAIN}"
    if calibration.lexicon_file != lexicon_digest(params):
        return f"detector.lexicon has changed since it was calibrated: {_AGAIN}"
    return ""


def lexicon_file(params: DetectorParams) -> frozenset[str]:
    """The words of detector.lexicon, normalised; UsageError when the file cannot be read."""
    return frozenset(transcript_words(_lexicon_text(params)))


def lexicon_digest(params: DetectorParams) -> str:
    """sha256 of what detector.lexicon holds, "" without one."""
    text = _lexicon_text(params)
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def _lexicon_text(params: DetectorParams) -> str:
    if params.lexicon is None:
        return ""
    try:
        return path_text(params.lexicon)
    except UsageError as error:
        raise UsageError(f"detector.lexicon: {error.problem}", "Name a word list, one word a line, or null.") from None


def error_types(found: Features, limits: TypeThresholds) -> tuple[DetectedType, ...]:
    """The types of a transcript that is not empty, in the order of `ERROR_TYPES`; NaN fires nothing."""
    fired: dict[DetectedType, bool] = {
        "low_confidence": found.confidence < limits.confidence,
        "rate_anomaly": max(found.too_slow, found.too_fast) > limits.rate,
        "repeats": found.repeats > limits.repeats,
        "out_of_lexicon": found.out_of_lexicon > limits.out_of_lexicon or found.burst > limits.burst,
        "noise": found.snr < limits.snr,
        "clipped_audio": found.clipped > limits.clipped,
    }
    return tuple(kind for kind in ERROR_TYPES if fired.get(kind))


def rule_score(found: Features, types: tuple[DetectedType, ...]) -> float:
    """The score without a calibration: the probability of too many wrong words by the words' own confidences.

    At least 0.9 for a rate anomaly, a loop or a burst of unknown words: a model in a loop is often sure of itself.
    Noise and clipping say nothing about the words and do not count.
    """
    score = found.word_errors if found.word_errors == found.word_errors else 1 - found.confidence
    return max(score, SUSPICIOUS) if _SHAPES & set(types) else score


def types_by_weight(contributions: dict[str, float]) -> tuple[DetectedType, ...]:
    """The type whose features raise the score most, for a misheard transcript that passes no threshold.

    Args:
        contributions: log odds that each feature adds.

    Returns:
        One type; none when nothing raises the score, that is, when most transcripts of the model are misheard.
    """
    sums = dict.fromkeys(ERROR_TYPES, 0.0)
    for name, value in contributions.items():
        sums[TYPE_OF[name]] += value
    best = max(ERROR_TYPES, key=lambda kind: sums[kind])
    return (best,) if sums[best] > 0 else ()


def as_numbers(found: Features) -> dict[str, float]:
    """The regression's inputs by name: probabilities as log odds, long bursts and clipping flattened."""
    values = asdict(found)
    for name in _LOG_ODDS:
        if math.isfinite(values[name]):
            inside = min(1 - _MARGIN, max(_MARGIN, values[name]))
            values[name] = math.log(inside / (1 - inside))
    for name, unit in (("burst", 1.0), ("too_slow", 1.0), ("too_fast", 1.0), ("clipped", 0.01)):
        values[name] = math.log1p(values[name] / unit)
    return values
