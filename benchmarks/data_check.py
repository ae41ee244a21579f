"""`mondegreen data check` and `data import` on many files: time and memory.

python -m benchmarks.data_check [--files 10000]

Made-up clips of about a second at 16 kHz (noise, 16 bit), each with a made-up text that takes as long, of 100
speakers; a tenth in data/retention. Whole commands, libraries and page included; memory is the peak of the largest
process, of which `data check` has one a core beside the main one.
"""

import argparse
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.common import machine, table

RATE = 16_000
WORDS = [f"{first}{second}{third}" for first in "bdfgklmnprst" for second in "aeiou" for third in "bdgklmnprst"]
_RUN = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(done.returncode, used.ru_maxrss // 1024, used.ru_utime + used.ru_stime)"
)


def make(folder: Path, files: int) -> None:
    """Writes a NeMo manifest and its clips."""
    rng, noise = random.Random(0), np.random.default_rng(0)
    lines = []
    for number in range(files):
        text = " ".join(rng.choices(WORDS, k=rng.randint(4, 8)))
        path = folder / f"wav/{number % 100:02}/{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise.normal(0, 0.1, round(RATE * len(text) / 40)).astype(np.float32), RATE)
        lines.append({"audio_filepath": str(path.relative_to(folder)), "text": text, "speaker": f"s{number % 100}"})
    for name, rows in (("target", lines[files // 10 :]), ("known", lines[: files // 10])):
        (folder / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def measure(folder: Path, *arguments: str) -> dict[str, object]:
    """Runs a command in a folder."""
    command = [sys.executable, "-c", "from mondegreen.cli.main import app; app()", "data", *arguments]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    code, memory, worked = done.stdout.split()
    if code == "2":
        raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr}")
    seconds = f"{time.perf_counter() - start:.1f}"
    return {
        "command": f"`data {' '.join(arguments)}`",
        "seconds": seconds,
        "of them at work, all processes": f"{float(worked):.1f}",
        "peak MiB of a process": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    chosen = parser.parse_args()
    print(f"{datetime.datetime.now():%Y-%m-%d %H:%M}, {machine()}, load {os.getloadavg()[0]:.1f}\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "params.yaml").write_text("seed: 1\n")
        make(folder, chosen.files)
        rows = [
            measure(folder, "import", "nemo", "target.json"),
            measure(folder, "import", "nemo", "known.json", "--into", "data/retention"),
            measure(folder, "import", "nemo", "target.json"),
            measure(folder, "check", "--html", "data.html"),
            measure(folder, "check", "--json"),
        ]
        print(table(rows))


if __name__ == "__main__":
    main()
