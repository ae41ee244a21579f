"""The recordings below data/, what people wrote down of them, and their splits.

No recording, no text and (with enough speakers) no speaker stands in two of train, dev and test.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mondegreen.delimited import Notice
from mondegreen.errors import LeakageError, UsageError
from mondegreen.records import Domain, ReferenceSource, Split, Utterance
from mondegreen.scoring.recording_names import RecordingNames
from mondegreen.scoring.references import Row, match_recordings

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".mp3"})
# Read by other stages: suites have baselines of their own, failed cases come with labels.
NOT_SCANNED = frozenset({"regression", "failed_cases"})
Stratum = tuple[Domain, str]
Text = Callable[[str], str]
_NO_ROW = Row(line=0, key="", text="")


@dataclass(frozen=True)
class Found:
    """A recording and its row of the references, before anyone has looked at its samples."""

    path: Path
    domain: Domain
    condition: str
    speaker: str
    recording: str
    reference: str
    reference_source: ReferenceSource = "human"


def discover(data: Path, notices: list[Notice] | None = None) -> list[Found]:
    """Finds every recording below `data`, in the order of the paths.

    The condition is the folder: data/audio/clean/ or data/clean/. Loose files take their row's condition, else "all".
    data/retention and data/replay hold the domains of that name and may each have a references.csv of their own.

    Args:
        notices: what the tables' reader understood, and what it did not use, is appended; logged when None.

    Raises:
        UsageError: there is no audio, or a references.csv is wrong; names file, line and field.
    """
    if not data.is_dir():
        raise UsageError(
            f"{data}/ does not exist.", "Run `python scripts/get_sample.py`, or put your recordings in data/clean."
        )
    known: tuple[Domain, ...] = ("retention", "replay")
    found = [*_scan(data, "target", {*known, *NOT_SCANNED}, notices)]
    found += [item for domain in known for item in _scan(data / domain, domain, set(), notices)]
    if not found:
        extensions = ", ".join(sorted(EXTENSIONS))
        raise UsageError(f"{data}/ holds no recordings ({extensions}).", "Put them in data/clean and data/noisy.")
    return sorted(found, key=lambda item: item.path.as_posix())


def _scan(folder: Path, domain: Domain, skip: set[str], notices: list[Notice] | None) -> Iterator[Found]:
    relative = {path.relative_to(folder): path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS}
    paths = {
        name: path
        for name, path in relative.items()
        if name.parts[0] not in skip and not any(part.startswith(".") for part in name.parts) and path.is_file()
    }
    table = folder / "references.csv"
    names = RecordingNames(folder, (name.as_posix() for name in paths))
    rows = match_recordings(table, names, notices) if table.exists() else {}
    for name, path in paths.items():
        row = rows.get(name.as_posix(), _NO_ROW)
        folders = name.parts[:-1]
        folders = folders[1:] if folders[:1] == ("audio",) else folders
        # A noisy copy often has the name of its original: without a source the name tells what belongs together.
        recording = "/".join((*folders[1:], name.stem))
        if domain != "target":  # one source, a synthesiser or a corpus, often stands for all of it
            recording = f"{domain}/{recording}"
        elif row.source:
            recording = row.recording
        condition = folders[0] if folders else row.condition or "all"
        yield Found(path, domain, condition, row.speaker, recording, row.text, row.reference_source)


def enough_speakers(rows: Iterable[Utterance], min_speakers: int) -> bool:
    """Whether the target domain has so many named speakers that the speaker is the unit, not the recording."""
    return len({row.speaker for row in rows if row.domain == "target" and row.speaker}) >= min_speakers


def assign_splits(
    rows: Sequence[Utterance],
    *,
    seed: int,
    dev: float,
    test: float,
    by_speaker: bool,
    text: Text,
    retention_dev: float = 0.5,
) -> list[Utterance]:
    """Gives every utterance its split, the same for the same rows and seed.

    What shares a recording, its bytes, a text or (`by_speaker`) a speaker goes together. The shares are counted in
    utterances with a reference, in each condition. Retention is never trained on: it is all dev and test.

    Args:
        rows: whatever their split says now.
        seed: another seed deals the units out in another order.
        dev: share of the target domain, 0..1.
        test: likewise.
        by_speaker: the unit is the speaker, not the recording.
        text: normaliser of references.
        retention_dev: share of the retention domain that is dev, 0..1.

    Returns:
        Copies in the same order. Utterances without a reference judge nothing: they are kept in train only, so those
        whose unit went elsewhere, and those of retention, are missing.
    """
    shares: dict[Domain, dict[Split, float]] = {
        "target": {"train": max(0.0, 1 - dev - test), "dev": dev, "test": test},
        "retention": {"train": 0.0, "dev": retention_dev, "test": 1 - retention_dev},
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
    """Groups what must stay together: connected components over shared keys."""
    from scipy.cluster.hierarchy import DisjointSet  # a third of a second that only `prepare` needs

    sets = DisjointSet(range(len(rows)))
    first: dict[tuple[str, str], int] = {}
    for index, row in enumerate(rows):
        keys = _shared(row, text)
        if by_speaker and row.speaker and row.domain == "target":
            keys.append(("speaker", row.speaker))
        for key in keys:
            sets.merge(first.setdefault(key, index), index)
    return [[rows[index] for index in sorted(unit)] for unit in sets.subsets()]


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
