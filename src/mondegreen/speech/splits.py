"""Train, dev and test: no recording, no text and (with enough speakers) no speaker stands in two of them."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from mondegreen.errors import LeakageError
from mondegreen.records import Domain, Split, Utterance

Stratum = tuple[Domain, str]
Text = Callable[[str], str]


def enough_speakers(rows: Iterable[Utterance], min_speakers: int) -> bool:
    """Whether the target domain has so many named speakers that the speaker is the unit, not the recording."""
    return len({row.speaker for row in rows if row.domain == "target" and row.speaker}) >= min_speakers


def assign_splits(
    rows: Sequence[Utterance], *, seed: int, dev: float, test: float, by_speaker: bool, text: Text
) -> list[Utterance]:
    """Gives every utterance its split, the same for the same rows and seed.

    What shares a recording, its bytes, a text or (`by_speaker`) a speaker goes together. The shares are counted in
    utterances with a reference, in each condition. Retention is never trained on: half dev, half test.

    Args:
        rows: whatever their split says now.
        seed: another seed deals the units out in another order.
        dev: share of the target domain, 0..1.
        test: likewise.
        by_speaker: the unit is the speaker, not the recording.
        text: normaliser of references.

    Returns:
        Copies in the same order. Utterances without a reference judge nothing: they are kept in train only, so those
        whose unit went elsewhere, and those of retention, are missing.
    """
    shares: dict[Domain, dict[Split, float]] = {
        "target": {"train": max(0.0, 1 - dev - test), "dev": dev, "test": test},
        "retention": {"train": 0.0, "dev": 0.5, "test": 0.5},
    }
    split_of = _deal(_units(rows, by_speaker, text), shares, seed)
    assigned = [row.model_copy(update={"split": split_of[row.path]}) for row in rows]
    return [row for row in assigned if row.reference or (row.split == "train" and row.domain == "target")]


def check_leakage(rows: Iterable[Utterance], text: Text) -> None:
    """Raises LeakageError naming both files when bytes, a recording or a text stand in two splits."""
    seen: dict[tuple[str, str], Utterance] = {}
    for row in rows:
        for kind, value in _shared(row, text):
            first = seen.setdefault((kind, value), row)
            if first.split != row.split:
                raise LeakageError(
                    f"{first.path} ({first.split}) and {row.path} ({row.split}) share a {kind}: {value}.",
                    "Remove one of them, or give both the same source in references.csv.",
                )


def _shared(row: Utterance, text: Text) -> list[tuple[str, str]]:
    keys = [("content", row.sha256), ("recording", row.recording), ("text", text(row.reference))]
    return [(kind, value) for kind, value in keys if value]


def _units(rows: Sequence[Utterance], by_speaker: bool, text: Text) -> list[list[Utterance]]:
    """Groups what must stay together: connected components over shared keys (union-find)."""
    parent = list(range(len(rows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, row in enumerate(rows):
        keys = _shared(row, text)
        if by_speaker and row.speaker and row.domain == "target":
            keys.append(("speaker", row.speaker))
        for key in keys:
            parent[root(index)] = root(first.setdefault(key, index))
    units: dict[int, list[Utterance]] = defaultdict(list)
    for index, row in enumerate(rows):
        units[root(index)].append(row)
    return list(units.values())


def _deal(units: list[list[Utterance]], shares: dict[Domain, dict[Split, float]], seed: int) -> dict[str, Split]:
    """Large units first, equal ones in seeded order, each to the split that lacks most of what the unit holds."""
    weights = [Counter((row.domain, row.condition) for row in unit if row.reference) for unit in units]
    totals: Counter[Stratum] = sum(weights, Counter())
    lack = {
        split: {stratum: total * shares[stratum[0]][split] for stratum, total in totals.items()}
        for split in shares["target"]
    }

    def order(index: int) -> tuple[int, bytes]:
        name = min(row.path for row in units[index])
        return -weights[index].total(), hashlib.sha256(f"{seed}:{name}".encode()).digest()

    result: dict[str, Split] = {}
    for index in sorted(range(len(units)), key=order):
        weight = weights[index]
        domain: Domain = "retention" if any(row.domain == "retention" for row in units[index]) else "target"
        allowed = [split for split, share in shares[domain].items() if share > 0]
        if not weight and domain == "target":
            allowed = ["train"]
        best = max(allowed, key=lambda s: sum(n * lack[s][stratum] / totals[stratum] for stratum, n in weight.items()))
        for stratum, number in weight.items():
            lack[best][stratum] -= number
        result.update((row.path, best) for row in units[index])
    return result
