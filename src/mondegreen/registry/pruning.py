"""Old versions keep their record and lose their files, so that the disk does not fill up."""

import shutil
from datetime import UTC, datetime

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mondegreen.registry.backup import Backups
from mondegreen.registry.ledger import CHAMPION
from mondegreen.registry.moves import Registry
from mondegreen.registry.packages import DIGEST_TAG, FILES_TAG, PRUNED_TAG, local_folder, location


def protected(registry: Registry, keep: int, newest: bool = True) -> dict[int, str]:
    """Version to why its files stay: it holds an alias, a rollback leads there, or it is one of the newest.

    Args:
        keep: how many rollback targets, and how many of the newest versions.
        newest: whether being new counts.
    """
    found: dict[int, str] = {}
    if newest:
        found |= {int(v.version): "is one of the newest" for v in registry.versions()[: max(keep, 1)]}
    targets = [version for version in registry.ledger.succession().targets() if registry.find(version)]
    found |= dict.fromkeys(targets[: max(keep, 1)], "is a version that rollback leads to")
    return found | {version: f"is @{alias}" for alias, version in registry.aliases().items()}


def prune(registry: Registry, keep: int) -> list[int]:
    """Removes the files of every version that is not `protected`, and says so in its tags and in the ledger.

    The tag comes first: what a crash leaves is called pruned, and the next prune removes the rest.

    Returns:
        The versions that were pruned now.
    """
    stays = protected(registry, keep)
    versions = registry.versions()
    needed = {location(registry, number) for number in stays if registry.find(number)}
    entered = {entry.version for entry in registry.ledger.entries() if entry.action == "prune"}
    pruned = []
    for version in versions:
        number = int(version.version)
        if number in stays or number in entered:
            continue
        tags = registry.version(number).tags
        if not tags.get(FILES_TAG):
            continue  # not of our making: its files may be somebody's own folder
        if not tags.get(PRUNED_TAG):
            registry.tag(number, {PRUNED_TAG: f"{datetime.now(UTC):%Y-%m-%d}"})
        remove_files(registry, number, needed)
        aliases = registry.aliases()
        registry.ledger.note(
            "prune", number, former=aliases.get(CHAMPION), reason=f"keep_previous_versions: {keep}",
            digest=tags.get(DIGEST_TAG, ""), details={"before": aliases, "after": aliases},
        )  # fmt: skip
        pruned.append(number)
    return pruned


def remove_files(registry: Registry, number: int, needed: set[str]) -> None:
    """Removes the backup of a version and, where we made it and no other version is of it, its package.

    Args:
        needed: locations of other versions.
    """
    Backups(registry.folder, registry.name).delete(number)
    uri = location(registry, number)
    if uri in needed or not registry.version(number).tags.get(FILES_TAG):
        return
    folder = local_folder(uri)
    if folder is None:
        get_artifact_repository(uri).delete_artifacts()  # type: ignore[no-untyped-call]
    else:
        shutil.rmtree(folder, ignore_errors=True)
