"""Case stores in both databases, and recordings to put into them."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.cases.store import DataManager
from mondegreen.db import open_database
from tests.postgres import fresh_database, server

Recorder = Callable[..., Path]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server, whose database "tables" has the tables already."""
    with server() as address:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MONDEGREEN_DATABASE_URL", fresh_database(address, "tables"))
            open_database(Path("unused")).dispose()
        yield address


@contextmanager
def chosen(kind: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """MONDEGREEN_DATABASE_URL says which database the program uses: none for SQLite, else a new one on the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
        if kind == "postgresql":
            address = request.getfixturevalue("postgres")
            patch.setenv("MONDEGREEN_DATABASE_URL", fresh_database(address, uuid.uuid4().hex, template="tables"))
        yield


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which database the store of this test uses."""
    with chosen(request.param, request):
        yield request.param


@pytest.fixture
def manager(database: str, tmp_path: Path) -> Iterator[DataManager]:
    """An empty store in `tmp_path/var`."""
    store = DataManager(tmp_path / "var")
    yield store
    store.close()


def recording(path: Path, seed: int) -> Path:
    """Writes a recording of 0.1 s whose noise is its seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 1_600), 16_000)
    return path


@pytest.fixture
def record(tmp_path: Path) -> Recorder:
    """Writes `<seed>.wav`, or one with a name of its own."""
    return lambda seed=0, name=None: recording(tmp_path / (name or f"{seed}.wav"), seed)


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Path]:
    """A file system that is soon full, where this user may mount one."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kibibytes}k", "none", folder]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
