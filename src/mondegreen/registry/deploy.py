"""Deploying and rolling back: what keeps a version from production, and what is kept before anything is moved.

No proof is not a pass. Whatever moves, restores or removes something is to be called `alone`.
"""

import logging
import math
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from mondegreen.config import DeployParams, params_of
from mondegreen.errors import RegistryError, UsageError
from mondegreen.registry.aliases import OUTCOME_TAG, Registry, local_folder, move
from mondegreen.registry.ledger import ALIASES, CHALLENGER, CHAMPION, PREVIOUS, Aliases, LedgerEntry
from mondegreen.registry.mlflow_store import tracking_root
from mondegreen.registry.package import DIGEST_TAG, FILES_TAG, PRUNED_TAG, checksums, from_tag
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
    as_they_are,
    facts_of,
    present_digest,
)
from mondegreen.registry.regression_runs import RegressionRun, latest_run, list_runs, suites_registered

Proof = Literal["verdict", "regression", "champion", "files"]  # of a proof, that somebody may override
PARTS: tuple[Proof, ...] = get_args(Proof)
_log = logging.getLogger(__name__)


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


def deploy(
    registry: Registry, number: int, config: DeployParams, *, override: Collection[str] = (), reason: str
) -> LedgerEntry | None:
    """Production/@champion for a version that has proven itself; the former champion becomes Archived/@previous.

    Args:
        override: parts of the proof that it may lack; files that were altered are one of their own.

    Returns:
        The ledger's entry; None when the version is the champion already.

    Raises:
        DeploymentRefusedError: see `refusals`, and `override`.
        UsageError: `override` without a reason, or of something else.
    """
    check_override(override, reason)
    aliases = registry.aliases()
    former = aliases.get(CHAMPION)
    if former == number:
        return None
    found = overridden_refusals(registry, number, override)
    overridden: dict[str, Any] = {"overridden": [refusal.problem for refusal in found]} if found else {}
    altered = altered_tags(registry, number, found)
    details = overridden | keep_before(registry, number, former, config, altered)
    registry.tag(number, altered)
    target = promoted(aliases, number, former)
    outcome = facts_of(registry, number).get(OUTCOME_TAG, "")  # of the record: a tag alone proves nothing
    entry = move(
        registry, "deploy", number, target, reason=reason, forced=bool(found), outcome=outcome, details=details
    )
    prune(registry, config.keep_previous_versions)
    return entry


def check_override(override: Collection[str], reason: str) -> None:
    """Raises UsageError: somebody overrides what is no part of a proof, or does not say why."""
    if other := sorted(set(override) - set(PARTS)):
        raise UsageError(f"Nobody can override {', '.join(other)}.", f"Name {', '.join(PARTS)}.")
    if override and not reason.strip():
        raise UsageError("--override or --force without a reason.", 'Say why, for the ledger: --reason "…".')


def overridden_refusals(
    registry: Registry, number: int, override: Collection[str], done: str = "is not deployed"
) -> list[Refusal]:
    """What is against a version, all of it overridden. Of files that were altered see `altered_tags`.

    Args:
        done: what does not happen to it otherwise.

    Raises:
        DeploymentRefusedError: something is not overridden, or cannot be.
    """
    found = refusals(registry, number)
    if left := [refusal for refusal in found if refusal.final or refusal.part not in override]:
        raise DeploymentRefusedError(f"{registry.name} version {number}", left, done)
    return found


def altered_tags(registry: Registry, number: int, overridden: Collection[Refusal]) -> dict[str, str]:
    """What a version gets once nothing can refuse it any more: its files, where they were altered, are its own."""
    return as_they_are(registry, number) if any(refusal.code == "files" for refusal in overridden) else {}


def promoted(held: Aliases, number: int, former: int | None) -> Aliases:
    """Who holds which alias once a version is champion."""
    others = {alias: version for alias, version in held.items() if version != number}
    return others | {CHAMPION: number} | ({PREVIOUS: former} if former else {})


def keep_before(
    registry: Registry, number: int, former: int | None, config: DeployParams, altered: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Backups of a version and of the champion that it replaces; what the ledger's entry says of both.

    Args: see `back_up`.
    """
    details: dict[str, Any] = {"inferences": registry.ledger.last_inference()}
    if former and (before := registry.find(former)):
        details["former_digest"] = before.tags.get(DIGEST_TAG, "")
    if note := compared_with_another(registry, facts_of(registry, number), former):
        details["compared"] = note
        _log.warning("%s", note)
    if config.auto_backup_before_deploy:
        there = [version for version in (former, number) if version and registry.find(version)]
        tags = {number: altered}
        details["backups"] = [version for version in there if back_up(registry, version, tags.get(version))]
        if config.backup_to_bucket:
            details["backups_in_bucket"] = registry.backups.push(details["backups"])
    return details


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
    run, outcome = _last_run(registry, number, tags), tags.get(REGRESSION_TAG)
    if run.passed if run else outcome == "pass" or (outcome == "none" and not suites_due()):
        return []
    if run:
        text = f"Run {run.id} of the regression suites did not pass: {run.reason}".rstrip(".") + "."
    elif outcome == "none":
        text = "Regression suites are registered or required, and it was registered without any."
    else:
        text = "It did not pass the regression suites." if outcome else "No regression suite was run on it."
    return [Refusal("regression", text, "Run `mondegreen regression run` on it and mend what fails.")]


def suites_due() -> bool:
    """Whether this project asks regression suites of what it deploys."""
    project = tracking_root()
    return suites_registered(params_of(project).regress, project)


def _last_run(registry: Registry, number: int, tags: Mapping[str, str]) -> RegressionRun | None:
    """The run that counts: the last one of these bytes, else the last one that names this version and no bytes."""
    engine = registry.ledger.engine
    if run := latest_run(engine, tags.get(DIGEST_TAG, "")):
        return run
    if tags.get(REGISTERED_DIGEST_TAG):  # other bytes were registered under that name
        return None
    name = f"{registry.name}/{number}"
    runs = list_runs(engine, limit=1000)
    return next((run for run in runs if not run.model_digest and run.model_version == name), None)


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


def rollback(registry: Registry, to: int | None, *, reason: str) -> LedgerEntry:
    """Back to the version in production before; damaged files of it come back from its backup first.

    Args:
        to: a version that was in production once; else the nearest that was not itself rolled back from.

    Raises:
        RegistryError: there is nothing to go back to, or its files are lost.
    """
    succession, aliases = registry.ledger.succession(), registry.aliases()
    line = succession.targets()
    number = _nearest(registry, line) if to is None else to
    registry.version(number)
    if number == aliases.get(CHAMPION):
        raise RegistryError(
            f"Version {number} is in production already.", "`mondegreen models history` shows the line."
        )
    if number not in succession.served:
        raise RegistryError(
            f"Version {number} was never in production.", f"To put it there: `mondegreen models deploy {number}`."
        )
    _make_servable(registry, number)
    details = {"inferences": registry.ledger.last_inference()}
    target = _after_rollback(registry, aliases, line, number)
    return move(registry, "rollback", number, target, reason=reason, details=details)


def _after_rollback(registry: Registry, aliases: Aliases, line: list[int], back_to: int) -> Aliases:
    """@previous goes further back too: the next one that a rollback would lead to, or nobody."""
    further = line[line.index(back_to) + 1 :] if back_to in line else line
    previous = next((version for version in further if registry.find(version)), None)
    target = {alias: version for alias, version in aliases.items() if alias == CHALLENGER and version != back_to}
    return target | {CHAMPION: back_to} | ({PREVIOUS: previous} if previous else {})


def _nearest(registry: Registry, line: list[int]) -> int:
    lost = []
    for version in line:
        found = registry.find(version)
        if found is None:
            lost.append(f"version {version} is deleted")
        elif found.tags.get(PRUNED_TAG):
            lost.append(f"the files of version {version} were pruned")
        else:
            return version
    why = f" ({', '.join(lost)})" if lost else ""
    raise RegistryError(
        f"There is nothing to roll back to: no earlier version of {registry.name} was in production{why}.",
        "Deploy another one: `mondegreen models list` shows them, `mondegreen models deploy VERSION` does it.",
    )


def _make_servable(registry: Registry, number: int) -> None:
    """Its files as they were registered, from the backup when they are no more: at night one command must do."""
    known = bool(registry.version(number).tags.get(FILES_TAG))
    if known and registry.damage(number) and not registry.backups.problems(number):
        restore(registry, number)
    if wrong := registry.fatal(number) or (registry.damage(number) if known else []):
        raise RegistryError(
            f"Version {number} cannot be served: {'; '.join(wrong)}.",
            "Name another one: `mondegreen models rollback --to VERSION`; `mondegreen models history` shows them.",
        )


def restore(registry: Registry, number: int) -> LedgerEntry:
    """Puts the files of a version back from its backup, and enters it.

    Raises:
        RegistryError: there is no whole backup, or the artifact store refuses.
    """
    before = registry.damage(number)
    if folder := local_folder(registry.location(number)):
        registry.backups.restore(number, folder)
    else:
        registry.backups.require(number)
        registry.replace(number, registry.backups.package(number))
    return registry.note("restore", number, "; ".join(before))


def back_up(registry: Registry, number: int, altered: Mapping[str, str] | None = None) -> bool:
    """A verified copy of a version's files; False where there are none that could be copied.

    Args:
        altered: tags that it is to get, see `altered_tags`.
    """
    tags, backups = registry.version(number).tags | dict(altered or {}), registry.backups
    package, recorded = registry.fetch(number), from_tag(tags.get(FILES_TAG, ""))
    if recorded and registry.aliases().get(CHAMPION) == number and registry.damage(number):
        # Damaged in production. What it was is in its backup, or is lost; that must not keep a better one away.
        if lost := backups.problems(number):
            _log.warning("Champion version %s is damaged and its backup is of no use: %s.", number, "; ".join(lost))
        return not lost
    backups.make(number, package, recorded or checksums(package), tags.get(DIGEST_TAG, ""))
    return True


def delete(registry: Registry, number: int, config: DeployParams, *, reason: str) -> LedgerEntry:
    """Deletes a version, its files and its backup. Raises RegistryError when it holds an alias or may be needed."""
    require_free(registry, number, config)
    intent = registry.intend("delete", number, registry.aliases(), reason=reason)
    others = {registry.location(int(v.version)) for v in registry.versions() if int(v.version) != number}
    _remove_files(registry, number, others)
    registry.client.delete_model_version(registry.name, str(number))
    return registry.ledger.end(intent, "done")


def require_free(registry: Registry, number: int, config: DeployParams) -> None:
    """Raises RegistryError when a version is not there, holds an alias or may be needed."""
    registry.version(number)
    if needed := _needed(registry, config.keep_previous_versions).get(number):
        raise RegistryError(
            f"Version {number} is not deleted: it {needed}.",
            "Deploy another one, register another challenger, or move its alias in MLflow first; then it is free.",
        )


def _needed(registry: Registry, keep: int) -> dict[int, str]:
    """Version to why it stays: it holds an alias, or it is one of the `keep` nearest that a rollback leads to."""
    targets = registry.rollback_targets()[: max(keep, 1)]
    found = dict.fromkeys(targets, "is a version that rollback leads to")
    held = registry.aliases(everyone=True)
    return found | {held[alias]: f"is @{alias}" for alias in sorted(held, key=ALIASES.__contains__)}  # ours, if any


def prune(registry: Registry, keep: int) -> list[int]:
    """Old versions keep their record and lose their files, so that the disk does not fill up.

    Files stay of the `keep` newest versions, of the `keep` nearest that a rollback leads to, and of whoever holds an
    alias. The tag comes first: what a crash leaves is called pruned, and the next prune removes the rest.

    Returns:
        The versions that were pruned now; their tags and the ledger say so.
    """
    versions = [int(version.version) for version in registry.versions()]
    stays = {*versions[: max(keep, 1)], *_needed(registry, keep)}
    locations = {registry.location(number) for number in stays if number in versions}
    entered = {entry.version for entry in registry.ledger.entries() if entry.action == "prune"}
    pruned = []
    for number in versions:
        tags = registry.version(number).tags if number not in stays | entered else {}
        if not tags.get(FILES_TAG):
            continue  # it stays, or is not of our making: its files may be somebody's own folder
        if not tags.get(PRUNED_TAG):
            registry.tag(number, {PRUNED_TAG: f"{datetime.now(UTC):%Y-%m-%d}"})
        _remove_files(registry, number, locations)
        registry.note("prune", number, f"keep_previous_versions: {keep}")
        pruned.append(number)
    return pruned


def _remove_files(registry: Registry, number: int, others: set[str]) -> None:
    """Removes the backup of a version and, where we made it and no other version is of it, its package.

    Args:
        others: locations of other versions.
    """
    registry.backups.delete(number)
    uri = registry.location(number)
    if uri in others or not registry.version(number).tags.get(FILES_TAG):
        return
    folder = local_folder(uri)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(uri).delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow's
