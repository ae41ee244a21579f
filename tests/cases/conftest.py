"""Case stores in both databases, and recordings to put into them."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.cases.manager import DataManager
from tests.postgres import fresh_database, server

Recorder = Callable[..., Path]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server."""
    with server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which database the store of this test uses; MONDEGREEN_DATABASE_URL says it to the program."""
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    if request.param == "postgresql":
        address = request.getfixturevalue("postgres")
        monkeypatch.setenv("MONDEGREEN_DATABASE_URL", fresh_database(address, uuid.uuid4().hex))
    return str(request.param)


@pytest.fixture
def manager(database: str, tmp_path: Path) -> Iterator[DataManager]:
    """An empty store in `tmp_path/var`."""
    store = DataManager(tmp_path / "var")
    yield store
    store.close()


@pytest.fixture
def record(tmp_path: Path) -> Recorder:
    """Writes a recording of 0.1 s whose noise is its seed's, and returns its path."""

    def recording(seed: int = 0, name: str | None = None) -> Path:
        path = tmp_path / (name or f"{seed}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 1_600), 16_000)
        return path

    return recording
