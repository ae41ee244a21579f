"""Transcribing the sample: mondegreen against transformers' ASR pipeline.

python -m benchmarks.transcribing MODEL WAY CLIPS      one measurement, as JSON
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import clips, measured, model_folder, table

WAYS = ("ours", "ours, no N-best", "ours, cached features", "pipeline batch 1", "pipeline batch 8")


def rows(model: str, count: int) -> list[dict[str, Any]]:
    """One row a way, with ratios to the pipeline with batch 8, and in how many clips the text is another one."""
    found = {way: measured("benchmarks.transcribing", model, way, str(count)) for way in WAYS}
    exact = found["pipeline batch 1"]["texts"]
    eight = found["pipeline batch 8"]["seconds"]
    return [
        {
            "way": way,
            "seconds": f"{result['seconds']:.1f}",
            "× realtime": f"{result['audio'] / result['seconds']:.0f}",
            "speed against batch 8": f"{eight / result['seconds']:.2f}",
            "texts that differ from batch 1": sum(a != b for a, b in zip(exact, result["texts"], strict=True)),
            "peak MiB": result["peak_mib"],
        }
        for way, result in found.items()
    ]


def measure(model: str, way: str, count: int) -> dict[str, Any]:
    """Seconds from decoded audio in memory to texts, after one warm-up clip."""
    from mondegreen.speech.audio import SAMPLE_RATE, load_audio

    paths = clips(count)
    waveforms = [load_audio(path) for path in paths]
    transcribe = _way(model, way, paths)
    transcribe([0])
    started = time.perf_counter()
    texts = transcribe(list(range(len(paths))))
    return {
        "seconds": time.perf_counter() - started,
        "audio": sum(map(len, waveforms)) / SAMPLE_RATE,
        "texts": texts,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _way(model: str, way: str, paths: list[Path]) -> Callable[[list[int]], list[str]]:
    from mondegreen.speech.audio import load_audio

    waveforms = [load_audio(path) for path in paths]
    folder = str(model_folder(model))
    if way.startswith("pipeline"):
        from transformers import pipeline

        batch = int(way.split()[-1])
        recognise = pipeline("automatic-speech-recognition", model=folder, device="cpu")

        def theirs(indices: list[int]) -> list[str]:
            inputs = [{"raw": waveforms[i].copy(), "sampling_rate": 16_000} for i in indices]
            return [str(item["text"]) for item in recognise(inputs, batch_size=batch)]

        return theirs
    from mondegreen.speech.transcriber import BaselineSTTModel

    ours = BaselineSTTModel(folder, nbest=0 if way == "ours, no N-best" else 5, cached=way == "ours, cached features")
    if ours.cache:
        list(ours.transcribe_many(paths))
        return lambda indices: [getattr(item, "text", "") for item in ours.transcribe_many(paths[i] for i in indices)]
    return lambda indices: [item.text for item in ours.transcribe_waveforms([waveforms[i] for i in indices])]


def report(count: int) -> str:
    """Both models, as Markdown."""
    return "\n\n".join(f"**{name}, {count} clips**\n\n{table(rows(name, count))}" for name in ("base", "starter"))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
