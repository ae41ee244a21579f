"""The wheel in an environment of its own: it makes a project, and the project's pipeline runs from the package."""

import csv
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.project import HEADER, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("end_to_end")]
LIMIT = 60_000_000  # bytes; a package index takes 100 MB


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files: setuptools writes beside them."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.rstrip("\0").split("\0"):
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel; other libraries are those of this environment, which take gigabytes to fetch."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    command = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--no-deps", "--quiet", wheel]
    subprocess.run(command, check=True)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def run(python: Path, folder: Path, *command: str) -> str:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_", "PYTHON"))},
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(
        [shutil.which(command[0], path=environment["PATH"]) or command[0], *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_holds_what_a_project_needs_and_fits_an_index(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.stat().st_size < LIMIT
    for folder in ("starter/model", "starter/heldout", "starter/replay", "src/mondegreen/project/templates"):
        for path in (path for path in (ROOT / folder).rglob("*") if path.is_file()):
            place = path.relative_to(ROOT).as_posix().removeprefix("src/mondegreen/")
            assert f"mondegreen/{place}" in names


def test_a_project_of_ones_own_runs_from_the_installed_package(python: Path, tmp_path: Path) -> None:
    project = tmp_path / "my-asr"
    run(python, tmp_path, "mondegreen", "init", str(project))
    _recordings(project / "data")
    params = (project / "params.yaml").read_text()
    for old, new in (("  epochs: 12", "  epochs: 1"), ("test_fraction: 0.45", "test_fraction: 0.4")):
        assert old in params
        params = params.replace(old, new)
    (project / "params.yaml").write_text(params)
    run(python, project, "python", "-m", "dvc", "repro")
    assert "verdict" in run(python, project, "mondegreen", "summary").lower()
    installed = Path(sysconfig.get_path("purelib", vars={"base": str(python.parent.parent)})) / "mondegreen"
    for text, reruns in (("\n# only a remark\n", False), ("\n_SPARE = 1\n", True)):
        with (installed / "stages/prepare.py").open("a") as stream:
            stream.write(text)
        assert ("Running stage 'prepare'" in run(python, project, "python", "-m", "dvc", "repro")) == reruns


def _recordings(data: Path) -> None:
    """Twelve of the starter's held-out recordings."""
    source = ROOT / "starter" / "heldout"
    with (source / "references.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[:12]
    with (data / "references.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            name = f"audio/clean/{Path(row['path']).name}"
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / row["path"], data / name)
            writer.writerow({**row, "path": name, "condition": "clean", "source": Path(name).stem})
