"""A round from the snapshot to its verdict, with a stand-in for the pipeline; killed, stopped and broken on the way."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from mondegreen.errors import CaseError, JobError
from mondegreen.loop import pipeline, rounds
from mondegreen.loop.jobs import Job
from mondegreen.loop.orchestrator import take_turn
from mondegreen.loop.pipeline import Interrupted
from mondegreen.loop.rounds import MAX_ATTEMPTS, StageProgress
from tests.loop.loop_project import LoopProject, sealed


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> LoopProject:
    return LoopProject(tmp_path)


def states(job: Job) -> list[str]:
    return [event.after for event in job.events]


USUAL = ["pending_approval", "approved", "preparing", "training", "evaluating", "completed"]


def test_a_round_goes_through_every_state_and_keeps_what_was_found(project: LoopProject) -> None:
    orchestrator = project.orchestrator()
    asked = orchestrator.trigger_finetuning(approve=True)
    seen: list[StageProgress] = []
    job = orchestrator.run_job(asked.id, seen.append)
    assert states(job) == USUAL and job.passed
    assert (job.dataset_version, job.outcome, job.gain, job.run_id) == (1, "pass", 0.03, "r" * 32)
    assert job.details["version"]["version"] == 7
    assert "the gate opened" in job.events[-1].reason
    assert [(step.stage, step.number) for step in seen if step.line.startswith("Running")][4:6] == [
        ("train", 5),
        ("evaluate", 6),
    ]
    assert {step.stages for step in seen} == {9}
    log = (project.folder / "var/jobs/1.log").read_text()
    assert log.splitlines() == [step.line for step in seen]
    assert not orchestrator.check_trigger_conditions()["should_trigger"]  # its cases are used


@pytest.mark.parametrize("plan", [{"outcome": "fail"}, {"outcome": "inconclusive"}, {"regression": False}])
def test_a_closed_gate_is_a_completed_round(project: LoopProject, plan: dict[str, object]) -> None:
    project.plan(**plan, gain=None)
    orchestrator = project.orchestrator()
    job = orchestrator.run_job(orchestrator.trigger_finetuning(approve=True).id)
    assert job.state == "completed" and not job.passed and job.gain is None
    assert "the gate stayed closed" in job.events[-1].reason


def test_a_stage_that_fails_is_named_with_its_last_lines(project: LoopProject) -> None:
    project.plan(breaks="train")
    orchestrator = project.orchestrator()
    job = orchestrator.run_job(orchestrator.trigger_finetuning(approve=True).id)
    assert job.state == "failed"
    reason = job.events[-1].reason
    assert (
        "stage train failed with exit code 255" in reason and "error: no room" in reason and "var/jobs/1.log" in reason
    )


def test_outputs_that_are_missing_fail_the_round(project: LoopProject) -> None:
    orchestrator = project.orchestrator()
    orchestrator.pipeline = ("true",)
    job = orchestrator.run_job(orchestrator.trigger_finetuning(approve=True).id)
    assert job.state == "failed" and "verdict.json does not exist" in job.events[-1].reason


def test_a_verdict_that_was_edited_or_is_only_a_trial_ends_no_round(project: LoopProject) -> None:
    plan = project.folder / "plan.json"
    for edit, said in (
        (lambda text: text.replace('"words": 400', '"words": 4000'), "not as it was written"),
        (lambda text: json.dumps({"verdict": sealed("trial", 0.03).to_dict()}), "validate.on is dev"),
    ):
        project.plan()
        plan.write_text(edit(plan.read_text()))
        orchestrator = project.orchestrator()
        job = orchestrator.run_job(orchestrator.trigger_finetuning(force=True, approve=True).id)
        assert job.state == "failed" and said in job.events[-1].reason


def test_a_snapshot_that_refuses_fails_the_round_with_its_words(project: LoopProject) -> None:
    def refuses() -> int:
        raise CaseError("Uniqueness is 20%, 80% is needed.", "Drop the doubles.")

    orchestrator = project.orchestrator(refuses)
    job = orchestrator.run_job(orchestrator.trigger_finetuning(approve=True).id)
    assert states(job)[-2:] == ["preparing", "failed"] and "Uniqueness is 20%" in job.events[-1].reason
    assert project.runs() == []


def test_without_new_cases_the_round_trains_on_the_newest_version(tmp_path: Path) -> None:
    project = LoopProject(tmp_path, cases=0)
    project.store.cases(3, 3, version=5)
    orchestrator = project.orchestrator()
    job = orchestrator.run_job(orchestrator.trigger_finetuning(force=True, approve=True).id)
    assert job.state == "completed" and job.dataset_version == 5


def test_a_round_that_nobody_approved_does_not_run(project: LoopProject) -> None:
    orchestrator = project.orchestrator()
    with pytest.raises(JobError, match="no round to run"):
        orchestrator.run_job()
    job = orchestrator.trigger_finetuning()
    with pytest.raises(JobError, match="waits for approval"):
        orchestrator.run_job()
    orchestrator.reject_job(job.id, "no")
    with pytest.raises(JobError, match="cannot go from rejected"):
        orchestrator.run_job(job.id)
    assert project.runs() == []


def start(project: LoopProject, slow: str, seconds: float, **plan: object) -> int:
    """A runner that is busy with a stage."""
    project.plan(slow=slow, seconds=seconds, **plan)
    orchestrator = project.orchestrator()
    orchestrator.trigger_finetuning(approve=True)
    runner = project.runner()
    project.wait_for("reached")
    time.sleep(0.25)  # the runner reads the log ten times a second
    return runner


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("stage", ["train", "validate"])
def test_a_killed_runner_leaves_its_pipeline_to_end_and_the_next_run_goes_on(
    project: LoopProject, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_PATIENCE", 0.1)
    kill(start(project, stage, 1.5))
    orchestrator = project.orchestrator()
    left = orchestrator.open_job()
    assert left and left.state == ("training" if stage == "train" else "evaluating")
    # Its pipeline still works: nobody starts beside it, nobody gives the job up.
    assert "the pipeline that process" in (orchestrator.worker() or "")
    with pytest.raises(JobError, match="is being worked on"):
        orchestrator.run_job()
    with pytest.raises(JobError, match="is being worked on"):
        orchestrator.reject_job(left.id, "no")
    while orchestrator.worker():
        time.sleep(0.1)
    project.plan()
    job = orchestrator.run_job()
    assert job.state == "completed" and job.crashes == 1 and job.dataset_version == 1
    assert f"its runner died while {left.state}: attempt 2 of 3" in [event.reason for event in job.events]
    assert project.runs() == ["start", "end"] * 2


def test_a_runner_killed_with_its_pipeline_is_resumed_at_once(project: LoopProject) -> None:
    runner = start(project, "train", 60)
    kill(runner)
    os.killpg(project.pipelines()[0], signal.SIGKILL)
    time.sleep(0.1)
    project.plan()
    orchestrator = project.orchestrator()
    assert orchestrator.worker() is None
    assert orchestrator.run_job().state == "completed"
    assert project.runs() == ["start", "start", "end"]


def test_a_runner_killed_in_the_snapshot_freezes_nothing_twice(project: LoopProject) -> None:
    orchestrator = project.orchestrator()
    orchestrator.trigger_finetuning(approve=True)

    def dies_after_freezing(other: object) -> None:
        def freeze() -> int:
            project.orchestrator().data_manager.freeze()  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        project.orchestrator(freeze).run_job()

    os.waitpid(project.runner(dies_after_freezing), 0)
    left = orchestrator.open_job()
    assert left and left.state == "preparing" and left.dataset_version is None
    job = orchestrator.run_job()
    assert job.state == "completed" and job.dataset_version == 1


def test_a_job_whose_runners_keep_dying_fails(project: LoopProject) -> None:
    orchestrator = project.orchestrator()
    orchestrator.trigger_finetuning(approve=True)

    def dies(other: object) -> None:
        project.orchestrator(lambda: os.kill(os.getpid(), signal.SIGKILL) or 0).run_job()  # type: ignore[func-returns-value]

    for _ in range(MAX_ATTEMPTS):
        os.waitpid(project.runner(dies), 0)
    job = orchestrator.run_job()
    assert job.state == "failed" and "its runner died 3 times, the last time while preparing" in job.events[-1].reason
    assert states(job).count("preparing") == MAX_ATTEMPTS and project.runs() == []


def test_two_runners_never_work_at_once(project: LoopProject) -> None:
    project.plan(slow="train", seconds=0.5)
    project.orchestrator().trigger_finetuning(approve=True)
    runners = [project.runner() for _ in range(4)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(runner, 0)[1]) for runner in runners]
    assert sorted(codes) == [0, 1, 1, 1]
    assert project.runs() == ["start", "end"]


def test_stopping_a_runner_stops_its_pipeline_and_keeps_the_job(
    project: LoopProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_GRACE", 0.5)
    runner = start(project, "train", 60, stubborn=True)  # the pipeline does not listen to ctrl-C
    os.kill(runner, signal.SIGINT)
    os.waitpid(runner, 0)
    orchestrator = project.orchestrator()
    with pytest.raises(ProcessLookupError):
        os.killpg(project.pipelines()[0], 0)
    job = orchestrator.open_job()
    assert job and job.state == "approved" and job.crashes == 0, orchestrator.list_jobs()
    assert "stopped while training" in job.events[-1].reason
    project.plan()
    assert orchestrator.run_job().state == "completed"


def test_a_pipeline_that_is_stopped_from_outside_is_no_failure(project: LoopProject) -> None:
    runner = start(project, "train", 60)
    os.kill(project.pipelines()[0], signal.SIGTERM)
    os.waitpid(runner, 0)
    job = project.orchestrator().open_job()
    assert job and job.state == "approved" and "SIGTERM" in job.events[-1].reason


def test_a_disk_that_refuses_the_log_leaves_the_job_to_the_next_run(project: LoopProject) -> None:
    blocker = project.folder / "var" / "jobs"
    blocker.write_text("no folder")
    orchestrator = project.orchestrator()
    orchestrator.trigger_finetuning(approve=True)
    with pytest.raises(JobError, match="cannot go on"):
        orchestrator.run_job()
    blocker.unlink()
    assert orchestrator.run_job().state == "completed"


def test_a_full_disk_is_no_runner_that_died(project: LoopProject) -> None:
    """However often the next look finds it full still: the round waits, and costs no training that was done."""
    blocker = project.folder / "var" / "jobs"
    blocker.write_text("no folder")
    orchestrator = project.orchestrator()
    orchestrator.trigger_finetuning(approve=True)
    for _ in range(MAX_ATTEMPTS + 1):
        found = take_turn(orchestrator)
        assert found.action == "working" and "cannot go on" in found.text
        assert found.job and found.job.state == "approved" and found.job.crashes == 0
        assert "stopped while training" in found.job.events[-1].reason
    blocker.unlink()
    assert orchestrator.run_job().state == "completed"


@pytest.mark.parametrize("holds", [None, 2])
def test_a_round_goes_on_only_with_the_data_that_it_froze(project: LoopProject, holds: int | None) -> None:
    """On another machine, or after a checkout, it would train on something else and use its cases up."""
    blocker = project.folder / "var" / "jobs"
    blocker.write_text("no folder")
    orchestrator = project.orchestrator()
    job = orchestrator.trigger_finetuning(approve=True)
    with pytest.raises(JobError):
        orchestrator.run_job()
    blocker.unlink()
    card = project.folder / "data/failed_cases/card.json"
    frozen, before = card.read_text(), orchestrator.get_job(job.id)
    card.write_text(frozen.replace('"version": 1', f'"version": {holds}')) if holds else card.unlink()
    said = f"froze version 1 of the failed cases, data/failed_cases holds {'version 2' if holds else 'none'}"
    with pytest.raises(JobError, match=said) as refused:
        orchestrator.run_job()
    assert "failed-cases/v1" in refused.value.next_step and "reject 1" in refused.value.next_step
    assert orchestrator.get_job(job.id) == before and project.runs() == []
    card.write_text(frozen)
    assert orchestrator.run_job().state == "completed"


@pytest.mark.parametrize(("plan", "state"), [({}, "completed"), ({"breaks": "train"}, "failed")], ids=["ends", "fails"])
def test_a_disk_that_refuses_mlflow_does_not_keep_the_round_open(
    project: LoopProject, monkeypatch: pytest.MonkeyPatch, plan: dict[str, object], state: str
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mondegreen.registry.mlflow_store.tracking_root", project.folder.resolve)
    monkeypatch.setattr("mondegreen.registry.mlflow_store.registry_file", lambda: None)
    monkeypatch.setattr("mondegreen.registry.run_logs.log_round", full)
    project.plan(**plan)
    orchestrator = project.orchestrator()
    orchestrator.trigger_finetuning(approve=True)
    assert orchestrator.run_job().state == state


def branching(folder: Path) -> LoopProject:
    """A project in git whose rounds have branches."""
    project = LoopProject(folder, branch=True)
    (folder / ".gitignore").write_text("var/\nbuild/\nruns.log\nplan.json\n")
    (folder / "dvc.lock").write_text("old\n")
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("config", "user.name", "Test")
    project.git("config", "user.email", "test@example.org")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "start")
    return project


class Died(BaseException):
    """What nobody catches: a runner that is gone."""


@pytest.mark.parametrize("end", [Interrupted("The pipeline was stopped.", "Run."), Died()], ids=["stopped", "died"])
def test_a_rejected_round_leaves_its_branch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    def ends(*_: object) -> int:
        (tmp_path / "dvc.lock").write_text("half\n")
        raise end

    project = branching(tmp_path)
    orchestrator = project.orchestrator()
    job = orchestrator.trigger_finetuning(approve=True)
    monkeypatch.setattr(rounds, "run_pipeline", ends)
    with pytest.raises(type(end)):
        orchestrator.run_job(job.id)
    state = orchestrator.get_job(job.id).state
    assert project.git("symbolic-ref", "--short", "HEAD") == "round/1"
    assert orchestrator.reject_job(job.id, "no").state == "rejected"
    assert project.git("symbolic-ref", "--short", "HEAD") == "main" and (tmp_path / "dvc.lock").read_text() == "old\n"
    assert project.git("log", "-1", "--format=%s", "round/1") == f"Round 1 rejected while {state}"
    monkeypatch.undo()
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    project.store.cases(4, corrected=4)
    again = orchestrator.trigger_finetuning(approve=True)
    assert orchestrator.run_job(again.id).state == "completed"  # the work tree is clean
    project.git("switch", "--quiet", "round/1")  # by hand
    with pytest.raises(JobError, match="cannot go from rejected"):
        orchestrator.reject_job(job.id, "again")
    assert project.git("symbolic-ref", "--short", "HEAD") == "round/1"


@pytest.mark.parametrize("left", [False, True], ids=["", "the name is taken"])
def test_an_own_branch_for_each_round(tmp_path: Path, left: bool) -> None:
    project = branching(tmp_path)
    branch = "round/1"
    if left:
        project.git("branch", branch)
        branch = "round/1-2"
        (tmp_path / "params.yaml").write_text("seed: 2\n")
        project.git("add", "params.yaml")
        project.git("commit", "--quiet", "--message", "newer")
    orchestrator = project.orchestrator()
    job = orchestrator.run_job(orchestrator.trigger_finetuning(approve=True).id)
    assert job.state == "completed" and job.details["branch"] == branch
    assert project.git("symbolic-ref", "--short", "HEAD") == "main" and (tmp_path / "dvc.lock").read_text() == "old\n"
    assert project.git("show", f"{branch}:dvc.lock").startswith("made by")
    assert project.git("log", "-1", "--format=%s", branch) == "Round 1: pass"
    assert project.git("rev-parse", f"{branch}~") == project.git("rev-parse", "main")  # it ran what main has
    if left:
        assert project.git("log", "-1", "--format=%s", "round/1") == "start"


def test_a_dirty_work_tree_is_refused_with_its_files(tmp_path: Path) -> None:
    project = LoopProject(tmp_path, branch=True)
    project.git("init", "--quiet")
    project.git("add", "dvc.yaml")
    project.git("commit", "--quiet", "--message", "start")
    (tmp_path / "dvc.yaml").write_text("changed")
    orchestrator = project.orchestrator()
    job = orchestrator.run_job(orchestrator.trigger_finetuning(approve=True).id)
    assert job.state == "failed" and "dvc.yaml" in job.events[-1].reason and "clean work tree" in job.events[-1].reason
    assert job.dataset_version is None and project.runs() == []
