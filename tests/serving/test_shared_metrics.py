"""/metrics of several workers: whichever is asked tells of all, and of what is rather than of what was."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import values

from mondegreen.config import ServeParams
from mondegreen.serving import server as serving
from mondegreen.serving.app import Server
from mondegreen.serving.metrics import SHARED, ServiceMetrics
from mondegreen.serving.spool import SpoolState
from tests.serving.conftest import until


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every `Process` made from now on writes its files as a process of its own does."""
    monkeypatch.setenv(SHARED, str(tmp_path))
    return monkeypatch


class Process:
    """One of the workers. `metrics` are its own, once it is its turn."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self._patch, self._values = patch, values.MultiProcessValue(lambda: number)
        self._turn()
        self._metrics = ServiceMetrics()

    def _turn(self) -> None:
        self._patch.setattr(values, "ValueClass", self._values)

    @property
    def metrics(self) -> ServiceMetrics:
        self._turn()
        return self._metrics


def lines(metrics: ServiceMetrics) -> list[str]:
    return [line for line in metrics.text()[0].decode().splitlines() if not line.startswith("#")]


def version(number: int) -> Any:
    return SimpleNamespace(name=f"stt/{number}", digest=str(number) * 64)


def label(number: int) -> str:
    return f'mondegreen_model{{digest="{str(number) * 12}",model="stt/{number}"}}'


def test_after_a_deployment_one_model_serves(shared: pytest.MonkeyPatch) -> None:
    first, second = Process(shared, 1), Process(shared, 2)
    for process in (first, second):
        process.metrics.serves(version(1))
    first.metrics.serves(version(2))
    assert {f"{label(1)} 1.0", f"{label(2)} 1.0"} <= set(lines(first.metrics))  # each of them is one's
    second.metrics.serves(version(2))
    second.metrics.serves(version(2))  # said again
    assert {f"{label(1)} 0.0", f"{label(2)} 1.0"} <= set(lines(first.metrics))
    for process in (first, second):
        process.metrics.serves(version(1))
    assert {f"{label(1)} 1.0", f"{label(2)} 0.0"} <= set(lines(second.metrics))


def test_whoever_is_asked_tells_what_is_wrong_with_another_one(shared: pytest.MonkeyPatch) -> None:
    shared.setattr(serving, "_SHOW", 0.01)
    asked, other = Process(shared, 1).metrics, Process(shared, 2).metrics
    champion: Any = SimpleNamespace(problem="")
    challenger: Any = SimpleNamespace(problem="")
    spool: Any = SimpleNamespace(state=SpoolState())
    server = Server(champion, challenger, Any, Any, spool, other, ServeParams())  # type: ignore[arg-type]
    stopped = threading.Event()
    thread = threading.Thread(target=serving._show, args=(server, stopped))
    thread.start()
    try:
        until(lambda: "mondegreen_model_problem 0.0" in lines(asked))
        champion.problem, challenger.problem, spool.state.waiting = "gone", "broken", 3
        expected = {"mondegreen_model_problem 1.0", "mondegreen_canary_problem 1.0"}
        until(lambda: expected | {'mondegreen_answers{state="waiting"} 3.0'} <= set(lines(asked)))
        champion.problem, challenger.problem, spool.state.waiting = "", "", 0
        until(lambda: not expected & set(lines(asked)) and 'mondegreen_answers{state="waiting"} 0.0' in lines(asked))
    finally:
        stopped.set()
        thread.join()
