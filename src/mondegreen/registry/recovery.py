"""Recovery: what a crash left half done is finished or taken back, and external changes are entered in the ledger.

External changes are what people moved outside of mondegreen, in the MLflow UI for example. The alias is the truth for
who is champion: a move whose switch was made is finished, one whose switch was not made is taken back, and the ledger
follows.
"""

import logging
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.registry.aliases import LOCK, Holdings, Registry, align_stages, holdings, set_aliases
from mondegreen.registry.ledger import ALIASES, CHALLENGER, CHAMPION, PREVIOUS, Aliases, Ledger, LedgerEntry
from mondegreen.registry.mlflow_store import lock_path

BY_HAND, FOUND = "by hand", "found"
_log = logging.getLogger(__name__)


def recover(registry: Registry) -> list[str]:
    """Brings ledger, aliases and stages together again; to be called `alone`, before anything is moved.

    Returns:
        What it did, a sentence each; nothing when all was well.

    Raises:
        RegistryError: the registry has lost what the ledger knows of.
        CaseError: the ledger cannot be written.
    """
    said = [_end(registry, entry) for entry in registry.ledger.unfinished()]
    said += _enter_changes(registry.ledger, holdings(registry.name))
    if changed := align_stages(registry):
        said.append(f"Stages follow the aliases again: {', '.join(changed)}.")
    for sentence in said:
        _log.warning("%s", sentence)
    return said


def external_changes(model_name: str, folder: Path) -> list[str]:
    """Finds and enters what was moved by hand, without MLflow; what `mondegreen status` adds to its screen.

    Nothing is waited for: while somebody moves models, there is nothing to say.

    Args:
        folder: of live state.

    Returns:
        Sentences: what was moved by hand, and which move a crash left half done.

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
                return [f"{cut_off(entry)}: the next `mondegreen models` command settles it." for entry in unfinished]
            return _enter_changes(ledger, holdings(model_name))  # read again: now nobody moves
        return []
    finally:
        ledger.engine.dispose()


def cut_off(entry: LedgerEntry) -> str:
    """A move that a crash left half done, as the beginning of a sentence."""
    move = f"The {entry.action} of {entry.model_name} version {entry.version}"
    return f"{move} at {entry.at:%Y-%m-%d %H:%M} UTC was cut off"


def _end(registry: Registry, entry: LedgerEntry) -> str:
    """Ends an entry whose process died, by what the registry shows."""
    if entry.action == "delete":
        made = entry.version is None or registry.find(entry.version) is None
        note = "the version is deleted" if made else "the version is still there; delete it again"
    else:
        # Whether the alias that the move is about holds what the move gives it.
        alias = CHAMPION if entry.before.get(CHAMPION) != entry.after.get(CHAMPION) else CHALLENGER
        made = registry.aliases().get(alias) == entry.after.get(alias)
        target = entry.after if made else _taken_back(entry, registry.aliases())
        there = {alias: version for alias, version in target.items() if registry.find(version)}
        set_aliases(registry, there)
        align_stages(registry)
        champion = f"version {there[CHAMPION]}" if CHAMPION in there else "nobody"
        if made:
            note = f"it was finished, {champion} is in production"
        else:
            stays = "stays" if CHAMPION in there else "is"
            note = f"nothing was switched yet, {champion} {stays} in production; run it again"
    registry.ledger.end(entry, "done" if made else "undone", note)
    return f"{cut_off(entry)}: {note}."


def _taken_back(entry: LedgerEntry, held: Aliases) -> Aliases:
    """Who held what before a move gave it away ahead of its switch, unless somebody has moved it since."""
    target = dict(held)
    for alias in (PREVIOUS, CHALLENGER):
        before, after = entry.before.get(alias), entry.after.get(alias)
        if before != after and held.get(alias) == after:
            target.pop(alias, None)
            if before is not None:
                target[alias] = before
    return target


def _enter_changes(ledger: Ledger, held: Holdings) -> list[str]:
    """Compares the registry with the ledger's last entry and enters what somebody else moved; sentences about it.

    To be called alone, with nothing unfinished.

    Raises:
        RegistryError: the registry has lost what the ledger knows of.
    """
    actual, entries = held.ours, ledger.entries()
    if not entries:
        if not actual:
            return []
        _enter(ledger, FOUND, f"The ledger begins: {_names(actual)} when it was opened.", {}, actual)
        return []
    known = entries[-1].after
    if known and not held.stages:
        raise RegistryError(
            f"The registry holds no version of {ledger.model_name}, though the ledger knows of {_names(known)}.",
            "Check MLFLOW_TRACKING_URI, or put mlruns/mlflow.db back from a backup.",
        )
    if moved := [_moved(alias, known, actual) for alias in ALIASES if known.get(alias) != actual.get(alias)]:
        text = f"By hand, outside of mondegreen: {', '.join(moved)}."
        _enter(ledger, BY_HAND, text, known, actual)
        return [f"{text} Entered in the ledger."]
    return _enter_stages(ledger, entries[-1], held)


def _enter_stages(ledger: Ledger, last: LedgerEntry, held: Holdings) -> list[str]:
    """The alias decides: a stage that was moved alone deploys nothing, and somebody should know."""
    misplaced = held.misplaced()
    if not misplaced or (last.action == BY_HAND and last.before != last.after):
        return []  # after an alias that was moved by hand the stages only lag behind
    moved = [f"version {version} to {held.stages[version]}" for version in sorted(misplaced)]
    promoted = [version for version in misplaced if held.stages[version] == "Production"]
    text = (
        f"By hand, outside of mondegreen: stages moved, {', '.join(moved)}. Stages follow the aliases, "
        f"and {_names(held.ours) or 'nobody holds one'}."
    )
    if promoted:
        text += f" To deploy it: `mondegreen models deploy {promoted[0]}`."
    if (last.action, last.reason) != (BY_HAND, text):  # `status` cannot put it back, and must not enter it twice
        _enter(ledger, BY_HAND, text, held.ours, held.ours)
    return [text]


def _enter(ledger: Ledger, action: str, text: str, before: Aliases, after: Aliases) -> None:
    ledger.note(
        action,
        after.get(CHAMPION),
        former=before.get(CHAMPION),
        who="unknown" if action == BY_HAND else "",
        reason=text,
        details={"before": before, "after": after},
    )


def _moved(alias: str, before: Aliases, after: Aliases) -> str:
    was, now = (f"version {held[alias]}" if alias in held else "nobody" for held in (before, after))
    return f"@{alias} moved from {was} to {now}"


def _names(aliases: Aliases) -> str:
    return ", ".join(f"@{alias} is version {aliases[alias]}" for alias in ALIASES if alias in aliases)
