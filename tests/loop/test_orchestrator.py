"""Asking for rounds, approving and rejecting them."""

from pathlib import Path

import pytest

from mondegreen.errors import JobError
from mondegreen.loop.orchestrator import FinetuningOrchestrator
from mondegreen.loop.trigger import FinetuningConfig
from tests.loop.loop_project import LoopProject
from tests.loop.loop_store import Store


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> LoopProject:
    return LoopProject(tmp_path)


def test_without_reason_no_round_and_the_refusal_names_the_numbers(tmp_path: Path) -> None:
    orchestrator = LoopProject(tmp_path, cases=3, corrected=1).orchestrator()
    with pytest.raises(JobError, match=r"3 new error cases, at least 4 are needed: not met\. 1 of them corrected"):
        orchestrator.trigger_finetuning()
    assert orchestrator.list_jobs() == []
    job = orchestrator.trigger_finetuning(force=True)
    assert job.state == "pending_approval" and job.reasons[0] == "Forced."


def test_a_job_keeps_what_was_compared(project: LoopProject) -> None:
    job = project.orchestrator().trigger_finetuning()
    names = [(row["name"], row["value"], row["threshold"], row["met"]) for row in job.trigger["conditions"]]
    assert names[:2] == [("min_error_cases", 4, 4, True), ("min_corrected_cases", 4, 4, True)]
    assert job.trigger["metrics"]["total_error_cases"] == 4 and job.trigger["config"]["min_error_cases"] == 4


def test_a_second_request_gets_the_open_job_and_is_told(project: LoopProject) -> None:
    orchestrator = project.orchestrator()
    first = orchestrator.trigger_finetuning()
    second = orchestrator.trigger_finetuning(force=True)
    assert second.id == first.id and "open already" in second.note and not first.note
    assert orchestrator.trigger_finetuning(approve=True).state == "approved"  # approving the open one is fine
    assert len(orchestrator.list_jobs()) == 1


@pytest.mark.parametrize(
    ("auto", "asked", "state"),
    [
        (False, None, "pending_approval"),
        (True, None, "approved"),
        (False, True, "approved"),
        (True, False, "pending_approval"),
    ],
)
def test_who_approves(tmp_path: Path, auto: bool, asked: bool | None, state: str) -> None:
    orchestrator = LoopProject(tmp_path, auto_approve_finetuning=auto).orchestrator()
    assert orchestrator.trigger_finetuning(approve=asked).state == state


def test_approval_and_rejection_name_who_and_why(project: LoopProject) -> None:
    orchestrator = project.orchestrator()
    job = orchestrator.trigger_finetuning()
    assert orchestrator.approve_job(job.id, by="Ada").events[-1].reason == "approved by Ada"
    with pytest.raises(JobError, match="is approved by now, not pending_approval"):
        orchestrator.approve_job(job.id)
    rejected = orchestrator.reject_job(job.id, "the microphone was broken", by="Ada")
    assert rejected.events[-1].reason == "rejected by Ada: the microphone was broken"
    with pytest.raises(JobError, match="cannot go from rejected"):
        orchestrator.reject_job(job.id, "again")
    with pytest.raises(JobError, match="no job 9"):
        orchestrator.get_job(9)


def test_a_rejected_round_leaves_its_cases_for_the_next(project: LoopProject) -> None:
    orchestrator = project.orchestrator()
    orchestrator.reject_job(orchestrator.trigger_finetuning().id, "no")
    conditions = orchestrator.check_trigger_conditions()
    assert conditions["should_trigger"] and "watch asks again" in conditions["rest"]["text"]
    assert orchestrator.trigger_finetuning().id == 2  # a person may ask at any time


def test_completed_rounds_move_an_adaptive_threshold(tmp_path: Path) -> None:
    bounds = {"adaptive": True, "adaptive_bounds": (2, 8)}
    project = LoopProject(tmp_path, **bounds)
    project.plan(gain=0.001)
    orchestrator = project.orchestrator()
    orchestrator.run_job(orchestrator.trigger_finetuning(approve=True).id)
    conditions = orchestrator.check_trigger_conditions()
    assert [(step["job"], step["before"], step["after"]) for step in conditions["adaptive"]] == [(1, 4, 6)]
    assert conditions["conditions"][0]["threshold"] == 6


def test_the_config_comes_from_params_when_none_is_given(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("trigger: {min_error_cases: 7}")
    store = Store(tmp_path / "var")
    assert FinetuningOrchestrator(store, project=tmp_path).config.min_error_cases == 7
    assert FinetuningOrchestrator(store, project=tmp_path / "var").config == FinetuningConfig()
