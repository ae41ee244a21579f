"""What is erased, in files: recordings and pages go as a whole, tables lose rows, the feature cache loses features.

Each file is replaced by a rename or removed, so that a killed erasure leaves the old file or the new one, and finds the
rest when it is run again.
"""

import html
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mondegreen.cases.selecting import ErasedCases, digests_of, person_key
from mondegreen.delimited import REFERENCE_COLUMNS, open_table
from mondegreen.errors import MondegreenError
from mondegreen.files import lock, sha256_file, write_bytes, write_text
from mondegreen.tables import search_words

_ID = 16  # hexadecimal digits of a case's id; an utterance's are the first ones of its recording's digest
_CLOSED = re.compile(rb'(?:[^"]|"")*+"')  # the rest of a quoted cell
_TABLES = (".csv", ".tsv")
_HEX = re.compile(rb"[0-9a-f]{16,}")
_TAG = re.compile(r"<[^>]{0,200}>")
_WORDS, _CHARACTERS = 3, 12  # a shorter text is said by many: where no id stands beside it, it says nothing of anybody
GONE = object()  # what `pruned` makes of a part that goes as a whole
FileAction = Literal["remove", "rewrite", "name"]
_LIVE = ("mondegreen.db", "mondegreen.db-wal", "mondegreen.db-shm")
_SOUND = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".webm", ".g722", ".npy"}
_MOST = 64 << 20  # bytes of a file that is neither text nor a database and is looked through all the same
_SEALED = "verdict.json"  # numbers and digests of models
_SKIPPED = {".git", ".dvc", ".venv", "node_modules", "__pycache__"}


class Content:
    """What is erased, as files hold it.

    Args:
        selection: of cases and recordings.
        texts: what was heard and written in the cases.
        sizes: bytes of the recordings, so that few files have to be hashed.
    """

    def __init__(self, selection: ErasedCases, texts: Collection[str], sizes: Collection[int]) -> None:
        whole = set(selection.recordings) - set(selection.muted)  # of the muted ones the texts stay
        self._rows = {key[:_ID].encode() for key in {*selection.cases, *digests_of(whole)}}
        self._audio = self._rows | {key[:_ID].encode() for key in digests_of(selection.muted)}
        self._recordings, self._sizes = set(selection.recordings), set(sizes)
        phrases = (" ".join(search_words(written)) for written in texts)
        self._phrases: dict[str, set[str]] = {}  # by their first words, so that a page is looked through once
        for phrase in phrases:
            if len(phrase) >= _CHARACTERS and len(words := phrase.split()) >= _WORDS:
                self._phrases.setdefault(" ".join(words[:_WORDS]), set()).add(phrase)
        self._speaker = person_key(selection.speaker)
        names = (" ".join(search_words(name)) for name in (*selection.spellings, selection.speaker, selection.caller))
        self._names = [f" {name} " for name in names if name]

    def in_rows(self, content: bytes | str) -> bool:
        """Whether an id of a case or recording that goes as a whole stands in it."""
        return _holds(content, self._rows)

    def of_audio(self, content: bytes | str) -> bool:
        """Whether the id of any recording that goes stands in it."""
        return _holds(content, self._audio)

    def speaks_in(self, path: Path) -> bool:
        """Whether rows of a table name the speaker."""
        if not self._speaker or path.suffix.lower() not in _TABLES:
            return False
        try:
            rows = list(open_table(path, REFERENCE_COLUMNS, notices=[]))
        except (MondegreenError, OSError):  # none that a person can be found in
            return False
        return any(person_key(row.cells.get("speaker", "")) == self._speaker for row in rows)

    def is_recording(self, path: Path) -> bool:
        """Whether the file is one of the recordings, whatever it is called."""
        return path.stat().st_size in self._sizes and sha256_file(path) in self._recordings

    def on_page(self, content: str) -> bool:
        """Whether a page shows or plays any of it."""
        if self.of_audio(content):
            return True
        if not self._phrases and not self._names:
            return False
        words = search_words(html.unescape(_TAG.sub(" ", content)))
        text = f" {' '.join(words)} "
        if any(name in text for name in self._names):
            return True
        starts = {" ".join(words[at : at + _WORDS]) for at in range(len(words))} & self._phrases.keys()
        return any(f" {phrase} " in text for start in starts for phrase in self._phrases[start])

    def pruned(self, tree: Any) -> Any:
        """JSON without what is erased: an element of a list goes as a whole when an id stands anywhere in it but in a
        list of its own. GONE when nothing is left."""
        if isinstance(tree, list):
            return [kept for item in tree if (kept := self.pruned(item)) is not GONE]
        if isinstance(tree, dict):
            if self._hit(tree):
                return GONE
            return {key: self.pruned(value) for key, value in tree.items()}
        return GONE if self._hit(tree) else tree

    def _hit(self, tree: Any) -> bool:
        if isinstance(tree, dict):
            return any(self.in_rows(key) or self._hit(value) for key, value in tree.items())
        return isinstance(tree, str) and self.in_rows(tree)


def _holds(content: bytes | str, ids: set[bytes]) -> bool:
    if not ids:
        return False
    raw = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    return any(found[0][:_ID] in ids for found in _HEX.finditer(raw))


class FoundFile(BaseModel):
    """A file that holds something, and what becomes of it; `name`: it is not ours to change."""

    model_config = ConfigDict(frozen=True)

    path: str
    action: FileAction


def files_below(folder: Path, *without: Path) -> Iterator[Path]:
    """Regular files in the order of their names, but `without` these files and folders; links are not followed."""
    spared = {path.absolute() for path in without}
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED
            and (here / name).absolute() not in spared
            and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            path = here / name
            if path.absolute() not in spared and path.is_file() and not path.is_symlink():
                yield path


def erase_in_file(path: Path, content: Content, *, apply: bool) -> FileAction | None:
    """Takes what is erased out of a file of ours, or says what would be done."""
    if path.name in _LIVE or path.suffix == ".lock":
        return None
    if content.of_audio(path.name) or content.is_recording(path):
        return _remove(path, apply)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _features(path, content, apply)
    if suffix in _SOUND or path.name == _SEALED:
        return None
    raw = _looked_at(path)
    if raw is None:
        return None
    if suffix in (".jsonl", ".csv", ".tsv", ".log", ".txt"):
        return _rows(path, content, apply)
    if suffix == ".json":
        return _json(path, raw, content, apply)
    if b"\0" in raw[:8192]:
        return _remove(path, apply) if content.of_audio(raw) else None
    return _remove(path, apply) if content.on_page(raw.decode(errors="replace")) else None


def holds(path: Path, content: Content) -> bool:
    """Whether a file that is not ours to change holds something; a list of digests names and holds nothing."""
    if path.suffix == ".sha256":
        return False
    if content.of_audio(path.name) or content.is_recording(path) or content.speaks_in(path):
        return True
    raw = None if path.suffix.lower() in _SOUND | {".safetensors"} else _looked_at(path)
    return raw is not None and content.of_audio(raw)


def _looked_at(path: Path) -> bytes | None:
    """Its bytes; None for a large file of another kind, such as weights."""
    with path.open("rb") as stream:
        start = stream.read(8192)
        large = path.stat().st_size > _MOST and b"\0" in start and ".db" not in path.name
        return None if large else start + stream.read()


def _remove(path: Path, apply: bool) -> FileAction:
    if apply:
        path.unlink(missing_ok=True)
    return "remove"


def _rows(path: Path, content: Content, apply: bool) -> FileAction | None:
    """A line a record; in CSV a quoted cell may hold line breaks."""
    memory = path.with_suffix(".lock")  # of whoever adds to the hypotheses that are remembered
    with lock(memory) if memory.exists() else nullcontext():
        raw = path.read_bytes()
        records = list(_records(raw, _separator(raw) if path.suffix.lower() in _TABLES else None))
        written = path.suffix.lower() in (".log", ".txt")  # for people: without ids, perhaps
        kept = [
            record
            for record in records
            if not (content.on_page(record.decode(errors="replace")) if written else content.in_rows(record))
        ]
        if len(kept) == len(records):
            return None
        if apply:
            write_bytes(path, b"".join(kept))
    return "rewrite"


def _separator(raw: bytes) -> bytes:
    """What is between the cells of a table, by its header; in a .tsv of ours it may be a comma."""
    header = raw.split(b"\n", 1)[0]
    return max((b",", b"\t", b";", b"|"), key=header.count)


def _records(raw: bytes, separator: bytes | None) -> Iterator[bytes]:
    """The records of a table, or the lines of another file (None); a quote that nothing closes is a mere character."""
    lines = raw.splitlines(keepends=True)
    at = 0
    while at < len(lines):
        end = at + 1 if separator is None else _end(lines, at, separator)
        yield b"".join(lines[at:end])
        at = end


def _end(lines: Sequence[bytes], at: int, separator: bytes) -> int:
    """The number of the line behind the record that begins in line `at`."""
    is_open: bool | None = False
    for number in range(at, len(lines)):
        is_open = _leaves_open(lines[number].rstrip(b"\r\n"), bool(is_open), separator)
        if is_open is None:
            break
        if not is_open:
            return number + 1
    return at + 1


def _leaves_open(line: bytes, is_open: bool, separator: bytes) -> bool | None:
    """Whether a quoted cell goes on behind the line; None where a cell ends in a quote that closes nothing."""
    while True:
        if not is_open:
            while not line.startswith(b'"'):
                _, found, line = line.partition(separator)
                if not found:
                    return False
            line = line[1:]
        closed = _CLOSED.match(line)
        if not closed:
            return True
        line = line[closed.end() :]
        if not line:
            return False
        if not line.startswith(separator):
            return None
        line, is_open = line[len(separator) :], False


def _json(path: Path, raw: bytes, content: Content, apply: bool) -> FileAction | None:
    try:
        tree: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return _remove(path, apply) if content.in_rows(raw) else None
    left = content.pruned(tree)
    if left is GONE:
        return _remove(path, apply)
    if left == tree:
        return None
    if apply:
        write_text(path, json.dumps(left, indent=2, ensure_ascii=False) + "\n")
    return "rewrite"


def _features(path: Path, content: Content, apply: bool) -> FileAction | None:
    """A shard of the feature cache, by the digests that its features are kept under."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    with path.open("rb") as stream:
        header = stream.read(min(int.from_bytes(stream.read(8), "little"), _MOST))
    if not content.of_audio(header):
        return None
    try:
        features = load_file(path)
    except (SafetensorError, ValueError):
        return _remove(path, apply)
    left = {key: value for key, value in features.items() if not content.of_audio(key)}
    if apply and left:
        temporary = path.with_name(f".{path.stem}.tmp")
        save_file(left, temporary)
        temporary.replace(path)
    return "rewrite" if left else _remove(path, apply)
