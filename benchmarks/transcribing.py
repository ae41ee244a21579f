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

WAYS = (
    "pipeline batch 1",
    "pipeline batch 8",
    "torch batch 1",
    "torch batch 8",
    "onnx batch 1",
    "onnx batch 8",
    "onnx batch 8, no N-best",
    "torch batch 8, cached features",
)


def rows(model: str, count: int) -> list[dict[str, Any]]:
    """One row a way, with its speed against the pipeline by processor time, and how many texts are others."""
    model_folder(model)  # made before anything is measured
    found = {way: measured("benchmarks.transcribing", model, way, str(count)) for way in WAYS}
    one, eight = found["pipeline batch 1"], found["pipeline batch 8"]
    return [
        {
            "way": way,
            "seconds": f"{result['seconds']:.1f}",
            "processor seconds": f"{result['processor']:.1f}",
            "× pipeline batch 1": f"{one['processor'] / result['processor']:.2f}",
            "× pipeline batch 8": f"{eight['processor'] / result['processor']:.2f}",
            "texts that differ from batch 1": sum(a != b for a, b in zip(one["texts"], result["texts"], strict=True)),
            "peak MiB": result["peak_mib"],
        }
        for way, result in found.items()
    ]


def measure(model: str, way: str, count: int) -> dict[str, Any]:
    """Seconds from decoded audio in memory to texts, after one warm-up clip; an export is there before."""
    from mondegreen.speech.audio import load_audio

    paths = clips(count)
    waveforms = [load_audio(path) for path in paths]
    transcribe = _way(model, way, paths, waveforms)
    transcribe([0])
    started, worked = time.perf_counter(), time.process_time()
    texts = transcribe(list(range(len(paths))))
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - worked,
        "texts": texts,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _way(model: str, way: str, paths: list[Path], waveforms: list[Any]) -> Callable[[list[int]], list[str]]:
    folder, batch = str(model_folder(model)), int(way.partition(",")[0].split()[-1])
    if way.startswith("pipeline"):
        from transformers import pipeline

        recognise = pipeline("automatic-speech-recognition", model=folder, device="cpu")

        def theirs(indices: list[int]) -> list[str]:
            inputs = [{"raw": waveforms[i].copy(), "sampling_rate": 16_000} for i in indices]
            return [str(item["text"]) for item in recognise(inputs, batch_size=batch)]  # type: ignore[arg-type]  # a list is documented

        return theirs
    from mondegreen.speech.transcriber import BaselineSTTModel

    nbest, cached = 0 if "no N-best" in way else 5, "cached" in way
    ours = BaselineSTTModel(folder, nbest=nbest, cached=cached, runtime="onnx" if way.startswith("onnx") else "torch")

    def heard(indices: list[int]) -> list[str]:
        groups = [indices[start : start + batch] for start in range(0, len(indices), batch)]
        if cached:
            found = [item for group in groups for item in ours.transcribe_many(paths[i] for i in group)]
            return [getattr(item, "text", "") for item in found]
        return [item.text for group in groups for item in ours.transcribe_waveforms([waveforms[i] for i in group])]

    if cached:
        heard(list(range(len(paths))))
    return heard


def report(count: int) -> str:
    """Both models, as Markdown."""
    return "\n\n".join(f"**{name}, {count} clips**\n\n{table(rows(name, count))}" for name in ("base", "starter"))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
