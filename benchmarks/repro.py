"""`prepare` and `dvc repro`: from nothing, with nothing changed, and with one file added to the sample's 200."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import table

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "stage `prepare` alone": ("python", "-m", "mondegreen.stages.prepare"),
    "`dvc repro transcribe`": ("dvc", "repro", "transcribe"),
}


def rows() -> list[dict[str, Any]]:
    """Whole commands in temporary copies of the project that have never run."""
    found = []
    for name, command in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "project"
            # Without earlier outputs and DVC's cache of them: the first run is one from nothing.
            left_out = shutil.ignore_patterns(
                *(".venv", "mlruns", "var", "build", "cache", ".git", "__pycache__", ".*_cache")
            )
            shutil.copytree(ROOT, copy, ignore=left_out)
            subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
            subprocess.run([sys.executable, "-m", "compileall", "-q", "src"], cwd=copy, check=True)  # once a version
            measured = {"from nothing": _measured(copy, *command), "nothing changed": _measured(copy, *command)}
            clip = sorted((ROOT / "data/regression").rglob("*.wav"))[0]
            shutil.copy(clip, copy / "data/audio/clean/added.wav")
            measured["one file added to the sample"] = _measured(copy, *command)
        _, first = measured["from nothing"]
        found += [
            {
                "command": name,
                "": when,
                "seconds": f"{wall:.1f}",
                "CPU seconds": f"{cpu:.1f}",
                "share of the first's": f"{cpu / first:.2f}",
            }
            for when, (wall, cpu) in measured.items()
        ]
    return found


def _measured(folder: Path, *command: str) -> tuple[float, float]:
    """Wall and CPU seconds of a command and all that it starts."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "src"),
    }
    started, before = time.perf_counter(), _cpu()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started, _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report() -> str:
    """The table, as Markdown."""
    return table(rows())
