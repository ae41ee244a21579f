"""Is one model better than chance would make it? Tests, intervals and effect sizes over whole clusters.

Everywhere a difference is baseline errors - candidate errors: positive means that the candidate is better. The
sign-flip test decides, the bootstrap gives the interval; cluster t, Wilcoxon and effect size stand beside them.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata, t, wilcoxon

from mondegreen.scoring.clusters import Counts
from mondegreen.scoring.evidence import ClusterT, EffectSize, IntervalMethod, SignedRank

INTERVAL_METHOD: IntervalMethod = "expanded percentile"  # of the verdict: docs/statistics.md compares them
EXACT_CLUSTERS = 12  # up to here the sign-flip test counts all 2^n sign patterns
EXACT_PAIRS = 200  # the same of the signed-rank test
_CHUNK_DRAWS = 4_000_000  # cluster indices drawn at once: 32 MB


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
class Bootstrap:
    """Resampled improvements, baseline WER - candidate WER: float64 (samples,), sorted, absolute WER."""

    improvements: npt.NDArray[np.float64]
    observed: float  # the improvement of the clusters as they are
    clusters: int
    acceleration: float  # how the standard error changes with the improvement, from the jackknife over clusters

    def interval(self, level: float, method: IntervalMethod = INTERVAL_METHOD) -> tuple[float, float]:
        """The two-sided interval of the improvement at `level`, e.g. 0.95."""
        return self._bounds((1 - level) / 2, method)

    def loss_bounds(self, alpha: float, method: IntervalMethod = INTERVAL_METHOD) -> tuple[float, float]:
        """One-sided (1 - alpha) lower and upper bound of the loss, candidate WER - baseline WER.

        The candidate is non-inferior when the upper bound lies below the margin.
        """
        low, high = self._bounds(alpha, method)
        return 0.0 - high, 0.0 - low

    def _bounds(self, tail: float, method: IntervalMethod) -> tuple[float, float]:
        """Lower and upper bound of the improvement, each missed with probability `tail`."""
        tails = np.array([tail, 1 - tail])
        if method == "bca":
            tails = self._corrected(tails)
        elif method == "expanded percentile":
            tails = self._expanded(tails)
        low, high = np.quantile(self.improvements, tails)
        return float(low), float(high)

    def _expanded(self, tails: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Quantiles farther out, by how much t is wider than normal and a resample narrower than the sample.

        Without it intervals of few clusters are too narrow, and a bound of the loss passes more often than it says.
        Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 2015, section 5.
        """
        if self.clusters < 2:
            return tails
        wider = (self.clusters / (self.clusters - 1)) ** 0.5 * t.ppf(tails, self.clusters - 1)
        found: npt.NDArray[np.float64] = norm.cdf(wider)
        return found

    def _corrected(self, tails: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The quantiles that BCa takes instead: Efron & Tibshirani 1993, equations 14.9 and 14.10."""
        below, upto = (np.searchsorted(self.improvements, self.observed, side) for side in ("left", "right"))
        least = 0.5 / len(self.improvements)
        bias = norm.ppf(np.clip((below + upto) / 2 / len(self.improvements), least, 1 - least))
        shifted = bias + norm.ppf(tails)
        found: npt.NDArray[np.float64] = norm.cdf(bias + shifted / (1 - self.acceleration * shifted))
        return found

    def histogram(self, bins: int = 40) -> list[tuple[float, int]]:
        """The middle of each bin and the samples in it."""
        counts, edges = np.histogram(self.improvements, bins=bins)
        middles = (edges[:-1] + edges[1:]) / 2
        return [(float(middle), int(count)) for middle, count in zip(middles, counts, strict=True)]


def block_bootstrap(
    baseline_errors: Counts, candidate_errors: Counts, reference_words: Counts, samples: int, seed: int
) -> Bootstrap:
    """Draws clusters with replacement and takes the ratio of sums in each sample.

    Resampling speakers or recordings instead of utterances keeps what is correlated together.
    Source: Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004;
    blocks: Liu & Peng, "Statistical testing on ASR performance via blockwise bootstrap", Interspeech 2020. Plain
    intervals of few clusters are too narrow (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993), which is
    why the verdict's is expanded and asks for `min_clusters`.

    Args:
        baseline_errors: int64 (num_clusters,).
        candidate_errors: int64 (num_clusters,), the same clusters in the same order.
        reference_words: int64 (num_clusters,), each at least 1.
        samples: number of resamples.
        seed: the same seed gives the same samples.

    Raises:
        ValueError: no clusters, arrays of different length, or a cluster without words.
    """
    if not len(baseline_errors) == len(candidate_errors) == len(reference_words) > 0:
        raise ValueError("The bootstrap needs the same clusters, at least one, for both models.")
    if reference_words.min() < 1:
        raise ValueError("A cluster without reference words has no error rate.")
    num_clusters = len(reference_words)
    gains = baseline_errors - candidate_errors
    generator = np.random.default_rng(seed)
    improvements = np.empty(samples)
    rows = max(1, _CHUNK_DRAWS // num_clusters)
    for start in range(0, samples, rows):
        drawn = generator.integers(0, num_clusters, size=(min(rows, samples - start), num_clusters))
        improvements[start : start + rows] = gains[drawn].sum(axis=1) / reference_words[drawn].sum(axis=1)
    return Bootstrap(
        improvements=np.sort(improvements),
        observed=int(gains.sum()) / int(reference_words.sum()),
        clusters=num_clusters,
        acceleration=_acceleration(gains, reference_words),
    )


def _acceleration(gains: Counts, words: Counts) -> float:
    """Skewness of the improvement under leaving one cluster out: Efron & Tibshirani 1993, equation 14.15."""
    if len(words) < 2:
        return 0.0
    left_out = (gains.sum() - gains) / (words.sum() - words)
    centred = left_out.mean() - left_out
    scale = float(np.square(centred).sum()) ** 1.5
    return float((centred**3).sum()) / (6 * scale) if scale else 0.0


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
    ratio = int(differences.sum()) / int(reference_words.sum()) / error
    return ClusterT(freedom, error, ratio, float(t.sf(ratio, freedom)))


def signed_rank_test(differences: Counts, reference_words: Counts) -> SignedRank:
    """Wilcoxon's one-sided signed-rank test on each cluster's own improvement of WER.

    A small cluster weighs as much as a large one, so it asks another question than corpus WER: do clusters tend to
    improve? Clusters without a difference are left out. Exact up to 200 clusters, then scipy's normal approximation.
    scipy's own exact p-value is not exact where rates are equal (ties), and clusters of few words often are.
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
    ranks = rankdata(np.abs(rates))
    statistic = float(ranks[rates > 0].sum())
    if len(rates) <= EXACT_PAIRS:
        p_value = _signed_rank_tail(ranks, statistic)
    else:
        p_value = float(wilcoxon(rates, alternative="greater", method="asymptotic").pvalue)
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
