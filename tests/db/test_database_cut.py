"""A PostgreSQL whose connections break in mid command: one sentence, exit code 1, and nothing half written."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pg8000.dbapi
import pytest
import typer
from sqlalchemy import func, make_url, select, text
from typer.testing import CliRunner

from mondegreen import db
from mondegreen.cases.records import NewCase
from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.db import Advisory, advisory_lock, connect, open_database, reading, transaction
from mondegreen.errors import CaseError
from mondegreen.monitoring.tracker import Inference, MetadataTracker
from mondegreen.tables import CaseRow, CorrectionRow, InferenceRow
from tests.cases.conftest import postgres, recording  # noqa: F401 - fixture
from tests.postgres import fresh_database
from tests.support.silent import cut_after
from tests.tiny import save_model

# Bytes that PostgreSQL answers before the connection breaks: within the greeting, between statements, never.
BYTES = (30, 500, 700, 900, 1_200, 1_600, 2_200, 3_000, 4_000, 6_000, 9_000, 14_000, 1 << 40)
SOME = (500, 1_600, 6_000, 1 << 40)


class Cut:
    """A project over a PostgreSQL that may be reached directly, or by a way that breaks."""

    def __init__(self, address: str, way: int, left: list[int], patch: pytest.MonkeyPatch) -> None:
        self.address, self.left, self._patch = address, left, patch
        url = make_url(address)
        self.broken = url.set(port=way).render_as_string(hide_password=False)
        self.directly()

    def directly(self) -> None:
        self._patch.setenv("MONDEGREEN_DATABASE_URL", self.address)

    def after(self, count: int, *words: str) -> Any:
        """Runs a command whose connections break after so many bytes."""
        self.left[0] = count
        self._patch.setenv("MONDEGREEN_DATABASE_URL", self.broken)
        try:
            return CliRunner().invoke(app, list(words))
        finally:
            self.directly()

    def count(self, table: Any) -> int:
        with reading(open_database(Path("var"))) as session:
            return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture
def cut(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cut]:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(db, "_TRIES", 1)
    (tmp_path / "params.yaml").write_text("audit:\n  rate: 0.0\n")
    address = fresh_database(postgres, uuid.uuid4().hex, template="tables")
    with cut_after(int(postgres.rsplit(":", 1)[1])) as (way, left):
        yield Cut(address, way, left, monkeypatch)


def fails_in_a_sentence(found: Any) -> bool:
    """Whether it failed; then in words."""
    if found.exception and not isinstance(found.exception, SystemExit | typer.Exit):
        raise found.exception
    assert "Traceback" not in found.output
    if found.exit_code:
        assert found.exit_code == 1
        assert len([line for line in found.stderr.splitlines() if line.startswith(("error: ", "warning: "))]) <= 2
        assert "database" in found.stderr
    return bool(found.exit_code)


def test_a_correction_is_kept_once_or_not_at_all_and_the_message_says_which(cut: Cut) -> None:
    manager = DataManager("var")
    case = NewCase(audio_path=recording(Path("a.wav"), 0), original_transcript="HELLO", model_version="m")
    (key,) = manager.store_failed_cases([case])
    manager.close()
    outcomes = set()
    for count in BYTES:
        before = cut.count(CorrectionRow)
        found = cut.after(count, "cases", "correct", key, f"HELLO {count}")
        failed, kept = fails_in_a_sentence(found), cut.count(CorrectionRow) - before
        said = "kept" if "is kept" in found.stderr else "unsure" if "nobody knows" in found.stderr else "failed"
        outcomes.add((said, kept) if failed else ("done", kept))
    assert (
        {("failed", 0), ("done", 1)}
        <= outcomes
        <= {("failed", 0), ("kept", 1), ("unsure", 1), ("unsure", 0), ("done", 1)}
    )


def test_the_monitor_says_it_in_a_sentence(cut: Cut) -> None:
    tracker = MetadataTracker("var")
    one = Inference(
        audio_path=Path("a.wav"), transcript="HI", model_version="m", duration=1, latency=1, audio_sha256="0" * 64
    )
    tracker.log_inferences([one] * 40)
    tracker.engine.dispose()
    failed = [fails_in_a_sentence(cut.after(count, "monitor")) for count in SOME]
    assert failed[0] and not failed[-1]


def test_transcripts_are_printed_and_inferences_are_written_down_in_whole_or_not(cut: Cut, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    names = [str(recording(Path(f"{number}.wav"), number)) for number in range(3)]
    failed = []
    for count in SOME:
        before = cut.count(InferenceRow), cut.count(CaseRow)
        found = cut.after(count, "transcribe", *names, "--model", str(model), "--log")
        failed.append(fails_in_a_sentence(found))
        assert found.stdout.count("confidence") == 3
        grown = cut.count(InferenceRow) - before[0]
        assert grown in (0, 3) and (grown == 3 or failed[-1])
        assert cut.count(CaseRow) - before[1] in (0, 3)
    assert failed[0] and not failed[-1]


def test_cases_are_not_given_up_when_the_database_is_away_for_a_moment(
    cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inference without its case would be there for good."""
    real, calls = DataManager.store_failed_cases, []

    def away(self: DataManager, cases: Any) -> list[str]:
        calls.append(1)
        if len(calls) <= 2:
            with transaction(self.engine) as session:
                mine = session.scalar(text("SELECT pg_backend_pid()"))
                kill(cut.address, mine)
                session.execute(text("SELECT 1"))
        return real(self, cases)

    monkeypatch.setattr(DataManager, "store_failed_cases", away)
    tracker = MetadataTracker("var")
    one = Inference(
        audio_path=recording(Path("a.wav"), 0),
        transcript="HI",
        model_version="m",
        duration=1,
        latency=1,
        is_error=True,
        request_id="r",
    )
    for _ in range(2):
        with pytest.raises(CaseError, match="The database went away"):
            tracker.log_inferences([one])
        assert cut.count(InferenceRow) == 0
    assert tracker.log_inferences([one]) != [None]
    assert cut.count(CaseRow) == 1


def test_a_lock_between_machines_holds_no_transaction_and_its_loss_is_said(
    cut: Cut, caplog: pytest.LogCaptureFixture
) -> None:
    engine = connect(Path("var"))
    with advisory_lock(engine, Advisory.REGISTRY) as ours:
        assert ours
        columns, ours_by = "pid, state, xact_start", "query LIKE '%pg_try_advisory_lock%' AND datname = :d"
        query = f"SELECT {columns} FROM pg_stat_activity WHERE {ours_by}"
        other = connect(Path("var"))
        with other.connect() as connection:
            name = make_url(cut.address).database
            (row,) = [row for row in connection.execute(text(query), {"d": name}) if row.state == "idle"]
        other.dispose()
        assert row.xact_start is None
        kill(cut.address, row.pid)
    assert "The lock REGISTRY was lost before the work ended" in caplog.text
    engine.dispose()


def kill(address: str, pid: Any) -> None:
    url = make_url(address)
    with pg8000.dbapi.connect("mondegreen", host="127.0.0.1", port=url.port, database=url.database) as connection:
        connection.cursor().execute(f"SELECT pg_terminate_backend({pid}, 5000)")
