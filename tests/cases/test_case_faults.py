"""Eight writers at once, and writers that are killed: what was acknowledged is there once, and nothing else shows."""

import multiprocessing
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from mondegreen.cases import writing
from mondegreen.cases.queries import recounted
from mondegreen.cases.records import NewCase
from mondegreen.cases.store import DataManager
from mondegreen.cases.writing import Tally
from mondegreen.db import reading, transaction
from mondegreen.errors import CaseError, UsageError
from mondegreen.tables import CorrectionRow
from tests.cases.conftest import recording, small_disk
from tests.postgres import fresh_database

WRITERS, BATCH = 8, 125
CASES = {"sqlite": 10_000, "postgresql": 2_000}
_fork = multiprocessing.get_context("fork")


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: what a power cut does is not asked here, and syncing takes minutes."""
    shared = Path("/dev/shm")
    found = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None))
    yield found
    shutil.rmtree(found)


def write(folder: Path, paths: list[Path], writer: int, rounds: int = 1) -> None:
    """Stores a case of each recording, each tenth the same as everybody's; notes ids when they are acknowledged."""
    manager = DataManager(folder / "var")
    with (folder / f"acknowledged-{writer}").open("a", buffering=1) as acknowledged:
        for start in list(range(0, len(paths), BATCH)) * rounds:
            numbers = range(start, min(start + BATCH, len(paths)))
            versions = ["shared" if n % 10 == 0 else str(writer) for n in numbers]
            ids = manager.store_failed_cases(
                NewCase(audio_path=paths[n], original_transcript="H", model_version=version,
                        error_types=("noise",), corrected_transcript="S" if n % 4 == 0 else None)
                for n, version in zip(numbers, versions, strict=True)
            )  # fmt: skip
            acknowledged.write("".join(f"{key}\n" for key in ids))


def test_eight_writers_and_one_is_killed(database: str, folder: Path) -> None:
    paths = [recording(folder / f"{n}.wav", n) for n in range(CASES[database] // WRITERS)]
    unlucky = random.randrange(WRITERS)
    writers = [
        _fork.Process(target=write, args=(folder, paths, writer, 1_000 if writer == unlucky else 1))
        for writer in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    _kill_at_work(writers[unlucky], folder / f"acknowledged-{unlucky}")
    for number, writer in enumerate(writers):
        writer.join(120)
        assert number == unlucky or writer.exitcode == 0
    acknowledged = Counter(
        line for path in folder.glob("acknowledged-*") for line in path.read_text().splitlines() if len(line) == 16
    )
    assert acknowledged.total() >= len(paths) * (WRITERS - 1)
    manager = DataManager(folder / "var")
    stored = {case.id: case for case in manager.each_case()}
    assert acknowledged.keys() <= stored.keys()
    assert len(stored) - len(acknowledged) <= BATCH  # committed, and killed before the acknowledgement was noted
    for key, times in acknowledged.items():
        assert times <= stored[key].times_seen <= times + 1 and stored[key].error_types == ("noise",)
    for sha256 in {case.audio_sha256 for case in stored.values()}:
        assert manager.blobs.is_whole(sha256)
    with reading(manager.engine) as session:
        assert manager.get_statistics() == recounted(session)
        if database == "sqlite":
            assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    assert manager.verify().is_sound and manager.get_statistics().total == len(stored)
    write(folder, paths, unlucky)  # it starts again from its beginning, and nothing is there twice
    assert manager.get_statistics().total == len(acknowledged.keys() | _ids(folder, unlucky))
    manager.close()


def _ids(folder: Path, writer: int) -> set[str]:
    return {line for line in (folder / f"acknowledged-{writer}").read_text().splitlines() if len(line) == 16}


def _kill_at_work(process: BaseProcess, acknowledged: Path) -> None:
    """Once it has stored something, after a moment of any length."""
    deadline = time.monotonic() + 60
    while not (acknowledged.exists() and acknowledged.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1))
    assert process.is_alive() and process.pid
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("moment", ["before the row", "before the commit"])
def test_a_writer_killed_in_the_middle_leaves_no_case(
    database: str, folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = recording(folder / "a.wav", 0)
    manager = DataManager(folder / "var")
    manager.store_failed_case(recording(folder / "b.wav", 1), "B", "C", error_types=["noise"])
    manager.close()
    before = manager.get_statistics()

    def store() -> None:
        target, name = (writing, "store_cases") if moment == "before the row" else (Tally, "write")
        monkeypatch.setattr(target, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        DataManager(folder / "var").store_failed_case(path, "A", "B", error_types=["noise"])

    writer = _fork.Process(target=store)
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    assert manager.get_statistics() == before and len(manager.find_cases().cases) == 1
    found = manager.verify(delete_orphans=True)
    assert found.is_sound and found.deleted_orphans == 1
    key = manager.store_failed_case(path, "A")
    assert manager.get_case(key).times_seen == 1 and manager.verify().is_sound
    manager.close()


@pytest.mark.parametrize("name", ["a file", "a file/var", "a link/var"])
def test_a_store_where_no_folder_can_be_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    (tmp_path / "a file").touch()
    (tmp_path / "a link").symlink_to("nowhere")
    named = re.escape(str(tmp_path / name))
    with pytest.raises(UsageError, match=rf"{named} of the database cannot be made: .*\.\n.*Name a folder"):
        DataManager(tmp_path / name)


@pytest.mark.parametrize("character", ["€", "日", "5", "😀", "\u202e"])
def test_a_correction_outside_the_vocabulary_is_kept(tmp_path: Path, character: str) -> None:
    manager = DataManager(tmp_path / "var")
    key = manager.store_failed_case(recording(tmp_path / "a.wav", 0), "A")
    manager.store_correction(key, f"pay {character} now")
    assert manager.get_case(key).corrected_transcript == f"pay {character} now"


def test_a_full_disk_keeps_what_was_acknowledged_and_nothing_else(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", kibibytes=2_048) as disk:
        manager, acknowledged = DataManager(disk / "var"), []
        with pytest.raises(CaseError, match=r"(cannot be stored|refused)(.|\n)*Make room"):
            # What was taken from the generator stays in the list when the next one raises.
            acknowledged.extend(manager.store_failed_case(recording(tmp_path / "a.wav", n), "A") for n in range(1_000))
        assert acknowledged and {case.id for case in manager.each_case()} == set(acknowledged)
        assert manager.get_statistics().total == len(acknowledged) and manager.verify(delete_orphans=True).is_sound
        manager.close()


def test_a_database_that_goes_away_is_said_and_comes_back(postgres: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONDEGREEN_DATABASE_URL", fresh_database(postgres, "away", template="tables"))
        manager = DataManager(tmp_path / "var")
    everybody = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'away'")
    for session_of in (reading, transaction):
        with pytest.raises(CaseError, match="The database went away"), session_of(manager.engine) as session:
            session.execute(everybody)
    assert manager.get_statistics().total == 0  # by a new connection
    manager.close()


def test_a_wrong_statement_is_no_fault_of_the_database(manager: DataManager) -> None:
    with pytest.raises((IntegrityError, ProgrammingError)), transaction(manager.engine) as session:
        session.execute(insert(CorrectionRow).values(transcript="T"))
