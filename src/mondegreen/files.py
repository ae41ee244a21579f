"""Files that are either whole or absent: JSON by pydantic models, copies, digests, locks."""

import fcntl
import gc
import hashlib
import os
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from pydantic import BaseModel, ValidationError

from mondegreen.errors import MondegreenError, UsageError, first_fault, is_full

Record = TypeVar("Record", bound=BaseModel)
_REPRO = "Run `dvc repro` to make the stage outputs."  # what records are read from, mostly


def write_bytes(path: Path, content: bytes) -> None:
    """Writes to a temporary name beside `path`, syncs and renames: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def readable_by_all(path: Path) -> None:
    """Gives a file that another library wrote the permissions of those of `write_bytes`: safetensors' are 0600."""
    path.chmod(0o644)


def write_text(path: Path, content: str) -> None:
    """Like `write_bytes`, UTF-8."""
    write_bytes(path, content.encode())


def save_text(path: Path, content: str, next_step: str = "", room: str = "") -> None:
    """`write_text` to a file that somebody named: where that fails it is `unwritten`, no traceback."""
    with writing(path, next_step, room):
        write_text(path, content)


@contextmanager
def writing(path: Path, next_step: str = "", room: str = "") -> Iterator[None]:
    """Around the writing of a file or folder that somebody named: where that fails it is `unwritten`, no traceback."""
    try:
        yield
    except OSError as error:
        raise unwritten(path, error, next_step, room) from None


def unwritten(path: Path, error: OSError, next_step: str = "", room: str = "") -> MondegreenError:
    """What to say of a file that cannot be written. A wrong place is the command's fault, a full disk is not.

    Args:
        next_step: where it is the place; after "Make room." also where the disk is full and `room` says nothing else.
    """
    problem = f"{path} cannot be written: {error.strerror or error}."
    if is_full(error):
        return MondegreenError(problem, room or f"Make room. {next_step or 'Then run it again.'}")
    return UsageError(problem, next_step or "Name another file.")


def require_writable(path: Path) -> None:
    """Raises UsageError where a file that shall be written after long work is a folder, or may not stand there.

    A file that is there needs its folder as well: the new one is written beside it (see `write_bytes`).
    """
    above, problem = _nearest(path.absolute().parent), ""
    if path.is_dir():
        problem = "it is a folder"
    elif not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        problem = f"{above} is no folder that may be written to"
    elif path.exists() and not os.access(path, os.W_OK):
        problem = "its permissions forbid it"
    if problem:
        raise UsageError(f"{path} cannot be written: {problem}.", "Name another file.")


def write_json(path: Path, record: BaseModel) -> None:
    """One record, indented, keys in the model's order, so that the same record gives the same bytes."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def check_folder(path: Path) -> None:
    """Raises UsageError unless files can be written into a folder, which need not be there yet."""
    there = _nearest(path)
    if not there.is_dir():
        raise UsageError(f"{there} is a file; name a folder.", "Files are to be written into it.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{there} cannot be written into.", "Check its permissions, or name another folder.")


def _nearest(path: Path) -> Path:
    """The path, or what of those above it is there."""
    return next((one for one in (path, *path.parents) if os.path.lexists(one)), Path())


def is_there(path: Path) -> bool:
    """Whether a file or folder is there; raises UsageError where nobody may look, or no disk can hold such a name."""
    try:
        return path.exists()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Check its name and permissions.") from None


def read_json(path: Path, kind: type[Record]) -> Record:
    """Reads one record; raises UsageError naming the file and the field."""
    return _parse(path, path_text(path, _REPRO), kind, where=str(path))


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> None:
    """One record a line."""
    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))


def read_jsonl(path: Path, kind: type[Record]) -> list[Record]:
    """Reads every line; raises UsageError naming file, line and field of the first bad one."""
    lines = path_text(path, _REPRO).split("\n")  # not splitlines(): U+2028 may stand within a JSON string
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    with no_collection():
        return [_parse(path, line, kind, where=f"{path}:{number}") for number, line in numbered]


@contextmanager
def no_collection() -> Iterator[None]:
    """For making thousands of objects that form no cycles: looking for some again and again takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def path_text(path: Path, missing: str = "Correct its name, or make it.") -> str:
    """The file's text; raises UsageError when it is `missing`, with that next step, cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist.", missing) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Check its name and permissions.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}.", "Save the file as UTF-8.") from None


def _parse(path: Path, text: str, kind: type[Record], where: str) -> Record:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        fault = first_fault(error, kind)
        raise UsageError(
            f"{where}: field {fault.field}: {fault.message} ({kind.__name__}).",
            f"Correct {path.name}, or rerun the stage that writes it.",
        ) from None


def printable(path: Path | str) -> str:
    """The path as text; a byte of its name that is no UTF-8 becomes \\udcXX, as JSON and Python write it."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def sha256_file(path: Path) -> str:
    """Hex digest of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_tree(folder: Path) -> str:
    """Digest over the relative names and digests of all files below `folder`, in name order."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return total.hexdigest()


def copy_sqlite(file: Path, target: Path) -> None:
    """A copy of a SQLite file as it was at its last commit, with what still lies in the WAL beside it; whole or absent.

    Raises sqlite3.Error or OSError, such as for a full disk.
    """
    part = target.with_name(f"{file.name}.before.part")  # one name: whoever was killed leaves one at most
    try:
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(part)) as copy:
            copy.execute("PRAGMA journal_mode=OFF")  # a half copy is thrown away, so that nothing has to be undone
            source.backup(copy)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def lock(path: Path, timeout: float = 600.0) -> Iterator[None]:
    """Holds `path` as a lock between processes; waits up to `timeout` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(path), timeout=timeout):
        yield


def extract(archive: tarfile.TarFile, target: Path) -> None:
    """Unpacks an archive below a folder, and nothing outside of it.

    Raises:
        tarfile.TarError: a name leads outside; on Python before 3.11.4, which Debian 12 has, a link or device, too.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(target, filter="data")
        return
    home = target.resolve()
    for member in archive.getmembers():
        if not (member.isreg() or member.isdir()) or not (home / member.name).resolve().is_relative_to(home):
            raise tarfile.TarError(f"{member.name} is no file within the archive")
    archive.extractall(target)


@contextmanager
def flock(path: Path, patience: float | None = None, *, shared: bool = False) -> Iterator[int | None]:
    """A lock that several may share, and that a child holds too which is given the descriptor.

    Args:
        patience: seconds to wait for somebody else; None: for ever.
        shared: with others who share it; waits for whoever has it alone.

    Yields:
        The descriptor of the file, open for writing unless shared; None when somebody else has it for longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | (os.O_RDONLY if shared else os.O_RDWR), 0o644)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        deadline = time.monotonic() + (patience or 0)
        while True:
            try:
                fcntl.flock(handle, kind if patience is None else kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield None
                    return
                time.sleep(0.05)
        yield handle
    finally:
        os.close(handle)  # which frees the lock, unless a child holds it too


def sync(path: Path) -> None:
    """A file, or the names in a folder, outlive a power cut when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
