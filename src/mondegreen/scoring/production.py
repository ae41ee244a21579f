"""The WER of all traffic from a random part of it that people heard: the plain estimate and the difference estimate.

Corpus WER is a ratio of two totals. The plain estimate weighs what was heard by its inclusion probabilities (Horvitz &
Thompson 1952; Hájek's ratio form). The difference estimate predicts errors and words of every inference from the
detector's score, and corrects the total by what the predictions missed where people heard (C. M. Cassel, C.-E. Särndal
and J. H. Wretman, "Some results on generalized difference estimation and generalized regression estimation for finite
populations", Biometrika 63, 1976). Prediction-powered inference is the same estimator (A. N. Angelopoulos et al.,
"Prediction-powered inference", Science 382, 2023). Predictions may be as wrong as they like: that costs width alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mondegreen.scoring.wer import Counts

Array = npt.NDArray[np.float64]

_FOLDS = 5
_FEWEST = 1.5  # degrees of freedom; below, the quantile of t says nothing any more


@dataclass(frozen=True)
class HeardSample:
    """What was drawn and heard, one entry an inference."""

    cluster: Counts  # (num_heard,), rows of the traffic's clusters
    inclusion: Array  # (num_heard,), probability with which it was drawn, above 0
    errors: Counts  # (num_heard,), words
    words: Counts  # (num_heard,), of the reference
    features: Array  # (num_heard, num_features), the first is 1


@dataclass(frozen=True)
class EstimatedRate:
    """A WER with what each cluster contributes to its error, from which intervals and comparisons follow."""

    value: float
    influence: Array  # (num_clusters,), absolute WER; they sum to 0

    @property
    def standard_error(self) -> float:
        """Between clusters, absolute WER."""
        return _standard_error(self.influence)

    @property
    def degrees_of_freedom(self) -> float:
        """As many equal clusters would make an error as sure as these unequal ones (F. E. Satterthwaite 1946)."""
        return _degrees_of_freedom(self.influence)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """By Student's t on the logarithm: a rate cannot fall below 0, and its error is skewed upwards."""
        far = np.exp(_quantile(level, self.degrees_of_freedom) * self.standard_error / self.value)
        return float(self.value / far), float(self.value * far)


@dataclass(frozen=True)
class ProductionEstimate:
    """Both estimates, and how well the predictions go with what was heard."""

    plain: EstimatedRate
    difference: EstimatedRate
    correlation: float  # of the errors above or below the rate, predicted and found; cross-fitted
    least_correlation: float  # 1 / sqrt(n - 2): below it predictions cost more than they bring

    @property
    def best(self) -> EstimatedRate:
        """The difference estimate where the predictions help, else the plain one."""
        return self.difference if self.predictions_help else self.plain

    @property
    def predictions_help(self) -> bool:
        """Whether the difference estimate is to be trusted with this few.

        It may come to nothing, or to less, where predictions are poor; no interval on a logarithm follows then.
        """
        clear = self.difference.value > 2 * self.difference.standard_error
        return clear and self.correlation >= self.least_correlation


def estimate_wer(sample: HeardSample, traffic: Array) -> ProductionEstimate:
    """The WER of the traffic.

    Args:
        sample: at least three inferences of two clusters, with an error and a word among them.
        traffic: sums of the features of all inferences that could have been drawn, float64 (num_clusters,
            num_features); the first feature counts them.

    The rules that predict errors and words are fitted to the folds that an inference is not in, whole clusters at a
    time (cross-fitting), so that its residual is that of a stranger. The variance is that of the clusters' influences:
    the linearised ratio's residuals of those who were heard, and the predictions of everybody, so that it speaks of
    other callers like these as well.
    """
    weights = traffic[:, 0].sum() / sample.inclusion / (1 / sample.inclusion).sum()
    counts = np.column_stack([sample.errors, sample.words]).astype(np.float64)
    zeros = np.zeros((len(traffic), 2))
    plain = _ratio(sample, weights, counts, zeros)
    predicted, everybody = _cross_fitted(sample, weights, counts, traffic)
    surprise = np.array([1.0, -plain.value])
    return ProductionEstimate(
        plain=plain,
        difference=_ratio(sample, weights, counts - predicted, everybody),
        correlation=_correlation(counts @ surprise, predicted @ surprise, weights),
        least_correlation=1 / np.sqrt(max(1, len(weights) - 2)),
    )


def difference_of(before: EstimatedRate, after: EstimatedRate, level: float = 0.95) -> tuple[float, float, float]:
    """`after` minus `before` over the same clusters, and its interval: a caller of both is one caller."""
    influence = after.influence - before.influence
    far = _quantile(level, _degrees_of_freedom(influence)) * _standard_error(influence)
    value = after.value - before.value
    return value, float(value - far), float(value + far)


def _ratio(sample: HeardSample, weights: Array, residuals: Array, everybody: Array) -> EstimatedRate:
    """Errors / words: the totals of what is predicted and the weighted residuals of what was heard.

    Args:
        residuals: (num_heard, 2), found minus predicted errors and words.
        everybody: (num_clusters, 2), what is predicted.
    """
    by_cluster = everybody.copy()  # (num_clusters, 2)
    np.add.at(by_cluster, sample.cluster, weights[:, None] * residuals)
    errors, words = by_cluster.sum(axis=0)
    if words <= 0:  # no prediction of any use
        return EstimatedRate(0.0, np.zeros(len(by_cluster)))
    return EstimatedRate(float(errors / words), by_cluster @ np.array([1.0, -errors / words]) / words)


def _cross_fitted(sample: HeardSample, weights: Array, counts: Array, traffic: Array) -> tuple[Array, Array]:
    """Predicted errors and words of those who were heard (num_heard, 2) and of the clusters (num_clusters, 2)."""
    _, order = np.unique(sample.cluster, return_inverse=True)
    fold = order % _FOLDS
    predicted, rule = np.zeros_like(counts), np.zeros((sample.features.shape[1], 2))
    for number in range(_FOLDS):
        inside = fold == number
        if not inside.any() or inside.all():
            continue
        root = np.sqrt(weights[~inside])[:, None]
        fitted = np.linalg.lstsq(root * sample.features[~inside], root * counts[~inside])[0]
        predicted[inside] = sample.features[inside] @ fitted
        rule += weights[inside].sum() / weights.sum() * fitted
    return predicted, traffic @ rule


def _correlation(found: Array, predicted: Array, weights: Array) -> float:
    covariance = np.cov(found, predicted, aweights=weights)
    spread = covariance[0, 0] * covariance[1, 1]
    return float(covariance[0, 1] / np.sqrt(spread)) if spread > 0 else 0.0


def _standard_error(influence: Array) -> float:
    clusters = len(influence)
    return float(np.sqrt(clusters / (clusters - 1) * np.square(influence).sum())) if clusters > 1 else 0.0


def _degrees_of_freedom(influence: Array) -> float:
    squares = np.square(influence)
    return max(_FEWEST, float(squares.sum() ** 2 / np.square(squares).sum())) if squares.any() else _FEWEST


def _quantile(level: float, degrees_of_freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, degrees_of_freedom))


def expected_half_width(standard_error: float, degrees_of_freedom: float, heard: int, references: int) -> float:
    """Of the 95 % interval that `references` would give, absolute WER: errors fall with the root of their number.

    Args:
        standard_error: that `heard` gave, and
        degrees_of_freedom: likewise.
    """
    share = references / heard
    return _quantile(0.95, max(_FEWEST, degrees_of_freedom * share)) * standard_error / float(share**0.5)


def references_needed(
    standard_error: float, degrees_of_freedom: float, heard: int, half_width: float, most: int = 1_000_000
) -> int | None:
    """How many references give an interval of this half width, absolute WER; None where `most` do not."""
    low, high = 1, most
    if expected_half_width(standard_error, degrees_of_freedom, heard, most) > half_width:
        return None
    while low < high:
        middle = (low + high) // 2
        enough = expected_half_width(standard_error, degrees_of_freedom, heard, middle) <= half_width
        low, high = (low, middle) if enough else (middle + 1, high)
    return low
