"""Error types by thresholds, and the error score of a model that nobody has calibrated."""

from pydantic import BaseModel, ConfigDict

from mondegreen.cases.detect_features import TYPE_OF, ErrorType, Features

ERROR_TYPES: tuple[ErrorType, ...] = (
    "low_confidence", "empty_output", "rate_anomaly", "repeats", "out_of_lexicon", "noise", "clipped_audio",
)  # fmt: skip
SUSPICIOUS = 0.9  # least score of a transcript that has a shape that speech does not have
_SHAPES: frozenset[ErrorType] = frozenset({"rate_anomaly", "repeats", "out_of_lexicon"})


class TypeThresholds(BaseModel):
    """From where on a transcript gets an error type. The defaults are the built-in ones.

    Calibration moves a threshold so that at most 5 % of the rightly heard transcripts get the type, see
    `mondegreen.cases.calibration.type_thresholds`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = 0.8  # low_confidence below it
    rate: float = 3.0  # rate_anomaly above so many standard deviations, on either side
    repeats: float = 0.3  # repeats above this share
    out_of_lexicon: float = 0.5  # out_of_lexicon above this share, or
    burst: float = 2.0  # above so many words in a row
    snr: float = 12.0  # noise below it, dB as `acoustics.measure` gives it
    clipped: float = 0.01  # clipped_audio above this share


def error_types(found: Features, limits: TypeThresholds) -> tuple[ErrorType, ...]:
    """The types of a transcript that is not empty, in the order of `ERROR_TYPES`; NaN fires nothing."""
    fired: dict[ErrorType, bool] = {
        "low_confidence": found.confidence < limits.confidence,
        "rate_anomaly": max(found.too_slow, found.too_fast) > limits.rate,
        "repeats": found.repeats > limits.repeats,
        "out_of_lexicon": found.out_of_lexicon > limits.out_of_lexicon or found.burst > limits.burst,
        "noise": found.snr < limits.snr,
        "clipped_audio": found.clipped > limits.clipped,
    }
    return tuple(kind for kind in ERROR_TYPES if fired.get(kind))


def rule_score(found: Features, types: tuple[ErrorType, ...]) -> float:
    """The score without a calibration: the probability of too many wrong words by the words' own confidences.

    At least 0.9 for a rate anomaly, a loop or a burst of unknown words: a model in a loop is often sure of itself.
    Noise and clipping say nothing about the words and do not count.
    """
    score = found.word_errors if found.word_errors == found.word_errors else 1 - found.confidence
    return max(score, SUSPICIOUS) if _SHAPES & set(types) else score


def types_by_weight(contributions: dict[str, float]) -> tuple[ErrorType, ...]:
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
