"""Moves that people made outside of mondegreen, in the MLflow UI for example, noticed and entered; without MLflow."""

from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from mondegreen.errors import MondegreenError, RegistryError
from mondegreen.files import lock
from mondegreen.registry.ledger import ALIASES, CHAMPION, LOCK, Aliases, Entry, Ledger
from mondegreen.registry.location import lock_path
from mondegreen.registry.standing import Holdings, holdings

BY_HAND, FOUND = "by hand", "found"


def look(model_name: str, folder: Path) -> list[str]:
    """Notices and enters what was moved by hand; what `mondegreen status` adds to its screen.

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
            return notice(ledger, holdings(model_name))  # read again: now nobody moves
        return []
    finally:
        ledger.engine.dispose()


def interrupted(entry: Entry) -> str:
    """A move that a crash left half done, as the beginning of a sentence."""
    return (
        f"The {entry.action} of {entry.model_name} version {entry.version} at {entry.at:%Y-%m-%d %H:%M} UTC was cut off"
    )


def notice(ledger: Ledger, held: Holdings) -> list[str]:
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


def problem_of(model_name: str, folder: Path) -> tuple[list[str], str | None]:
    """`look`, with what keeps it from looking as a sentence: a screen shows the rest all the same."""
    try:
        return look(model_name, folder), None
    except MondegreenError as error:
        return [], error.problem
