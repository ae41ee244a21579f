"""The packaged model: it loads without mondegreen installed, and the server answers a base64 recording."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import requests

from mondegreen.config import Params
from mondegreen.records import RegisteredVersion, RegressionResults
from mondegreen.registry.deployer import register
from mondegreen.registry.packaging import resolve_uri, serving_requirements
from mondegreen.registry.tracking import start_run
from mondegreen.speech.model import model_digest
from mondegreen.speech.transcriber import BaselineSTTModel


class Verdict:
    outcome = "pass"


@pytest.fixture
def registered(project: Path, tiny_model: Path) -> RegisteredVersion:
    digest = model_digest(tiny_model)
    results = RegressionResults(passed=True, reason="", model=digest, suites=[])
    with start_run(Params()) as run_id:
        pass
    return register("stt", run_id, tiny_model, digest=digest, verdict=Verdict(), results=results, promote=False)


def test_the_package_transcribes_like_the_folder(
    registered: RegisteredVersion, tiny_model: Path, recording: bytes
) -> None:
    expected = BaselineSTTModel(str(tiny_model)).transcribe_bytes(recording).text
    packaged = mlflow.pyfunc.load_model("models:/stt@challenger")
    assert packaged.predict([recording, recording]) == [expected, expected]
    assert model_digest(resolve_uri("models:/stt@challenger")) == registered.digest


def test_the_package_brings_its_own_code(registered: RegisteredVersion, tmp_path: Path) -> None:
    package = resolve_uri(registered.uri).parents[1]
    assert (package / "code" / "mondegreen" / "speech" / "transcriber.py").is_file()
    assert not list((package / "code").rglob("__pycache__"))


def test_requirements_are_pinned_and_leave_the_pipeline_out() -> None:
    lines = serving_requirements()
    assert all("==" in line for line in lines)
    names = {line.split("==")[0] for line in lines}
    assert {"torch", "transformers", "mlflow"} <= names and not {"dvc", "pytest"} & names


def test_the_server_answers_a_base64_recording(
    registered: RegisteredVersion, tiny_model: Path, recording: bytes
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/stt@challenger"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/ping", server)
        body = json.dumps({"inputs": [base64.b64encode(recording).decode()]})
        answer = requests.post(
            f"http://127.0.0.1:{port}/invocations", data=body, headers={"Content-Type": "application/json"}, timeout=30
        )
        expected = BaselineSTTModel(str(tiny_model)).transcribe_bytes(recording).text
        assert answer.json() == {"predictions": [expected]}, answer.text
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _wait(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start (exit code {server.poll()})")
