"""Deploying, rolling back, restoring, deleting, pruning: what is checked and kept before `aliases.move` moves anything.

Everything here is to be called `alone`.
"""

import logging
import shutil
from datetime import UTC, datetime
from typing import Any

from mondegreen.config import DeployParams
from mondegreen.errors import RegistryError, UsageError
from mondegreen.registry.aliases import Registry, local_folder, move
from mondegreen.registry.gate import DeploymentRefusedError, compared_with_another, refusals
from mondegreen.registry.ledger import CHALLENGER, CHAMPION, PREVIOUS, Aliases, Entry
from mondegreen.registry.package import (
    DIGEST_TAG,
    FILES_TAG,
    PRUNED_TAG,
    checksums,
    from_tag,
    packaged_model,
    to_tag,
)

_log = logging.getLogger(__name__)


def deploy(registry: Registry, number: int, config: DeployParams, *, force: bool, reason: str) -> Entry | None:
    """Production/@champion for a version that has proven itself; the former champion becomes Archived/@previous.

    Returns:
        The ledger's entry; None when the version is the champion already.

    Raises:
        DeploymentRefusedError: see `gate.refusals`; `force` overrides what is not final.
        UsageError: `force` without a reason.
    """
    if force and not reason.strip():
        raise UsageError("--force without a reason.", 'Say why, for the ledger: --force --reason "…".')
    aliases = registry.aliases()
    former = aliases.get(CHAMPION)
    if former == number:
        return None
    found = refusals(registry, number)
    if found and not (force and not any(refusal.final for refusal in found)):
        raise DeploymentRefusedError(f"{registry.name} version {number}", found)
    details: dict[str, Any] = {"inferences": registry.ledger.last_inference()}
    if found:
        details["overridden"] = [refusal.problem for refusal in found]
        if any(refusal.code == "files" for refusal in found):
            _adopt(registry, number)
    if former:
        details["former_digest"] = registry.version(former).tags.get(DIGEST_TAG, "")
    if note := compared_with_another(registry, registry.version(number).tags):
        details["compared"] = note
        _log.warning("%s", note)
    if config.auto_backup_before_deploy:
        details["backups"] = [version for version in (former, number) if version and back_up(registry, version)]
        if config.backup_to_bucket:
            details["backups_in_bucket"] = registry.backups.push(details["backups"])
    target = {alias: version for alias, version in aliases.items() if version != number}
    target |= {CHAMPION: number} | ({PREVIOUS: former} if former else {})
    entry = move(registry, "deploy", number, target, reason=reason, forced=bool(found), details=details)
    prune(registry, config.keep_previous_versions)
    return entry


def rollback(registry: Registry, to: int | None, *, reason: str) -> Entry:
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


def restore(registry: Registry, number: int) -> Entry:
    """Puts the files of a version back from its backup, and enters it.

    Raises:
        RegistryError: there is no whole backup, or the files lie in no folder of this machine.
    """
    uri = registry.location(number)
    folder = local_folder(uri)
    if folder is None:
        raise RegistryError(
            f"The files of version {number} lie at {uri}, where restore cannot write.",
            f"Copy them from {registry.backups.package(number)}.",
        )
    before = registry.damage(number)
    registry.backups.restore(number, folder)
    return registry.note("restore", number, "; ".join(before))


def back_up(registry: Registry, number: int) -> bool:
    """A verified copy of a version's files; False where there are none that could be copied."""
    tags, backups = registry.version(number).tags, registry.backups
    package, recorded = registry.fetch(number), from_tag(tags.get(FILES_TAG, ""))
    if recorded and registry.aliases().get(CHAMPION) == number and registry.damage(number):
        # Damaged in production. What it was is in its backup, or is lost; that must not keep a better one away.
        if lost := backups.problems(number):
            _log.warning("Champion version %s is damaged and its backup is of no use: %s.", number, "; ".join(lost))
        return not lost
    backups.make(number, package, recorded or checksums(package), tags.get(DIGEST_TAG, ""))
    return True


def _adopt(registry: Registry, number: int) -> None:
    """Files that were altered and are deployed by force are what the version is from now on."""
    from mondegreen.speech.model import model_digest

    package = registry.fetch(number)
    digest = model_digest(packaged_model(package, f"version {number}"))
    registry.tag(number, {FILES_TAG: to_tag(checksums(package)), DIGEST_TAG: digest})


def delete(registry: Registry, number: int, config: DeployParams, *, reason: str) -> Entry:
    """Deletes a version, its files and its backup. Raises RegistryError when it holds an alias or may be needed."""
    registry.version(number)
    if needed := _needed(registry, config.keep_previous_versions).get(number):
        raise RegistryError(
            f"Version {number} is not deleted: it {needed}.",
            "Deploy another one, or register another challenger, first; then it is free.",
        )
    intent = registry.intend("delete", number, registry.aliases(), reason=reason)
    others = {registry.location(int(v.version)) for v in registry.versions() if int(v.version) != number}
    _remove_files(registry, number, others)
    registry.client.delete_model_version(registry.name, str(number))
    return registry.ledger.end(intent, "done")


def _needed(registry: Registry, keep: int) -> dict[int, str]:
    """Version to why it stays: it holds an alias, or it is one of the `keep` nearest that a rollback leads to."""
    targets = registry.rollback_targets()[: max(keep, 1)]
    found = dict.fromkeys(targets, "is a version that rollback leads to")
    return found | {version: f"is @{alias}" for alias, version in registry.aliases().items()}


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

    get_artifact_repository(uri).delete_artifacts()  # type: ignore[no-untyped-call]
