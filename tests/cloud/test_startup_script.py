"""The start-up script, run by bash: metadata and bucket on 127.0.0.1, what would change the machine replaced."""

import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from mondegreen.cloud.job import prepare
from mondegreen.gcs import Bucket
from tests.cloud.conftest import git
from tests.gcs import BUCKET

SCRIPT = str(files("mondegreen.cloud") / "startup.sh")
# Like pip, it fails where a file that it is told to read is not there.
NEEDS_ITS_FILES = """
while [ $# -gt 0 ]; do
  case $1 in --requirement | --constraint) [ -f "$2" ] || { echo "$2: no such file"; exit 1; } ;; esac
  shift
done
"""
ATTRIBUTES = {"mondegreen-bucket": BUCKET, "mondegreen-prefix": "mondegreen", "mondegreen-dataset": "first"}


@pytest.fixture
def metadata() -> Iterator[str]:
    """Google's metadata server; the dataset's id appears at the second look."""
    looks = {"mondegreen-dataset": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Metadata-Flavor"] == "Google"
            name = self.path.rsplit("/", 1)[1]
            looks[name] = looks.get(name, 0) + 1
            answer = json.dumps({"access_token": "t0k", "expires_in": 1}) if name == "token" else ATTRIBUTES[name]
            early = name == "mondegreen-dataset" and looks[name] < 2
            self.send_response(404 if early else 200)
            self.end_headers()
            self.wfile.write(b"" if early else answer.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def boot(tmp_path: Path, metadata: str, pip: str = "", python: str = "") -> list[str]:
    """Runs the script with stand-ins of python3, apt-get and shutdown; returns what they were told."""
    tools, told = tmp_path / "tools", tmp_path / "told.txt"
    tools.mkdir()
    fake = f'#!/bin/sh\necho "$(basename "$0") $*" >>{told}\n'
    environment_of = f"mkdir -p .venv/bin\ncp {tools}/pip {tools}/python .venv/bin\n"
    scripts = {
        "shutdown": fake, "apt-get": fake, "python": fake + python, "pip": fake + pip,
        "python3": fake + f'[ "$1" != -m ] || {{ {environment_of} }}\n',
    }  # fmt: skip
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "MONDEGREEN_METADATA": metadata,
        "MONDEGREEN_HOME": str(tmp_path / "home"), "MONDEGREEN_PAUSE": "0.1",
    }  # fmt: skip
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return told.read_text().splitlines()


def wheel(path: Path, needs: str = "") -> None:
    """A package without files."""
    path.parent.mkdir()
    name, version = path.name.split("-")[:2]
    with zipfile.ZipFile(path, "w") as archive:
        place = f"{name}-{version}.dist-info"
        about = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{needs}"
        archive.writestr(f"{place}/METADATA", about)
        archive.writestr(f"{place}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{place}/RECORD", "")


def test_it_gets_the_commit_and_runs_the_job(bucket: Bucket, project: Path, metadata: str, tmp_path: Path) -> None:
    prepare(project, bucket, "first")
    told = boot(tmp_path, metadata)
    assert (tmp_path / "home/project/dvc.yaml").read_text() == (project / "dvc.yaml").read_text()
    assert "python -m mondegreen.cloud.job --bucket calls --prefix mondegreen --dataset-id first" in told
    assert told[-1] == "shutdown -h now"


def test_a_project_installs_what_its_requirements_say_and_googles_clients(
    bucket: Bucket, project: Path, metadata: str, tmp_path: Path
) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "calls"\n')  # one of its owner's
    git(project, "add", "pyproject.toml")
    git(project, "commit", "--quiet", "--message", "a tool of ours")
    prepare(project, bucket, "first")
    told = boot(tmp_path, metadata, pip=NEEDS_ITS_FILES)
    assert "pip install --quiet --requirement requirements.txt --requirement ../extra.txt" in told
    assert any("mondegreen.cloud.job" in line for line in told)


def test_pip_finds_the_extra_of_a_mondegreen_that_comes_from_an_address(
    bucket: Bucket, project: Path, metadata: str, tmp_path: Path
) -> None:
    pytest.importorskip("pip")
    wheel(tmp_path / "index/google_client-1.0-py3-none-any.whl")
    needs = "Provides-Extra: gcp\nRequires-Dist: google-client; extra == 'gcp'\n"
    wheel(tmp_path / "elsewhere/mondegreen-0.1-py3-none-any.whl", needs)
    address = (tmp_path / "elsewhere/mondegreen-0.1-py3-none-any.whl").as_uri()
    (project / "requirements.txt").write_text(f"mondegreen @ {address}\n")
    git(project, "commit", "--quiet", "--all", "--message", "from an address")
    prepare(project, bucket, "first")
    offline = f"--dry-run --ignore-installed --no-index --find-links {tmp_path}/index --report {tmp_path}/report.json"
    told = boot(tmp_path, metadata, pip=f'exec {sys.executable} -m pip "$@" {offline}\n')
    assert any("mondegreen.cloud.job" in line for line in told)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {item["metadata"]["name"] for item in report["install"]} == {"mondegreen", "google-client"}


def test_the_repository_of_mondegreen_installs_itself_as_pinned(
    bucket: Bucket, project: Path, metadata: str, tmp_path: Path
) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "mondegreen"\n')
    (project / "constraints.txt").write_text("numpy==2.0\n")
    git(project, "add", "pyproject.toml", "constraints.txt")
    git(project, "commit", "--quiet", "--message", "mondegreen")
    prepare(project, bucket, "first")
    told = boot(tmp_path, metadata, pip=NEEDS_ITS_FILES)
    assert "pip install --quiet --constraint constraints.txt --editable .[gcp]" in told
    assert any("mondegreen.cloud.job" in line for line in told)


def test_what_a_job_could_not_say_itself_is_told(bucket: Bucket, project: Path, metadata: str, tmp_path: Path) -> None:
    prepare(project, bucket, "first")
    told = boot(tmp_path, metadata, python="echo No module named mondegreen.cloud >&2; exit 1\n")
    assert told[-1] == "shutdown -h now"
    bucket.download("runs/first/boot.txt", tmp_path / "boot.txt")
    assert "No module named mondegreen.cloud" in (tmp_path / "boot.txt").read_text()


def test_a_machine_that_cannot_be_set_up_says_so(bucket: Bucket, project: Path, metadata: str, tmp_path: Path) -> None:
    from mondegreen.cloud.job import find_state

    prepare(project, bucket, "first")
    told = boot(tmp_path, metadata, pip="echo no matching distribution; exit 1\n")
    assert not any("mondegreen.cloud.job" in line for line in told) and told[-1] == "shutdown -h now"
    state = find_state(bucket, "first")
    assert state and state.state == "failed" and "boot.txt" in state.message
    bucket.download("runs/first/boot.txt", tmp_path / "boot.txt")
    assert "no matching distribution" in (tmp_path / "boot.txt").read_text()


def test_bash_finds_no_fault(tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
