"""Error types by thresholds, and the error score of a model that nobody has calibrated."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.cases.detector.features import TYPE_OF, ErrorType, Features

ERROR_TYPES: tuple[ErrorType, ...] = (
    "low_confidence", "empty_output", "rate_anomaly", "repeats", "out_of_lexicon", "noise", "clipped_audio",
)  # fmt: skip
SUSPICIOUS = 0.9  # least score of a transcript that has a shape that speech does not have
_RIGHT = 20  # fewer rightly heard transcripts move no threshold of a type
_FALSE_TYPES = 0.05  # share of the rightly heard transcripts that may get a type
_SHAPES: frozenset[ErrorType] = frozenset({"rate_anomaly", "repeats", "out_of_lexicon"})


class TypeThresholds(BaseModel):
    """From where on a transcript gets an error type. The defaults are the built-in ones.

    Calibration moves them, see `type_thresholds`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: float = 0.8  # low_confidence below it
    rate: float = 3.0  # rate_anomaly above so many standard deviations, on either side
    repeats: float = 0.3  # repeats above this share
    out_of_lexicon: float = 0.5  # out_of_lexicon above this share, or
    burst: float = 2.0  # above so many words in a row
    snr: float = 12.0  # noise below it, dB as `acoustics.measure` gives it
    clipped: float = 0.01  # clipped_audio above this share


def type_thresholds(right: Sequence[Features]) -> TypeThresholds:
    """The thresholds of the error types, from features of rightly heard transcripts.

    What is measured in units of its own (letters a second, decibels, shares) keeps the built-in threshold, unless more
    than 5 % of these transcripts would get the type: then it moves out until at most 5 % do. Confidence has each
    model's own level, so its threshold is always the one that 5 % of them fall below. With fewer than 20 the built-in
    ones stay.
    """
    built_in = TypeThresholds()
    if len(right) < _RIGHT:
        return built_in

    def above(default: float, values: list[float], share: float = _FALSE_TYPES) -> float:
        known = [value for value in values if np.isfinite(value)]
        return max(default, float(np.quantile(known, 1 - share, method="higher"))) if known else default

    snr = [item.snr for item in right if np.isfinite(item.snr)]
    return TypeThresholds(
        confidence=float(np.quantile([item.confidence for item in right], _FALSE_TYPES, method="lower")),
        rate=above(built_in.rate, [max(item.too_slow, item.too_fast) for item in right]),
        repeats=above(built_in.repeats, [item.repeats for item in right]),
        # One type with two thresholds: half of the allowance each.
        out_of_lexicon=above(built_in.out_of_lexicon, [item.out_of_lexicon for item in right], _FALSE_TYPES / 2),
        burst=above(built_in.burst, [item.burst for item in right], _FALSE_TYPES / 2),
        snr=min(built_in.snr, float(np.quantile(snr, _FALSE_TYPES, method="lower"))) if snr else built_in.snr,
        clipped=above(built_in.clipped, [item.clipped for item in right]),
    )


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
