"""What a crash left half done is finished or taken back; what people moved by hand is entered.

The alias is the truth for who is champion: a move whose switch was made is finished, one whose switch was not made is
taken back, and the ledger follows.
"""

import logging

from mondegreen.registry.ledger import CHALLENGER, CHAMPION, PREVIOUS, Entry
from mondegreen.registry.moves import Registry, align_stages, set_aliases
from mondegreen.registry.noticing import interrupted, notice

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
    said += notice(registry.ledger, registry.holdings())
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
