"""The lock that says that somebody works on a round in this project.

A file lock that the pipeline's process inherits: when the runner is killed and its `dvc repro` lives on, the round is
still being worked on, and nobody starts a second one beside it. On PostgreSQL, which several machines may share, the
runner also holds an advisory lock.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from mondegreen.errors import JobError

_ADVISORY = 0x6D6F6E66  # any number of our own
_PATIENCE = 2.0  # seconds; somebody who only looks holds the lock for a moment


@contextmanager
def hold(path: Path, engine: Engine) -> Iterator[int]:
    """Holds the lock; yields its file descriptor, for a child that shall hold it too.

    Raises:
        JobError: somebody else holds it.
    """
    with _opened(path) as handle:
        _lock_file(path, handle)
        with _advisory(engine, _PATIENCE):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield handle


def worker(path: Path, engine: Engine) -> str | None:
    """Who holds the lock, None when it is free."""
    if path.is_file():
        with _opened(path) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(handle)
    try:
        with _advisory(engine, 0):
            return None
    except JobError:
        return "another machine"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)  # frees the lock unless a child holds it too


def _lock_file(path: Path, handle: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise JobError(
                    f"A round is being worked on by {_holder(handle)} ({path}).", "Wait for it, or stop it first."
                ) from None
            time.sleep(0.05)


def _holder(handle: int) -> str:
    """The runner as it wrote itself down; a pipeline that outlived it holds the lock in its name."""
    pid = os.pread(handle, 20, 0).decode(errors="replace").strip()
    return f"process {pid}" if pid.isdigit() and _lives(int(pid)) else f"the pipeline that process {pid} left behind"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


@contextmanager
def _advisory(engine: Engine, patience: float) -> Iterator[None]:
    """PostgreSQL's lock, which lives as long as the connection; nothing elsewhere."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        deadline = time.monotonic() + patience
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY}):
            if time.monotonic() >= deadline:
                raise JobError("A round is being worked on by another machine.", "Wait for it, or stop it first.")
            time.sleep(0.05)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY})
