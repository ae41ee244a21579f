"""Several processes upgrade at once, and processes that are killed: the old schema or the new one, and every row."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from mondegreen import files
from mondegreen.db import connect, open_database
from mondegreen.tables import REVISION, SCHEMA
from tests.db.growing import NEXT, contents, copies, grown, state

_FORK = multiprocessing.get_context("fork")
OLD, NEW = {(None, 1, False), ("0001", 1, False), (REVISION, SCHEMA, False)}, (f"{NEXT:04}", NEXT, True)


def in_children(count: int, work: Callable[[], Any]) -> list[int | None]:
    """Runs `work` in so many processes at the same moment; their exit codes."""
    start = _FORK.Barrier(count)

    def run() -> None:
        start.wait(60)
        work()

    processes = [_FORK.Process(target=run) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


@pytest.mark.parametrize("count", [2, 8])
def test_several_processes_upgrade_at_once(old: Path, count: int) -> None:
    engine = connect(old)
    before = contents(engine)
    engine.dispose()

    def work() -> None:
        with grown():
            assert contents(open_database(old)) == before

    assert in_children(count, work) == [0] * count
    assert (state(engine), contents(engine)) == (NEW, before)
    assert len(copies(old)) == (engine.dialect.name == "sqlite")
    engine.dispose()


@pytest.mark.parametrize("count", [2, 8])
def test_several_processes_make_a_database_at_once(empty: Path, count: int) -> None:
    def work() -> None:
        assert contents(open_database(empty))["cases"] == []

    assert in_children(count, work) == [0] * count
    engine = connect(empty)
    assert state(engine) == (REVISION, SCHEMA, False)
    engine.dispose()


def kill_before(number: int) -> None:
    """This process kills itself before its `number`th statement or commit."""
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)


@pytest.mark.parametrize(
    "stamped",
    [
        pytest.param(False, id="from before the migrations", marks=pytest.mark.slow),
        pytest.param(True, id="at revision 0001"),
    ],
)
def test_kill_9_anywhere_leaves_the_old_schema_or_the_new_one(old: Path, stamped: bool) -> None:
    if stamped:
        open_database(old).dispose()
    engine = connect(old)
    before, number, killed = contents(engine), 0, -signal.SIGKILL
    while killed:
        number += 1 if number < 3 else 3
        engine.dispose()

        def work(number: int = number) -> None:
            kill_before(number)
            with grown():
                open_database(old)

        (killed,) = in_children(1, work)
        assert killed in (0, -signal.SIGKILL)
        found = state(engine)
        assert found in OLD if killed else found == NEW, f"killed before {number}"
        assert contents(engine) == before, f"killed before {number}"
    assert number > 9
    for copy in copies(old):
        with sqlite3.connect(copy) as opened:
            assert opened.execute("SELECT count(*) FROM corrections").fetchone() == (4,), copy
    engine.dispose()


class Interrupted(sqlite3.Connection):
    """Whoever makes a copy with it is killed after the first page."""

    def backup(self, target: sqlite3.Connection, **_: Any) -> None:
        super().backup(target, pages=1, progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))


def test_kill_9_while_copying_leaves_the_old_schema_and_the_next_one_goes_on(
    old: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database == "postgresql":
        pytest.skip("nothing is copied")
    engine = connect(old)
    before = contents(engine)
    engine.dispose()
    real = sqlite3.connect

    def work() -> None:
        files.sqlite3.connect = lambda path: real(path, factory=Interrupted)  # type: ignore[assignment, attr-defined]
        with grown():
            open_database(old)

    for _ in range(2):
        assert in_children(1, work) == [-signal.SIGKILL]
        assert [path.name for path in copies(old)] == ["mondegreen.db.before.part"]
        assert (state(engine), contents(engine)) == ((None, 1, False), before)
        engine.dispose()
    with grown():
        open_database(old).dispose()
    assert (state(engine), contents(engine)) == (NEW, before)
    (copy,) = copies(old)
    assert copy.name.startswith(f"mondegreen.db.before-{NEXT:04}-")
    engine.dispose()
