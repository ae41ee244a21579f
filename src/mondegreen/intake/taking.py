"""Entries become files below a data folder and rows of its references.csv; what is there already stays as it is.

A file is whole or absent, and the table is written last: an import that was killed goes on where it was.
"""

import csv
import errno
import fcntl
import filecmp
import io
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mondegreen.errors import AudioError
from mondegreen.files import write_text
from mondegreen.intake.cutting import cut
from mondegreen.intake.entries import Entry, Left, Row, safe_name
from mondegreen.scoring.references import read_table
from mondegreen.speech.folders import EXTENSIONS

Way = Literal["copied", "linked", "cut"]
Track = Callable[[Sequence[Row]], Iterable[Row]]


@dataclass
class Taken:
    """What became of the rows."""

    new: dict[str, Entry] = field(default_factory=dict)  # by the path that references.csv has
    there: dict[str, Entry] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    ways: dict[str, Way] = field(default_factory=dict)  # of the new ones


def take(rows: Sequence[Row], into: Path, condition: str, *, link: bool, track: Track = iter) -> Taken:
    """Copies, links or cuts every recording to into/audio/condition and adds its row to into/references.csv.

    Args:
        rows: of one corpus.
        into: the data folder; made where it is missing.
        condition: the folder's name.
        link: whole recordings become symbolic links; segments are cut all the same.
        track: wraps the rows, for a progress bar.

    Raises:
        UsageError: references.csv is there and cannot be read.
        OSError: the disk is full.
    """
    into.mkdir(parents=True, exist_ok=True)
    with _alone(into):
        header, known = _table(into / "references.csv")
        done = Taken()
        for row in track(rows):
            left = row if isinstance(row, Left) else _place(row, into, condition, link, known, done)
            if left:
                done.left.append(left)
        if done.new:
            new = [_row(path, entry, condition) for path, entry in done.new.items()]
            # A column that stays empty would say that nobody wrote down what nobody knows.
            columns = dict.fromkeys([*header, *(name for row in new for name in row if row[name])])
            _write(into / "references.csv", list(columns), [*known.values(), *new])
    return done


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One import at a time: the table is read first and written last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _table(path: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The columns of references.csv and its rows by path."""
    if not path.is_file():
        return ["path", "text"], {}
    rows = {row.path: dict(row.fields) for row in read_table(path, notices=[])}
    return list(dict.fromkeys(["path", "text", *(next(iter(rows.values())) if rows else ())])), rows


def _place(
    entry: Entry, into: Path, condition: str, link: bool, known: Mapping[str, Mapping[str, str]], done: Taken
) -> Left | None:
    """Puts the entry's recording where it belongs; why not, where it cannot be."""
    suffix = entry.audio.suffix if entry.whole else ".wav"
    if suffix.lower() not in EXTENSIONS:
        return Left(entry.where, "format", f"{entry.audio} is no recording by its name: convert it first")
    if odd := next(
        (char for char in entry.text + entry.speaker + entry.recording + entry.condition if _unwritable(char)), ""
    ):
        return Left(entry.where, "bad_text", f"it holds the character U+{ord(odd):04X}, which no text has")
    condition = entry.condition or condition
    path = f"audio/{safe_name(condition)}/{safe_name(entry.name)}{suffix}"
    if twin := done.new.get(path) or done.there.get(path):
        return Left(entry.where, "twice", f"{path} is that of {twin.where} already")
    if path in known and (other := _differs(entry, condition, known[path])):
        return Left(entry.where, "conflict", f"{path} is in references.csv with another {other}, which stays")
    target = into / path
    try:
        way = _put(entry, target, link)
    except AudioError as error:
        return Left(entry.where, error.reason, error.problem)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return Left(entry.where, "unreadable", f"{entry.audio}: {error.strerror}")
    if way is None:
        return Left(entry.where, "conflict", f"{target} is there with other content, which stays")
    if path in known:
        done.there[path] = entry
    else:
        done.new[path], done.ways[path] = entry, way
    return None


def _unwritable(char: str) -> bool:
    """Control characters and half surrogates: the table could not give them back."""
    return not char.isspace() and unicodedata.category(char) in ("Cc", "Cs")


def _differs(entry: Entry, condition: str, row: Mapping[str, str]) -> str:
    """The first field in which a row of the table says something else; "" when none does."""
    ours = _row(row["path"], entry, condition)
    return next((name for name, value in ours.items() if row.get(name, "") != value), "")


def _put(entry: Entry, target: Path, link: bool) -> Way | None:
    """Makes the file, or finds it made; None where another file has its name."""
    way: Way = "cut" if not entry.whole else "linked" if link else "copied"
    with _temporary(target) as part:
        if way == "cut":
            cut(entry.audio, part, entry.start, entry.end, entry.channel)
        elif target.exists():
            part = entry.audio
        elif way == "linked":
            part.symlink_to(entry.audio.resolve())
        else:
            shutil.copyfile(entry.audio, part)
        if target.exists():
            return way if filecmp.cmp(part, target, shallow=False) else None
        if way != "linked":
            part.chmod(0o644)
        part.replace(target)
    return way


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A hidden name beside the target, which no reader takes for a recording; the next import writes over it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(".import.part")
    part.unlink(missing_ok=True)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _row(path: str, entry: Entry, condition: str) -> dict[str, str]:
    """The source recording is named with the condition: "rec1" of two corpora are two recordings."""
    recording = f"{entry.condition or condition}/{entry.recording}" if entry.recording else ""
    fields = {
        "path": path,
        "text": entry.text,
        "speaker": unicodedata.normalize("NFC", entry.speaker),
        "source": recording,
    }
    fields |= {"written_by": entry.written_by} if entry.written_by else {}
    return {name: " ".join(value.split()) for name, value in fields.items()} | {"path": path}


def _write(path: Path, header: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, header, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
