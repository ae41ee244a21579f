"""The six steps: where a workflow stops, and why; and the system's status."""

import getpass
import io
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from mondegreen import DataManager, MetadataTracker, ModelDeployer
from mondegreen.db import transaction
from mondegreen.errors import CaseError, CloudError, RegistryError, UsageError
from mondegreen.files import write_json
from mondegreen.loop.coordinator import FinetuningCoordinator, WorkflowResult
from mondegreen.loop.status import render_status
from mondegreen.records import RegisteredVersion
from mondegreen.registry.aliases import holdings
from mondegreen.tables import InferenceRow
from tests.loop.loop_project import LoopProject


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def coordinator(project: LoopProject) -> FinetuningCoordinator:
    orchestrator = project.orchestrator()
    return FinetuningCoordinator(orchestrator.data_manager, orchestrator=orchestrator)


def states(result: WorkflowResult) -> list[str]:
    return [step.state for step in result.steps]


def stopped_at(result: WorkflowResult) -> str:
    return next(step.name for step in result.steps if step.state == "stopped")


def test_too_few_cases_stop_it_at_the_trigger_with_the_numbers(tmp_path: Path) -> None:
    result = coordinator(LoopProject(tmp_path, cases=1, corrected=0)).run_complete_workflow()
    assert result.status == "not_triggered" and "1 new error case, at least 4 are needed" in result.reason
    assert states(result) == ["stopped", *["not_reached"] * 5] and result.job is None


def test_it_stops_for_approval_and_goes_on_when_called_again(tmp_path: Path) -> None:
    made = coordinator(LoopProject(tmp_path))
    result = made.run_complete_workflow()
    assert result.status == "pending_approval" and "mondegreen approve 1" in result.reason
    made.orchestrator.approve_job(1)
    result = made.run_complete_workflow()
    assert result.status == "registered" and stopped_at(result) == "deploy"
    assert result.version and result.version.version == 7 and result.job and result.job.passed


@pytest.mark.parametrize(("cases", "reason"), [(0, "Forced."), (4, "4 new error cases, at least 4 are needed: met.")])
def test_force_is_an_approval_and_the_history_says_whose(tmp_path: Path, cases: int, reason: str) -> None:
    made = coordinator(LoopProject(tmp_path, cases=cases, corrected=cases))
    result = made.run_complete_workflow(force_trigger=True)
    assert result.status == "registered" and stopped_at(result) == "deploy" and result.job
    approved = [event.reason for event in result.job.events if event.after == "approved"]
    assert approved == [f"approved by {getpass.getuser()}, who forced it"] and result.job.reasons[0] == reason


def test_force_approves_a_job_that_waits_and_the_orchestrators_own_force_approves_none(tmp_path: Path) -> None:
    made = coordinator(LoopProject(tmp_path, cases=0))
    assert made.orchestrator.trigger_finetuning(force=True).status == "pending_approval"
    assert made.run_complete_workflow().status == "pending_approval"
    result = made.run_complete_workflow(force_trigger=True)
    assert result.status == "registered" and result.job and result.job.id == 1


@pytest.mark.parametrize("build", [
    lambda: FinetuningCoordinator(DataManager("var"), use_gcs=True, project_id="production-project"),
    lambda: MetadataTracker("var", use_gcs=True),
    lambda: DataManager("var", use_gcs=True),
    lambda: ModelDeployer(use_gcs=True),
])  # fmt: skip
def test_a_bucket_that_nobody_named_is_said_at_once_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[[], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MONDEGREEN_GCS_BUCKET", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "")  # so that it is put back
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "nowhere.json")
    with pytest.raises(UsageError, match=r"No bucket is named[\s\S]*gcp\.bucket in params\.yaml"):
        build()
    monkeypatch.setenv("MONDEGREEN_GCS_BUCKET", "calls")
    with pytest.raises(CloudError, match=r"no credentials[\s\S]*gcloud auth application-default login"):
        build()


@pytest.mark.parametrize(
    ("plan", "status", "step"),
    [
        ({"outcome": "fail"}, "gate_closed", "validate"),
        ({"outcome": "inconclusive"}, "gate_closed", "validate"),
        ({"regression": False}, "gate_closed", "regression test"),
        ({"breaks": "train"}, "failed", "fine-tune"),
        ({"breaks": "prepare"}, "failed", "fine-tune"),
        ({"breaks": "validate"}, "failed", "validate"),
        ({"breaks": "regress"}, "failed", "regression test"),
        ({"breaks": "register"}, "failed", "deploy"),
    ],
)
def test_the_step_that_it_stopped_at_is_named(tmp_path: Path, plan: dict[str, object], status: str, step: str) -> None:
    project = LoopProject(tmp_path, auto_approve_finetuning=True)
    project.plan(**plan)
    result = coordinator(project).run_complete_workflow(auto_deploy=True)
    assert (result.status, stopped_at(result)) == (status, step)
    assert result.reason == result.job.events[-1].reason  # type: ignore[union-attr]


def test_a_snapshot_that_refuses_stops_it_at_the_data(tmp_path: Path) -> None:
    def refuses() -> int:
        raise CaseError("Uniqueness is 20%, 80% is needed.", "Drop the doubles.")

    orchestrator = LoopProject(tmp_path, auto_approve_finetuning=True).orchestrator(refuses)
    result = FinetuningCoordinator(orchestrator.data_manager, orchestrator=orchestrator).run_complete_workflow()
    assert (result.status, stopped_at(result)) == ("failed", "prepare data") and "Uniqueness" in result.reason


def test_a_candidate_that_passed_is_deployed_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, bool]] = []

    def register(build: Path, settings: object, promote: bool) -> RegisteredVersion:
        asked.append((build, promote))
        return RegisteredVersion(
            name="fine-tuned-stt", version=7, stage="Production", alias="champion", outcome="pass", run_id="r",
            digest="d", uri="models:/fine-tuned-stt/7",
        )  # fmt: skip

    monkeypatch.setattr("mondegreen.loop.candidate.register_candidate", register)
    project = LoopProject(tmp_path, auto_approve_finetuning=True)
    result = coordinator(project).run_complete_workflow(auto_deploy=True)
    assert result.status == "deployed" and states(result) == ["done"] * 6
    assert asked == [(tmp_path / "build", True)]


def test_a_candidate_that_is_not_promoted_is_not_called_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_back = RegisteredVersion(
        name="fine-tuned-stt", version=7, stage="None", alias="", outcome="pass", run_id="r", digest="d",
        uri="models:/fine-tuned-stt/7", reason="it was rolled back from",
    )  # fmt: skip
    monkeypatch.setattr("mondegreen.loop.candidate.register_candidate", lambda *_, **__: kept_back)
    result = coordinator(LoopProject(tmp_path, auto_approve_finetuning=True)).run_complete_workflow(auto_deploy=True)
    assert (result.status, stopped_at(result)) == ("registered", "deploy") and "rolled back from" in result.reason


def test_it_deploys_into_no_other_projects_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    project = LoopProject(tmp_path, auto_approve_finetuning=True)
    with pytest.raises(UsageError, match="Run from the project root"):
        coordinator(project).run_complete_workflow(auto_deploy=True)


def registry(folder: Path, outcome: str = "", **held: int) -> None:
    """MLflow's tables of aliases, and of versions whose verdicts have an outcome."""
    (folder / "mlruns").mkdir()
    with sqlite3.connect(folder / "mlruns/mlflow.db") as connection:
        connection.execute("CREATE TABLE registered_model_aliases (alias TEXT, version INTEGER, name TEXT)")
        connection.execute("INSERT INTO registered_model_aliases VALUES ('champion', 99, 'other-model')")
        rows = [(alias, version, "fine-tuned-stt") for alias, version in held.items()]
        connection.executemany("INSERT INTO registered_model_aliases VALUES (?, ?, ?)", rows)
        if outcome:
            connection.execute("CREATE TABLE model_versions (name TEXT, version INTEGER, current_stage TEXT)")
            connection.execute("CREATE TABLE model_version_tags (name TEXT, version INTEGER, key TEXT, value TEXT)")
            versions = [("fine-tuned-stt", version, "Staging") for version in held.values()]
            connection.executemany("INSERT INTO model_versions VALUES (?, ?, ?)", versions)
            tags = [(name, version, "outcome", outcome) for name, version, _ in versions]
            connection.executemany("INSERT INTO model_version_tags VALUES (?, ?, ?, ?)", tags)
    connection.close()


def screen(made: FinetuningCoordinator) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(render_status(made.get_system_status()))
    return text.getvalue()


def test_status_is_the_whole_system_and_says_what_to_do(tmp_path: Path) -> None:
    registry(tmp_path, champion=3, challenger=7)
    project = LoopProject(tmp_path, cases=6, corrected=5)
    project.store.inferences(good=3, errors=1)
    made = coordinator(project)
    status = made.get_system_status()
    assert status["cases"] == {
        "total": 6, "corrected": 5, "uncorrected": 1, "by_method": {"manual": 5}, "new": 6, "new_corrected": 5,
    }  # fmt: skip
    assert status["orchestrator"]["trigger_conditions"]["metrics"]["total_error_cases"] == 6
    assert (status["deployer"]["active_version"], status["deployer"]["challenger"]) == (3, 7)
    assert status["validation"]["pass_rate"] is None
    assert "mondegreen trigger" in status["next_step"]

    made.run_complete_workflow()
    assert "mondegreen approve 1" in made.get_system_status()["next_step"]
    made.orchestrator.approve_job(1)
    assert "mondegreen run" in made.get_system_status()["next_step"]
    made.run_complete_workflow()
    status = made.get_system_status()
    assert status["validation"] == {"rounds": 1, "passed": 1, "pass_rate": 1.0}
    assert "Version 7 passed" in status["next_step"]
    text = screen(made)
    for part in ("champion version 3", "job 1: completed", "verdict pass", "+3.00 points", "1 passed (100 %)"):
        assert part in text


def test_a_first_version_that_proved_nothing_is_not_sent_to_the_gate(tmp_path: Path) -> None:
    registry(tmp_path, outcome="inconclusive", challenger=1)
    step = coordinator(LoopProject(tmp_path, cases=3, corrected=1)).get_system_status()["next_step"]
    assert "whose verdict is `inconclusive`, which the gate refuses" in step and "correct 2 cases" in step
    assert "deploy" not in step


def test_after_a_round_the_uncorrected_cases_are_the_next_thing(tmp_path: Path) -> None:
    project = LoopProject(tmp_path, cases=6, corrected=5, auto_approve_finetuning=True)
    project.plan(outcome="fail", gain=-0.01)
    made = coordinator(project)
    made.run_complete_workflow()
    assert "Correct 1 case: `mondegreen review`" in made.get_system_status()["next_step"]


def test_what_fires_and_what_waits_to_be_heard_comes_before_nothing(tmp_path: Path) -> None:
    registry(tmp_path, champion=3)
    project = LoopProject(tmp_path, cases=0, corrected=0)
    made = coordinator(project)
    project.store.now = datetime.now(UTC)
    with transaction(project.store.engine) as session:
        session.add_all(
            InferenceRow(at=project.store.now, model_version="m", audio_sha256=f"{number:064d}", duration=1.0,
                         latency=0.1, confidence=0.9, is_error=False, caller=f"c{number}", inclusion=1.0,
                         audit_id=f"audit{number}")
            for number in range(3)
        )  # fmt: skip
    status = made.get_system_status()
    assert status["production"]["waiting"] == 3 and status["alerts"] == []
    assert "Hear 3 recordings" in status["next_step"] and "`mondegreen review --audit`" in status["next_step"]

    project.store.inferences(good=10, errors=90)
    status = made.get_system_status()
    assert [alert["metric"] for alert in status["alerts"]] == ["error_rate"]
    assert status["next_step"].startswith("Alert error_rate: Look at what is misheard")
    shown = screen(made)
    assert "alert error_rate: 8" in shown and "WER is not measured" in shown and "3 wait to be heard" in shown


def test_a_round_whose_runner_died_is_shown(tmp_path: Path) -> None:
    project = LoopProject(tmp_path)
    made = coordinator(project)
    made.orchestrator.trigger_finetuning(approve=True)
    made.orchestrator.jobs.move(1, "approved", "preparing", "started")
    assert "whose runner died: `mondegreen run`" in made.get_system_status()["next_step"]


def test_a_registry_that_cannot_be_read_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns/mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(RegistryError, match="cannot be read"):
        holdings("fine-tuned-stt")
    made = coordinator(LoopProject(tmp_path))
    assert "cannot be read" in made.get_system_status()["deployer"]["problem"]
    assert "4 failed cases" in screen(made)


def test_a_candidate_that_this_registry_lacks_is_said(tmp_path: Path) -> None:
    made = coordinator(LoopProject(tmp_path))
    version = RegisteredVersion(
        name="fine-tuned-stt", version=7, stage="Staging", alias="challenger", outcome="pass", run_id="f" * 32,
        digest="d", uri="models:/fine-tuned-stt/7",
    )  # fmt: skip
    write_json(tmp_path / "build/register/version.json", version)
    (said,) = made.get_system_status()["deployer"]["noticed"]
    assert "does not have fine-tuned-stt version 7. `dvc repro`" in said and said in " ".join(screen(made).split())


def test_an_address_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    with pytest.raises(RegistryError, match="cannot be read"):
        holdings("fine-tuned-stt")


def test_looking_makes_no_registry(tmp_path: Path) -> None:
    assert holdings("fine-tuned-stt").aliases == {}
    assert not (tmp_path / "mlruns").exists()
