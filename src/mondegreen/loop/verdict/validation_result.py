"""What a validation found: the verdict, and what both models heard in each recording."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from mondegreen.loop.verdict.confrontation import Confrontation
from mondegreen.loop.verdict.record import Verdict
from mondegreen.records import Domain, Outcome
from mondegreen.scoring.metrics import Scored

_NAMED = 5  # clips without a transcript in a sentence


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class SampleResult(_Record):
    """One recording under both models. Rates from 0; a model without a transcript heard nothing."""

    id: str
    path: str
    domain: Domain
    speaker: str
    reference: str  # normalised, as it was counted
    baseline: str
    candidate: str
    words: int  # of the reference
    baseline_wer: float
    candidate_wer: float

    @property
    def degraded(self) -> bool:
        """Whether the candidate makes more errors."""
        return self.candidate_wer > self.baseline_wer


class FailedSample(_Record):
    """A recording for which a model gave no transcript."""

    id: str
    path: str
    model: str  # baseline or candidate
    error: str


class ValidationResult(_Record):
    """What `ModelValidator.validate_model` found. It passes only when the verdict does."""

    model_id: str
    baseline_id: str
    verdict: Verdict
    per_sample_results: tuple[SampleResult, ...]  # of the test set, then of the retention set
    failed_samples: tuple[FailedSample, ...]  # counted as fully wrong

    @classmethod
    def of(cls, case: Confrontation, verdict: Verdict, model_id: str, baseline_id: str) -> Self:
        """The result of a judged confrontation."""
        pairs = [
            pair
            for compared in (case.test, case.guard)
            for pair in zip(compared.baseline, compared.candidate, strict=True)
        ]
        return cls(
            model_id=model_id,
            baseline_id=baseline_id,
            verdict=verdict,
            per_sample_results=tuple(_sample(old, new) for old, new in pairs),
            failed_samples=tuple(
                FailedSample(id=one.utterance.id, path=one.utterance.path, model=name, error=one.hypothesis.error)
                for pair in pairs
                for name, one in zip(("baseline", "candidate"), pair, strict=True)
                if one.hypothesis.error
            ),
        )

    @property
    def outcome(self) -> Outcome:
        """pass, fail or inconclusive."""
        return self.verdict.outcome

    @property
    def passed(self) -> bool:
        """True for pass only."""
        return self.verdict.passed

    @property
    def wer_improvement(self) -> float | None:
        """Corpus WER of the baseline minus that of the candidate, absolute; None when nothing could be compared."""
        return self.verdict.wer_improvement

    @property
    def failure_reason(self) -> str | None:
        """Why it did not pass: a sentence with the numbers, and which clips have no transcript. None when it did."""
        return None if self.passed else " ".join([self.verdict.reason, *self._unheard()])

    @property
    def model_digest(self) -> str:
        """sha256 of the candidate's files, "" when nobody said where they are."""
        return self.verdict.candidate_model

    @property
    def baseline_digest(self) -> str:
        """sha256 of the baseline's files, "" when nobody said where they are."""
        return self.verdict.baseline_model

    @property
    def llm_references(self) -> int:
        """References that judged although a machine wrote them."""
        return self.verdict.llm_references

    def verify(self) -> bool:
        """`Verdict.verify`: raises RegistryError on a verdict that was edited."""
        return self.verdict.verify()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, the properties as well."""
        names = ("outcome", "passed", "wer_improvement", "failure_reason", "model_digest", "baseline_digest")
        facts = {name: getattr(self, name) for name in (*names, "llm_references")}
        return facts | self.model_dump(mode="json")

    def _unheard(self) -> list[str]:
        found = []
        for model in ("baseline", "candidate"):
            paths = [sample.path for sample in self.failed_samples if sample.model == model]
            some = ", ".join(paths[:_NAMED]) + (", …" if len(paths) > _NAMED else "")
            found += [f"Without a transcript of the {model}, and counted as fully wrong: {some}."] if paths else []
        return found


def _sample(old: Scored, new: Scored) -> SampleResult:
    return SampleResult(
        id=new.utterance.id,
        path=new.utterance.path,
        domain=new.utterance.domain,
        speaker=new.utterance.speaker,
        reference=new.reference,
        baseline=old.heard,
        candidate=new.heard,
        words=new.words.reference_length,
        baseline_wer=old.words.rate,
        candidate_wer=new.words.rate,
    )
