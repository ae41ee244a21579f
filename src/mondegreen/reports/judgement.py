"""The part of a verdict that reports show, read from verdict.json or from the verdict itself."""

from pydantic import BaseModel, ConfigDict

from mondegreen.records import Outcome, SliceMetrics

SENTENCES: dict[Outcome, str] = {
    "pass": "Pass: the candidate is better and has forgotten nothing.",
    "fail": "Fail: the candidate must not replace the baseline.",
    "inconclusive": "Inconclusive: this test does not show that the candidate is better. That is not a pass.",
}


class _Part(BaseModel):
    # The loop owns the verdict and may add to it; reports stand below the loop and take what they know.
    model_config = ConfigDict(frozen=True, extra="ignore", from_attributes=True)


class Interval(_Part):
    """Of the WER improvement, absolute."""

    low: float
    high: float
    level: float


class SideBySide(_Part):
    """One slice under both models."""

    baseline: SliceMetrics
    candidate: SliceMetrics


class Retention(_Part):
    """Loss is candidate WER - baseline WER, absolute."""

    outcome: Outcome
    reason: str
    margin: float
    unit: str | None = None
    clusters: int = 0
    words: int = 0
    loss: float | None = None
    upper_bound: float | None = None


class Look(_Part):
    """Which look at this test set this is, and what of alpha it may spend."""

    number: int
    alpha: float


class SegmentTest(_Part):
    """MAPSSWE."""

    segments: int
    z: float | None
    p_value: float | None


class ClusterT(_Part):
    """The cluster-robust t test."""

    degrees_of_freedom: int
    t: float | None
    p_value: float | None


class SignedRank(_Part):
    """Wilcoxon's test over the clusters that differ."""

    pairs: int
    p_value: float | None
    rank_biserial: float | None


class EffectSize(_Part):
    """In standard deviations between clusters, and how many clusters share the improvement."""

    hedges_g: float | None
    better: int
    worse: int
    equal: int


class Degradation(_Part):
    """Utterances whose WER rose by more than is allowed."""

    worse: int
    rate: float
    badly_worse: tuple[str, ...]


class Judgement(_Part):
    """Rates are fractions; an improvement is baseline - candidate."""

    outcome: Outcome
    reason: str
    claim: str
    unit: str
    clusters: int
    utterances: int
    words: int
    speakers: int
    llm_references: int = 0  # machines' references that judged
    slices: dict[str, SideBySide]
    wer_improvement: float | None
    min_wer_improvement: float = 0.0
    interval: Interval | None
    interval_method: str | None = None
    p_value: float | None
    alpha: float  # for all looks at this test set together
    look: Look | None = None
    mapsswe: SegmentTest | None = None
    cluster_t: ClusterT | None = None
    wilcoxon: SignedRank | None = None
    effect_size: EffectSize | None = None
    minimum_detectable_effect: float | None
    degradation: Degradation | None = None
    retention: Retention
    notes: tuple[str, ...]
    baseline_model: str
    candidate_model: str
    normalizer: str
    reference_digest: str

    @classmethod
    def of(cls, verdict: BaseModel) -> "Judgement":
        """Takes the fields from a `mondegreen.scoring.decision.Verdict`."""
        return cls.model_validate(verdict.model_dump())

    @property
    def sentence(self) -> str:
        """The outcome in words; a pass claims no more than was asked for and shown."""
        shown = self.p_value is not None and self.p_value <= self.spendable
        if self.outcome == "pass" and not shown:
            return "Pass: the candidate makes fewer errors, but significance was not asked for and is not shown."
        if self.outcome == "pass" and self.retention.outcome != "pass":
            return "Pass: the candidate is better. What it may have forgotten is not shown."
        if self.outcome == "inconclusive" and shown and self.retention.outcome != "pass":
            return "Inconclusive: better here, but not shown to have forgotten nothing. That is not a pass."
        return SENTENCES[self.outcome]

    @property
    def warning(self) -> str:
        """In capital letters, when what judged is not what a person wrote; else ""."""
        if not self.llm_references:
            return ""
        return f"JUDGED BY {self.llm_references} REFERENCES THAT A MACHINE WROTE. NO PERSON SAID THAT THEY ARE RIGHT."

    @property
    def spendable(self) -> float:
        """The p-value that this look must not exceed."""
        return self.look.alpha if self.look else self.alpha


def slice_label(name: str) -> str:
    """What people call a slice: "test" is all, "test/clean" is clean, "retention/test" is retention."""
    if name == "test":
        return "all"
    return "retention" if name.startswith("retention") else name.split("/", 1)[-1]


def shown_slices(slices: dict[str, SideBySide]) -> list[str]:
    """The conditions, then all of the test set, then retention."""
    return sorted(slices, key=lambda name: (name.startswith("retention"), name == "test", name))
