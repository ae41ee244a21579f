"""Deploying, rolling back, deleting: what is checked and kept before `moves` moves anything. Called `alone`."""

import logging
from typing import Any

from mondegreen.config import DeployParams
from mondegreen.errors import RegistryError, UsageError
from mondegreen.registry.aliases import Registry, move
from mondegreen.registry.backup import Backups, copy_out
from mondegreen.registry.gate import OUTCOME_TAG, DeploymentRefusedError, compared_with_another, refusals
from mondegreen.registry.ledger import CHALLENGER, CHAMPION, PREVIOUS, Aliases, Entry
from mondegreen.registry.package import (
    DIGEST_TAG,
    FILES_TAG,
    PRUNED_TAG,
    checksums,
    damage,
    fatal,
    fetch,
    from_tag,
    local_folder,
    location,
    to_tag,
)
from mondegreen.registry.versions import protected, prune, remove_files

_log = logging.getLogger(__name__)


def deploy(
    registry: Registry, number: int, config: DeployParams, *, force: bool, reason: str, who: str = ""
) -> Entry | None:
    """Production/@champion for a version that has proven itself; the former champion becomes Archived/@previous.

    Returns:
        The ledger's entry; None when the version is the champion already.

    Raises:
        DeploymentRefusedError: see `checks.refusals`; `force` overrides what is not final.
        UsageError: `force` without a reason.
    """
    if force and not reason.strip():
        raise UsageError("--force without a reason.", 'Say why, for the ledger: --force --reason "…".')
    aliases = registry.aliases()
    if aliases.get(CHAMPION) == number:
        return None
    found = refusals(registry, number)
    if found and not (force and not any(refusal.final for refusal in found)):
        raise DeploymentRefusedError(f"{registry.name} version {number}", found)
    details: dict[str, Any] = {"inferences": registry.ledger.last_inference()}
    if found:
        details["overridden"] = [refusal.problem for refusal in found]
        if any(refusal.code == "files" for refusal in found):
            _adopt(registry, number)
    former, tags = aliases.get(CHAMPION), registry.version(number).tags
    if former:
        details["former_digest"] = registry.version(former).tags.get(DIGEST_TAG, "")
    if note := compared_with_another(registry, tags):
        details["compared"] = note
        _log.warning("%s", note)
    if config.auto_backup_before_deploy:
        details["backups"] = [version for version in (former, number) if version and back_up(registry, version)]
        if config.backup_to_bucket:
            details["backups_in_bucket"] = copy_out(registry.folder, registry.name, details["backups"])
    target = {alias: version for alias, version in aliases.items() if version != number}
    target |= {CHAMPION: number} | ({PREVIOUS: former} if former else {})
    entry = move(
        registry, "deploy", number, target, reason=reason, who=who, forced=bool(found), details=details,
        outcome=tags.get(OUTCOME_TAG, ""), digest=tags.get(DIGEST_TAG, ""),
    )  # fmt: skip
    prune(registry, config.keep_previous_versions)
    return entry


def rollback(registry: Registry, to: int | None, *, reason: str, who: str = "") -> Entry:
    """Back to the version in production before; damaged files of it come back from its backup first.

    Args:
        to: a version that was in production once; else the nearest that was not itself rolled back from.

    Raises:
        RegistryError: there is nothing to go back to, or its files are lost.
    """
    line = registry.ledger.succession()
    aliases = registry.aliases()
    champion = aliases.get(CHAMPION)
    if to is not None:
        registry.version(to)
        if to == champion:
            raise RegistryError(
                f"Version {to} is in production already.", "`mondegreen models history` shows the line."
            )
        if to not in line.served:
            raise RegistryError(
                f"Version {to} was never in production.", f"To put it there: `mondegreen models deploy {to}`."
            )
        target_version = to
    else:
        target_version = _nearest(registry, line.targets())
    _make_servable(registry, target_version)
    tags = registry.version(target_version).tags
    target = _after_rollback(registry, aliases, line.targets(), target_version)
    details: dict[str, Any] = {"inferences": registry.ledger.last_inference()}
    return move(
        registry, "rollback", target_version, target, reason=reason, who=who, details=details,
        outcome=tags.get(OUTCOME_TAG, ""), digest=tags.get(DIGEST_TAG, ""),
    )  # fmt: skip


def _after_rollback(registry: Registry, aliases: Aliases, line: list[int], back_to: int) -> Aliases:
    """@previous goes further back too: the next one that a rollback would lead to, or nobody."""
    further = line[line.index(back_to) + 1 :] if back_to in line else [v for v in line if v != back_to]
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
    if known and damage(registry, number) and not Backups(registry.folder, registry.name).problems(number):
        restore(registry, number)
    if wrong := fatal(registry, number) or (damage(registry, number) if known else []):
        raise RegistryError(
            f"Version {number} cannot be served: {'; '.join(wrong)}.",
            "Name another one: `mondegreen models rollback --to VERSION`; `mondegreen models history` shows them.",
        )


def restore(registry: Registry, number: int) -> Entry:
    """Puts the files of a version back from its backup, and enters it.

    Raises:
        RegistryError: there is no whole backup, or the files lie in no folder of this machine.
    """
    folder = local_folder(location(registry, number))
    backups = Backups(registry.folder, registry.name)
    if folder is None:
        raise RegistryError(
            f"The files of version {number} lie at {location(registry, number)}, where restore cannot write.",
            f"Copy them from {backups.package(number)}.",
        )
    before = damage(registry, number)
    backups.restore(number, folder)
    aliases = registry.aliases()
    return registry.ledger.note(
        "restore", number, former=aliases.get(CHAMPION), reason="; ".join(before),
        digest=registry.version(number).tags.get(DIGEST_TAG, ""), details={"before": aliases, "after": aliases},
    )  # fmt: skip


def delete(registry: Registry, number: int, config: DeployParams, *, reason: str, who: str = "") -> Entry:
    """Deletes a version, its files and its backup. Raises RegistryError when it holds an alias or may be needed."""
    version = registry.version(number)
    if needed := protected(registry, config.keep_previous_versions, newest=False).get(number):
        raise RegistryError(
            f"Version {number} is not deleted: it {needed}.",
            "Deploy another one, or register another challenger, first; then it is free.",
        )
    aliases = registry.aliases()
    intent = registry.ledger.intend(
        "delete", number, former=aliases.get(CHAMPION), reason=reason, who=who,
        outcome=version.tags.get(OUTCOME_TAG, ""), digest=version.tags.get(DIGEST_TAG, ""),
        details={"before": aliases, "after": aliases},
    )  # fmt: skip
    others = {location(registry, int(v.version)) for v in registry.versions() if int(v.version) != number}
    remove_files(registry, number, others)
    registry.client.delete_model_version(registry.name, str(number))
    return registry.ledger.end(intent, "done")


def back_up(registry: Registry, number: int) -> bool:
    """A verified copy of a version's files; False where there are none that could be copied."""
    tags = registry.version(number).tags
    package, recorded = fetch(registry, number), from_tag(tags.get(FILES_TAG, ""))
    backups = Backups(registry.folder, registry.name)
    if damage(registry, number) and recorded and registry.aliases().get(CHAMPION) == number:
        # Damaged in production. What it was is in its backup, or is lost; that must not keep a better one away.
        if lost := backups.problems(number):
            _log.warning("Champion version %s is damaged and its backup is of no use: %s.", number, "; ".join(lost))
        return not lost
    backups.make(number, package, recorded or checksums(package), tags.get(DIGEST_TAG, ""))
    return True


def _adopt(registry: Registry, number: int) -> None:
    """Files that were altered and are deployed by force are what the version is from now on."""
    from mondegreen.registry.package import packaged_model
    from mondegreen.speech.model import model_digest

    package = fetch(registry, number)
    digest = model_digest(packaged_model(package, f"version {number}"))
    registry.tag(number, {FILES_TAG: to_tag(checksums(package)), DIGEST_TAG: digest})
