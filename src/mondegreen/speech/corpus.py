"""The recordings in a folder and the files beside them that are none; those of data/, and what people wrote down."""

import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from mondegreen.config import Channel
from mondegreen.delimited import Notice, some, wrong
from mondegreen.errors import UsageError
from mondegreen.files import printable
from mondegreen.records import Domain, ReferenceSource, Split
from mondegreen.scoring.recording_names import RecordingNames
from mondegreen.scoring.references import ReferenceRow, match_recordings
from mondegreen.speech.audio import named_channels

# What is looked for. What a file is, its bytes say.
EXTENSIONS = frozenset(
    {
        *(".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".mpga"),
        *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv", ".avi", ".wma", ".asf", ".ac3"),
        *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".amr", ".awb", ".sph", ".ape", ".wv", ".tta", ".voc"),
        *(".3g2", ".flv", ".mpg", ".mpeg", ".eac3"),
    }
)
_NAMED = 20
_TABLES = (".csv", ".tsv")
_OF_THE_SAMPLE = ("README.md", "report.json")  # what scripts/get_sample.py writes beside its recordings
# Read by other stages: suites have baselines of their own, failed cases come with labels.
SUITES, FAILED_CASES = "regression", "failed_cases"
NOT_SCANNED = frozenset({SUITES, FAILED_CASES})
SPLITS: tuple[Split, ...] = get_args(Split)
UNNAMEABLE = "name_not_utf8"  # the one notice that says that a recording is left out
_NO_ROW = ReferenceRow(line=0, key="", text="")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folder:
    """What stands below a folder, in the order of the names."""

    recordings: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    unheard: list[tuple[Path, str]] = field(default_factory=list)  # what cannot be opened as a file or folder, and why
    hidden: int = 0  # and the forks that a Mac leaves beside files ("._name")

    def not_taken(self, read: Collection[Path] = ()) -> Iterator[tuple[str, str, int]]:
        """What is said about the rest, as (code, message, count), but for what somebody has `read`."""
        if others := [printable(path.name) for path in self.others if path not in read]:
            named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
            yield "not_taken", f"{_files(len(others))} not taken, being no recordings by name: {named}", len(others)
        if self.unheard:
            listed = [f"{printable(path)} ({why})" for path, why in self.unheard]
            named = ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")
            yield "unheard", f"{len(listed)} cannot be heard, being no files: {named}", len(listed)
        if self.hidden:
            yield "hidden", f"{_files(self.hidden)} skipped, being hidden or a resource fork", self.hidden


def look_through(folder: Path, skip: Collection[str] = ()) -> Folder:
    """Sorts the files below a folder, and below the folders that links in it lead to.

    Args:
        skip: folders at its top that are not looked into.
    """
    found, hidden = Folder(), 0
    if not os.path.lexists(folder):
        return found
    for path, why in _below(folder, skip):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            hidden += 1
        elif why:
            found.unheard.append((path, why))
        elif path.suffix.lower() in EXTENSIONS:
            found.recordings.append(path)
        else:
            found.others.append(path)
    return Folder(found.recordings, found.others, found.unheard, hidden)


def _below(folder: Path, skip: Collection[str] = (), above: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """The files below a folder in the order of their names, and what is none with the reason.

    Args:
        skip: names in it that are passed over.
        above: the folders that it is in, by where they really are: a link to one of them would go on for ever.
    """
    real = os.path.realpath(folder)
    if real in above:
        yield folder, "a link to a folder that it is in"
        return
    try:
        names = sorted({path.name for path in folder.iterdir()} - set(skip))
    except OSError as error:
        yield folder, f"a folder that cannot be opened: {error.strerror}"
        return
    for path in (folder / name for name in names):
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder may not be entered
            if path.suffix.lower() in EXTENSIONS:
                yield path, "a folder"
            yield from _below(path, (), (*above, real))
        elif os.path.isfile(path):  # noqa: PTH113
            yield path, ""
        else:
            yield path, "a link that leads nowhere" if path.is_symlink() else "neither file nor folder"


def _files(count: int) -> str:
    return f"{count} file{'s were' if count != 1 else ' was'}"


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
    split: Split | None = None  # where the user fixed it


def discover(data: Path, notices: list[Notice] | None = None, channel: Channel = "mix") -> list[Found]:
    """Finds every recording below `data`, in the order of the paths.

    The condition is the folder: data/audio/clean/ or data/clean/. Loose files take their row's condition, else "all".
    data/retention and data/replay hold the domains of that name and may each have a references.csv of their own. Its
    column `split`, where there is one, fixes where a recording goes.

    Args:
        notices: what the tables' reader understood, what it did not use, and which files are no recordings, is
            appended; logged when None.
        channel: audio.channel of params.yaml. "split" makes `call.wav#1` and `call.wav#2` of a recording with two
            channels, under which names the references know them.

    Raises:
        UsageError: there is no audio, or a references.csv is wrong; names file, line and field.
    """
    if not data.is_dir():
        step = "Put your recordings in data/audio; `mondegreen init . --sample` makes the sample."
        raise UsageError(f"{data}/ does not exist.", step if data == Path("data") else "Correct the folder's name.")
    known: tuple[Domain, ...] = ("retention", "replay")
    said: list[Notice] = [] if notices is None else notices
    found = [*_scan(data, "target", {*known, *NOT_SCANNED}, said, channel)]
    found += [item for domain in known for item in _scan(data / domain, domain, set(), said, channel)]
    if notices is None:
        for notice in said:
            logger.warning("%s", notice)
    if not found:
        raise UsageError(
            f"{data}/ holds no recordings (wav, flac, ogg, mp3, m4a …).",
            "Put them in data/audio/clean and data/audio/noisy.",
        )
    return sorted(found, key=lambda item: item.path.as_posix())


def _scan(folder: Path, domain: Domain, skip: set[str], notices: list[Notice], channel: Channel) -> Iterator[Found]:
    files, table = look_through(folder, skip), folder / "references.csv"
    odd = [file for file in files.recordings if printable(file) != str(file)]
    for file in odd:
        message = "its name is no UTF-8 text, which no table and no JSON can hold; rename it"
        notices.append(Notice(UNNAMEABLE, message, printable(file)))
    tables = [path for path in files.others if path.suffix.lower() in _TABLES]
    if files.recordings and (others := sorted(printable(path) for path in tables if path != table)):
        message = f"{len(others)} tables are not read, since only this one holds references: {some(others)}"
        notices.append(Notice("table_not_read", message, str(table), count=len(others)))
    known = [*tables, *(folder / name for name in _OF_THE_SAMPLE)]
    notices += [
        Notice(code, message, folder.as_posix(), count=count) for code, message, count in files.not_taken(known)
    ]
    heard = [(file, path) for file in files.recordings if file not in odd for path in named_channels(file, channel)]
    named = {path.relative_to(folder).as_posix(): (file, path) for file, path in heard}
    rows = match_recordings(table, RecordingNames(folder, named), notices) if table.exists() else {}
    for key, (file, path) in named.items():
        row, name = rows.get(key, _NO_ROW), file.relative_to(folder)
        folders = name.parts[:-1]
        folders = folders[1:] if folders[:1] == ("audio",) else folders
        # A noisy copy often has the name of its original: without a source the name tells what belongs together.
        recording = "/".join((*folders[1:], name.stem))
        if domain != "target":  # one source, a synthesiser or a corpus, often stands for all of it
            recording = f"{domain}/{row.fields.get('recording') or recording}"
        elif row.recording:
            recording = row.recording
        condition = folders[0] if folders else row.condition or "all"
        split = _fixed_split(table, row, domain)
        yield Found(path, domain, condition, row.speaker, recording, row.text, row.reference_source, split)


def _fixed_split(table: Path, row: ReferenceRow, domain: Domain) -> Split | None:
    """The row's own split, None where its column `split` is empty or not there. Raises UsageError."""
    allowed: dict[Domain, tuple[Split, ...]] = {"target": SPLITS, "retention": ("dev", "test"), "replay": ("train",)}
    written = row.fields.get("split", "").lower()
    split = next((split for split in allowed[domain] if split == written), None)
    if written and split is None:
        names = " or ".join(allowed[domain])
        problem = f"{written!r} is no split that {domain} recordings can have"
        raise wrong(table, row.line, problem, f"Write {names}, or leave it empty: then it is dealt out.", "split")
    return split
