"""What keeps a version from production, and the tags with its verdict that decide it. No proof is not a pass."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

from mondegreen.errors import RegistryError
from mondegreen.registry.aliases import OUTCOME_TAG, Registry
from mondegreen.registry.ledger import CHAMPION
from mondegreen.registry.package import DIGEST_TAG, PRUNED_TAG
from mondegreen.registry.regression_runs import RegressionRun, latest_run, list_runs
from mondegreen.scoring.verdict import Verdict

VERDICT_TAG, JUDGED_TAG, BASELINE_TAG = "verdict.sha256", "verdict.model", "verdict.baseline"
IMPROVEMENT_TAG, LLM_TAG = "wer_improvement", "LLM_REFERENCES"
REGRESSION_TAG = "regression"
CHAMPION_TAG = "champion.at.verdict"  # whom the verdict could compare with; "none" when nobody was
NO_VERDICT = NOBODY = "none"


@dataclass(frozen=True)
class VerdictTags:
    """What the registry keeps of a verdict: what was judged, against what, and how it came out.

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
    def of(cls, verdict: Verdict | None) -> Self:
        """What is kept of a verdict, or of the result of a validation, which is one; none at all passes nothing."""
        if verdict is None:
            return cls(NO_VERDICT)
        return cls(
            outcome=verdict.outcome if verdict.passed == (verdict.outcome == "pass") else "fail",
            model_digest=verdict.model_digest,
            baseline_digest=verdict.baseline_digest,
            wer_improvement=verdict.wer_improvement,
            llm_references=verdict.llm_references,
            sha256=_digest(verdict.to_dict()),
        )

    @property
    def llm_warning(self) -> str:
        """In capital letters, as it must not be overlooked; "" when people wrote every reference."""
        if not self.llm_references:
            return ""
        return f"JUDGED BY {self.llm_references} REFERENCES THAT A LANGUAGE MODEL WROTE, NOT A HUMAN"

    def tags(self) -> dict[str, str]:
        """For the version. What nobody knows is an empty tag, so that an older verdict leaves nothing behind."""
        return {
            OUTCOME_TAG: self.outcome,
            JUDGED_TAG: self.model_digest,
            BASELINE_TAG: self.baseline_digest,
            IMPROVEMENT_TAG: "" if self.wer_improvement is None else f"{self.wer_improvement:.4g}",
            LLM_TAG: self.llm_warning,
            VERDICT_TAG: self.sha256 or _digest(asdict(self)),  # of what little is known, where the verdict has none
        }


def _digest(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Refusal:
    """One reason, as a sentence, and what to do about it."""

    code: str  # verdict, regression, digest, champion, files, unloadable, pruned
    problem: str
    next_step: str
    final: bool = False  # not even --force: nobody could load it


class DeploymentRefusedError(RegistryError):
    """The version may not go to production; `refusals` holds every reason."""

    def __init__(self, version: str, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        problem = " ".join([f"{version} is not deployed.", *(refusal.problem for refusal in refusals)])
        step = refusals[0].next_step
        if not any(refusal.final for refusal in refusals):
            step += ' To do it all the same: --force --reason "…", which the ledger keeps.'
        super().__init__(problem, step)


def refusals(registry: Registry, number: int) -> list[Refusal]:
    """Every reason against deploying a version, the weightiest first."""
    tags = registry.version(number).tags
    return [
        *_files(registry, number, tags),
        *_verdict(tags),
        *_regression(registry, number, tags),
        *_champion(registry, tags),
    ]


def _files(registry: Registry, number: int, tags: Mapping[str, str]) -> list[Refusal]:
    if when := tags.get(PRUNED_TAG):
        text = f"Its files were pruned at {when}, only the record is left."
        return [Refusal("pruned", text, "Train it again, or raise deploy.keep_previous_versions for the next.", True)]
    again = "`mondegreen models verify --restore` brings files back from a backup; else register the model again."
    if broken := registry.fatal(number):
        return [Refusal("unloadable", f"Its files cannot be served: {'; '.join(broken)}.", again, True)]
    if altered := registry.damage(number):
        return [Refusal("files", f"Its files are not those that were registered: {'; '.join(altered)}.", again)]
    return []


def _verdict(tags: Mapping[str, str]) -> list[Refusal]:
    outcome = tags.get(OUTCOME_TAG, NO_VERDICT)
    if outcome == NO_VERDICT:
        text = "Nobody has judged it: there is no verdict."
        return [Refusal("verdict", text, "Run `dvc repro`, or give register_model a validation_result.")]
    found = []
    if outcome != "pass":
        text = f"Its verdict is `{outcome}`, and nothing but `pass` is a pass."
        found.append(Refusal("verdict", text, "Look at its report, and judge it on more data or train another."))
    if not _is_finite(tags.get(IMPROVEMENT_TAG) or "0"):
        text = "The improvement in its verdict is not a number, so it proves nothing."
        found.append(Refusal("verdict", text, "Judge it again: run `dvc repro`."))
    judged, own = tags.get(JUDGED_TAG, ""), tags.get(DIGEST_TAG, "")
    if judged and judged != own:
        text = f"The verdict is about model {judged[:12]}, this version holds {own[:12]}."
        found.append(Refusal("digest", text, "Judge the files that you want to deploy: run `dvc repro`."))
    return found


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _regression(registry: Registry, number: int, tags: Mapping[str, str]) -> list[Refusal]:
    run, outcome = _last_run(registry, number, tags.get(DIGEST_TAG, "")), tags.get(REGRESSION_TAG)
    if run.passed if run else outcome == "pass":
        return []
    if run:
        text = f"Run {run.id} of the regression suites did not pass: {run.reason}".rstrip(".") + "."
    else:
        text = "It did not pass the regression suites." if outcome else "No regression suite was run on it."
    return [Refusal("regression", text, "Run `mondegreen regression run` on it and mend what fails.")]


def _last_run(registry: Registry, number: int, digest: str) -> RegressionRun | None:
    """The run that counts: the last one of these bytes, else the last one that names this version and no bytes."""
    engine = registry.ledger.engine
    if run := latest_run(engine, digest):
        return run
    name = f"{registry.name}/{number}"
    runs = list_runs(engine, limit=1000)
    return next((run for run in runs if not run.model_digest and run.model_version == name), None)


def _champion(registry: Registry, tags: Mapping[str, str]) -> list[Refusal]:
    """Compare and swap: the one that it replaces must be the one that it was judged beside."""
    now = registry.aliases().get(CHAMPION)
    expected = tags.get(CHAMPION_TAG)
    if expected is None or expected == str(now or NOBODY):
        return []
    was, is_now = "nobody" if expected == NOBODY else f"version {expected}", f"version {now}" if now else "nobody"
    text = f"The champion changed since the verdict was made: it was {was}, it is {is_now}."
    return [Refusal("champion", text, "Judge it against the champion of now and register it again: `dvc repro`.")]


def compared_with_another(registry: Registry, tags: Mapping[str, str]) -> str:
    """Worth knowing, though no refusal: the verdict compares with a base model that is not the champion; "" if not."""
    now, baseline = registry.aliases().get(CHAMPION), tags.get(BASELINE_TAG, "")
    digest = registry.version(now).tags.get(DIGEST_TAG, "") if now else ""
    if not baseline or not digest or baseline == digest:
        return ""
    return f"Its verdict compares with model {baseline[:12]}, not with champion version {now} ({digest[:12]})."
