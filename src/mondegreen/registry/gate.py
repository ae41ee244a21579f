"""The gate: every reason that keeps a version from becoming champion, a sentence and a next step each.

No proof is not a pass: what cannot be shown of these very bytes is a refusal.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mondegreen.config import RegressParams, params_of
from mondegreen.errors import RegistryError, UsageError
from mondegreen.registry.aliases import OUTCOME_TAG, Registry
from mondegreen.registry.ledger import CHAMPION
from mondegreen.registry.mlflow_store import tracking_root
from mondegreen.registry.package import DIGEST_TAG, PRUNED_TAG
from mondegreen.registry.record import (
    BASELINE_TAG,
    CHAMPION_TAG,
    IMPROVEMENT_TAG,
    JUDGED_TAG,
    NO_VERDICT,
    NOBODY,
    PROBLEM,
    REGISTERED_DIGEST_TAG,
    REGRESSION_TAG,
    UNKNOWN,
    facts_of,
    present_digest,
)
from mondegreen.registry.regression_runs import (
    RegressionRun,
    list_runs,
    runs_of_model,
    suites_named,
    suites_registered,
)

Proof = Literal["verdict", "regression", "champion", "files"]  # of a proof, that somebody may override
PARTS: tuple[Proof, ...] = get_args(Proof)


@dataclass(frozen=True)
class Refusal:
    """One reason, as a sentence, and what to do about it."""

    code: str  # verdict, regression, digest, champion, files, unloadable, pruned
    problem: str
    next_step: str
    final: bool = False  # not even --force: nobody could load it

    @property
    def part(self) -> str:
        """What of the proof is missing: a verdict about other bytes is none."""
        return "verdict" if self.code == "digest" else self.code


class DeploymentRefusedError(RegistryError):
    """The version may not go to production; `refusals` holds every reason."""

    def __init__(self, version: str, refusals: Sequence[Refusal], done: str = "is not deployed") -> None:
        self.refusals = tuple(refusals)
        problem = " ".join([f"{version} {done}.", *(refusal.problem for refusal in refusals)])
        step = refusals[0].next_step
        if not any(refusal.final for refusal in refusals):
            named = "".join(f" --override {part}" for part in dict.fromkeys(refusal.part for refusal in refusals))
            step += f' To do it all the same:{named} --reason "…", which the ledger keeps.'
        super().__init__(problem, step)


def refusals(registry: Registry, number: int) -> list[Refusal]:
    """Every reason against deploying a version, the weightiest first."""
    return _against(registry, number, registry.aliases().get(CHAMPION))


def against_hand(registry: Registry, number: int, former: int | None) -> list[Refusal]:
    """The same of a version that somebody made champion by hand in the place of `former`.

    One that was in production before needs what a rollback needs: files that are whole.
    """
    if number in registry.ledger.succession().served:
        return _files(registry, number, registry.version(number).tags)
    return _against(registry, number, former)


def _against(registry: Registry, number: int, champion: int | None) -> list[Refusal]:
    known = facts_of(registry, number)
    files = _files(registry, number, known)
    if any(refusal.code == "files" for refusal in files):  # what is there was perhaps never judged
        known = facts_of(registry, number, present_digest(registry, number))
    return [
        *files,
        *_verdict(known),
        *_regression(registry, number, known),
        *_champion(known, champion),
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
    if problem := tags.get(PROBLEM):
        again = "Judge it again; the last candidate: `rm build/register/version.json && dvc repro` registers it again."
        return [Refusal("verdict", problem, again)]
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
    if not judged:  # it was made of functions alone, and would fit any bytes
        text = f"The verdict does not say which model it is about, this version holds {own[:12]}."
        again = "Judge it with validate_model's model_path=, or with the method transcribe of a BaselineSTTModel."
        found.append(Refusal("digest", text, again))
    elif judged != own:
        text = f"The verdict is about model {judged[:12]}, this version holds {own[:12]}."
        found.append(Refusal("digest", text, "Judge the files that you want to deploy: run `dvc repro`."))
    return found


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _regression(registry: Registry, number: int, tags: Mapping[str, str]) -> list[Refusal]:
    """A pass is that of a run, of every suite that there is now: one that came later has shown nothing yet.

    The last run must have passed, and the last one beside the baseline of the verdict: who failed there passes by no
    easier comparison.
    """
    runs, outcome = _own_runs(registry, number, tags), tags.get(REGRESSION_TAG)
    baseline = tags.get(BASELINE_TAG) or UNKNOWN
    run, beside = runs[0] if runs else None, next((one for one in runs if one.results.baseline_model == baseline), None)
    again = f"Run `mondegreen regression run models:/{registry.name}/{number}` and mend what fails."
    try:
        named = suites_named(_regress(), tracking_root())
    except UsageError as error:
        text = f"Nobody can say which regression suites it must pass: {error.problem}"
        return [Refusal("regression", text, error.next_step)]
    text = ""
    if run and not run.passed:
        text = f"Run {run.id} of the regression suites did not pass: {run.reason}".rstrip(".") + "."
    elif beside and not beside.passed:
        text = f"Run {beside.id} of the regression suites, the last beside the model that its verdict compares with "
        text += f"({baseline[:12]}), did not pass: {beside.reason}".rstrip(".") + "."
        again = "Mend what fails, then `dvc repro`, or `mondegreen regression run` with that model as --baseline."
    elif run and (missing := sorted(named - {suite.name for suite in run.results.suites})):
        text = f"Run {run.id} of the regression suites was without {', '.join(missing)}."
    elif not run and outcome == "pass" and named:
        text = "No run on record says which regression suites it passed."
    elif not run and outcome == "none" and suites_due():
        text = "Regression suites are registered or required, and it was registered without any."
    elif not run and outcome not in ("pass", "none"):
        text = "It did not pass the regression suites." if outcome else "No regression suite was run on it."
    return [Refusal("regression", text, again)] if text else []


def suites_due() -> bool:
    """Whether this project asks regression suites of what it deploys."""
    return suites_registered(_regress(), tracking_root())


def _regress() -> RegressParams:
    return params_of(tracking_root()).regress


def _own_runs(registry: Registry, number: int, tags: Mapping[str, str]) -> list[RegressionRun]:
    """The runs of these bytes, else those that name this version and no bytes; newest first."""
    engine = registry.ledger.engine
    if runs := runs_of_model(engine, tags.get(DIGEST_TAG, "")):
        return runs
    if tags.get(REGISTERED_DIGEST_TAG):  # other bytes were registered under that name
        return []
    name = f"{registry.name}/{number}"
    return [run for run in list_runs(engine, limit=1000) if not run.model_digest and run.model_version == name]


def _champion(tags: Mapping[str, str], now: int | None) -> list[Refusal]:
    """Compare and swap: the one that it replaces must be the one that it was judged beside."""
    expected = tags.get(CHAMPION_TAG)
    if expected is None or expected == str(now or NOBODY):
        return []
    again = "Judge it against the champion of now and register it again: `dvc repro`."
    if expected == UNKNOWN:
        return [Refusal("champion", "Nobody can say who was champion when the verdict was made.", again)]
    was, is_now = "nobody" if expected == NOBODY else f"version {expected}", f"version {now}" if now else "nobody"
    text = f"The champion changed since the verdict was made: it was {was}, it is {is_now}."
    return [Refusal("champion", text, again)]


def compared_with_another(registry: Registry, tags: Mapping[str, str], now: int | None) -> str:
    """Worth knowing, though no refusal: the verdict compares with a base model that is not champion `now`."""
    champion, baseline = registry.find(now) if now else None, tags.get(BASELINE_TAG, "")
    digest = champion.tags.get(DIGEST_TAG, "") if champion else ""
    if not baseline or not digest or baseline == digest:
        return ""
    return f"Its verdict compares with model {baseline[:12]}, not with champion version {now} ({digest[:12]})."
