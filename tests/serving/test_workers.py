"""`serve --workers`: what cannot begin ends the server, what ended is started anew, and its gauges go with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from mondegreen.serving import workers
from mondegreen.serving.workers import Worker
from tests.serving.conftest import until


def command(kind: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "tests.serving.places", kind, str(folder)]


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [("no_champion", 1, "error: No version is @champion.\n"), ("no_params", 2, "error: params.yaml is no YAML.\n")],
)
def test_what_no_worker_can_begin_with_ends_the_server_as_it_ends_one(
    tmp_path: Path, kind: str, code: int, said: str
) -> None:
    ended = subprocess.run(command(kind, tmp_path), capture_output=True, text=True, timeout=300)
    assert ended.returncode == code and "Traceback" not in ended.stderr
    assert ended.stderr.count(said) == 2
    assert "error: None of the 2 workers could begin to serve." in ended.stderr


@contextmanager
def serving(kind: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(command(kind, folder), stderr=subprocess.PIPE, text=True, start_new_session=True) as parent:
        try:
            yield parent
        finally:
            if parent.poll() is None:
                os.killpg(parent.pid, signal.SIGKILL)


def processes(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}


def inside(folder: Path) -> float | None:
    registry = CollectorRegistry()
    shared = next(path.read_text() for path in folder.iterdir() if path.name.isdecimal())
    MultiProcessCollector(registry, shared)  # type: ignore[no-untyped-call]
    return registry.get_sample_value("mondegreen_requests_inside")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_that_was_killed_is_started_anew_and_leaves_no_gauges(tmp_path: Path, number: signal.Signals) -> None:
    with serving("answers", tmp_path) as parent:
        first = until(lambda: len(found := processes(tmp_path)) == 2 and found, 300)
        until(lambda: inside(tmp_path) == 2, 300)
        os.kill(min(first), signal.SIGKILL)
        until(lambda: len(processes(tmp_path)) == 3, 300)
        until(lambda: inside(tmp_path) == 2, 300)
        os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)  # ctrl-C goes to all
        _, said = parent.communicate(timeout=300)
        assert parent.returncode == 0
        assert "A worker has ended (exit code -9)" in said and "Traceback" not in said


def test_one_that_could_not_begin_is_tried_again_while_another_one_answers(tmp_path: Path) -> None:
    with serving("begins_late", tmp_path) as parent:
        until(lambda: len(processes(tmp_path)) == 2, 300)
        parent.terminate()
        _, said = parent.communicate(timeout=300)
        assert parent.returncode == 0 and said.count("error: No version is @champion.") == 1


def test_who_ends_soon_again_and_again_is_started_later_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, alive, started = [1000.0], [False], []
    process = SimpleNamespace(start=lambda: started.append(clock[0]), is_alive=lambda: alive[0], exitcode=1, pid=1)
    pipe: Any = SimpleNamespace(close=lambda: None, poll=lambda: False)
    context: Any = SimpleNamespace(Pipe=lambda duplex: (pipe, memoryview(b"")), Process=lambda **_: process)
    monkeypatch.setattr(workers.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(workers, "mark_process_dead", lambda *_: None)
    worker = Worker(lambda ready: None, "", context)
    worker.start()

    def next_start() -> float:
        """After how many seconds it is started anew."""
        worker.look()
        ended, count = clock[0], len(started)
        while len(started) == count:
            worker.start_anew()
            clock[0] += 0.5
        return started[-1] - ended

    pauses = [next_start() for _ in range(9)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    alive[0] = True
    worker.look()
    clock[0] += 3600
    alive[0] = False
    assert next_start() == 1
