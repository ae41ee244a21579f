"""The recordings below data/ and what people wrote down about them.

Train, dev and test: no recording, no text and (with enough speakers) no speaker stands in two of them.
"""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mondegreen.errors import LeakageError, UsageError
from mondegreen.records import Domain, ReferenceSource, Split, Utterance
from mondegreen.scoring.wer import COLUMNS, who_wrote

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".mp3"})
REQUIRED = ("path", "text")
OPTIONAL = ("speaker", "condition", "source", "licence")
# Read by other stages: suites have baselines of their own, failed cases come with labels.
NOT_SCANNED = frozenset({"regression", "failed_cases"})


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


@dataclass(frozen=True)
class Row:
    """A row of references.csv. `line` is where it stands, for messages."""

    line: int
    text: str
    speaker: str = ""
    condition: str = ""
    source: str = ""
    reference_source: ReferenceSource = "human"


def discover(data: Path) -> list[Found]:
    """Finds every recording below `data`, in the order of the paths.

    The condition is the folder: data/audio/clean/ or data/clean/. Loose files take their row's condition, else "all".
    data/retention holds the retention domain and may have a references.csv of its own.

    Raises:
        UsageError: there is no audio, or a references.csv is wrong; names file, line and field.
    """
    if not data.is_dir():
        raise UsageError(
            f"{data}/ does not exist.", "Run `python scripts/get_sample.py`, or put your recordings in data/clean."
        )
    retention = data / "retention"
    found = [*_scan(data, "target", {"retention", *NOT_SCANNED}), *_scan(retention, "retention", set())]
    if not found:
        extensions = ", ".join(sorted(EXTENSIONS))
        raise UsageError(f"{data}/ holds no recordings ({extensions}).", "Put them in data/clean and data/noisy.")
    return sorted(found, key=lambda item: item.path.as_posix())


def read_references(path: Path, known: Container[str]) -> dict[str, Row]:
    """Reads a references.csv; a missing file is an empty one.

    Args:
        path: the file.
        known: the recordings that a row may name, relative to the file's folder.

    Returns:
        Rows by path.

    Raises:
        UsageError: bad encoding, missing columns, a path twice or without a file; names file, line and field.
    """
    rows: dict[str, Row] = {}
    for line, fields in _rows(path):
        name = PurePosixPath(fields["path"]).as_posix()
        if name in rows:
            raise _wrong(
                path, line, "path", f"{name} stands in line {rows[name].line} already", "Keep one of the rows."
            )
        if name not in known:
            raise _wrong(
                path, line, "path", f"there is no recording {path.parent / name}", "Correct the path, or add the file."
            )
        rows[name] = Row(
            line, fields["text"], fields["speaker"], fields["condition"], fields["source"], who_wrote(fields)
        )
    return rows


def _scan(folder: Path, domain: Domain, skip: set[str]) -> Iterator[Found]:
    relative = {path.relative_to(folder): path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS}
    paths = {
        name: path
        for name, path in relative.items()
        if name.parts[0] not in skip and not any(part.startswith(".") for part in name.parts) and path.is_file()
    }
    rows = read_references(folder / "references.csv", {name.as_posix() for name in paths})
    for name, path in paths.items():
        row = rows.get(name.as_posix(), Row(0, ""))
        folders = name.parts[:-1]
        folders = folders[1:] if folders[:1] == ("audio",) else folders
        # A noisy copy often has the name of its original: without a source the name tells what belongs together.
        recording = "/".join((*folders[1:], name.stem))
        if domain == "retention":  # one source, a synthesiser or a corpus, often stands for all of it
            recording = f"retention/{recording}"
        elif row.source:
            recording = row.source.split(";")[0].strip()
        condition = folders[0] if folders else row.condition or "all"
        yield Found(path, domain, condition, row.speaker, recording, row.text, row.reference_source)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.exists():
        return
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        for column in REQUIRED:
            if header.count(column) != 1:
                raise _wrong(path, 1, column, f"there must be one such column, not {header.count(column)}", _HEADER)
        for fields in reader:
            if None in fields:
                raise _wrong(path, reader.line_num, header[-1], "there are more fields than columns", _QUOTE)
            missing = [name for name in REQUIRED if fields[name] is None]
            if missing or not fields["path"].strip():
                raise _wrong(path, reader.line_num, (missing or ["path"])[0], "it is empty or missing", _QUOTE)
            yield reader.line_num, {name: (fields.get(name) or "").strip() for name in _READ}
    except csv.Error as error:
        raise _wrong(path, reader.line_num, "the whole line", str(error), _QUOTE) from None


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _wrong(path, line, "the whole line", "it is not UTF-8", "Save the file as UTF-8.") from None


def _wrong(path: Path, line: int, field: str, problem: str, next_step: str) -> UsageError:
    return UsageError(f"{path}:{line}: field {field}: {problem}.", next_step)


_READ = dict.fromkeys((*REQUIRED, *OPTIONAL, *COLUMNS))
_HEADER = f"The first line names the columns: {','.join((*REQUIRED, *OPTIONAL))}; the last four are optional."
_QUOTE = 'Put texts that hold commas in double quotes: a.wav,"Yes, please."'


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
