"""Recovery: what a crash left half done is finished or taken back, and external changes are settled.

External changes are what people moved outside of mondegreen, in the MLflow UI for example. Of a move that was cut off
the alias tells what became of it: one whose switch was made is finished, one whose switch was not is taken back.
Whom somebody promotes by hand, by alias or by stage, the gate of `deploy` is asked about: with the proof that a
deployment needs it becomes champion with its entry in the ledger, without it is put back. Who only looks is told, and
moves nothing (`noticed`).
"""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from mondegreen.config import DeployParams
from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.registry.aliases import LOCK, OUTCOME_TAG, Holdings, Registry, align_stages, holdings, move, set_aliases
from mondegreen.registry.deploy import keep_before, promoted, prune
from mondegreen.registry.forwarding import moved_away, require_here
from mondegreen.registry.gate import against_hand
from mondegreen.registry.ledger import ALIASES, CHALLENGER, CHAMPION, PREVIOUS, Aliases, Ledger, LedgerEntry
from mondegreen.registry.mlflow_store import lock_path
from mondegreen.registry.package import DIGEST_TAG
from mondegreen.registry.record import facts_of

BY_HAND, FOUND, PUT_BACK = "by hand", "found", "put back"
SETTLES = "`mondegreen status --settle`, `mondegreen watch` and the next command that moves models settle it."
_OUTSIDE = "By hand, outside of mondegreen:"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """What differs from the ledger's last entry.

    Args:
        text: a sentence.
        before, after: who held which alias then, and holds it now.
        promoted: whom somebody made champion, by the alias or by a stage.
        action: in the ledger; FOUND where the ledger begins.
    """

    text: str
    before: Aliases
    after: Aliases
    promoted: int | None = None
    action: str = BY_HAND


def recover(registry: Registry, config: DeployParams) -> list[str]:
    """Brings ledger, aliases and stages together again; to be called `alone`, before anything is moved.

    Returns:
        What it did, a sentence each; nothing when all was well.

    Raises:
        MovedAwayError: another home of the registered model is worked with.
        RegistryError: the registry has lost what the ledger knows of.
        CaseError: the ledger cannot be written.
    """
    require_here(registry.name)
    said = [_end(registry, entry) for entry in registry.ledger.unfinished()]
    if change := _change(registry.ledger, holdings(registry.name)):
        said += _settle(registry, change, config)
    if changed := align_stages(registry):
        said.append(f"Stages follow the aliases again: {', '.join(changed)}.")
    for sentence in said:
        _log.warning("%s", sentence)
    return said


def unsettled(ledger: Ledger, held: Holdings) -> list[str]:
    """What `recover` would have to do, a sentence each; nothing is moved or written.

    Raises:
        RegistryError: the registry has lost what the ledger knows of.
    """
    said = [f"{cut_off(entry)}." for entry in ledger.unfinished()]
    if not said and (change := _change(ledger, held)) and change.action != FOUND:
        said.append(change.text)
    return [*said, SETTLES] if said else []


def noticed(ledger: Ledger, held: Holdings) -> list[str]:
    """`unsettled`, or where to go instead: in a home that was left the ledger says nothing of what is there."""
    away = moved_away(ledger.model_name)
    return [away.problem, away.next_step] if away else unsettled(ledger, held)


def external_changes(model_name: str, folder: Path) -> list[str]:
    """`noticed` without MLflow, and nothing while somebody moves models; what `mondegreen status` adds.

    Args:
        folder: of live state.

    Raises:
        RegistryError, CaseError: registry or ledger cannot be read.
    """
    ledger = Ledger.open(folder, model_name)
    try:
        with suppress(Timeout), lock(lock_path(LOCK), timeout=0):
            held = holdings(model_name)
            # no registry, and there never was one
            return noticed(ledger, held) if held.stages or ledger.aliases() else []
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
        if made or entry.action != BY_HAND:  # a stage that somebody moved by hand is asked about again
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


def _change(ledger: Ledger, held: Holdings) -> Change | None:
    """Compares the registry with the ledger's last entry, with nothing unfinished; None when they agree.

    Raises:
        RegistryError: the registry has lost what the ledger knows of.
    """
    actual, last = held.ours, ledger.last()
    if last is None:
        text = f"The ledger begins: {_names(actual)} when it was opened."
        return Change(text, {}, actual, action=FOUND) if actual else None
    known = last.after
    if known and not held.stages and ledger.succession().served:  # of candidates only, it begins anew
        raise RegistryError(
            f"The registry holds no version of {ledger.model_name}, though the ledger knows of {_names(known)}.",
            "Check MLFLOW_TRACKING_URI, or put mlruns/mlflow.db back from a backup. To another home it goes with its "
            "versions: `mondegreen registry move --to URI`, from the old one.",
        )
    if moved := [_moved(alias, known, actual) for alias in ALIASES if known.get(alias) != actual.get(alias)]:
        promoted = actual.get(CHAMPION) if actual.get(CHAMPION) != known.get(CHAMPION) else None
        return Change(f"{_OUTSIDE} {', '.join(moved)}.", known, actual, promoted)
    if misplaced := held.misplaced():
        moved = [f"version {version} to {held.stages[version]}" for version in sorted(misplaced)]
        raised = [version for version in misplaced if held.stages[version] == "Production"]
        text = f"{_OUTSIDE} stages moved, {', '.join(moved)}."
        return Change(text, actual, actual, raised[0] if len(raised) == 1 else None)
    return None


def _settle(registry: Registry, change: Change, config: DeployParams) -> list[str]:
    """Enters a change; where somebody was promoted, the gate decides first."""
    if change.promoted is None:
        align_stages(registry)  # first, so that a crash does not leave stages that look as if somebody had moved them
        _enter(registry.ledger, change)
        return [] if change.action == FOUND else [f"{change.text} Entered in the ledger."]
    number, former = change.promoted, change.before.get(CHAMPION)
    reasons = against_hand(registry, number, former)
    if reasons:
        back = _back(registry, former)
        held = {alias: version for alias, version in change.after.items() if alias != CHAMPION}
        target = held | ({CHAMPION: back} if back else {})
        stays = f"version {back} is @champion" if back else "nobody is @champion"
        said = f"{change.text} PUT BACK, {stays}: {' '.join(refusal.problem for refusal in reasons)}"
        said += f" To deploy it: `mondegreen models deploy {number}`."
        _make(registry, PUT_BACK, number, change, target, said, {"promoted": number})
        return [said]
    kept = keep_before(registry, number, former, config)
    target = promoted(change.after, number, former)
    said = f"{change.text} Its proof holds: version {number} is Production/@champion. Entered in the ledger."
    _make(registry, BY_HAND, number, change, target, said, kept)
    prune(registry, config.keep_previous_versions)
    return [said]


def _back(registry: Registry, former: int | None) -> int | None:
    """Who is champion again: the one before, or where it was deleted, whom a rollback would lead to."""
    candidates = [former, *registry.ledger.succession().targets()] if former else []
    return next((version for version in candidates if version and registry.find(version)), None)


def _make(
    registry: Registry, action: str, number: int, change: Change, target: Aliases, text: str, details: dict[str, object]
) -> None:
    """The move that settles a promotion: entered before and after, so that a crash leaves what `_end` ends."""
    about_it = facts_of(registry, number)
    known = {"outcome": about_it.get(OUTCOME_TAG, ""), "digest": about_it.get(DIGEST_TAG, "")}
    former, about = change.before.get(CHAMPION), target.get(CHAMPION, number)
    move(registry, action, about, target, former=former, who="unknown", reason=text, details=details, **known)


def _enter(ledger: Ledger, change: Change) -> None:
    ledger.note(
        change.action,
        change.after.get(CHAMPION),
        former=change.before.get(CHAMPION),
        who="unknown" if change.action == BY_HAND else "",
        reason=change.text,
        details={"before": change.before, "after": change.after},
    )


def _moved(alias: str, before: Aliases, after: Aliases) -> str:
    was, now = (f"version {held[alias]}" if alias in held else "nobody" for held in (before, after))
    return f"@{alias} moved from {was} to {now}"


def _names(aliases: Aliases) -> str:
    return ", ".join(f"@{alias} is version {aliases[alias]}" for alias in ALIASES if alias in aliases)
