"""check, trigger, approve, reject, jobs, run, watch and status as commands."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mondegreen.cli.main import app
from tests.loop.loop_project import PIPELINE, LoopProject
from tests.loop.loop_store import Store

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopProject:
    """The project that commands find themselves in; its pipeline and snapshot are stand-ins."""
    for name in ("MONDEGREEN_DATABASE_URL", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("trigger: {min_error_cases: 4, min_corrected_cases: 4}")
    monkeypatch.setattr("mondegreen.loop.orchestrator.PIPELINE", PIPELINE)
    monkeypatch.setattr(
        "mondegreen.loop.orchestrator.FinetuningOrchestrator._freeze", lambda self: Store(tmp_path / "var").freeze()
    )
    return LoopProject(tmp_path)


def mondegreen(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_round_from_check_to_its_verdict(project: LoopProject) -> None:
    assert mondegreen("check").exit_code == 0
    asked = mondegreen("trigger")
    assert asked.exit_code == 0 and "Job 1: pending_approval" in asked.stdout
    assert "open already" in mondegreen("trigger").stdout
    assert mondegreen("run").exit_code == 1  # nobody approved it
    assert "is approved" in mondegreen("approve", "1", "--by", "Ada").stdout
    ran = mondegreen("run")
    assert ran.exit_code == 0 and "Job 1 completed: the gate opened" in ran.stdout
    assert "Running stage 'train':" in ran.stderr  # no terminal: the output is handed on
    shown = mondegreen("jobs", "1").stdout
    for part in ("approved by Ada", "approved -> preparing", "training -> evaluating", "dataset version: 1", "1.log"):
        assert part in shown
    assert "completed" in mondegreen("jobs").stdout
    again = mondegreen("check")
    assert again.exit_code == 1 and "0 new error cases, at least 4 are needed: not met." in again.stdout


@pytest.mark.parametrize(("plan", "code"), [({}, 0), ({"outcome": "fail"}, 1), ({"breaks": "train"}, 1)])
def test_exit_codes_of_run_and_watch_tell_whether_the_gate_opened(
    project: LoopProject, plan: dict[str, object], code: int
) -> None:
    project.plan(**plan)
    mondegreen("trigger", "--approve")
    assert mondegreen("run").exit_code == code
    project.store.cases(4, corrected=4)
    mondegreen("trigger", "--force", "--approve")
    watched = mondegreen("watch", "--once")
    assert watched.exit_code == code and len(watched.stdout.splitlines()) == 1


def test_everything_is_json_when_asked(project: LoopProject) -> None:
    checked = json.loads(mondegreen("check", "--json").stdout)
    assert checked["should_trigger"] is True and checked["metrics"]["total_error_cases"] == 4
    assert json.loads(mondegreen("trigger", "--json").stdout)["job_id"] == 1
    assert json.loads(mondegreen("approve", "1", "--json").stdout)["state"] == "approved"
    assert json.loads(mondegreen("run", "--json").stdout)["details"]["passed"] is True
    assert [job["status"] for job in json.loads(mondegreen("jobs", "--json").stdout)] == ["completed"]
    assert json.loads(mondegreen("jobs", "1", "--json").stdout)["events"][0]["after"] == "pending_approval"
    assert json.loads(mondegreen("watch", "--once", "--json").stdout)["action"] == "nothing"
    status = json.loads(mondegreen("status", "--json").stdout)
    assert status["validation"]["passed"] == 1 and status["deployer"]["active_version"] is None
    mondegreen("trigger", "--force")
    rejected = json.loads(mondegreen("reject", "2", "--reason", "no", "--json").stdout)
    assert rejected["events"][-1]["reason"].endswith(": no")


def test_refusals_say_why_and_what_now(project: LoopProject) -> None:
    mondegreen("reject", str(json.loads(mondegreen("trigger", "--json").stdout)["id"]), "--reason", "no")
    assert "job 1" in mondegreen("watch", "--once").stdout.lower()  # rests
    missing = mondegreen("jobs", "9")
    assert missing.exit_code == 1 and "There is no job 9" in missing.stderr
    late = mondegreen("approve", "1")
    assert late.exit_code == 1 and "is rejected by now" in late.stderr
    nothing = mondegreen("run")
    assert nothing.exit_code == 1 and "no round to run" in nothing.stderr
    assert mondegreen("watch", "--once", "--interval", "5m").exit_code == 2
    assert mondegreen("watch", "--interval", "soon").exit_code == 2
    assert mondegreen("reject", "1").exit_code == 2


def test_outside_a_project_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    for command in ("check", "status", "watch --once", "jobs", "summary", "validate", "report", "serve"):
        refused = mondegreen(*command.split())
        assert (
            refused.exit_code == 2
            and "no project here" in refused.stderr
            and "Run from the project root" in refused.stderr
        )
    assert list(tmp_path.iterdir()) == []


def test_status_is_one_screen_and_loads_no_model_library(project: LoopProject) -> None:
    code = (
        "import sys; from mondegreen.cli.main import app\n"
        "try: app(['status'])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = ('torch', 'mlflow', 'transformers', 'numpy', 'scipy', 'pandas')\n"
        "sys.exit(str([name for name in heavy if name in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""
    assert len(done.stdout.splitlines()) <= 24 and "What now" in done.stdout and "4 failed cases" in done.stdout


def start(*arguments: str) -> "subprocess.Popen[str]":
    """The command as a process of its own, with the stand-in as its pipeline."""
    code = (
        "import sys; from pathlib import Path\n"
        "import mondegreen.loop.orchestrator as loop\n"
        "from tests.loop.loop_project import PIPELINE\n"
        "from tests.loop.loop_store import Store\n"
        "loop.PIPELINE = PIPELINE\n"
        "loop.FinetuningOrchestrator._freeze = lambda self: Store(Path('var')).freeze()\n"
        "from mondegreen.cli.main import app\n"
        "app(sys.argv[1:])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_sigterm_ends_a_watch_that_waits(project: LoopProject) -> None:
    process = start("watch", "--interval", "1h")
    assert process.stdout and "waits for approval" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 0 and error == "stopped (SIGTERM)\n"


@pytest.mark.parametrize(("command", "code"), [(["run"], 1), (["watch", "--interval", "1h"], 0)])
def test_sigterm_stops_a_round_which_the_next_run_ends(project: LoopProject, command: list[str], code: int) -> None:
    project.plan(slow="train", seconds=60)
    mondegreen("trigger", "--approve")
    process = start(*command)
    project.wait_for("reached")
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=20)
    assert process.returncode == code and "SIGTERM" in error
    with pytest.raises(ProcessLookupError):
        os.killpg(project.pipelines()[0], 0)
    assert "stopped while training (SIGTERM); the next run goes on" in mondegreen("jobs", "1").stdout
    project.plan()
    assert mondegreen("run").exit_code == 0


@pytest.mark.parametrize(("command", "code"), [("run", 130), ("watch", 0)])
def test_ctrl_c_is_said_by_its_name(
    project: LoopProject, monkeypatch: pytest.MonkeyPatch, command: str, code: int
) -> None:
    assert mondegreen("trigger", "--approve").exit_code == 0

    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mondegreen.loop.orchestrator.FinetuningOrchestrator.run_job", pressed)
    monkeypatch.setattr("mondegreen.loop.orchestrator.watch", pressed)
    done = mondegreen(command)
    assert "stopped (ctrl-C)" in done.stderr and done.exit_code == code
