"""What a recording is: decoded, hashed and measured, several at a time, and kept by its content.

Only what is new is decoded. The file that keeps it only saves work: a damaged entry is made anew, a damaged file too;
where none can be written every recording is decoded; and when it is full those go that were not asked about for
longest.
"""

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile
import soxr
from pydantic import BaseModel, ConfigDict, ValidationError

from mondegreen.compute import FailedShard, in_order, in_parts, map_shards, seen_here
from mondegreen.config import AudioParams, ComputeParams, Seconds
from mondegreen.errors import AudioError, MondegreenError
from mondegreen.speech.audio import DECODING, SAMPLE_RATE, audio_warnings, described, load_audio
from mondegreen.speech.channels import content_digest
from mondegreen.speech.foreign import installed
from mondegreen.speech.recording import Hertz

_FEW = 100  # recordings that are done before other processes have started
_CHUNK = 16
_PART = 256  # recordings of a shard
EXAMINED = Path("var/examined.db")
MOST = 1_000_000  # recordings, about half a kilobyte each
_HASHING = 4  # threads; hashing and reading let others run
_BETWEEN_SAVES = 256  # recordings that a killed run decodes again
_SCHEMA = """CREATE TABLE IF NOT EXISTS examined (sha256 TEXT, settings TEXT, used REAL, found TEXT, seal TEXT,
             PRIMARY KEY (sha256, settings)) WITHOUT ROWID"""
Result = TypeVar("Result")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last one: other tables
_NOT_KEPT = "%s cannot be used (%s): every recording is decoded each time."
logger = logging.getLogger(__name__)


class Examined(BaseModel):
    """A recording as it was decoded; where `reason` says why it could not be, the numbers are 0."""

    model_config = ConfigDict(frozen=True)
    path: str
    sha256: str = ""
    seconds: Seconds = 0.0
    rate: Hertz = 0  # of the file
    channels: int = 0
    codec: str = ""  # such as "WAV PCM_16"
    clipped: float = 0.0  # share of the samples at full scale
    warnings: tuple[tuple[str, str], ...] = ()  # (code, message)
    reason: str = ""
    message: str = ""


def examine(path: Path, audio: AudioParams) -> Examined:
    """Decodes a recording and says what it is.

    Args:
        audio: one longer than `max_duration` is "too_long"; its rate, channels and codec are known all the same.
    """
    name, warnings, kind = path.as_posix(), list[tuple[str, str]](), _kind(path)
    try:
        waveform = load_audio(
            path,
            audio.max_duration,
            max_missing_share=audio.max_missing_share,
            warn=lambda code, message: warnings.append((code, message)),
        )
        digest = content_digest(path)
    except AudioError as error:
        return Examined(path=name, reason=error.reason, message=str(error), **kind)
    return Examined(
        path=name,
        sha256=digest,
        seconds=round(len(waveform) / SAMPLE_RATE, 6),
        clipped=round(float(np.mean(np.abs(waveform) >= 0.999)), 6),
        warnings=(*warnings, *audio_warnings(waveform)),
        **kind,
    )


def _kind(path: Path) -> dict[str, Any]:
    """Rate, channels and codec by the file's headers; nothing where they cannot be read."""
    with suppress(AudioError):
        rate, channels, codec = described(path)
        return {"rate": rate, "channels": channels, "codec": codec}
    return {}


def examine_all(paths: Sequence[Path], audio: AudioParams, workers: "int | ComputeParams" = 1) -> Iterator[Examined]:
    """The recordings in their order.

    Args:
        audio: max_duration and max_missing_share are read.
        workers: processes, or a cluster; a few recordings are looked at in this one.

    Raises:
        MondegreenError: a process was ended from outside.
    """
    look = partial(examine, audio=audio)
    if isinstance(workers, ComputeParams):
        yield from _examine_elsewhere(paths, look, workers)
        return
    if workers < 2 or len(paths) < _FEW:
        yield from map(look, paths)
        return
    # Not forked: the parent may hold threads and locks, of a progress bar for one.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(look, paths, chunksize=_CHUNK)
        except BrokenProcessPool:
            raise MondegreenError(
                "A process that decoded recordings was ended from outside.", "Was the memory full? Run it again."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _examine_elsewhere(paths: Sequence[Path], look: partial[Examined], compute: ComputeParams) -> Iterator[Examined]:
    """By a cluster, whose workers see the same files."""
    parts = in_parts(paths, _PART)
    seen = seen_here(map(str, paths))
    for part in in_order(map_shards(partial(_looker, look=look), parts, compute, shared=seen)):
        if isinstance(part, FailedShard):
            raise MondegreenError(f"Some recordings were not decoded: {part.why}", "Run it again.")
        yield from part


def _looker(folder: Path | None, look: partial[Examined]) -> Callable[[Sequence[Path]], list[Examined]]:
    return lambda paths: [look(path) for path in paths]


def processes(compute: ComputeParams) -> "int | ComputeParams":
    """How many may work side by side on this machine; or the cluster that is to."""
    if compute.engine == "ray":
        return compute
    return min(8, len(os.sched_getaffinity(0)))


def examine_new(
    paths: Sequence[Path], audio: AudioParams, workers: int | ComputeParams, file: Path, most: int = MOST
) -> Iterator[Examined]:
    """The recordings in their order, as `examine_all` gives them; only those are decoded that `file` does not know.

    One that could not be decoded is looked at each time: it may be for want of memory or of a right to read it.

    Args:
        workers: processes that decode, or the cluster that does; this one reads and hashes.
        most: entries that stay when all are examined.
    """
    with ThreadPoolExecutor(_HASHING) as pool:
        digests = list(pool.map(_digest, paths))
    with closing(_Kept(file, _settings(audio))) as kept:
        known = kept.look_up(digests)
        new = [path for path, digest in zip(paths, digests, strict=True) if digest not in known]
        if known:
            logger.info("%d of %d recordings are new or changed.", len(new), len(paths))
        fresh = examine_all(new, audio, workers)
        for path, digest in zip(paths, digests, strict=True):
            if digest in known:
                yield known[digest].model_copy(update={"path": path.as_posix()})
            else:
                found = next(fresh)
                kept.add(found)
                yield found
        kept.shrink(most)


def _digest(path: Path) -> str:
    try:
        return content_digest(path)
    except OSError:  # examining says what is wrong with it
        return ""


def _settings(audio: AudioParams) -> str:
    """Everything besides its bytes that decides what a recording is found to be."""
    libraries = (soundfile.__libsndfile_version__, soxr.__version__, version("av") if installed() else "")
    return repr((DECODING, audio.max_duration, audio.max_missing_share, *libraries))


def _sealed(digest: str, found: bytes) -> bytes:
    return hashlib.sha256(digest.encode() + found).hexdigest().encode()


class _Kept:
    """The file, for recordings that are examined with some settings; where it fails it knows nothing more."""

    def __init__(self, file: Path, settings: str) -> None:
        self._file, self._settings = file, settings
        self._pending: list[Examined] = []
        self._connection = self._opened()

    def close(self) -> None:
        self._save()
        if self._connection:
            self._connection.close()

    def look_up(self, digests: Iterable[str]) -> dict[str, Examined]:
        """What is known by the digest of the content; without a path."""
        return self._tried(lambda connection: self._found(connection, set(digests))) or {}

    def add(self, found: Examined) -> None:
        """Keeps what could be decoded."""
        if not found.reason:
            self._pending.append(found)
        if len(self._pending) >= _BETWEEN_SAVES:
            self._save()

    def shrink(self, most: int) -> None:
        """Leaves `most` entries."""
        self._save()
        self._tried(
            lambda connection: connection.execute(
                """DELETE FROM examined WHERE (sha256, settings) IN (SELECT sha256, settings FROM examined
                   ORDER BY used LIMIT max(0, (SELECT count(*) FROM examined) - ?))""",
                (most,),
            )
        )

    def _found(self, connection: sqlite3.Connection, digests: set[str]) -> dict[str, Examined]:
        known: dict[str, Examined] = {}
        query = "SELECT found, seal FROM examined WHERE sha256 = ? AND settings = ?"
        for digest in digests:
            row = connection.execute(query, (digest, self._settings)).fetchone()
            if row and isinstance(row[0], bytes) and row[1] == _sealed(digest, row[0]):
                with suppress(ValidationError):
                    known[digest] = Examined.model_validate_json(row[0])
        used = [(time.time(), digest, self._settings) for digest in known]
        connection.executemany("UPDATE examined SET used = ? WHERE sha256 = ? AND settings = ?", used)
        return known

    def _save(self) -> None:
        nameless = [found.model_copy(update={"path": ""}) for found in self._pending]
        rows, self._pending = [(found.sha256, found.model_dump_json().encode()) for found in nameless], []
        values = [(digest, self._settings, time.time(), found, _sealed(digest, found)) for digest, found in rows]
        insert = "INSERT OR REPLACE INTO examined VALUES (?, ?, ?, ?, ?)"
        self._tried(lambda connection: connection.executemany(insert, values))

    def _tried(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """In one transaction; None where that fails. A damaged file is made anew."""
        if self._connection is None:
            return None
        try:
            with self._connection:
                self._connection.execute(_SCHEMA)
                return work(self._connection)
        except sqlite3.Error as error:
            self._connection.close()
            self._connection = None
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                logger.warning("%s is damaged (%s) and is made anew; it only saves work.", self._file, error)
                self._file.unlink(missing_ok=True)
                self._connection = self._opened()
            else:
                logger.warning(_NOT_KEPT, self._file, error)
            return None

    def _opened(self) -> sqlite3.Connection | None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._file, timeout=60)
        except (OSError, sqlite3.Error) as error:
            logger.warning(_NOT_KEPT, self._file, error)
            return None
        connection.text_factory = bytes  # damaged text is no error, but a wrong seal
        return connection
