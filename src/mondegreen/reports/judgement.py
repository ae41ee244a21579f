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
    loss: float | None = None
    upper_bound: float | None = None


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
    slices: dict[str, SideBySide]
    wer_improvement: float | None
    interval: Interval | None
    p_value: float | None
    alpha: float
    minimum_detectable_effect: float | None
    retention: Retention
    notes: tuple[str, ...]
    baseline_model: str
    candidate_model: str
    normalizer: str
    reference_digest: str

    @classmethod
    def of(cls, verdict: BaseModel) -> "Judgement":
        """Takes the fields from a `mondegreen.loop.verdict.Verdict`."""
        return cls.model_validate(verdict.model_dump())

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return SENTENCES[self.outcome]


def slice_label(name: str) -> str:
    """What people call a slice: "test" is all, "test/clean" is clean, "retention/test" is retention."""
    if name == "test":
        return "all"
    return "retention" if name.startswith("retention") else name.split("/", 1)[-1]


def shown_slices(slices: dict[str, SideBySide]) -> list[str]:
    """The conditions, then all of the test set, then retention."""
    return sorted(slices, key=lambda name: (name.startswith("retention"), name == "test", name))
