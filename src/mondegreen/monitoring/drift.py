"""Has the distribution moved? Population stability index, Kolmogorov-Smirnov, and intervals of proportions."""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from mondegreen.monitoring.records import Bounds, ConfidenceDrift, ErrorRateDrift

BINS = 10
_EXACT = 500  # values of a sample; beyond that the asymptotic p-value is within 0.02 of the exact one
Values = npt.NDArray[np.float64]


def decile_edges(reference: Values) -> Values:
    """Edges of the reference's deciles, open at both ends: float64 (num_bins + 1,), fewer bins where values repeat."""
    inner = np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.concatenate([[-np.inf], np.unique(inner), [np.inf]])


def shares(values: Values, edges: Values) -> Values:
    """The share of the values in each bin (low, high]: float64 (num_bins,).

    An empty bin holds half a value, so that its logarithm exists.
    """
    counts = np.bincount(np.searchsorted(edges[1:-1], values, side="left"), minlength=len(edges) - 1)
    return np.maximum(counts, 0.5) / len(values)


def population_stability_index(reference: Values, window: Values) -> float:
    """Sum over the reference's deciles of (w - r) ln(w / r), for the shares w of the window and r of the reference.

    0 for equal samples; by the rule of thumb of credit scoring 0.1 is a small shift and 0.25 a large one (Siddiqi,
    Credit Risk Scorecards, 2006). Without any drift it is about (bins - 1)(1/n + 1/m) large (Yurdakul and Naranjo,
    Statistical properties of the population stability index, 2020), so that small samples exceed 0.25 by chance:
    `ConfidenceDrift.ks_p_value` tells whether there is anything at all.

    Args:
        reference: float64 (n,), n > 0.
        window: float64 (m,), m > 0.
    """
    edges = decile_edges(reference)
    before, after = shares(reference, edges), shares(window, edges)
    return float(np.sum((after - before) * np.log(after / before)))


def confidence_drift(reference: Values, window: Values) -> ConfidenceDrift:
    """PSI for the size, the two-sample Kolmogorov-Smirnov test for whether it is chance.

    Its p-value is exact for small samples, asymptotic for large ones.

    Args:
        reference: float64 (n,), n > 0; a confidence an inference.
        window: float64 (m,), m > 0.
    """
    edges = decile_edges(reference)
    few = max(len(reference), len(window)) <= _EXACT
    test = stats.ks_2samp(reference, window, method="exact" if few else "asymp")
    return ConfidenceDrift(
        psi=population_stability_index(reference, window),
        ks_statistic=float(test.statistic),
        ks_p_value=float(test.pvalue),
        reference_count=len(reference),
        window_count=len(window),
        reference_mean=float(reference.mean()),
        window_mean=float(window.mean()),
        edges=[0.0, *map(float, edges[1:-1]), 1.0],
        reference_shares=shares(reference, edges).tolist(),
        window_shares=shares(window, edges).tolist(),
    )


def wilson(hits: int, count: int, level: float = 0.95) -> Bounds:
    """The score interval of a proportion (Wilson 1927, JASA 22: 209-212).

    Raises:
        ValueError: there is nothing to divide by.
    """
    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"{hits} of {count} is no proportion")
    z = float(stats.norm.ppf(0.5 + level / 2))
    rate = hits / count
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    # At 0 and at all the bound is the rate itself; rounding would leave it 1e-17 beside.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    high = 1.0 if hits == count else min(1.0, middle + half)
    return Bounds(low=low, high=high, level=level)


def error_rate_drift(before: tuple[int, int], after: tuple[int, int], level: float = 0.95) -> ErrorRateDrift:
    """The difference of two independent proportions, after - before, with the hybrid score interval.

    Newcombe 1998, Statistics in Medicine 17: 873-890, method 10.

    Args:
        before: errors and measured inferences of the reference.
        after: the same of the window.
        level: of the interval.
    """
    old, new = wilson(*before, level), wilson(*after, level)
    old_rate, new_rate = before[0] / before[1], after[0] / after[1]
    difference = new_rate - old_rate
    low = difference - math.hypot(new_rate - new.low, old.high - old_rate)
    high = difference + math.hypot(new.high - new_rate, old_rate - old.low)
    return ErrorRateDrift(
        reference_rate=old_rate,
        window_rate=new_rate,
        difference=difference,
        interval=Bounds(low=low, high=high, level=level),
        reference_count=before[1],
        window_count=after[1],
    )
