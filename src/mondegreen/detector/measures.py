"""How well scores tell misheard transcripts from right ones, and how far each figure could lie off."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Figures = dict[str, npt.NDArray[np.float64]]

PRECISIONS = (0.85, 0.92)  # what the origin of the fine-tuning guide claims for its detector
RECALLS = (0.78, 0.88)
BINS = 10
RESAMPLES = 2000
LEVEL = 0.95
_DEFINED = 0.9  # least share of the resamples in which a figure must exist to have an interval
_CHUNK = 4_000_000  # weights held at once: 32 MB


class MeasuredFigure(BaseModel):
    """A figure and its interval; None where it does not exist (no ROC-AUC where all were misheard)."""

    model_config = ConfigDict(frozen=True)

    value: float | None
    low: float | None
    high: float | None


class Bin(BaseModel):
    """A bin of the reliability curve: scores from `low` up to, not including, `high` (1 belongs to the last)."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float
    count: int
    mean_score: float | None
    misheard: float | None  # share of the bin


@dataclass(frozen=True)
class _Curve:
    """Weighted counts of what is flagged from each distinct score on, highest first: float64 (samples, cuts)."""

    hits: npt.NDArray[np.float64]
    false_alarms: npt.NDArray[np.float64]

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        return self.hits / self.hits[:, -1:]

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        return self.hits / (self.hits + self.false_alarms)


def measures(
    misheard: Labels, scores: Scores, clusters: Sequence[str], threshold: float, seed: int
) -> dict[str, MeasuredFigure]:
    """Every figure with its 95 % percentile interval from resampling whole clusters (see `scoring.significance`).

    Args:
        misheard: bool (num_utterances,).
        scores: float64 (num_utterances,), 0..1.
        clusters: the recording of each utterance: a clean and a noisy copy are drawn together.
        threshold: score from which an utterance is flagged.
        seed: the same seed gives the same intervals.

    Returns:
        precision, recall, f1, roc_auc, average_precision, calibration_error, and the best recall where the precision
        is at least 0.85 ("recall_at_precision_0.85") …, the best precision where the recall is at least 0.78 ….

    Raises:
        ValueError: there are no utterances.
    """
    if not len(misheard):
        raise ValueError("Nothing can be measured on no utterances.")
    found = figures(misheard, scores, np.ones((1, len(scores))), threshold)
    drawn = [figures(misheard, scores, weights, threshold) for weights in _resamples(clusters, seed)]
    return {
        name: _measure(float(value[0]), np.concatenate([part[name] for part in drawn])) for name, value in found.items()
    }


def figures(misheard: Labels, scores: Scores, weights: npt.NDArray[np.float64], threshold: float) -> Figures:
    """The figures for many weightings of the same utterances at once; NaN where one does not exist.

    They are scikit-learn's roc_auc_score, average_precision_score, precision_recall_curve and so on with
    `sample_weight`, which takes one weighting at a time and is too slow for thousands of resamples.

    Args:
        misheard: bool (num_utterances,).
        scores: float64 (num_utterances,).
        weights: float64 (samples, num_utterances), how often each utterance counts.
        threshold: score from which an utterance is flagged.

    Returns:
        Name to float64 (samples,).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        curve = _curve(misheard, scores, weights)
        flagged = scores >= threshold
        hits = weights[:, flagged & misheard].sum(axis=1)
        total, flags = weights[:, misheard].sum(axis=1), weights[:, flagged].sum(axis=1)
        found = {
            "precision": hits / flags,
            "recall": hits / total,
            "f1": np.where(total > 0, 2 * hits / (flags + total), np.nan),
            "roc_auc": _roc_auc(curve),
            "average_precision": (np.diff(curve.recall, axis=1, prepend=0.0) * _zero(curve.precision)).sum(axis=1),
            "calibration_error": _calibration_error(misheard, scores, weights),
        }
        for at in PRECISIONS:
            found[f"recall_at_precision_{at:g}"] = _best(curve.recall, curve.precision >= at)
        for at in RECALLS:
            found[f"precision_at_recall_{at:g}"] = _best(curve.precision, curve.recall >= at)
    return found


def reliability(misheard: Labels, scores: Scores) -> list[Bin]:
    """Ten bins of equal width; a calibrated score has the mean score of each bin near its share of misheard."""
    bins, member = [], _bin_of(scores)
    for index in range(BINS):
        inside = member == index
        count = int(inside.sum())
        means = [round(float(of[inside].mean()), 6) if count else None for of in (scores, misheard)]
        bins.append(Bin(low=index / BINS, high=(index + 1) / BINS, count=count, mean_score=means[0], misheard=means[1]))
    return bins


def _curve(misheard: Labels, scores: Scores, weights: npt.NDArray[np.float64]) -> _Curve:
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last of each group of equal scores
    ordered = weights[:, order]
    return _Curve(
        hits=np.cumsum(ordered * misheard[order], axis=1)[:, ends],
        false_alarms=np.cumsum(ordered * ~misheard[order], axis=1)[:, ends],
    )


def _roc_auc(curve: _Curve) -> npt.NDArray[np.float64]:
    """The area under hits over false alarms, by trapezoids: equal scores count half."""
    width = np.diff(curve.false_alarms, axis=1, prepend=0.0)
    before = np.pad(curve.hits, ((0, 0), (1, 0)))[:, :-1]
    area = (width * (curve.hits + before) / 2).sum(axis=1)
    return np.asarray(area / (curve.hits[:, -1] * curve.false_alarms[:, -1]))


def _calibration_error(misheard: Labels, scores: Scores, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Expected calibration error: |mean score - share misheard| of each bin, weighted by its size.

    Naeini, Cooper & Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    """
    gaps = scores - misheard
    member = np.eye(BINS)[_bin_of(scores)]  # (num_utterances, BINS)
    return np.asarray(np.abs((weights * gaps) @ member).sum(axis=1) / weights.sum(axis=1))


def _bin_of(scores: Scores) -> npt.NDArray[np.int64]:
    return np.minimum(np.searchsorted(np.arange(1, BINS) / BINS, scores, side="right"), BINS - 1)


def _best(values: npt.NDArray[np.float64], allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The largest allowed value of each row, NaN where none is."""
    best = np.where(allowed, _zero(values), -np.inf).max(axis=1)
    return np.where(np.isfinite(best), best, np.nan)


def _zero(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 for 0 / 0: the precision before anything is flagged, in resamples without the highest scores."""
    return np.nan_to_num(values, nan=0.0)


def _resamples(clusters: Sequence[str], seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """Weights (samples, num_utterances): how often each utterance's cluster was drawn."""
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(member.max()) + 1
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(count, len(member)))
    for start in range(0, RESAMPLES, rows):
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=min(rows, RESAMPLES - start))
        yield drawn[:, member].astype(np.float64)


def _measure(value: float, samples: npt.NDArray[np.float64]) -> MeasuredFigure:
    if not np.isfinite(value):
        return MeasuredFigure(value=None, low=None, high=None)
    defined = samples[np.isfinite(samples)]
    if len(defined) < _DEFINED * len(samples):
        return MeasuredFigure(value=round(value, 6), low=None, high=None)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return MeasuredFigure(value=round(value, 6), low=round(float(low), 6), high=round(float(high), 6))
