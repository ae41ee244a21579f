"""What a verdict is: the numbers, the outcome, and a seal over both."""

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mondegreen.errors import RegistryError
from mondegreen.records import Outcome, SliceMetrics
from mondegreen.scoring.comparison import Unit
from mondegreen.scoring.significance import IntervalMethod


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(_Model):
    """Two-sided block-bootstrap interval of the WER improvement, absolute."""

    low: float
    high: float
    level: float


class SegmentTest(_Model):
    """MAPSSWE over NIST's sentence segments, one-sided; reported beside the decision. None when nothing varies."""

    segments: int
    mean_difference: float  # errors a segment
    z: float | None
    p_value: float | None


class ClusterT(_Model):
    """Cluster-robust t test, one-sided; reported beside the decision. None when nothing varies."""

    degrees_of_freedom: int
    standard_error: float | None  # of the improvement, absolute WER
    t: float | None
    p_value: float | None


class SignedRank(_Model):
    """Wilcoxon's signed-rank test over clusters, one-sided; reported beside the decision. None where none differs."""

    pairs: int
    statistic: float | None
    p_value: float | None
    rank_biserial: float | None


class EffectSize(_Model):
    """The improvement in standard deviations between clusters, and how many clusters share it."""

    hedges_g: float | None
    better: int
    worse: int
    equal: int


class SideBySide(_Model):
    """One slice under both models."""

    baseline: SliceMetrics
    candidate: SliceMetrics


class Retention(_Model):
    """Non-inferiority on what the model knew before. Losses are candidate WER - baseline WER, absolute."""

    outcome: Outcome
    reason: str
    margin: float
    unit: Unit | None = None
    clusters: int = 0
    words: int = 0
    loss: float | None = None
    lower_bound: float | None = None  # one-sided, each at `level`
    upper_bound: float | None = None
    level: float | None = None


class Look(_Model):
    """A candidate's look at a test set, as the ledger of looks counts it (`mondegreen.loop.alpha_ledger`)."""

    number: int = Field(ge=1)
    before: int = Field(ge=0)  # looks of other candidates
    alpha: float = Field(gt=0, lt=1)  # the share of `validate.alpha` that this look may spend


class Degradation(_Model):
    """Utterances of the test set whose WER rose: by more than `validate.degradation_bound`, and badly."""

    worse: int
    rate: float  # share of the utterances
    badly_worse: tuple[str, ...]  # IDs


class Verdict(_Model):
    """build/validate/verdict.json. Rates are fractions (0.01 is one point); improvement = baseline - candidate.

    Whoever reads one in order to deploy a model calls `verify` first: it raises on a file that was edited by hand.
    """

    outcome: Outcome
    passed: bool
    reason: str
    claim: str  # whom the numbers speak for
    unit: Unit
    clusters: int
    utterances: int
    words: int
    speakers: int
    without_reference: int
    llm_references: int = 0  # that judged because validate.allow_llm_references lets them; 0 is the rule
    baseline: SliceMetrics | None
    candidate: SliceMetrics | None
    slices: dict[str, SideBySide]  # test, test/clean, …, retention/test
    wer_improvement: float | None
    min_wer_improvement: float
    interval: Interval | None
    interval_method: IntervalMethod | None = None
    intervals: dict[IntervalMethod, tuple[float, float]] = Field(default_factory=dict)  # low, high by each method
    p_value: float | None  # sign-flip, one-sided
    alpha: float  # for all looks at this test set together
    look: Look | None = None  # None: nobody counted, and all of alpha was spent
    mapsswe: SegmentTest | None
    cluster_t: ClusterT | None = None
    wilcoxon: SignedRank | None = None
    effect_size: EffectSize | None = None
    minimum_detectable_effect: float | None  # at the alpha of this look, power 0.8
    degradation: Degradation | None = None
    retention: Retention
    notes: tuple[str, ...]
    baseline_model: str
    candidate_model: str
    normalizer: str
    reference_digest: str  # sha256 over the IDs and references of the test set
    seal: str = ""  # sha256 over everything else

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.passed != (self.outcome == "pass"):
            raise ValueError(f"passed is {self.passed}, the outcome is {self.outcome}")
        return self

    @property
    def failure_reason(self) -> str | None:
        """The reason unless it passed."""
        return None if self.passed else self.reason

    @property
    def model_digest(self) -> str:
        return self.candidate_model

    @property
    def baseline_digest(self) -> str:
        return self.baseline_model

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return self.model_dump(mode="json")

    def sealed(self) -> Self:
        """The same verdict with its seal."""
        return self.model_copy(update={"seal": self._digest()})

    def verify(self) -> bool:
        """True, or an exception: whoever forgets to look at the answer is stopped all the same.

        The seal finds what was edited, by hand or by a failing disk; it is no signature against one who means to
        forge a verdict and can run this program.

        Raises:
            RegistryError: the content is not what the seal was made over, or there is no seal.
        """
        if self.seal != self._digest():
            raise RegistryError(
                "The verdict is not as it was written: "
                + ("its seal does not fit." if self.seal else "it has no seal."),
                "Run `dvc repro --force validate` to judge the model again; never edit a verdict.",
            )
        return True

    def _digest(self) -> str:
        content = self.model_dump(mode="json", exclude={"seal"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def numbers(self) -> dict[str, float]:
        """What is known of the numbers that runs are compared by."""
        found: dict[str, float | None] = {
            "wer_improvement": self.wer_improvement,
            "interval_low": self.interval.low if self.interval else None,
            "interval_high": self.interval.high if self.interval else None,
            "p_value": self.p_value,
            "mapsswe_p_value": self.mapsswe.p_value if self.mapsswe else None,
            "cluster_t_p_value": self.cluster_t.p_value if self.cluster_t else None,
            "wilcoxon_p_value": self.wilcoxon.p_value if self.wilcoxon else None,
            "effect_size": self.effect_size.hedges_g if self.effect_size else None,
            "minimum_detectable_effect": self.minimum_detectable_effect,
            "degradation_rate": self.degradation.rate if self.degradation else None,
            "retention_loss": self.retention.loss,
            "retention_upper_bound": self.retention.upper_bound,
            "look": float(self.look.number) if self.look else None,
            "look_alpha": self.look.alpha if self.look else None,
            "llm_references": float(self.llm_references),
            "passed": float(self.passed),
        }
        return {name: value for name, value in found.items() if value is not None}
