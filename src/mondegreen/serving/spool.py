"""Answers on their way into the store: on disk before the client has them, in the database when it has time.

Each process appends to a file of its own and holds a lock on its folder; what a killed one left behind is taken over by
whoever finds the lock free. An answer is synced before it is given, together with those that come at the same moment.
Rows carry the request's id, so that what is written twice counts once. A database that is slow or away delays no
answer; only when the disk's share is full is something dropped, and then it is counted and said. The share is that of
all processes, with what killed ones left: the name of each file that waits says how many bytes wait with it.
"""

import json
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mondegreen.errors import CaseError, is_full
from mondegreen.files import flock, sync, write_bytes
from mondegreen.monitoring.partly_logged import PartlyLoggedError
from mondegreen.serving.followers import LOCK
from mondegreen.speech.channels import channel_of
from mondegreen.speech.transcriber import Transcription

BESIDE = "-shadow"  # of the folder of a recording that the challenger hears after its answer
CURRENT, _NEXT, _AUDIO, REFUSED = "current.jsonl", "next.jsonl", "audio", "refused"
_PAUSE, _LONGEST_PAUSE = 0.2, 30.0  # seconds between two looks; the longer one while the database is away
_NAME_BYTES = 100  # of a client's name for a recording; disks take 255, some of them ours
_TRIES = 5  # of lines that the database refuses for what they are, rather than for being away
_log = logging.getLogger(__name__)


class Answer(BaseModel):
    """What was answered to one request. `transcription.path` is the recording in the spool."""

    model_config = ConfigDict(frozen=True)

    request_id: str
    at: datetime
    served: str  # the registered version, such as fine-tuned-stt/3
    audio_sha256: str
    transcription: Transcription
    caller: str | None = None
    speaker: str | None = None
    recording: str | None = None
    channel: str | None = None
    role: Literal["champion", "canary"] = "champion"  # of the version that answered
    canary: int | None = None  # the ledger's entry of the canary that it takes part in
    batch: int | None = None  # recordings of the batch that it was heard in
    shadow: str | None = None  # of a shadow pair: the version that heard it too, whose transcription this is
    beside: Transcription | None = None  # and what was answered

    @property
    def file(self) -> Path:
        """The recording, whichever channel of it was heard."""
        return channel_of(self.transcription.path)[0]


@dataclass
class SpoolState:
    """What /metrics shows. Counts since the process began."""

    written: int = 0  # answers in the database
    dropped: int = 0  # the disk's share was full
    refused: int = 0  # the store would not have them, or their recordings, as they are; kept in the folder `refused`
    waiting: int = 0  # answers on disk only
    problem: str = ""  # why the store does not take them just now


class Spool:
    """Takes answers at once and writes them down in the background.

    Args:
        folder: of all processes, e.g. var/serve.
        write_down: stores answers, each once however often it is called with it; raises CaseError when it cannot now.
        most_bytes: of recordings and lines of all processes that may wait on disk.
    """

    def __init__(self, folder: Path, write_down: Callable[[Sequence[Answer]], object], most_bytes: int) -> None:
        self.state = SpoolState()
        self._all, self._write_down, self._most = folder, write_down, most_bytes
        self.own = folder / secrets.token_hex(8)
        held = ExitStack()
        # Locked before it has the name by which others find it: they would take it over, and we would wait for ever.
        hidden = folder / f".{self.own.name}"
        held.enter_context(flock(hidden / LOCK))
        (hidden / _AUDIO).mkdir()
        hidden.rename(self.own)
        sync(folder)  # its name
        self._file = self._open()
        self._bytes, self._lock = 0, threading.Lock()  # of our answers in the file that is written to
        self._waiting = _waiting_bytes(folder)  # of all processes in files that nobody writes to any more
        self._added = self._synced = 0  # answers since the process began
        self._syncing = threading.Lock()  # taken before the other one
        self._folders = {self.own: held}  # ours, and those that were taken over, with their locks
        self._failures: dict[Path, int] = {}
        self._lacking: dict[Path, PartlyLoggedError] = {}  # written down, with recordings that the store does not keep
        self._wake, self._closing = threading.Event(), False
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def place(self, request_id: str, name: str) -> Path:
        """Where a recording is to be put while it is heard and until it is written down."""
        folder = self.own / _AUDIO / request_id
        folder.mkdir()
        return folder / (_file_name(name) or "recording")

    def forget(self, recording: Path) -> None:
        """Removes a recording that was not answered."""
        shutil.rmtree(recording.parent, ignore_errors=True)

    def add(self, answer: Answer) -> None:
        """Puts an answer on the disk and syncs it; called before the client has it.

        Its recording, whose content whoever wrote it has synced, outlives a power cut with it.
        """
        sync(answer.file.parent)
        line = _line(answer) + b"\n"
        size = len(line) + answer.file.stat().st_size
        with self._lock:
            full = not self._has_room(size) or not self._append(line)
            if not full:
                self._bytes += size
                self.state.waiting += 1
                self._added += 1
            number = self._added
        if full:
            self.state.dropped += 1
            _log.error("The spool %s is full: answer %s is not logged.", self._all, answer.request_id)
            self.forget(answer.file)
        else:
            self._sync(number)
        self._wake.set()

    def _has_room(self, size: int) -> bool:
        """Looks anew before it says no: another process may have written down what filled the share."""
        if self._waiting + self._bytes + size > self._most:
            self._waiting = _waiting_bytes(self._all)
        return self._waiting + self._bytes + size <= self._most

    def _append(self, line: bytes) -> bool:
        """In one call, so that a kill leaves whole lines or half of the last one; False when the disk is full."""
        before = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) == len(line):
                return True
        except OSError as error:
            if not is_full(error):
                raise
        os.ftruncate(self._file, before)  # half a line would spoil the next one
        return False

    def _sync(self, number: int) -> None:
        """Returns when so many answers are on the disk; whoever waited for another's sync mostly finds it done."""
        with self._syncing:
            if self._synced >= number:
                return
            with self._lock:
                added = self._added
            self._to_disk(self._file)
            self._synced = added

    def _to_disk(self, file: int) -> None:
        sync(self.own / _AUDIO)  # the names of the recordings' folders
        os.fdatasync(file)

    def close(self) -> None:
        """Writes down what can be; the rest waits on disk for the next process."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        os.close(self._file)
        if not self.state.waiting:
            shutil.rmtree(self.own, ignore_errors=True)
        for held in self._folders.values():
            held.close()

    def _open(self, name: str = CURRENT) -> int:
        file = os.open(self.own / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            sync(self.own)  # the file's name
        except OSError:
            os.close(file)
            raise
        return file

    def _drain(self) -> None:
        pause, broken = _PAUSE, ""
        while True:
            closing = self._closing
            try:
                done = self._round()
                if done and self.state.problem == broken:
                    self.state.problem = ""
            except OSError as error:  # a disk that is full or broken may get well again, and nobody else writes down
                broken = str(error)
                done = self._later(broken)
            if closing:
                return
            pause = _PAUSE if done else min(_LONGEST_PAUSE, 2 * pause)
            if done:
                self._wake.wait()  # nothing to do until somebody adds
                self._wake.clear()
            self._pause(pause)

    def _round(self) -> bool:
        """Writes down what is there; False when some of it has to wait."""
        self._take_over()
        self._rotate()
        self._waiting = _waiting_bytes(self._all)
        # What is away for the first is away for all: a detector that hears them first would hear them all in vain.
        return all(map(self._written, [lines for folder in self._folders for lines in _ready(folder)]))

    def _pause(self, seconds: float) -> None:
        """Lets a few answers come together; ends at once when the spool is closed."""
        waited = 0.0
        while waited < seconds and not self._closing:
            threading.Event().wait(_PAUSE)
            waited += _PAUSE

    def _take_over(self) -> None:
        """Adopts the folders of processes that are gone."""
        for folder in self._all.iterdir():
            hidden = folder.name.startswith(".")
            if folder in self._folders or hidden or not folder.is_dir() or folder.name == REFUSED:
                continue
            held = ExitStack()
            try:
                free = held.enter_context(flock(folder / LOCK, 0)) is not None
            except FileNotFoundError:  # its process ended just now, and took it along
                continue
            if not free:
                held.close()
                continue
            self._folders[folder] = held
            if (left := folder / CURRENT).is_file():
                found = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                named = sum(map(_bytes_with, _ready(folder)))  # of others of its files
                left.rename(folder / _ready_name(max(0, found - named)))
            waiting = sum(_count(lines) for lines in _ready(folder))
            with self._lock:
                self.state.waiting += waiting
            if waiting:
                _log.warning("%d answers of a process that was killed are written down now.", waiting)
            self._let_go(folder)

    def _let_go(self, folder: Path) -> None:
        """Removes a folder that was taken over, once nothing waits in it."""
        if folder != self.own and not _ready(folder):
            shutil.rmtree(folder, ignore_errors=True)
            self._folders.pop(folder).close()

    def _rotate(self) -> None:
        """The lines so far are a file that nobody writes to any more."""
        with self._syncing, self._lock:
            current = self.own / CURRENT
            if not current.stat().st_size:
                return
            self._to_disk(self._file)
            self._synced = self._added
            following, former = self._open(_NEXT), self._file  # where there is no room for it, nothing changes
            current.rename(self.own / _ready_name(self._bytes))
            (self.own / _NEXT).rename(current)
            self._waiting, self._bytes = self._waiting + self._bytes, 0
            self._file = following
            os.close(former)
            sync(self.own)

    def _written(self, lines: Path) -> bool:
        """Writes one file's answers down and removes it; False when it has to wait."""
        answers, unreadable = _read(lines)
        try:
            if answers:
                self._write_down(answers)
        except PartlyLoggedError as error:
            self._lacking[lines] = error  # the answers are in, and a second try would not help the recordings
            _log.error("%s", error.problem)
        except CaseError as error:
            return self._later(error.problem)
        except Exception as error:
            self._failures[lines] = self._failures.get(lines, 0) + 1
            if self._failures[lines] < _TRIES:
                return self._later(f"{type(error).__name__}: {error}")
            return self._set_aside(lines, answers, error)
        self.state.problem = ""
        lacking = self._without_recording(lines, answers)
        kept = [*unreadable, *map(_line, lacking)]
        if kept:  # a disk without room for them raises OSError, and is asked again
            why = "their recordings cannot be kept" if lacking else "they are no answers that this version can read"
            self._keep(lines, kept, lacking, why)
        self._remove(lines, answers)
        self.state.refused += len(kept)
        self.state.written += len(answers)
        return True

    def _without_recording(self, lines: Path, answers: Sequence[Answer]) -> list[Answer]:
        """Those whose recordings the store could not keep, as far as they are still here."""
        error = self._lacking.get(lines)
        names = error.recordings if error else ()
        return [answer for answer in answers if Path(answer.transcription.path) in names and answer.file.is_file()]

    def _later(self, problem: str) -> bool:
        if problem != self.state.problem:
            _log.error("Answers wait on disk, nothing is lost: %s", problem)
        self.state.problem = problem
        return False

    def _set_aside(self, lines: Path, answers: Sequence[Answer], error: Exception) -> bool:
        kept = list(filter(None, lines.read_bytes().split(b"\n")))
        self._keep(lines, kept, answers, str(error))
        self._remove(lines, answers)
        self.state.refused += len(kept)
        return True

    def _keep(self, lines: Path, kept: Sequence[bytes], answers: Sequence[Answer], why: str) -> None:
        """Keeps what cannot be stored where a person finds it, so that it holds up nothing else."""
        aside = self._all / REFUSED
        aside.mkdir(exist_ok=True)
        write_bytes(aside / lines.with_suffix(".jsonl").name, b"".join(line + b"\n" for line in kept))
        for answer in answers:
            recording = answer.file
            if recording.is_file():
                shutil.copyfile(recording, aside / f"{answer.request_id}-{recording.name}")
        _log.error("%d answers cannot be stored and are kept in %s: %s", len(kept), aside, why)

    def _remove(self, lines: Path, answers: Sequence[Answer]) -> None:
        count = _count(lines)
        for answer in answers:
            self.forget(answer.file)
        lines.unlink()
        self._failures.pop(lines, None)
        self._lacking.pop(lines, None)
        with self._lock:
            self.state.waiting -= count
        self._let_go(lines.parent)


def _file_name(given: str) -> str:
    """The end of a client's name for a recording, as a disk takes it: they count bytes."""
    name = Path(given.replace("\\", "/").replace("\0", "")).name
    return name.encode("utf-8", "replace")[-_NAME_BYTES:].decode("utf-8", "ignore").lstrip(".")


def _ready(folder: Path) -> list[Path]:
    """Files of answers that nobody writes to, oldest first."""
    return sorted(folder.glob("*.ready"), key=lambda path: path.stat().st_mtime_ns)


def _ready_name(size: int) -> str:
    return f"{secrets.token_hex(8)}-{size}.ready"


def _bytes_with(lines: Path) -> int:
    """What waits with a file by its name: its lines and their recordings."""
    return int(lines.stem.partition("-")[2] or 0)


def _waiting_bytes(folder: Path) -> int:
    """Of all processes; some of them remove files at this moment."""
    found = 0
    for own in folder.iterdir():
        with suppress(FileNotFoundError, NotADirectoryError):
            found += sum(_bytes_with(lines) for lines in own.iterdir() if lines.suffix == ".ready")
    return found


def _line(answer: Answer) -> bytes:
    return answer.model_dump_json(exclude_defaults=True).encode()


def _count(lines: Path) -> int:
    return lines.read_bytes().count(b"\n")


def _read(lines: Path) -> tuple[list[Answer], list[bytes]]:
    """The answers, and whole lines that are none.

    Half of the last line was written when its process was killed: that answer was never sent.
    """
    *whole, last = lines.read_bytes().split(b"\n")
    answers, unreadable = [], []
    for line in filter(None, [*whole, last]):
        try:
            answers.append(Answer.model_validate(json.loads(line)))
        except (ValueError, ValidationError):
            if line is last:
                _log.warning("%s: half an answer, which was never sent, is left out.", lines)
            else:
                unreadable.append(line)
    return answers, unreadable
