"""Jobs and rounds over PostgreSQL: what SQLite's single writer gives for nothing is a lock there."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mondegreen.errors import JobError
from mondegreen.loop import rounds
from mondegreen.loop.jobs import Job, Jobs
from mondegreen.loop.trigger import count
from tests.cases.conftest import chosen, postgres  # noqa: F401
from tests.loop.loop_project import LoopProject
from tests.loop.loop_store import NOON, Store


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[None]:
    with chosen("postgresql", request):
        yield


def test_a_round_goes_the_whole_way(tmp_path: Path) -> None:
    project = LoopProject(tmp_path)
    orchestrator = project.orchestrator()
    job = orchestrator.run_job(orchestrator.trigger_finetuning(approve=True).id)
    assert job.state == "completed" and job.passed and job.dataset_version == 1
    assert orchestrator.check_trigger_conditions()["metrics"]["new_error_cases"] == 0


def test_the_counts_are_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.cases(5, corrected=3)
    store.inferences(good=6, errors=2, unmeasured=1)
    store.inferences(errors=9, ago=timedelta(hours=-1))
    found = count(store.engine, 24, NOON)
    assert (found.new_error_cases, found.new_corrected_cases, found.by_method) == (5, 3, {"manual": 3})
    assert (found.inferences, found.errors, found.unmeasured, found.from_future) == (8, 2, 1, 9)


def test_of_many_that_ask_at_once_one_gets_a_new_job(tmp_path: Path) -> None:
    found: list[tuple[Job, bool]] = []

    def ask() -> None:
        found.append(Jobs(Store(tmp_path).engine).request(["because"], {}))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and sum(created for _, created in found) == 1
    assert len({job.id for job, _ in found}) == 1


def test_two_machines_never_work_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_PATIENCE", 0.1)
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")  # one database, two file systems
    with rounds.hold(tmp_path / "here.lock", here.engine):
        assert rounds.worker(tmp_path / "there.lock", there.engine) == "another machine"
        with (
            pytest.raises(JobError, match="by another machine"),
            rounds.hold(tmp_path / "there.lock", there.engine),
        ):
            pytest.fail("both hold it")
    assert rounds.worker(tmp_path / "there.lock", there.engine) is None
