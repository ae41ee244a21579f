"""`dvc repro` with nothing changed, and `dvc repro transcribe` after adding one file to the sample."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import table

ROOT = Path(__file__).resolve().parent.parent


def rows() -> list[dict[str, Any]]:
    """Whole-command seconds in a temporary copy of the project that has never run."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        # Without earlier outputs and DVC's cache of them: the first run is one from nothing.
        left_out = shutil.ignore_patterns(".venv", "mlruns", "var", "build", "cache", ".git", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=left_out)
        subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
        first = _seconds(copy, "dvc", "repro", "transcribe")
        nothing = _seconds(copy, "dvc", "repro", "transcribe")
        clip = sorted((ROOT / "data/regression").rglob("*.wav"))[0]
        shutil.copy(clip, copy / "data/audio/clean/added.wav")
        one = _seconds(copy, "dvc", "repro", "transcribe")
    times = {"from nothing": first, "nothing changed": nothing, "one file added to the sample": one}
    return [
        {"dvc repro transcribe": name, "seconds": f"{value:.1f}", "share of the first": f"{value / first:.2f}"}
        for name, value in times.items()
    ]


def _seconds(folder: Path, *command: str) -> float:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "src"),
    }
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def report() -> str:
    """The table, as Markdown."""
    return table(rows())
