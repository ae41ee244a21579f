"""What a corpus from outside says of an utterance, and what became of it: taken, there already, or left out and why."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mondegreen.config import Seconds
from mondegreen.delimited import Notice
from mondegreen.errors import UsageError
from mondegreen.scoring.recording_names import RecordingNames
from mondegreen.speech.audio import MAX_MISSING_SHARE
from mondegreen.speech.corpus import look_through

CorpusFormat = Literal["nemo", "kaldi", "commonvoice", "librispeech", "audiofolder", "stm", "csv"]
EXAMPLES = 5  # of what was left out for one reason


@dataclass(frozen=True)
class Entry:
    """An utterance as its corpus describes it."""

    where: str  # file and line, for messages
    name: str  # below the condition's folder, without a suffix; slashes are folders
    audio: Path
    text: str = ""  # "" when nobody wrote it down
    speaker: str = ""
    recording: str = ""  # the source recording, where the utterance is a part of it
    start: Seconds = 0.0
    end: Seconds | None = None  # None: to the end of the recording
    channel: int | None = None  # from 0; None: all of them
    condition: str = ""  # "": that of the corpus
    written_by: str = ""  # "llm": a machine, which must not judge
    written: str = ""  # what the corpus calls the recording, where that was looked for

    @property
    def whole(self) -> bool:
        """The recording as it is, nothing cut."""
        return self.start == 0 and self.end is None and self.channel is None


@dataclass(frozen=True)
class Left:
    """An utterance that is not taken. `reason` is a short stable code."""

    where: str
    reason: str
    message: str


EntryRow = Entry | Left


@dataclass(frozen=True)
class SourceCorpus:
    """Where a corpus lies, and what the user says of it.

    Args:
        source: the manifest, table or folder.
        audio: where recordings are looked for, before the source's own folder; None: there only.
        columns: column of the table to the field that it holds.
        max_missing_share: most of a recording, 0..1, that may be damaged where a segment is cut out of it.

    What a reader made of it stands in the other fields afterwards.
    """

    source: Path
    audio: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    max_missing_share: float = MAX_MISSING_SHARE
    notices: list[Notice] = field(default_factory=list)
    moved: dict[str, Path] = field(default_factory=dict)  # found under another path than the written one
    indexes: dict[Path, RecordingNames] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of the source: itself, or the one that holds it."""
        return self.source if self.source.is_dir() else self.source.parent

    @property
    def places(self) -> list[Path]:
        """Folders in which a recording may lie, the likeliest first; `find` looks into others between them."""
        return [*([self.audio] if self.audio else []), self.folder]

    def find(self, written: str, near: Path | None = None) -> Path | None:
        """The recording that a corpus names; its path may be one of another machine, as `RecordingNames` finds them.

        Where none of these is it, a path may be relative to the working directory.

        Args:
            near: the folder that the path is relative to, if not one of the places. It goes behind `audio`, which may
                have the same folders as the source (those of splits).
        """
        path = Path(written.removeprefix("file://"))
        *first, folder = self.places
        mirrored = [place / near.relative_to(folder) for place in first if near and near.is_relative_to(folder)]
        for place in [*mirrored, *first, *([near] if near else []), folder]:
            if os.path.isfile(place / path):  # noqa: PTH113 - Path.is_file raises on names that no disk can hold
                return place / path
        for place in self.places:
            if name := self._index(place).find(written):
                self.moved[written] = place / name
                return place / name
        return path if os.path.isfile(path) else None  # noqa: PTH113 - written from where we are

    def settled(self, rows: Sequence[EntryRow]) -> list[EntryRow]:
        """The rows of the corpus without those whose recording was a guess that another row's name is as good for."""
        called = defaultdict[Path, dict[str, None]](dict)
        for row in rows:
            if isinstance(row, Entry) and row.written:
                called[row.audio][row.written] = None
        better = {
            (audio, path): other
            for audio, paths in called.items()
            if len(paths) > 1
            for path, other in self._better(audio, list(paths)).items()
        }
        for audio, path in better:
            if self.moved.get(path) == audio:
                del self.moved[path]
        return [
            Left(row.where, "guessed", f"{row.written} may be {row.audio}, and so may {other}, which other rows name")
            if isinstance(row, Entry) and (other := better.get((row.audio, row.written)))
            else row
            for row in rows
        ]

    def _better(self, audio: Path, paths: Sequence[str]) -> dict[str, str]:
        """Of the paths that were all found to be one recording, the guesses that do not count, each with a better one.

        Where none is better than the others, each has another that is as good.
        """
        guessed = [path for path in paths if self.moved.get(path) == audio]
        if not guessed:
            return {}
        index = next(index for place, index in self.indexes.items() if audio.is_relative_to(place))
        in_full = {str(audio.absolute()): path for path in paths if path not in guessed}
        meant = index.meant([*guessed, *in_full], self.places).names
        best = [in_full.get(path, path) for path in meant]
        return {path: next(other for other in best or paths if other != path) for path in guessed if path not in meant}

    def _index(self, place: Path) -> RecordingNames:
        if place not in self.indexes:
            found = look_through(place).recordings
            self.indexes[place] = RecordingNames(place, (path.relative_to(place).as_posix() for path in found))
        return self.indexes[place]

    def tables(self, *endings: str) -> list[Path]:
        """The files of these kinds in the source, also below linked folders."""
        return [path for path in look_through(self.source).others if path.name.endswith(endings)]

    def name_of(self, audio: Path) -> str:
        """What a whole recording is called: its path below one of the places, else from here; without suffix."""
        for place in [*self.places, Path()]:
            if audio.is_relative_to(place):
                return audio.relative_to(place).with_suffix("").as_posix()
        return Path(*audio.absolute().parts[1:]).with_suffix("").as_posix()


def from_zero(where: str) -> UsageError:
    """A channel 0: whoever counts so means the second by 1, which nobody could tell from the other rows."""
    problem = f"{where}: field channel: it is 0, and channels are counted from 1: 1 would be another than is meant."
    return UsageError(problem, "Write 1 for the first channel and 2 for the second in every row, or A and B.")


def safe_name(name: str) -> str:
    """A relative path that any disk and any table can hold: no hidden part, no way up, one spelling of each letter."""
    text = name.encode("utf-8", "replace").decode()
    text = "".join("_" if unicodedata.category(char) == "Cc" or char in '\\:*?"<>|' else char for char in text)
    parts = [part.strip() for part in PurePosixPath(unicodedata.normalize("NFC", text)).parts]
    return "/".join("_" + part[1:] if part.startswith(".") else part for part in parts if part and part != "/") or "_"


def shown(text: object) -> str:
    """As text that every stream and JSON can hold: file names and manifests may have half surrogates."""
    return str(text).encode("utf-8", "backslashreplace").decode()


class Reason(BaseModel):
    """Utterances that were left out for one reason."""

    model_config = ConfigDict(frozen=True)
    count: int
    examples: list[str]  # file, line and what is wrong, the first ones


class ImportReport(BaseModel):
    """What `mondegreen data import` did. rows = taken + there_already + all that were left out."""

    model_config = ConfigDict(frozen=True)
    format: CorpusFormat
    source: str
    into: str
    condition: str
    rows: int
    taken: int
    there_already: int
    copied: int = Field(description="files, of those taken")
    linked: int
    cut: int
    without_text: int
    without_speaker: int
    speakers: int
    recordings: int
    left_out: dict[str, Reason]
    moved: Reason  # found under another path than the written one
    unlisted: Reason  # recordings in the source's folder that no row names
    notices: list[str]  # what was understood, assumed or not used

    @property
    def complete(self) -> bool:
        """Whether every row is there now."""
        return not self.left_out


def reasons(left: Sequence[Left]) -> dict[str, Reason]:
    """What was left out by reason, the most frequent one first."""
    codes = sorted({row.reason for row in left})
    grouped = {code: [shown(f"{row.where}: {row.message}") for row in left if row.reason == code] for code in codes}
    ranked = sorted(grouped.items(), key=lambda item: -len(item[1]))
    return {code: Reason(count=len(lines), examples=lines[:EXAMPLES]) for code, lines in ranked}
