"""Everything that a comparison says about the difference of two models, computed once."""

from dataclasses import dataclass
from typing import get_args

from scipy.stats import t as student

from mondegreen.config import Params
from mondegreen.scoring.bootstrap import INTERVAL_METHOD, Bootstrap, IntervalMethod, block_bootstrap
from mondegreen.scoring.cluster_tests import (
    ClusterT,
    EffectSize,
    SignedRank,
    cluster_t_test,
    effect_size,
    signed_rank_test,
)
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.significance import MatchedPairs, mapsswe, minimum_detectable_effect, sign_flip_test


@dataclass(frozen=True)
class Evidence:
    """Absolute corpus WER everywhere; an improvement is baseline - candidate, a loss candidate - baseline."""

    improvement: float
    interval: tuple[float, float]  # two-sided, of the improvement, at `level`
    loss_bounds: tuple[float, float]  # one-sided lower and upper bound of the loss, each at `level`
    interval_method: IntervalMethod  # of `interval`
    intervals: dict[IntervalMethod, tuple[float, float]]  # the same interval by each method
    level: float
    p_better: float  # sign-flip, one-sided
    p_worse: float
    cluster_t: ClusterT
    wilcoxon: SignedRank
    effect_size: EffectSize
    segments: MatchedPairs
    minimum_detectable_effect: float | None

    @property
    def loss(self) -> float:
        """The observed loss; 0 and never -0, which would be written to a file as such."""
        return 0.0 - self.improvement


def resample(comparison: Comparison, params: Params) -> Bootstrap:
    """The seeded block bootstrap of a comparison; ValueError when it has no clusters."""
    return block_bootstrap(
        comparison.baseline_errors,
        comparison.candidate_errors,
        comparison.words,
        samples=params.validate_.bootstrap_samples,
        seed=params.seed,
    )


def gather(comparison: Comparison, params: Params) -> Evidence:
    """Runs every test at `validate.alpha`; ValueError when the comparison has no clusters."""
    rules, differences = params.validate_, comparison.differences
    sample, clusters = resample(comparison, params), cluster_t_test(differences, comparison.words)
    return Evidence(
        improvement=comparison.improvement,
        interval=sample.interval(1 - rules.alpha),
        loss_bounds=_loss_bounds(sample, clusters, rules.alpha),
        interval_method=INTERVAL_METHOD,
        intervals={method: sample.interval(1 - rules.alpha, method) for method in get_args(IntervalMethod)},
        level=1 - rules.alpha,
        p_better=sign_flip_test(differences, rules.permutations, params.seed),
        p_worse=sign_flip_test(-differences, rules.permutations, params.seed),
        cluster_t=clusters,
        wilcoxon=signed_rank_test(differences, comparison.words),
        effect_size=effect_size(differences, comparison.words),
        segments=mapsswe(comparison.segment_differences()),
        minimum_detectable_effect=minimum_detectable_effect(differences, comparison.words, rules.alpha),
    )


def _loss_bounds(sample: Bootstrap, test: ClusterT, alpha: float) -> tuple[float, float]:
    """The wider of the bootstrap's bounds and those of the cluster-robust t.

    Even expanded the bootstrap's can be too narrow for few clusters and a small alpha: at a loss of exactly the margin
    and alpha 0.0076, twelve clusters with normal effects passed 1.0 % of the time by it, 0.7 % by the wider one
    (tests/scoring/test_noninferiority_bound.py simulates it).
    """
    low, high = sample.loss_bounds(alpha)
    if test.standard_error is None:
        return low, high
    loss, reach = 0.0 - sample.observed, float(student.isf(alpha, test.degrees_of_freedom)) * test.standard_error
    return min(low, loss - reach), max(high, loss + reach)
