"""`mondegreen ui` names the pages that exist, and starts them."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

from mondegreen.cli.ui import addresses
from mondegreen.config import Params
from mondegreen.registry.mlflow_store import EXPERIMENT, connect
from mondegreen.registry.runs import start_run


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_names_the_runs_and_what_there_is_of_the_rest() -> None:
    (only,) = addresses("http://127.0.0.1:5000", "heard").items()
    experiment = connect().get_experiment_by_name(EXPERIMENT)
    training = "?workflowType=machine_learning"
    runs = f"http://127.0.0.1:5000/#/experiments/{experiment and experiment.experiment_id}/runs"
    assert experiment and only == ("runs", runs + training)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    with start_run(Params()) as run_id:
        connect().create_registered_model("heard")
    found = addresses("http://127.0.0.1:5000", "heard")
    assert found["last_run"] == f"{runs}/{run_id}{training}" and found["model"].endswith("/#/models/heard" + training)


@pytest.mark.slow
def test_it_starts_mlflow_on_a_free_port_and_stops_with_it() -> None:
    code = "from mondegreen.cli.main import app; app()"
    started = subprocess.Popen(
        [sys.executable, "-c", code, "ui", "--port", "0", "--json"], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert started.stdout
        line = started.stdout.readline()
        root = re.sub(r"/#.*", "", json.loads(line)["runs"])
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                assert requests.get(root, timeout=5).status_code == 200
                break
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.3)
        else:
            pytest.fail("it never answered")
    finally:
        workers = psutil.Process(started.pid).children(recursive=True)
        started.terminate()  # it alone, as a service manager does
        _, said = started.communicate(timeout=60)
    assert started.returncode == 0 and said.endswith("stopped (SIGTERM)\n") and "Traceback" not in said
    assert len(workers) > 1 and not psutil.wait_procs(workers, timeout=30)[1], "MLflow's own processes end with it"
