"""Deploying and rolling back: what is kept before anything is moved, and the moves. What is refused: `gate`.

Whatever moves, restores or removes something is to be called `alone`.
"""

import logging
import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from mondegreen.config import DeployParams
from mondegreen.errors import RegistryError, UsageError
from mondegreen.registry.aliases import OUTCOME_TAG, Registry, local_folder, move
from mondegreen.registry.copied import elsewhere, require_own, warn_of_another
from mondegreen.registry.gate import PARTS, DeploymentRefusedError, Refusal, compared_with_another, refusals
from mondegreen.registry.ledger import ALIASES, CHALLENGER, CHAMPION, PREVIOUS, Aliases, LedgerEntry
from mondegreen.registry.mlflow_store import impatient
from mondegreen.registry.package import (
    DIGEST_TAG,
    FILES_TAG,
    PRUNED_TAG,
    checksums,
    from_tag,
    packaged_model,
    unloadable,
)
from mondegreen.registry.record import as_they_are, facts_of

_log = logging.getLogger(__name__)


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
    warn_of_another(registry.location(number))
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


def rollback(registry: Registry, to: int | None, *, reason: str) -> LedgerEntry:
    """Back to the version in production before; damaged files of it come back from its backup first, or stay there.

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
    warn_of_another(registry.location(number))
    details: dict[str, Any] = {"inferences": registry.ledger.last_inference()}
    if said := _make_servable(registry, number):
        details["backup"] = said
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


def _make_servable(registry: Registry, number: int) -> str:
    """Its files as they were registered, from the backup when they are no more: at night one command must do.

    Returns:
        Why its backup answers, where the artifact store does not have them and takes none; else "".

    Raises:
        RegistryError: neither has what was registered.
    """
    unknown: RegistryError | None = None
    backed_up = _backup_answers(registry, number)
    try:
        wrong = _wrong_after_mending(registry, number, backed_up)
    except RegistryError as error:  # the artifact store is away
        wrong, unknown = [error.problem.rstrip(".")], error
    if not wrong:
        return ""
    if not backed_up:
        raise unknown or RegistryError(
            f"Version {number} cannot be served: {'; '.join(wrong)}.",
            "Name another one: `mondegreen models rollback --to VERSION`; `mondegreen models history` shows them.",
        )
    said = (
        f"The backup of version {number} answers, whose checksums are those that were registered: {'; '.join(wrong)}. "
        "`mondegreen models verify --restore` puts the files back once the artifact store is there."
    )
    _log.warning("%s", said)
    return said


def _wrong_after_mending(registry: Registry, number: int, backed_up: bool) -> list[str]:
    """What is wrong with the files of a version, after its backup took their place where it could."""
    if backed_up:
        with impatient():
            registry.fetch(number)  # which remembers it
        if registry.damage(number):
            restore(registry, number)
    known = registry.version(number).tags.get(FILES_TAG)
    return registry.fatal(number) or (registry.damage(number) if known else [])


def _backup_answers(registry: Registry, number: int) -> bool:
    """Whether who loads a version gets its backup: whole, and of the checksums that were recorded; none, no backup."""
    tags, backups = registry.version(number).tags, registry.backups
    recorded = from_tag(tags.get(FILES_TAG, ""))
    if not recorded or tags.get(PRUNED_TAG) or not backups.holds(number, recorded):
        return False
    try:
        return not unloadable(packaged_model(backups.package(number), f"{registry.name} version {number}"))
    except RegistryError:
        return False


def restore(registry: Registry, number: int) -> LedgerEntry:
    """Puts the files of a version back from its backup, and enters it.

    Raises:
        RegistryError: there is no whole backup, the artifact store refuses, or they lie in another project.
    """
    require_own(registry.location(number), f"The files of version {number} are not put back")
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
    """Raises RegistryError when a version is not there, holds an alias, may be needed or lies in another project."""
    tags = registry.version(number).tags
    if needed := _needed(registry, config.keep_previous_versions).get(number):
        raise RegistryError(
            f"Version {number} is not deleted: it {needed}.",
            "Deploy another one, register another challenger, or move its alias in MLflow first; then it is free.",
        )
    if tags.get(FILES_TAG):  # ours to remove: only then does anything go
        require_own(registry.location(number), f"Version {number} is not deleted")


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
        if elsewhere(registry.location(number)):
            warn_of_another(registry.location(number))
            continue  # of the project that this one was copied from, which may serve it
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
