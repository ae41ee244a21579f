"""What the tests of the difference between two models find: one record a test, as verdict.json keeps them.

A difference is baseline - candidate: positive means that the candidate makes fewer errors. Tests are one-sided.
"""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["speaker", "recording", "utterance"]  # what is taken as independent
IntervalMethod = Literal["expanded percentile", "percentile", "bca"]


@dataclass(frozen=True)
class ClusterT:
    """Cluster-robust t test of a corpus WER difference. None where nothing varies."""

    degrees_of_freedom: int
    standard_error: float | None  # of the improvement, absolute WER
    t: float | None
    p_value: float | None


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of the clusters' own improvements. None where no cluster differs."""

    pairs: int  # clusters that differ
    statistic: float | None  # sum of the ranks of the clusters that improved
    p_value: float | None
    rank_biserial: float | None  # -1 .. 1: (ranks of improved - ranks of damaged) / all ranks


@dataclass(frozen=True)
class EffectSize:
    """How large the improvement is against the scatter between clusters, and how many clusters share it."""

    hedges_g: float | None  # standard deviations between clusters; None without variance
    better: int  # clusters in which the candidate makes fewer errors
    worse: int
    equal: int


@dataclass(frozen=True)
class MatchedPairs:
    """MAPSSWE over NIST's sentence segments. None where they do not vary."""

    segments: int
    mean_difference: float  # errors a segment
    z: float | None
    p_value: float | None


@dataclass(frozen=True)
class Evidence:
    """Everything that was tested of one difference. Absolute corpus WER; a loss is candidate - baseline."""

    improvement: float
    interval: tuple[float, float]  # two-sided, of the improvement, at `level`
    loss_bounds: tuple[float, float]  # one-sided lower and upper bound of the loss, each at `level`
    interval_method: IntervalMethod  # of `interval`
    intervals: dict[IntervalMethod, tuple[float, float]]  # the same interval by each method
    level: float
    p_better: float  # sign-flip
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
