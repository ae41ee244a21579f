"""The database opens, waits, and says what is wrong."""

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import select

from mondegreen.db import open_database, reading, transaction
from mondegreen.errors import CaseError, UsageError
from mondegreen.tables import JobRow


def job(at: datetime) -> JobRow:
    return JobRow(state="pending_approval", requested_at=at, reasons=["forced"], trigger={}, details={})


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


def test_times_come_back_in_utc(tmp_path: Path) -> None:
    engine = open_database(tmp_path)
    noon = datetime(2026, 11, 23, 12, tzinfo=timezone(timedelta(hours=2)))
    with transaction(engine) as session:
        session.add(job(noon))
    with reading(open_database(tmp_path)) as session:
        assert session.scalars(select(JobRow.requested_at)).one() == datetime(2026, 11, 23, 10, tzinfo=UTC)


def test_a_reader_sees_the_last_commit_while_somebody_writes(tmp_path: Path) -> None:
    engine = open_database(tmp_path)
    with transaction(engine) as writer:
        writer.add(job(datetime.now(UTC)))
        writer.flush()
        with reading(engine) as reader:
            assert reader.scalars(select(JobRow)).all() == []
    with reading(engine) as reader:
        assert len(reader.scalars(select(JobRow)).all()) == 1


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    engine = open_database(tmp_path)
    with pytest.raises(RuntimeError), transaction(engine) as session:
        session.add(job(datetime.now(UTC)))
        session.flush()
        raise RuntimeError
    with reading(engine) as session:
        assert session.scalars(select(JobRow)).all() == []


def test_a_damaged_file_and_a_newer_schema_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mondegreen.db").write_bytes(b"no database" * 500)
    with pytest.raises(CaseError, match=r"mondegreen\.db cannot be opened"):
        open_database(tmp_path / "a")
    open_database(tmp_path / "b").dispose()
    with sqlite3.connect(tmp_path / "b/mondegreen.db") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(CaseError, match="schema 99"):
        open_database(tmp_path / "b")


def test_a_wrong_address_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDEGREEN_DATABASE_URL", "nothing://me:secret@host/name")
    with pytest.raises(UsageError) as caught:
        open_database(tmp_path)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MONDEGREEN_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/name")
    with pytest.raises(CaseError, match=r"127\.0\.0\.1:1") as refused:
        open_database(tmp_path)
    assert "secret" not in str(refused.value)
