"""The packaged model: it loads without mondegreen installed, and the server answers a base64 recording."""

import base64
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import mlflow
import pytest
import requests

from mondegreen.config import Params
from mondegreen.records import RegisteredVersion, RegressionResults
from mondegreen.registry import package
from mondegreen.registry.package import checksums, code_archive, differences, serving_requirements
from mondegreen.registry.record import VerdictTags
from mondegreen.registry.register import register
from mondegreen.registry.resolving import resolve_uri
from mondegreen.registry.runs import start_run
from mondegreen.speech.model_folder import model_digest
from mondegreen.speech.transcriber import BaselineSTTModel
from tests.support.ports import closed_port


@pytest.fixture
def registered(project: Path, tiny_model: Path) -> RegisteredVersion:
    digest = model_digest(tiny_model)
    results = RegressionResults(passed=True, reason="", model=digest, suites=[])
    with start_run(Params()) as run_id:
        pass
    verdict = VerdictTags("pass", model_digest=digest)
    return register("stt", run_id, tiny_model, digest=digest, verdict=verdict, results=results, promote=False)


def test_the_package_transcribes_like_the_folder(
    registered: RegisteredVersion, tiny_model: Path, recording: bytes
) -> None:
    expected = BaselineSTTModel(str(tiny_model)).transcribe_bytes(recording).text
    packaged = mlflow.pyfunc.load_model("models:/stt@challenger")
    assert packaged.predict([recording, recording]) == [expected, expected]
    assert model_digest(resolve_uri("models:/stt@challenger")) == registered.digest


def test_requirements_are_pinned_and_leave_the_pipeline_out() -> None:
    lines = serving_requirements()
    assert all("==" in line and "+" not in line for line in lines)
    names = {line.split("==")[0] for line in lines}
    assert {"torch", "transformers", "mlflow"} <= names and not {"dvc", "pytest"} & names


def test_the_code_is_one_archive_of_the_same_bytes_each_time_and_without_the_starter(tmp_path: Path) -> None:
    first, second = (code_archive(package._CODE, tmp_path / name) for name in ("one.zip", "two.zip"))
    assert first.read_bytes() == second.read_bytes() and first.stat().st_size < 2e6
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
    assert "mondegreen/speech/transcriber.py" in names and "mondegreen/reports/templates/report.md.j2" in names
    assert not [name for name in names if "/starter/" in name or "__pycache__" in name]


def test_packages_whose_code_is_a_tree_stay_verifiable(tmp_path: Path) -> None:
    for name in ("MLmodel", "code/mondegreen/__init__.py", "code/mondegreen/cli/main.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    recorded = checksums(tmp_path)
    assert sorted(recorded) == ["MLmodel", "code/"] and not differences(tmp_path, recorded)
    (tmp_path / "code/mondegreen/cli/main.py").write_text("something else")
    assert differences(tmp_path, recorded) == ["code/ has other bytes"]


def test_the_server_answers_a_base64_recording_with_the_code_of_the_package(
    registered: RegisteredVersion, tiny_model: Path, recording: bytes, tmp_path: Path
) -> None:
    content = resolve_uri(registered.uri).parents[1]
    assert [path.name for path in (content / "code").rglob("*")] == ["mondegreen.zip"]
    assert len([path for path in content.rglob("*") if path.is_file()]) < 20  # a check fetches each of them
    absent = tmp_path / "absent" / "mondegreen" / "__init__.py"
    absent.parent.mkdir(parents=True)
    absent.write_text("raise ImportError('the package must bring mondegreen itself')", encoding="utf-8")
    port = closed_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/stt@challenger"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(absent.parents[1])}
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
