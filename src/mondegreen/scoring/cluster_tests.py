"""Tests beside the deciding one, each over whole clusters: cluster-robust t, Wilcoxon signed rank, effect size.

Everywhere a difference is baseline errors - candidate errors: positive means that the candidate is better.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from mondegreen.scoring.bootstrap import Counts

EXACT_PAIRS = 200


@dataclass(frozen=True)
class ClusterT:
    """Cluster-robust t test of a corpus WER difference. `t` and `p_value` (one-sided) are None without variance."""

    degrees_of_freedom: int
    standard_error: float | None  # of the improvement, absolute WER
    t: float | None
    p_value: float | None


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of the clusters' own improvements. None where no cluster differs."""

    pairs: int  # clusters that differ
    statistic: float | None  # sum of the ranks of the clusters that improved
    p_value: float | None  # one-sided
    rank_biserial: float | None  # -1 .. 1: (ranks of improved - ranks of damaged) / all ranks


@dataclass(frozen=True)
class EffectSize:
    """How large the improvement is against the scatter between clusters, and how many clusters share it."""

    hedges_g: float | None  # standard deviations between clusters; None without variance
    better: int  # clusters in which the candidate makes fewer errors
    worse: int
    equal: int


def ratio_standard_error(differences: Counts, reference_words: Counts) -> float | None:
    """Standard error of sum(differences) / sum(words) over clusters, by linearisation of the ratio.

    Source: Cochran, "Sampling Techniques", 1977, section 6.3.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).

    Returns:
        Absolute WER, or None when fewer than two clusters or no variance leave nothing to estimate.
    """
    clusters, words = len(differences), int(reference_words.sum())
    if clusters < 2 or words == 0:
        return None
    # In integers, so that equal gains a word leave exactly nothing: (d - D/W * w) = (d * W - D * w) / W.
    residuals = differences * words - int(differences.sum()) * reference_words
    if not residuals.any():
        return None
    squares = float(np.square(residuals / words).sum())
    return float((clusters / (clusters - 1) * squares) ** 0.5 / words)


def cluster_t_test(differences: Counts, reference_words: Counts) -> ClusterT:
    """One-sided t test of the corpus WER difference whose standard error is that between clusters.

    t = improvement / linearised standard error, with clusters - 1 degrees of freedom.
    Sources: Cochran 1977 (`ratio_standard_error`); the degrees of freedom: Cameron & Miller, "A practitioner's guide to
    cluster-robust inference", Journal of Human Resources 2015.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).
    """
    error = ratio_standard_error(differences, reference_words)
    freedom = max(0, len(differences) - 1)
    if error is None:
        return ClusterT(freedom, None, None, None)
    t = int(differences.sum()) / int(reference_words.sum()) / error
    return ClusterT(freedom, error, t, float(stats.t.sf(t, freedom)))


def signed_rank_test(differences: Counts, reference_words: Counts) -> SignedRank:
    """Wilcoxon's one-sided signed-rank test on each cluster's own improvement of WER.

    A small cluster weighs as much as a large one, so it asks another question than corpus WER: do clusters tend to
    improve? Clusters without a difference are left out. Exact up to 200 clusters, also with ties (which scipy's is not,
    or takes seconds for), then the normal approximation.
    Sources: Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1945; on speakers' rates as
    NIST's sc_stats does; the exact distribution: Streitberg & Röhmel, "Exact distributions for permutation and rank
    tests", Statistical Software Newsletter 1986; the correlation: Kerby, "The simple difference formula",
    Comprehensive Psychology 2014.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,), each at least 1.
    """
    moved = differences != 0
    rates = differences[moved] / reference_words[moved]
    if not len(rates):
        return SignedRank(0, None, None, None)
    ranks = stats.rankdata(np.abs(rates))
    statistic = float(ranks[rates > 0].sum())
    if len(rates) <= EXACT_PAIRS:
        p_value = _signed_rank_tail(ranks, statistic)
    else:
        p_value = float(stats.wilcoxon(rates, alternative="greater", method="asymptotic").pvalue)
    return SignedRank(len(rates), statistic, p_value, 2 * statistic / float(ranks.sum()) - 1)


def _signed_rank_tail(ranks: npt.NDArray[np.float64], statistic: float) -> float:
    """Chance that the ranks of random signs sum to `statistic` or more; a rank is a multiple of a half."""
    halves = np.rint(2 * ranks).astype(int)
    chances = np.zeros(halves.sum() + 1)
    chances[0] = 1
    for rank in halves:
        chances[rank:] = (chances[rank:] + chances[:-rank]) / 2
        chances[:rank] /= 2
    return float(chances[round(2 * statistic) :].sum())


def effect_size(differences: Counts, reference_words: Counts) -> EffectSize:
    """The improvement in standard deviations between clusters (Hedges' g for paired data).

    d = t / sqrt(clusters) of `cluster_t_test`, times 1 - 3 / (4 * degrees of freedom - 1) against the bias of few
    clusters. By custom 0.2 is small, 0.5 medium, 0.8 large.
    Sources: Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, section 2.3.5 (d_z); Hedges,
    "Distribution theory for Glass's estimator of effect size", Journal of Educational Statistics 1981.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).
    """
    test = cluster_t_test(differences, reference_words)
    correction = 1 - 3 / (4 * test.degrees_of_freedom - 1) if test.degrees_of_freedom else 1.0
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return EffectSize(
        hedges_g=None if test.t is None else test.t / len(differences) ** 0.5 * correction,
        better=better,
        worse=worse,
        equal=len(differences) - better - worse,
    )
