"""What an hour of audio costs one core: decoding, hearing, writing. docs/scale.md multiplies it.

python -m benchmarks.scale [MINUTES]      of short clips and of calls of three minutes, each; CPU time of one thread
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a worker is one core

import numpy as np
import soundfile

from benchmarks.common import clips, model_folder, table
from mondegreen.config import AudioParams
from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from mondegreen.speech.examining import examine
from mondegreen.speech.shards import ShardRow, as_jsonl, as_parquet, transcribed
from mondegreen.speech.transcriber import BaselineSTTModel

CALL = 180.0  # seconds


def main(minutes: float = 3.0) -> None:
    """Prints a table; the models are heard once before it counts."""
    with tempfile.TemporaryDirectory() as folder:
        short, calls = _short(60 * minutes), _calls(Path(folder), 60 * minutes)
        rows = []
        for kind, paths in (("clips of 4 s", short), ("calls of 3 min", calls)):
            hours = sum(len(load_audio(path)) for path in paths) / SAMPLE_RATE / 3600
            decoding, _ = _cpu(lambda paths=paths: [examine(path, AudioParams(max_duration=3600)) for path in paths])
            rows.append({"recordings": kind, "what": "decoded and hashed", **_an_hour(decoding, hours)})
            for name in ("starter", "base"):
                stt = BaselineSTTModel(str(model_folder(name)))
                list(transcribed([str(short[0])], stt, "mix"))
                names = [str(path) for path in paths]
                seconds, heard = _cpu(lambda names=names, stt=stt: list(transcribed(names, stt, "mix")))
                what = {"recordings": kind, "what": f"heard by {name}, to rows"}
                rows.append(what | _an_hour(seconds, hours) | _sizes(heard, hours))
    print(table([{"audio MB": "", "JSONL MB": "", "Parquet MB": ""} | row for row in rows]))


def _short(seconds: float) -> list[Path]:
    found, total = [], 0.0
    for path in clips(200):
        total += len(load_audio(path)) / SAMPLE_RATE
        found.append(path)
        if total >= seconds:
            break
    return found


def _calls(folder: Path, seconds: float) -> list[Path]:
    """The clips joined, as 16-bit wav of 8 kHz like a telephone exchange writes it."""
    joined = np.concatenate([load_audio(path) for path in clips(200)])[::2]
    made = []
    for number in range(max(1, round(seconds / CALL))):
        made.append(folder / f"call-{number}.wav")
        soundfile.write(made[-1], np.roll(joined, number * 8_000)[: int(CALL * 8_000)], 8_000)
    return made


def _cpu(work: Callable[[], Sequence[object]]) -> tuple[float, list[ShardRow]]:
    started = time.process_time()
    found = work()
    return time.process_time() - started, [one for one in found if isinstance(one, ShardRow)]


def _an_hour(seconds: float, hours: float) -> dict[str, str]:
    return {"CPU s an hour": f"{seconds / hours:.0f}", "× realtime": f"{3600 * hours / seconds:.0f}"}


def _sizes(rows: list[ShardRow], hours: float) -> dict[str, str]:
    audio = sum(Path(row.path).stat().st_size for row in rows if Path(row.path).is_file()) / hours / 1e6
    sizes = {"JSONL": len(as_jsonl(rows)), "Parquet": len(as_parquet(rows))}
    return {"audio MB": f"{audio:.0f}"} | {f"{kind} MB": f"{size / hours / 1e6:.2f}" for kind, size in sizes.items()}


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
