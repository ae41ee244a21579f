"""A small project under git and DVC, a bucket and a Compute Engine."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mondegreen.cloud.job import STAGES
from mondegreen.config import GcpParams
from mondegreen.gcs import Bucket
from tests.cloud.compute import Compute, emulated_compute
from tests.gcs import BUCKET, emulated_bucket

SETTINGS = GcpParams(project_id="speech", bucket=BUCKET)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with emulated_bucket(monkeypatch):
        yield Bucket(SETTINGS)


@pytest.fixture
def compute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compute]:
    with emulated_compute(monkeypatch) as found:
        yield found


def git(project: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=project, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def dvc(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its stages copy data/words.txt onwards."""
    folder = tmp_path_factory.mktemp("cloud") / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "words.txt").write_text("please hold the line\n")
    names, before = (*STAGES, "evaluate"), "data"
    write = f"mkdir -p build/code && for stage in {' '.join(names)}; do echo digest$OTHER_CODE >build/code/$stage; done"
    stages: dict[str, Any] = {
        "code": {"cmd": write, "always_changed": True, "outs": [f"build/code/{name}" for name in names]}
    }
    for stage in names:
        out = f"build/{stage}"
        stages[stage] = {"cmd": f"cp -r {before} {out}", "deps": [before, f"build/code/{stage}"], "outs": [out]}
        before = out
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / "requirements.txt").write_text("mondegreen\n")
    (folder / "params.yaml").write_text(f"gcp: {{project_id: speech, bucket: {BUCKET}}}\n")
    (folder / ".gitignore").write_text("/build\n/var\n/data\n")
    git(folder, "init", "--quiet", "--initial-branch=main")
    dvc(folder, "init", "--quiet")
    dvc(folder, "add", "--quiet", "data")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a project")
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template; it is the working directory."""
    folder = shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(folder)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return folder
