"""A round over the real pipeline in a temporary clone, whose runner is killed with kill -9 while it trains."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import ROOT, Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("end_to_end")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    project = Project(tmp_path)
    project.recordings()
    project.params(
        train={"epochs": 2, "patience": 2, "batch_seconds": 6},
        prepare={"test_fraction": 0.4, "dev_fraction": 0.2},
        trigger={"min_error_cases": 1, "min_corrected_cases": 1},
    )
    project.git("config", "user.name", "Test")
    project.git("config", "user.email", "test@example.org")
    project.run("dvc", "add", "--quiet", "data")
    project.commit("a dozen recordings, two epochs")
    return project


def test_a_killed_round_goes_on_and_every_step_happened_once(project: Project) -> None:
    donor = sorted((ROOT / "starter/heldout").rglob("*.ogg"))[-1]
    words = ["--text", "A B C", "--correction", "the cat sat on the mat", "--model-version", "m"]
    project.run("mondegreen", "cases", "add", str(donor), *words)
    project.run("mondegreen", "trigger", "--approve")
    log = project.folder / "var/jobs/1.log"
    runner = _runner(project)
    _until(lambda: runner.poll() is not None or (log.exists() and "Running stage 'train'" in log.read_text()))
    assert runner.poll() is None, project.run("mondegreen", "jobs", "1").stdout
    runner.send_signal(signal.SIGKILL)
    runner.wait()

    beside = project.run("mondegreen", "run", check=False)
    assert beside.returncode == 1 and "the pipeline that process" in beside.stderr
    # What it left behind ends its work; then there is nothing more to do than to read the verdict.
    _until(lambda: _status(project)["orchestrator"]["worker"] is None)
    ended = project.run("mondegreen", "run", "--json", check=False)
    job = json.loads(ended.stdout)
    assert (
        ended.returncode == 1 and job["state"] == "completed" and job["outcome"] == "inconclusive"
    )  # too few recordings
    assert job["dataset_version"] == 1 and job["details"]["version"]["alias"] == "challenger"
    assert log.read_text().count("Running stage 'train'") == 1
    assert project.git("tag", "--list", "failed-cases/*") == "failed-cases/v1"
    status = _status(project)
    assert status["deployer"]["challenger"] == 1 and status["cases"]["new"] == 0


def _status(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.run("mondegreen", "status", "--json").stdout)
    return found


def _runner(project: Project) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(project.folder / "src"), "OMP_NUM_THREADS": "1"}
    nothing, command = subprocess.DEVNULL, Path(sys.executable).parent / "mondegreen"
    return subprocess.Popen([command, "run"], cwd=project.folder, env=environment, stdout=nothing, stderr=nothing)


def _until(true: Callable[[], bool], seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.5)
