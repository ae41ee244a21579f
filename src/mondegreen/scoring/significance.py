"""Is the candidate better than chance would make it, and how small an improvement could this test set show?

Everywhere a difference is baseline errors - candidate errors: positive means that the candidate is better.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mondegreen.scoring.bootstrap import Counts
from mondegreen.scoring.cluster_tests import ratio_standard_error

EXACT_CLUSTERS = 12  # up to here all 2^n sign patterns are counted


def sign_flip_test(differences: Counts, permutations: int, seed: int) -> float:
    """One-sided p-value that the candidate's cluster sums are better than exchangeable models would give.

    When the models are exchangeable, each cluster's difference is as likely to have either sign.
    Exact up to 12 clusters; beyond, Monte Carlo with (count + 1) / (permutations + 1), which never gives p = 0.
    Source: Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", 2005; the correction: Phipson &
    Smyth, "Permutation p-values should never be zero", 2010.

    Args:
        differences: int64 (num_clusters,), errors of the baseline minus errors of the candidate.
        permutations: number of random sign patterns.
        seed: the same seed gives the same p.

    Returns:
        p in (0, 1]; 1.0 when no cluster differs.
    """
    moved = differences[differences != 0]  # a zero keeps its value under either sign
    observed = int(moved.sum())
    if len(differences) <= EXACT_CLUSTERS:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(moved))), dtype=np.int64)
        return float(np.mean(signs @ moved >= observed)) if len(moved) else 1.0
    generator = np.random.default_rng(seed)
    sums = np.zeros(permutations, dtype=np.int64)
    # Clusters with the same magnitude flip together as one binomial draw: the same distribution, and memory that
    # grows with the permutations only, not with the clusters.
    for magnitude, count in zip(*np.unique(np.abs(moved), return_counts=True), strict=True):
        sums += magnitude * (2 * generator.binomial(count, 0.5, size=permutations) - count)
    return float((np.count_nonzero(sums >= observed) + 1) / (permutations + 1))


def two_sided(differences: Counts, permutations: int, seed: int) -> float:
    """Two-sided sign-flip p-value: twice the smaller one-sided, at most 1; the same whichever model comes first."""
    sides = (sign_flip_test(signed, permutations, seed) for signed in (differences, -differences))
    return min(1.0, 2 * min(sides))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several tests: those at or below alpha are significant together, at family-wise alpha.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class MatchedPairs:
    """MAPSSWE. `z` and `p_value` (one-sided) are None when the segments do not vary."""

    segments: int
    mean_difference: float  # errors a segment
    z: float | None
    p_value: float | None


def mapsswe(differences: Counts) -> MatchedPairs:
    """Matched Pairs Sentence-Segment Word Error test, one-sided.

    With NIST's segments (`nist.segment_differences`) it is the test of sc_stats, the field's reference. It treats
    segments of one speaker as independent, so it is reported beside the clustered test and never decides.
    Source: Gillick & Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989.

    Args:
        differences: int64 (num_segments,).
    """
    segments = len(differences)
    mean = float(differences.mean()) if segments else 0.0
    deviation = float(differences.std(ddof=1)) if segments > 1 else 0.0
    if deviation == 0:
        return MatchedPairs(segments, mean, None, None)
    z = mean / (deviation / segments**0.5)
    return MatchedPairs(segments, mean, z, float(norm.sf(z)))


def minimum_detectable_effect(
    differences: Counts, reference_words: Counts, alpha: float, power: float = 0.8
) -> float | None:
    """The true improvement (absolute WER) that a test set with this cluster variance shows with this power.

    (z_(1-alpha) + z_power) * standard error of the ratio of sums over clusters.
    Source: Bloom, "Minimum detectable effects", Evaluation Review 1995; the standard error: `ratio_standard_error`.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).
        alpha: one-sided.
        power: chance to find the effect.

    Returns:
        Absolute WER (0.01 is one point), or None when fewer than two clusters or no variance leave nothing to estimate.
    """
    error = ratio_standard_error(differences, reference_words)
    return None if error is None else float((norm.ppf(1 - alpha) + norm.ppf(power)) * error)
