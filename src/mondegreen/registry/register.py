"""Registering: one version a candidate, with its verdict, Staging/@challenger, or @champion when that is allowed."""

import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from mondegreen.config import DeployParams
from mondegreen.errors import RegistryError
from mondegreen.records import RegisteredVersion, RegressionResults
from mondegreen.registry.aliases import OUTCOME_TAG, Registry, alone, move, opened
from mondegreen.registry.copied import warn_of_another
from mondegreen.registry.deploy import deploy
from mondegreen.registry.gate import compared_with_another
from mondegreen.registry.ledger import CHALLENGER, CHAMPION
from mondegreen.registry.mlflow_store import live_state
from mondegreen.registry.package import DIGEST_TAG, FILES_TAG, PRUNED_TAG, checksums, log_model, pickles, to_tag
from mondegreen.registry.record import (
    BASELINE_TAG,
    CHAMPION_TAG,
    IMPROVEMENT_TAG,
    NOBODY,
    REGRESSION_TAG,
    TEST_SET_TAG,
    VERDICT_TAG,
    VerdictTags,
    facts_of,
    registered_before,
    write_record,
)
from mondegreen.registry.recovery import recover
from mondegreen.registry.regression_runs import latest_run, store_run
from mondegreen.registry.run_logs import REPORT
from mondegreen.registry.run_page import log_model_page
from mondegreen.registry.runs import resume_run
from mondegreen.scoring.wording import points

_OUTCOMES = ("fail", "inconclusive", "pass")
_ABOUT = (
    "A speech recogniser that learns from what it misheard. @champion is in production, @challenger the best candidate "
    "that waits for it, @previous what a rollback leads to. `mondegreen models deploy` and `rollback` move them: they "
    "ask for the proof, and keep a ledger."
)
_log = logging.getLogger(__name__)


def register(
    model_name: str,
    run_id: str,
    model_folder: Path,
    *,
    digest: str,
    verdict: VerdictTags,
    results: RegressionResults,
    promote: bool,
    card: str = "",
    told: str = "",
    tags: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
    config: DeployParams | None = None,
) -> RegisteredVersion:
    """Registers a candidate once and gives it its stage and alias.

    Staging/@challenger, or Production/@champion when `promote` is set, the verdict is `pass` against the champion of
    now, if there is one, and the regression suites passed, or there are none; nothing else promotes. One that is worse
    than the present challenger gets neither, nor does one that was rolled back from: that a person decided, or the
    guard. A rerun finds the version that it made and finishes what was left undone.

    Args:
        run_id: the run of run.json.
        model_folder: the merged model.
        digest: `model_digest(model_folder)`.
        card: Markdown; lies in the package.
        told: Markdown of a few lines, for the version's description; the card where there is none.
        tags: more tags of the version.
        facts: more for its record: p-value, WER before and after, data hash, commit.
        config: of the deployment; the defaults when not given.

    Raises:
        RegistryError: the regression results are of another model; the model holds pickles; something else than the
            verdict keeps it from production, such as damaged files.
        CaseError: the ledger cannot be written.
    """
    if results.model != digest:
        raise RegistryError(
            f"The regression results are of model {results.model[:12]}, the candidate is {digest[:12]}.",
            "Run `dvc repro` to test the model that was trained last.",
        )
    more = {**(tags or {}), REGRESSION_TAG: results.outcome}
    with opened(model_name, live_state()) as registry, alone(registry, patience=600), ExitStack() as stack:
        recover(registry, config or DeployParams())  # before anything is written into the run
        own_run = stack.enter_context(resume_run(run_id))
        if results.suites and not latest_run(registry.ledger.engine, digest):
            store_run(registry.ledger.engine, results)  # of another machine, or DVC's cache: the gate asks what it ran
        number = stage_version(
            registry, own_run, model_folder, digest=digest, verdict=verdict, card=card, told=told, tags=more,
            facts=facts or {},
        )  # fmt: skip
        reason = _without_alias(registry, number)
        if promote and verdict.outcome == "pass" and results.outcome != "fail":
            reason = reason or _promote(registry, number, config or DeployParams())
        return _registered(registry, number, verdict.outcome, own_run, digest, reason)


def _promote(registry: Registry, number: int, config: DeployParams) -> str:
    """Deploys a version that nobody looked at; why it does not, "" when it does or the version is champion already."""
    former = registry.aliases().get(CHAMPION)
    if former == number:
        return ""
    if reason := _rolled_back(registry, number) or _not_against(registry, number, former):
        reason = f"it is not promoted by itself: {reason}"
        _log.warning("%s version %s: %s.", registry.name, number, reason)
        return reason
    deploy(registry, number, config, reason="promoted when it was registered")
    return ""


def _not_against(registry: Registry, number: int, champion: int | None) -> str:
    """Why the verdict of a version is none against the champion, "" when it is, or nobody is champion."""
    if champion is None:
        return ""
    known = facts_of(registry, number)
    if note := compared_with_another(registry, known, champion):
        return note[:1].lower() + note[1:].rstrip(".")
    if (baseline := known.get(BASELINE_TAG)) and registry.version(champion).tags.get(DIGEST_TAG) == baseline:
        return ""
    return f"nothing shows that its verdict compares with champion version {champion}"


def _registered(
    registry: Registry, number: int, outcome: str, run_id: str, digest: str, reason: str
) -> RegisteredVersion:
    """A version as it stands now, for build/register/version.json."""
    held = {version: alias for alias, version in registry.aliases().items()}
    return RegisteredVersion(
        name=registry.name,
        version=number,
        stage=str(registry.version(number).current_stage),
        alias=held.get(number, ""),
        reason=reason,
        outcome=outcome,
        run_id=run_id,
        digest=digest,
        uri=f"models:/{registry.name}/{number}",
    )


def stage_version(
    registry: Registry,
    run_id: str,
    model_folder: Path,
    *,
    digest: str,
    verdict: VerdictTags,
    card: str,
    told: str = "",
    tags: Mapping[str, str],
    facts: Mapping[str, str] | None = None,
) -> int:
    """The version of a candidate in Staging/@challenger, made when it is not there yet; called `alone`.

    The challenger before it is archived, unless it is the better one, or this one was rolled back from: then it stays,
    and this version has no alias. The champion stays what it is, also when it is registered again.

    Returns:
        The version's number.

    Raises:
        RegistryError: the folder holds pickles.
    """
    if found := pickles(model_folder):
        raise RegistryError(
            f"{model_folder} holds {found[0]}: only safetensors and JSON are ever loaded.",
            "Save the model with save_pretrained (safetensors), and leave training state out of the folder.",
        )
    version = _find_version(registry, run_id, digest)
    if version is None:
        source = log_model(model_folder, card, {DIGEST_TAG: digest})
        log_model_page(run_id, source)
        # The version comes with its digest, so that a rerun after a crash finds it.
        version = mlflow.register_model(source, registry.name, tags={DIGEST_TAG: digest})
    number = int(version.version)
    warn_of_another(registry.location(number))
    _describe(registry, number, verdict, told or card)
    _record(registry, number, verdict, facts or {})
    registry.tag(number, tags)
    _place(registry, number, verdict.tags()[VERDICT_TAG])
    return number


def _place(registry: Registry, number: int, verdict: str) -> None:
    """@challenger for a version that may have it, and an entry in the ledger that names the verdict (its sha256)."""
    aliases, reason = registry.aliases(), _without_alias(registry, number)
    if aliases.get(CHAMPION) == number:
        _log.warning("%s version %s is in production already and stays there.", registry.name, number)
        target = aliases
    elif reason:
        _log.warning("%s version %s is registered without an alias: %s.", registry.name, number, reason)
        target = aliases
    else:
        target = {alias: held for alias, held in aliases.items() if held != number} | {CHALLENGER: number}
    if target != aliases or not _is_entered(registry, number, verdict):
        move(registry, "register", number, target, reason=reason, details={"verdict": verdict})


def _without_alias(registry: Registry, number: int) -> str:
    """Why a version does not become challenger, "" when it may, or is challenger or champion."""
    aliases = registry.aliases()
    if number in (aliases.get(CHAMPION), aliases.get(CHALLENGER)):
        return ""
    return _rolled_back(registry, number) or worse_than_challenger(registry, number)


def _rolled_back(registry: Registry, number: int) -> str:
    """That production went back from these bytes, also as another version; "" where it did not, or came again."""
    digest = registry.version(number).tags.get(DIGEST_TAG)
    same = {number, *(entry.version for entry in registry.ledger.entries() if digest and entry.digest == digest)}
    if not (of := registry.ledger.succession().fallen & same):
        return ""
    what = "it was" if number in of else f"these are the bytes of version {max(of)}, which was"
    return f"{what} rolled back from; `mondegreen models deploy {number}` if it was right after all"


def worse_than_challenger(registry: Registry, number: int) -> str:
    """Why a version must not take the challenger's place, "" when it may."""
    present = registry.aliases().get(CHALLENGER)
    if present in (None, number):
        return ""
    new, old = facts_of(registry, number), facts_of(registry, int(present))
    if old.get(OUTCOME_TAG) in _OUTCOMES and new.get(OUTCOME_TAG) not in _OUTCOMES:
        return f"nobody has judged it, and the challenger, version {present}, was judged ({_shown(old)})"
    if not is_worse(new, old):
        return ""
    better = f"the challenger, version {present}, is better on the same test set against the same model"
    return f"{better} ({_shown(old)}; this one {_shown(new)})"


def is_worse(new: Mapping[str, str], old: Mapping[str, str]) -> bool:
    """Whether what is known of one version says that it is worse than another, judged by the same model and test set.

    What may be deployed comes first, then the outcome, then the improvement. Other verdicts cannot be compared: False.
    """
    same = all(new.get(tag) and new.get(tag) == old.get(tag) for tag in (BASELINE_TAG, TEST_SET_TAG))
    return same and _worth(new) < _worth(old)


def _worth(tags: Mapping[str, str]) -> tuple[bool, int, float]:
    outcome = tags.get(OUTCOME_TAG, "")
    rank = _OUTCOMES.index(outcome) if outcome in _OUTCOMES else -1
    try:
        improvement = float(tags.get(IMPROVEMENT_TAG, "-inf"))
    except ValueError:
        improvement = -math.inf
    suites = tags.get(REGRESSION_TAG) in ("pass", "none")
    return outcome == "pass" and suites, rank, -math.inf if math.isnan(improvement) else improvement


def _shown(tags: Mapping[str, str]) -> str:
    suites = {"pass": "passed", "none": "not run"}.get(tags.get(REGRESSION_TAG, ""), "not passed")
    improvement = float(tags[IMPROVEMENT_TAG]) if tags.get(IMPROVEMENT_TAG) else None
    return f"{tags.get(OUTCOME_TAG)}, {points(improvement)}, suites {suites}"


def _is_entered(registry: Registry, number: int, sha256: str) -> bool:
    """Whether the ledger knows this verdict on this version."""
    wanted = ("register", number, sha256)
    entries = registry.ledger.entries()
    return any((entry.action, entry.version, entry.details.get("verdict")) == wanted for entry in entries)


def _find_version(registry: Registry, run_id: str, digest: str) -> ModelVersion | None:
    """The version of these weights that this run made earlier, or that a registration left without its verdict."""
    same = [version for version in registry.versions() if version.tags.get(DIGEST_TAG) == digest]
    own = (version for version in same if version.run_id == run_id and not version.tags.get(PRUNED_TAG))
    cut_off = (version for version in same if OUTCOME_TAG not in version.tags)
    return next(own, None) or next(cut_off, None)


def _describe(registry: Registry, number: int, verdict: VerdictTags, told: str) -> None:
    """Description of the version, and of the registered model, which nobody gave one yet."""
    text = "\n\n".join(
        [*(f"**{said}**" for said in (verdict.llm_warning, verdict.forgetting) if said), told, _links(registry, number)]
    )
    registry.client.update_model_version(registry.name, str(number), description=text)
    if not registry.client.get_registered_model(registry.name).description:
        registry.client.update_registered_model(registry.name, _ABOUT)


def _record(registry: Registry, number: int, verdict: VerdictTags, facts: Mapping[str, str]) -> None:
    """Checksums, and the verdict. Also on a rerun: the verdict on the same weights may be a new one."""
    version, found = registry.version(number), verdict.tags()
    if not version.tags.get(FILES_TAG):
        registry.tag(number, {FILES_TAG: to_tag(checksums(registry.fetch(number)))})
    known = registered_before(registry, version)
    # A rerun with the same verdict must not make it look newer than the champion is; the ledger knows it as well.
    same = (
        known[VERDICT_TAG] == found[VERDICT_TAG]
        if VERDICT_TAG in known
        else _is_entered(registry, number, found[VERDICT_TAG])
    )
    beside = (known.get(CHAMPION_TAG) or version.tags.get(CHAMPION_TAG)) if same else ""
    write_record(registry, number, {**facts, **found, CHAMPION_TAG: beside or _judged_beside(registry, verdict)})


def _links(registry: Registry, number: int) -> str:
    """Where MLflow's pages show the version's run and, where one was logged, the report of its verdict."""
    run_id = str(registry.version(number).run_id)
    page = f"#/experiments/{registry.client.get_run(run_id).info.experiment_id}/runs/{run_id}"
    links = [f"[run]({page})"]
    if any(file.path == REPORT for file in registry.client.list_artifacts(run_id, REPORT.partition("/")[0])):
        links.append(f"[report]({page}/artifacts/{REPORT})")
    return ", ".join(links)


def _judged_beside(registry: Registry, verdict: VerdictTags) -> str:
    """Who was champion when the verdict was made: the version of its baseline's bytes that was in production, if the
    baseline was one, else the champion of now."""
    champion = registry.aliases().get(CHAMPION)
    served = {champion, *registry.ledger.succession().served} - {None}
    baselines = [
        int(version.version)
        for version in registry.versions()
        if int(version.version) in served and version.tags.get(DIGEST_TAG) == (verdict.baseline_digest or "unknown")
    ]
    if champion in baselines or not baselines:
        return str(champion or NOBODY)
    return str(baselines[0])
