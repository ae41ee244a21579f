"""Files that are either whole or absent: JSON by pydantic models, copies, digests, locks, and folders as one tar."""

import gc
import hashlib
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from pydantic import BaseModel, ValidationError

from mondegreen.errors import CloudError, UsageError

Record = TypeVar("Record", bound=BaseModel)


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


def write_text(path: Path, content: str) -> None:
    """Like `write_bytes`, UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, record: BaseModel) -> None:
    """One record, indented, keys in the model's order, so that the same record gives the same bytes."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def read_json(path: Path, kind: type[Record]) -> Record:
    """Reads one record; raises UsageError naming the file and the field."""
    return _parse(path, path_text(path), kind, where=str(path))


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> None:
    """One record a line."""
    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))


def read_jsonl(path: Path, kind: type[Record]) -> list[Record]:
    """Reads every line; raises UsageError naming file, line and field of the first bad one."""
    lines = path_text(path).split("\n")  # not splitlines(): U+2028 may stand within a JSON string
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


def path_text(path: Path) -> str:
    """The file's text; raises UsageError when it is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist.", "Run `dvc repro` to make the stage outputs.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error}.", "Save the file as UTF-8.") from None


def _parse(path: Path, text: str, kind: type[Record], where: str) -> Record:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole record"
        raise UsageError(
            f"{where}: field {field}: {first['msg']} ({kind.__name__}).",
            f"Correct {path.name}, or rerun the stage that writes it.",
        ) from None


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


def pack(members: dict[str, Path], target: Path) -> None:
    """A tar of folders and files under their names: equal contents give equal bytes."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(target, "w") as archive:
        for name, root in members.items():
            for path in [root, *sorted(root.rglob("*"))]:
                archive.add(path, Path(name, path.relative_to(root)), recursive=False, filter=plain)


def unpack(archive: Path, target: Path, sha256: str) -> None:
    """Unpacks into a folder, replacing what is there under the same names.

    Raises:
        CloudError: the archive is not the one that was packed, or reaches outside of the folder.
    """
    if sha256_file(archive) != sha256:
        raise CloudError(f"{archive.name} is not the file that was packed.", "Fetch it again.")
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(target, filter="data")
    except tarfile.TarError as error:
        raise CloudError(f"{archive.name} cannot be unpacked: {error}.", "Fetch it again.") from error
