"""A small project with data/ in git and DVC, and recordings for its case store."""

import contextlib
import functools
import io
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.cases.repository import Repository
from mondegreen.cases.store import DataManager
from mondegreen.config import AudioParams, CasesParams, ModelParams, Params
from mondegreen.errors import CaseError
from mondegreen.files import sha256_file

STARTER = Path(__file__).resolve().parents[2] / "starter" / "model"
PARAMS = Params(model=ModelParams(base=str(STARTER)))


def params(max_duration: float = 30.0, **cases: float) -> Params:
    return Params(
        model=PARAMS.model, audio=AudioParams(max_duration=max_duration), cases=CasesParams.model_validate(cases)
    )


@functools.cache
def _template() -> tempfile.TemporaryDirectory[str]:
    holder = tempfile.TemporaryDirectory()
    root = Path(holder.name)
    for name, text in {
        ".dvc/config": "[core]\n    analytics = false\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".gitignore": "/data\n/var/\n",
        "other.txt": "of the user\n",
        "data/README.md": "the user's data\n",
        "data/audio/clean/a.wav": "not looked at here",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    dvc(root, "add", "--quiet", "data")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "the project")
    return holder


def make_project(folder: Path) -> Path:
    shutil.copytree(_template().name, folder, symlinks=True)
    return folder


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def dvc(root: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextlib.contextmanager
def dvc_within() -> Iterator[None]:
    """Runs DVC in this process: the same commands, without the second that each takes to start."""
    from dvc.cli import main
    from dvc.repo import Repo

    def run(repository: Repository, *arguments: str) -> str:
        with contextlib.chdir(repository.root), contextlib.redirect_stdout(io.StringIO()):
            if arguments == ("status", "data.dvc", "--json"):  # what it prints
                with Repo() as repo:
                    return json.dumps(repo.status(targets=["data.dvc"]))
            for name in ("dvc", "dvc_objects", "dvc_data"):  # each call adds its own, for the stdout and stderr of then
                logging.getLogger(name).handlers.clear()
            if code := main(list(arguments)):
                raise CaseError(f"dvc {arguments[0]} gave {code}")
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repository, "dvc", run)
        yield


def record(path: Path, seconds: float = 0.3) -> Path:
    """Noise that only this name has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.name.encode())).normal(0, 0.1, round(16000 * seconds))
    soundfile.write(path, noise.astype(np.float32), 16000)
    return path


def add_case(manager: DataManager, name: str, text: str | None = None, seconds: float = 0.3, **more: object) -> str:
    """A case of a recording of that name."""
    path = record(manager.folder / "incoming" / f"{name}.wav", seconds)
    values = {"model_version": "m1", "source": "production", "author": "ann", "error_types": ["repeats"], **more}
    return manager.store_failed_case(path, f"heard {name}", text, **values)  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}
