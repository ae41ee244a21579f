"""Whether time and memory grow with the corpus and no faster: prepare, transcribe, validate and report.

python -m benchmarks.scaling [--clips 1000 10000]

Clips of half a second of noise, a model of 32 hidden units; the test sets of validate and report are those of
`benchmarks.reporting`. Each step is a process of its own: CPU seconds, and peak memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import table

ROOT = Path(__file__).resolve().parents[1]
_VALIDATE = """
from mondegreen.config import Params
from mondegreen.reports.outputs import read_outputs
from mondegreen.scoring.decision import decide
decide(read_outputs().sets, Params())
"""
_MAKE = "from pathlib import Path; from benchmarks import reporting; from benchmarks.scaling import make"
STEPS: dict[str, list[str]] = {
    "prepare": ["-m", "mondegreen.stages.prepare"],
    "prepare, nothing new": ["-m", "mondegreen.stages.prepare"],
    "transcribe": ["-m", "mondegreen.stages.transcribe"],
    "validate": ["-c", _VALIDATE],
    "report": ["-m", "mondegreen", "report"],
}


def make(folder: Path, clips: int) -> None:
    """A project with recordings of forty speakers that all say something else."""
    import numpy as np
    import soundfile

    from benchmarks import reporting
    from tests.tiny import save_model

    rng, rows = np.random.default_rng(0), ["path,text,speaker"]
    (folder / "data/clean").mkdir(parents=True)
    for number in range(clips):
        name = f"clean/{number:06}.wav"
        soundfile.write(folder / "data" / name, rng.normal(0, 0.1, 8_000), 16_000)
        words = [reporting.WORDS[place % len(reporting.WORDS)] for place in (number, number // 660, 7 * number)]
        rows.append(f"{name},{' '.join(words)},s{number % 40}")
    (folder / "data/references.csv").write_text("\n".join(rows) + "\n")
    save_model(folder / "model")
    (folder / "params.yaml").write_text("model: {base: model}\nvalidate: {require_retention: false}\n")


def measured(folder: Path, arguments: Sequence[str]) -> tuple[float, float]:
    """CPU seconds and peak MiB of a Python process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=stream, stderr=stream
        )
        _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(log.read_text())
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def report(sizes: Sequence[int]) -> str:
    """A row a step, as Markdown."""
    rows: dict[str, dict[str, Any]] = {step: {"step": step} for step in STEPS}
    for size in sizes:
        with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as judged:
            # In another process: a child's peak memory begins with what its parent holds.
            work = f"make(Path({corpus!r}), {size}); reporting.make(Path({judged!r}), {size}, 40)"
            measured(Path(corpus), ["-c", f"{_MAKE}; {work}"])
            for step, arguments in STEPS.items():
                seconds, memory = measured(Path(judged if step in ("validate", "report") else corpus), arguments)
                rows[step][f"{size:,} clips"] = f"{seconds:.1f} s, {memory:.0f} MiB"
    return table(list(rows.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[1_000, 10_000])
    print(report(parser.parse_args().clips))
