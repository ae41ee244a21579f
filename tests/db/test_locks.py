"""Locks between processes: alone, shared, inherited by a child; and PostgreSQL's between machines."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mondegreen.db import Advisory, advisory_lock, connect, open_database, take_turns, transaction
from mondegreen.files import flock


def test_one_has_it_alone_or_several_share_it(tmp_path: Path) -> None:
    path = tmp_path / "locks/some.lock"
    with flock(path, 0) as ours:
        assert ours is not None
        for shared in (False, True):
            with flock(path, 0, shared=shared) as theirs:
                assert theirs is None
    with flock(path, shared=True) as ours, flock(path, 0, shared=True) as theirs, flock(path, 0) as alone:
        assert ours is not None and theirs is not None and alone is None


def test_who_waits_gives_up_when_patience_ends(tmp_path: Path) -> None:
    with flock(tmp_path / "lock"):
        began = time.monotonic()
        with flock(tmp_path / "lock", 0.2) as handle:
            assert handle is None and 0.2 <= time.monotonic() - began < 5


def test_a_child_that_has_the_descriptor_holds_the_lock_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with flock(path) as handle:
        assert handle is not None
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[handle])
    with flock(path, 0) as handle:
        assert handle is None
    child.communicate()
    with flock(path, 10) as handle:
        assert handle is not None


def test_an_advisory_lock_is_one_s_at_a_time_in_postgresql_only(old: Path, database: str) -> None:
    first, second = open_database(old), connect(old)
    with advisory_lock(first, Advisory.ROUND) as ours, advisory_lock(second, Advisory.REGISTRY) as another:
        assert ours and another
        with advisory_lock(second, Advisory.ROUND, 0.1) as theirs:
            assert theirs == (database == "sqlite")
    with advisory_lock(second, Advisory.ROUND) as theirs:
        assert theirs
    with transaction(first) as session:
        take_turns(session.connection(), Advisory.JOB_REQUEST)
        with advisory_lock(second, Advisory.JOB_REQUEST) as theirs:
            assert theirs == (database == "sqlite")
    with advisory_lock(second, Advisory.JOB_REQUEST) as theirs:
        assert theirs
    first.dispose()
    second.dispose()


def test_an_advisory_lock_is_let_go_of_when_the_work_fails(old: Path) -> None:
    first, second = open_database(old), connect(old)
    with pytest.raises(RuntimeError), advisory_lock(first, Advisory.ROUND):
        raise RuntimeError
    with advisory_lock(second, Advisory.ROUND) as theirs:
        assert theirs
    first.dispose()
    second.dispose()
