"""Watching: what each look finds and does, and what it survives."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from mondegreen.errors import CaseError
from mondegreen.loop.orchestrator import FinetuningOrchestrator, WatchTurn, take_turn, watch
from tests.loop.loop_project import LoopProject


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


def test_it_asks_waits_for_approval_runs_and_rests(tmp_path: Path) -> None:
    project = LoopProject(tmp_path)
    orchestrator = project.orchestrator()
    first = take_turn(orchestrator)
    assert first.action == "waiting" and "`mondegreen approve 1`" in first.text and first.ok
    assert take_turn(orchestrator).job == first.job  # the same one
    orchestrator.approve_job(1)
    ran = take_turn(orchestrator)
    assert ran.action == "ran" and ran.ok and ran.text.startswith("job 1 completed: the gate opened")
    idle = take_turn(orchestrator)
    assert idle.action == "nothing" and "0 new error cases, at least 4 are needed" in idle.text
    project.store.cases(4, corrected=4)
    orchestrator.reject_job(take_turn(orchestrator).job.id, "no")  # type: ignore[union-attr]
    assert take_turn(orchestrator).action == "resting"


def test_with_auto_approval_one_look_does_the_whole_round(tmp_path: Path) -> None:
    project = LoopProject(tmp_path, auto_approve_finetuning=True)
    project.plan(outcome="inconclusive")
    ran = take_turn(project.orchestrator())
    assert ran.action == "ran" and not ran.ok and "the gate stayed closed" in ran.text and "\n" not in ran.text


def test_a_failed_round_is_not_tried_again_at_every_look(tmp_path: Path) -> None:
    project = LoopProject(tmp_path, auto_approve_finetuning=True)
    project.plan(breaks="train")
    looks = [take_turn(project.orchestrator()) for _ in range(3)]
    assert [found.action for found in looks] == ["ran", "resting", "resting"] and not looks[0].ok
    assert project.runs() == ["start", "end"]


def test_a_round_that_somebody_works_on_is_left_alone_and_goes_on_when_he_died(tmp_path: Path) -> None:
    project = LoopProject(tmp_path, auto_approve_finetuning=True)
    project.plan(slow="train", seconds=60)
    runner = project.runner(take_turn)
    project.wait_for("reached")
    time.sleep(0.25)
    busy = take_turn(project.orchestrator())
    assert busy.action == "working" and f"process {runner} works on it" in busy.text
    for pid in (runner, project.pipelines()[0]):
        os.kill(pid, 9)
    os.waitpid(runner, 0)
    project.plan()
    ran = take_turn(project.orchestrator())
    assert ran.action == "ran" and ran.ok and ran.job and ran.job.crashes == 1


def opener(project: LoopProject, *troubles: Exception) -> "tuple[list[int], object]":
    """Opens the orchestrator, after as many troubles as are given."""
    left, opened = list(troubles), [0]

    @contextmanager
    def open_orchestrator() -> Iterator[FinetuningOrchestrator]:
        opened[0] += 1
        if left:
            raise left.pop(0)
        yield project.orchestrator()

    return opened, open_orchestrator


AWAY = OperationalError("SELECT 1", {}, Exception("server closed the connection"))


def test_a_database_that_is_away_is_waited_for_longer_and_longer(tmp_path: Path) -> None:
    opened, open_orchestrator = opener(LoopProject(tmp_path, cases=0), CaseError("It is locked."), *[AWAY] * 8)
    waits: list[float] = []
    said: list[str] = []
    looks = watch(open_orchestrator, 300, said.append, wait=waits.append)  # type: ignore[arg-type]
    assert next(looks).action == "nothing" and opened == [10]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert said[0] == "attempt 1: It is locked. Again in 1 s." and len(said) == 9
    assert next(looks).action == "nothing" and waits[-1] == 300  # and from then on as ever


def test_a_single_look_gives_up_after_some_attempts(tmp_path: Path) -> None:
    opened, open_orchestrator = opener(LoopProject(tmp_path, cases=0), *[AWAY] * 9)
    with pytest.raises(OperationalError):
        list(watch(open_orchestrator, None, lambda text: None, wait=lambda seconds: None))  # type: ignore[arg-type]
    assert opened == [5]


def test_once_is_one_look(tmp_path: Path) -> None:
    _, open_orchestrator = opener(LoopProject(tmp_path, cases=0))
    found = list(watch(open_orchestrator, None, lambda text: None))  # type: ignore[arg-type]
    assert len(found) == 1 and isinstance(found[0], WatchTurn)
