"""Jobs: legal transitions, one at a time, nobody twice, and nothing half-written by a killed process."""

import os
import random
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mondegreen.db import reading
from mondegreen.errors import JobError
from mondegreen.loop.jobs import ENDED, OPEN, STATES, TRANSITIONS, WORKING, Job, Jobs, RoundState
from mondegreen.tables import JobEventRow, JobRow
from tests.loop.loop_store import NOON, Store


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(Store(tmp_path).engine, lambda: NOON)


def consistent(job: Job) -> None:
    """The history is a chain of legal transitions from the request to the state that the job is in."""
    assert job.events[0].before is None and job.events[0].after == "pending_approval"
    for earlier, later in pairwise(job.events):
        assert later.before == earlier.after and later.after in TRANSITIONS[earlier.after]
    assert job.events[-1].after == job.state


def test_the_table_names_every_state_and_ended_ones_lead_nowhere() -> None:
    assert set(TRANSITIONS) == set(STATES) == set(OPEN) | set(ENDED) == set(get_args(RoundState))
    assert all(not TRANSITIONS[state] for state in ENDED) and all(TRANSITIONS[state] for state in OPEN)
    assert all("failed" in TRANSITIONS[state] for state in WORKING)


def test_a_request_keeps_its_reasons_and_waits_for_approval(jobs: Jobs) -> None:
    job, created = jobs.request(["12 new error cases."], {"threshold": 10})
    assert created and job.state == "pending_approval" and job.open and not job.passed
    assert job == jobs.get(job.id) == jobs.open_job()
    assert job.reasons == ("12 new error cases.",) and job.trigger == {"threshold": 10}
    assert (job.job_id, job.status, job.requested_at) == (job.id, job.state, NOON)


@given(walk=st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from(STATES)), max_size=25))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_tried_the_history_is_legal(jobs: Jobs, walk: list[tuple[RoundState, RoundState]]) -> None:
    job, _ = jobs.request(["because"], {})
    for before, after in walk:
        state = jobs.get(job.id).state
        if before == state and after in TRANSITIONS[state]:
            jobs.move(job.id, before, after, "on")
        else:
            with pytest.raises(JobError):
                jobs.move(job.id, before, after, "on")
    job = jobs.get(job.id)
    consistent(job)
    if job.open:  # the next example asks again
        if job.state in WORKING:
            job = jobs.move(job.id, job.state, "approved", "stopped")
        jobs.move(job.id, job.state, "rejected", "enough")


def test_a_move_from_another_state_names_both_and_changes_nothing(jobs: Jobs) -> None:
    job, _ = jobs.request(["because"], {})
    with pytest.raises(JobError, match="is pending_approval by now, not approved"):
        jobs.move(job.id, "approved", "preparing", "on", dataset_version=3)
    assert jobs.get(job.id) == job
    with pytest.raises(JobError, match="no job 99"):
        jobs.move(99, "approved", "preparing", "on")


def test_details_are_added_to_and_facts_are_kept(jobs: Jobs) -> None:
    job, _ = jobs.request(["because"], {})
    jobs.learn(job.id, "pending_approval", details={"log": "x"})
    job = jobs.move(job.id, "pending_approval", "approved", "on", dataset_version=3, details={"branch": "round/1"})
    assert job.details == {"log": "x", "branch": "round/1"} and job.dataset_version == 3
    with pytest.raises(JobError):
        jobs.learn(job.id, "pending_approval", gain=1.0)
    assert jobs.get(job.id).gain is None


def test_there_is_one_open_job_whoever_asks(jobs: Jobs, tmp_path: Path) -> None:
    found: list[tuple[Job, bool]] = []

    def ask() -> None:
        found.append(Jobs(Store(tmp_path).engine).request(["because"], {}))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and sum(created for _, created in found) == 1
    assert {job.id for job, _ in found} == {1} and len(jobs.newest()) == 1


def test_of_many_who_move_a_job_one_does(jobs: Jobs, tmp_path: Path) -> None:
    job, _ = jobs.request(["because"], {})
    moved: list[int] = []

    def approve(number: int) -> None:
        try:
            Jobs(Store(tmp_path).engine).move(job.id, "pending_approval", "approved", f"by {number}")
        except JobError:
            return
        moved.append(number)

    threads = [threading.Thread(target=approve, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(moved) == 1
    assert [event.reason for event in jobs.get(job.id).events][1:] == [f"by {moved[0]}"]


def test_processes_killed_at_any_moment_leave_whole_jobs(tmp_path: Path) -> None:
    """kill -9 while jobs are asked for, approved and ended as fast as it goes."""
    Store(tmp_path).engine.dispose()
    chance = random.Random(1)
    for _ in range(6):
        child = os.fork()
        if not child:
            try:
                _churn(tmp_path)
            finally:
                os._exit(1)
        time.sleep(chance.uniform(0.05, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    jobs = Jobs(Store(tmp_path).engine)
    everything = jobs.newest()
    assert len(everything) > 1
    for job in everything:
        consistent(job)
    assert sum(job.open for job in everything) <= 1
    with reading(jobs.engine) as session:
        events = {row.job_id for row in session.query(JobEventRow)}
        assert events == {row.id for row in session.query(JobRow)}


def _churn(folder: Path) -> None:
    jobs = Jobs(Store(folder).engine)
    while True:
        job, _ = jobs.request(["because"], {})
        if job.state == "pending_approval":
            job = jobs.move(job.id, "pending_approval", "approved", "on")
        jobs.move(job.id, job.state, "rejected", "enough")


def test_history_is_in_the_order_of_writing_when_the_clock_moves_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    jobs = Jobs(store.engine, store.clock)
    job, _ = jobs.request(["because"], {})
    store.now = NOON.replace(hour=3)
    jobs.move(job.id, "pending_approval", "rejected", "no")
    assert [event.after for event in jobs.get(job.id).events] == ["pending_approval", "rejected"]
    ended = jobs.last_ended()
    assert ended and (ended.job, ended.state, ended.at) == (job.id, "rejected", NOON.replace(hour=3))
