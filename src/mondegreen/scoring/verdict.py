"""What a verdict is: what each test found, the outcome, what people are told of it, and a seal over all of it.

A difference is baseline - candidate: positive means that the candidate makes fewer errors. Tests are one-sided.
"""

import hashlib
import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mondegreen.errors import RegistryError
from mondegreen.files import read_json
from mondegreen.records import Outcome, SliceMetrics
from mondegreen.scoring.normalizer import Measure, measure_of

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

    @property
    def is_finite(self) -> bool:
        """Whether everything that decides is a number."""
        deciding = (self.improvement, *self.interval, *self.loss_bounds, self.p_better, self.p_worse)
        return all(map(isfinite, deciding))


VerdictOutcome = Outcome | Literal["trial"]
_SENTENCES: dict[VerdictOutcome, str] = {
    "pass": "Pass: the candidate is better and has forgotten nothing.",
    "fail": "Fail: the candidate must not replace the baseline.",
    "inconclusive": "Inconclusive: this test does not show that the candidate is better. That is not a pass.",
    "trial": "Trial: compared on the dev set. No look at the test set was spent, and nothing is registered.",
}


_KEPT: dict[VerdictOutcome, str] = {
    "pass": "Pass: the variant is shown to lose less than the margin against its parent.",
    "fail": "Fail: the variant must not replace its parent.",
    "inconclusive": "Inconclusive: it is not shown that the variant loses less than the margin. That is not a pass.",
    "trial": _SENTENCES["trial"],
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(_Part):
    """Two-sided block-bootstrap interval of the WER improvement, absolute."""

    low: float
    high: float
    level: float


class SideBySide(_Part):
    """One slice under both models."""

    baseline: SliceMetrics
    candidate: SliceMetrics


class Retention(_Part):
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

    @property
    def warning(self) -> str:
        """In capital letters, when nothing shows what was forgotten; else ""."""
        if not self.clusters:
            return "FORGETTING WAS NOT MEASURED"
        return "FORGETTING IS NOT RULED OUT" if self.outcome == "inconclusive" else ""


class Corrected(_Part):
    """Corrected failed cases that are held out of training: what a round did to what production misheard."""

    utterances: int
    unit: Unit
    clusters: int
    baseline_wer: float
    candidate_wer: float
    wer_improvement: float
    interval: Interval | None  # None over one cluster
    seen_texts: int  # of the utterances; training holds the same text


class TermScore(_Part):
    """How one model hears the terms that were said. Rates are fractions, intervals over clusters.

    Recall is of what was said, precision of what was heard; the error rate counts what was missed and what was invented
    for each that was said. None: nothing was said, or heard, or it is too little for an interval.
    """

    said: int
    heard: int  # as they were said
    invented: int
    recall: float | None
    precision: float | None
    error_rate: float | None
    recall_interval: tuple[float, float] | None = None
    precision_interval: tuple[float, float] | None = None


class WordsThatMatter(_Part):
    """The terms of validate.terms under both models; they decide nothing."""

    terms: int
    baseline: TermScore
    candidate: TermScore


class Look(_Part):
    """A candidate's look at a test set, as the ledger of looks counts it (`mondegreen.loop.alpha_ledger`)."""

    number: int = Field(ge=1)
    before: int = Field(ge=0)  # looks of other candidates
    alpha: float = Field(gt=0, lt=1)  # the share of `validate.alpha` that this look may spend


class Degradation(_Part):
    """Utterances of the test set whose WER rose: by more than `validate.degradation_bound`, and badly."""

    worse: int
    rate: float  # share of the utterances
    badly_worse: tuple[str, ...]  # IDs


class Verdict(_Part):
    """build/validate/verdict.json. Rates are fractions (0.01 is one point); improvement = baseline - candidate.

    Whoever reads the file does so by `read`, which raises on one that was edited by hand.
    """

    outcome: VerdictOutcome  # trial: compared on dev, which judges nobody
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
    mapsswe: MatchedPairs | None  # this and the next three are reported beside the decision
    cluster_t: ClusterT | None = None
    wilcoxon: SignedRank | None = None
    effect_size: EffectSize | None = None
    minimum_detectable_effect: float | None  # at the alpha of this look, power 0.8
    degradation: Degradation | None = None
    retention: Retention
    # Reported beside the decision. Left out where there is none, so that an earlier release's seal still fits.
    corrected: Corrected | None = Field(None, exclude_if=lambda value: value is None)
    terms: WordsThatMatter | None = Field(None, exclude_if=lambda value: value is None)
    # Of a variant, whose question is non-inferiority on the test set instead of improvement.
    kept: Retention | None = Field(None, exclude_if=lambda value: value is None)
    notes: tuple[str, ...]
    baseline_model: str  # digest
    candidate_model: str
    normalizer: str
    reference_digest: str  # sha256 over the IDs and references of the test set
    seal: str = ""  # sha256 over everything else

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.passed != (self.outcome == "pass"):
            raise ValueError(f"passed is {self.passed}, the outcome is {self.outcome}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """A verdict from its file.

        Raises:
            UsageError: the file is not there, or no verdict.
            RegistryError: it is not as it was written.
        """
        verdict = read_json(path, cls)
        verdict.verify()
        return verdict

    @property
    def split(self) -> Literal["test", "dev"]:
        """Whose utterances were compared, and the name of the slice that holds them all."""
        return "dev" if self.outcome == "trial" else "test"

    @property
    def failure_reason(self) -> str | None:
        """The reason unless it passed."""
        return None if self.passed else self.reason

    @property
    def model_digest(self) -> str:
        """Of the candidate, "" when nobody said where its files are."""
        return self.candidate_model

    @property
    def baseline_digest(self) -> str:
        """The same of the baseline."""
        return self.baseline_model

    @property
    def measure(self) -> Measure:
        """What the rates under `wer` are: CER where the texts part no words by blanks."""
        return measure_of(self.normalizer)

    @property
    def spendable(self) -> float:
        """The p-value that this look must not exceed."""
        return self.look.alpha if self.look else self.alpha

    @property
    def cer_improvement(self) -> float | None:
        """As `wer_improvement`, in characters; reported beside the decision, which WER makes. None over no words."""
        if self.baseline is None or self.candidate is None:
            return None
        return self.baseline.cer.rate - self.candidate.cer.rate

    @property
    def is_significant(self) -> bool:
        """Whether the test that decides was met; a verdict may pass without it, when nobody asked."""
        return self.p_value is not None and self.p_value <= self.spendable

    @property
    def sentence(self) -> str:
        """The outcome in words; a pass claims no more than was asked for and shown."""
        forgotten = self.retention.outcome != "pass"
        if self.kept:
            unknown = " What it may have forgotten is not shown." if self.passed and forgotten else ""
            return _KEPT[self.outcome] + unknown
        if self.outcome == "pass" and not self.is_significant:
            return "Pass: the candidate makes fewer errors, but significance was not asked for and is not shown."
        if self.outcome == "pass" and forgotten:
            return "Pass: the candidate is better. What it may have forgotten is not shown."
        if self.outcome == "inconclusive" and self.is_significant and forgotten:
            return "Inconclusive: better here, but not shown to have forgotten nothing. That is not a pass."
        return _SENTENCES[self.outcome]

    @property
    def paragraphs(self) -> list[str]:
        """How it came out and why, as paragraphs of Markdown: what runs and versions are described by in MLflow."""
        return [f"**{self.outcome}**: {self.sentence.partition(': ')[2]}", self.reason]

    @property
    def warning(self) -> str:
        """In capital letters, when no person wrote what judged, or nothing shows what was forgotten; else ""."""
        count = self.llm_references
        machines = f"JUDGED BY {count} REFERENCES THAT A MACHINE WROTE. NO PERSON SAID THAT THEY ARE RIGHT."
        forgetting = f"{self.retention.warning}." if self.retention.warning else ""
        return " ".join(filter(None, [machines if count else "", forgetting]))

    @property
    def shown_slices(self) -> list[str]:
        """Names of the slices as people read them: the conditions, then all of the test set, then retention."""
        return sorted(
            self.slices,
            key=lambda name: (name.startswith("corrected"), name.startswith("retention"), name == self.split, name),
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return self.model_dump(mode="json")

    def headline(self) -> dict[str, float]:
        """The few numbers that candidates are compared by, as rates from 0; those of a trial are named as dev's."""
        prefix = "dev_" if self.outcome == "trial" else ""
        found = {
            "wer": self.candidate.wer.rate if self.candidate else None,
            "cer": self.candidate.cer.rate if self.candidate else None,
            "wer_before": self.baseline.wer.rate if self.baseline else None,
            "wer_improvement": self.wer_improvement,
            "p_value": self.p_value,
            "retention_loss": self.retention.loss,
            "retention_upper_bound": self.retention.upper_bound,
        }
        return {f"{prefix}{name}": value for name, value in found.items() if value is not None}

    def numbers(self) -> dict[str, float]:
        """What is known of the numbers that runs are compared by."""
        cases = self.corrected
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
            "corrected_wer_improvement": cases.wer_improvement if cases else None,
            "corrected_interval_low": cases.interval.low if cases and cases.interval else None,
            "corrected_interval_high": cases.interval.high if cases and cases.interval else None,
            "terms_recall": self.terms.candidate.recall if self.terms else None,
            "terms_precision": self.terms.candidate.precision if self.terms else None,
            "terms_baseline_recall": self.terms.baseline.recall if self.terms else None,
            "look": float(self.look.number) if self.look else None,
            "look_alpha": self.look.alpha if self.look else None,
            "llm_references": float(self.llm_references),
            "passed": float(self.passed),
        }
        return {name: value for name, value in found.items() if value is not None}

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
        content = self.model_dump(mode="json", include=set(Verdict.model_fields) - {"seal"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def slice_label(name: str) -> str:
    """What people call a slice: "test" is all (in a trial "dev"), "test/clean" clean, "retention/test" retention."""
    if name in ("test", "dev"):
        return "all"
    if name.startswith("corrected"):
        return "corrected cases, held out"
    return "retention" if name.startswith("retention") else name.split("/", 1)[-1]
