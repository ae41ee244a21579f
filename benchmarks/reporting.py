"""The report of a large test set, on one core: 10,000 utterances of 40 speakers.

python -m benchmarks.reporting [--utterances 10000] [--speakers 40]

Made-up words under two made-up recognisers; all share one file of noise, so that the page encodes its clips.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from benchmarks.common import table
from mondegreen.config import Params
from mondegreen.files import sha256_file, write_json, write_jsonl
from mondegreen.records import Hypothesis, Utterance
from mondegreen.reports.outputs import read_outputs
from mondegreen.reports.validation import find, render_markdown, write_page, write_plots
from mondegreen.scoring.decision import decide
from mondegreen.scoring.paired_sets import pair_test_sets

WORDS = [f"{first}{second}{third}" for first in "bdfgklmnprst" for second in "aeiou" for third in "bdgklmnprst"]
RATES = {"old": 0.30, "new": 0.27}
SECONDS = 5.0
Timed = TypeVar("Timed")


def make(folder: Path, utterances: int, speakers: int) -> None:
    """Writes build/ with a verdict: `utterances` of the test set and a tenth as many for retention."""
    rng = random.Random(0)
    recording = folder / "data" / "noise.wav"
    recording.parent.mkdir(parents=True)
    soundfile.write(recording, np.random.default_rng(0).normal(0, 0.1, int(16_000 * SECONDS)), 16_000)
    digest = sha256_file(recording)
    rows: list[Utterance] = []
    heard: dict[str, list[Hypothesis]] = {name: [] for name in RATES}
    for number in range(utterances + utterances // 10):
        speaker = number % speakers
        text = " ".join(rng.choices(WORDS, k=12))
        row = Utterance(
            id=f"{number:016x}", path="data/noise.wav", sha256=digest, duration=SECONDS,
            condition=("clean", "noisy")[number % 2], speaker=f"s{speaker}", recording=f"{number}",
            reference=text, split="test", domain="target" if number < utterances else "retention",
        )  # fmt: skip
        rows.append(row)
        for name, rate in RATES.items():
            heard[name].append(_heard(row, _misheard(text, rate + 0.004 * (speaker % 10), rng), name, rng))
    write_jsonl(folder / "build/prepare/manifest.jsonl", rows)
    for stage, name in (("transcribe", "old"), ("evaluate", "new")):
        write_jsonl(folder / f"build/{stage}/hypotheses.jsonl", heard[name])
    sets = pair_test_sets(rows, heard["old"], heard["new"], Params())
    write_json(folder / "build/validate/verdict.json", decide(sets, Params()))


def _misheard(text: str, rate: float, rng: random.Random) -> str:
    words = []
    for word in text.split():
        draw = rng.random()
        if draw > rate:
            words.append(word)
        elif draw > 0.3 * rate:
            words.append(rng.choice(WORDS))
        elif draw > 0.15 * rate:
            words += [word, rng.choice(WORDS)]
    return " ".join(words)


def _heard(row: Utterance, text: str, model: str, rng: random.Random) -> Hypothesis:
    words = [
        {"text": word, "start": 0.3 * place, "end": 0.3 * place + 0.2, "confidence": 0.9}
        for place, word in enumerate(text.split())
    ]
    nbest = [{"text": text, "score": -float(place)} for place in range(5)]
    return Hypothesis.model_validate(
        {"id": row.id, "path": row.path, "text": text, "confidence": rng.random(), "duration": SECONDS, "words": words,
         "nbest": nbest, "model": model}
    )  # fmt: skip


def report(utterances: int = 10_000, speakers: int = 40) -> str:
    """The seconds of the whole command and of each step, on one core, as a Markdown table."""
    cores, before = os.sched_getaffinity(0), Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), utterances, speakers)
        os.sched_setaffinity(0, [min(cores)])
        os.chdir(name)  # paths of the manifest are relative to the project
        try:
            return _measured(Path("build"))
        finally:
            os.chdir(before)
            os.sched_setaffinity(0, cores)


def _measured(build: Path) -> str:
    rows: list[dict[str, object]] = []

    def timed(name: str, work: Callable[[], Timed], clock: Callable[[], float] = time.process_time) -> Timed:
        wall, cpu = time.perf_counter(), clock()
        result = work()
        seconds = (f"{time.perf_counter() - wall:.1f}", f"{clock() - cpu:.1f}")
        rows.append({"step": name, "seconds": seconds[0], "of the processor": seconds[1]})
        return result

    command = [str(Path(sys.executable).with_name("mondegreen")), "report"]
    timed("`mondegreen report`", lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), _children)
    outputs = timed("its steps: read the stage outputs", lambda: read_outputs(build))
    found = timed("compare, test, slice, resample", lambda: find(outputs))
    timed("draw and write the page with 20 clips", lambda: write_page(build / "report.html", found))
    timed("beside them: Markdown", lambda: render_markdown(found))
    timed("CSV for `dvc plots`", lambda: write_plots(build / "plots", found))
    return f"{table(rows)}\n\nThe page has {(build / 'report.html').stat().st_size / 1e6:.1f} MB."


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--speakers", type=int, default=40)
    chosen = parser.parse_args()
    print(report(chosen.utterances, chosen.speakers))
