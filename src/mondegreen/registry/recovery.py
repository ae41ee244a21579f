"""Recovery: what a crash left half done is finished or taken back, and external changes are entered in the ledger.

External changes are what people moved outside of mondegreen, in the MLflow UI for example.

The alias is the truth for who is champion: a move whose switch was made is finished, one whose switch was not made is
taken back, and the ledger follows.
"""

import logging
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.registry.aliases import Holdings, Registry, align_stages, holdings, set_aliases
from mondegreen.registry.ledger import ALIASES, CHALLENGER, CHAMPION, LOCK, PREVIOUS, Aliases, Entry, Ledger
from mondegreen.registry.mlflow_store import lock_path

BY_HAND, FOUND = "by hand", "found"


def external_changes(model_name: str, folder: Path) -> list[str]:
    """Finds and enters what was moved by hand; what `mondegreen status` adds to its screen.

    Nothing is waited for: while somebody moves models, there is nothing to say.

    Args:
        folder: of live state.

    Returns:
        Sentences: what was noticed, and which move a crash left half done.

    Raises:
        RegistryError, CaseError: registry or ledger cannot be read.
    """
    held = holdings(model_name)
    ledger = Ledger.open(folder, model_name)
    try:
        if not held.stages and not ledger.aliases():
            return []  # no registry, and there never was one
        with suppress(Timeout), lock(lock_path(LOCK), timeout=0):
            if unfinished := ledger.unfinished():
                return [
                    f"{interrupted(entry)}: the next `mondegreen models` command settles it." for entry in unfinished
                ]
            return enter_external_changes(ledger, holdings(model_name))  # read again: now nobody moves
        return []
    finally:
        ledger.engine.dispose()


def interrupted(entry: Entry) -> str:
    """A move that a crash left half done, as the beginning of a sentence."""
    return (
        f"The {entry.action} of {entry.model_name} version {entry.version} at {entry.at:%Y-%m-%d %H:%M} UTC was cut off"
    )


def enter_external_changes(ledger: Ledger, held: Holdings) -> list[str]:
    """Compares the registry with the ledger's last entry and enters what somebody else moved; sentences about it.

    To be called alone, with nothing unfinished.

    Raises:
        RegistryError: the registry has lost what the ledger knows of.
    """
    actual = {alias: version for alias, version in held.aliases.items() if alias in ALIASES}
    entries = ledger.entries()
    known = entries[-1].after if entries else None
    if known is None:
        return _begin(ledger, actual)
    if known and not held.stages:
        raise RegistryError(
            f"The registry holds no version of {ledger.model_name}, though the ledger knows of {_names(known)}.",
            "Check MLFLOW_TRACKING_URI, or put mlruns/mlflow.db back from a backup.",
        )
    if said := _moved_aliases(known, actual):
        text = f"By hand, outside of mondegreen: {', '.join(said)}."
        fields = {"former": known.get(CHAMPION), "details": {"before": known, "after": actual}}
        ledger.note(BY_HAND, actual.get(CHAMPION), who="unknown", reason=text, **fields)
        return [f"{text} Entered in the ledger."]
    return _moved_stages(ledger, entries[-1], held, actual)


def _begin(ledger: Ledger, actual: Aliases) -> list[str]:
    if not actual:
        return []
    text = f"The ledger begins: {_names(actual)} when it was opened."
    ledger.note(FOUND, actual.get(CHAMPION), reason=text, details={"before": {}, "after": actual})
    return []


def _moved_aliases(known: Aliases, actual: Aliases) -> list[str]:
    said = []
    for alias in ALIASES:
        before, after = known.get(alias), actual.get(alias)
        if before != after:
            then = f"version {after}" if after else "nobody"
            said.append(f"@{alias} moved from {f'version {before}' if before else 'nobody'} to {then}")
    return said


def _moved_stages(ledger: Ledger, last: Entry, held: Holdings, actual: Aliases) -> list[str]:
    """The alias decides: a stage that was moved alone deploys nothing, and somebody should know."""
    misplaced = held.misplaced()
    if not misplaced or (last.action == BY_HAND and last.before != last.after):
        return []  # after an alias that was moved by hand the stages only lag behind
    moved = [f"version {version} to {held.stages[version]}" for version in sorted(misplaced)]
    promoted = [version for version in misplaced if held.stages[version] == "Production"]
    text = (
        f"By hand, outside of mondegreen: stages moved, {', '.join(moved)}. Stages follow the aliases, "
        f"and {_names(actual) or 'nobody holds one'}."
    )
    if promoted:
        text += f" To deploy it: `mondegreen models deploy {promoted[0]}`."
    if (last.action, last.reason) != (BY_HAND, text):  # `status` cannot put it back, and must not enter it twice
        fields = {"former": actual.get(CHAMPION), "details": {"before": actual, "after": actual}}
        ledger.note(BY_HAND, actual.get(CHAMPION), who="unknown", reason=text, **fields)
    return [text]


def _names(aliases: Aliases) -> str:
    return ", ".join(f"@{alias} is version {aliases[alias]}" for alias in ALIASES if alias in aliases)


_log = logging.getLogger(__name__)


def settle(registry: Registry) -> list[str]:
    """Brings ledger, aliases and stages together again; to be called `alone`, before anything is moved.

    Returns:
        What it did, a sentence each; nothing when all was well.

    Raises:
        RegistryError: the registry has lost what the ledger knows of.
        CaseError: the ledger cannot be written.
    """
    said = [_end(registry, entry) for entry in registry.ledger.unfinished()]
    said += enter_external_changes(registry.ledger, registry.holdings())
    if changed := align_stages(registry):
        said.append(f"Stages follow the aliases again: {', '.join(changed)}.")
    for sentence in said:
        _log.warning("%s", sentence)
    return said


def _end(registry: Registry, entry: Entry) -> str:
    """Ends an entry whose process died, by what the registry shows."""
    if entry.action == "delete":
        made = entry.version is None or registry.find(entry.version) is None
        note = "the version is deleted" if made else "the version is still there; delete it again"
    else:
        made = _switched(registry, entry)
        note = _finish(registry, entry) if made else _take_back(registry, entry)
    registry.ledger.end(entry, "done" if made else "undone", note)
    return f"{interrupted(entry)}: {note}."


def _switched(registry: Registry, entry: Entry) -> bool:
    """Whether the alias that the move is about holds what the move gives it."""
    alias = CHAMPION if entry.before.get(CHAMPION) != entry.after.get(CHAMPION) else CHALLENGER
    return registry.aliases().get(alias) == entry.after.get(alias)


def _finish(registry: Registry, entry: Entry) -> str:
    there = {alias: version for alias, version in entry.after.items() if registry.find(version)}
    set_aliases(registry, there)
    align_stages(registry)
    champion = there.get(CHAMPION)
    return f"it was finished, {f'version {champion} is in production' if champion else 'nobody is in production'}"


def _take_back(registry: Registry, entry: Entry) -> str:
    """Puts back what the move gave before its switch, unless somebody has moved it since."""
    held = registry.aliases()
    target = dict(held)
    for alias in (PREVIOUS, CHALLENGER):
        before, after = entry.before.get(alias), entry.after.get(alias)
        if before != after and held.get(alias) == after:
            if before is None or registry.find(before) is None:
                target.pop(alias, None)
            else:
                target[alias] = before
    set_aliases(registry, target)
    align_stages(registry)
    champion = target.get(CHAMPION)
    stays = f"version {champion} stays in production" if champion else "nobody is in production"
    return f"nothing was switched yet, {stays}; run it again"
