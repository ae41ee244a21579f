"""What a verdict proves of a model, as the registry keeps it: in the tags of the version."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

from mondegreen.records import Outcome

OUTCOME_TAG, VERDICT_TAG, JUDGED_TAG, BASELINE_TAG = "outcome", "verdict.sha256", "verdict.model", "verdict.baseline"
IMPROVEMENT_TAG, LLM_TAG, NO_VERDICT = "wer_improvement", "LLM_REFERENCES", "none"


class ValidationResult(Protocol):
    """What the registry reads of a verdict: `loop.validation.ValidationResult`, or anything of its shape."""

    @property
    def outcome(self) -> Outcome: ...
    @property
    def passed(self) -> bool: ...
    @property
    def failure_reason(self) -> str | None: ...
    @property
    def wer_improvement(self) -> float | None: ...
    @property
    def model_digest(self) -> str: ...
    @property
    def baseline_digest(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Proof:
    """What was judged, against what, and how it came out.

    Args:
        outcome: pass, fail or inconclusive; "none" without a verdict, which passes nothing.
        model_digest: of the model that the verdict is about; "" when it does not say.
        baseline_digest: of the model that it was compared with; "" when it does not say.
        wer_improvement: absolute; NaN and infinity prove nothing.
        llm_references: references that a language model wrote.
        sha256: of the whole verdict, which tells a new one from the same one again.
    """

    outcome: str
    model_digest: str = ""
    baseline_digest: str = ""
    wer_improvement: float | None = None
    llm_references: int = 0
    sha256: str = ""

    @classmethod
    def of(cls, result: ValidationResult | None) -> Self:
        """The proof in a validation's result; none at all passes nothing."""
        if result is None:
            return cls(NO_VERDICT)
        outcome = result.outcome if result.passed == (result.outcome == "pass") else "fail"
        content = json.dumps(result.to_dict(), sort_keys=True, default=str)
        return cls(
            outcome=outcome,
            model_digest=result.model_digest,
            baseline_digest=result.baseline_digest,
            wer_improvement=result.wer_improvement,
            llm_references=int(getattr(result, "llm_references", 0)),
            sha256=hashlib.sha256(content.encode()).hexdigest(),
        )

    def tags(self) -> dict[str, str]:
        """For the version. What nobody knows is an empty tag, so that an older verdict leaves nothing behind."""
        return {
            OUTCOME_TAG: self.outcome,
            JUDGED_TAG: self.model_digest,
            BASELINE_TAG: self.baseline_digest,
            IMPROVEMENT_TAG: "" if self.wer_improvement is None else f"{self.wer_improvement:.4g}",
            LLM_TAG: llm_warning(self.llm_references),
            VERDICT_TAG: self.sha256 or digest_of(self),
        }


def digest_of(proof: Proof) -> str:
    """A digest of what little is known, where the verdict itself has none."""
    return hashlib.sha256(json.dumps(asdict(proof), sort_keys=True).encode()).hexdigest()


def llm_warning(references: int) -> str:
    """In capital letters, as it must not be overlooked; "" when people wrote every reference."""
    return f"JUDGED BY {references} REFERENCES THAT A LANGUAGE MODEL WROTE, NOT A HUMAN" if references else ""


def not_a_number(tags: Mapping[str, str]) -> bool:
    """Whether the improvement that was written down is NaN, infinite or no number at all."""
    text = tags.get(IMPROVEMENT_TAG, "")
    try:
        return bool(text) and not math.isfinite(float(text))
    except ValueError:
        return True
