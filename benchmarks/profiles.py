"""Where the processor time goes: in transcribing, and in the first epoch of a training, by part.

    python -m benchmarks.profiles transcribing MODEL WAY CLIPS
    python -m benchmarks.profiles training MODEL WAY CLIPS

MODEL and WAY as benchmarks/transcribing.py and benchmarks/training.py name them, with their set-up. One thread:
OMP_NUM_THREADS=1. cProfile's own work is in the figures, most of all in the search, which is Python.
"""

import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers.models.wav2vec2 import modeling_wav2vec2 as wav2vec2

from benchmarks import training, transcribing
from benchmarks.common import model_folder, table

# Functions by the end of their file's path and their name; a class stands for its `forward`.
Function = tuple[str, str] | type
TRANSFORMER = "transformer"
POSITIONS = "positional convolution"
PARTS: dict[str, tuple[Function, ...]] = {
    "audio decoded": (("speech/audio.py", "load_audio"),),
    "convolutional encoder": (wav2vec2.Wav2Vec2FeatureEncoder, ("speech/onnx_model.py", "features")),
    POSITIONS: (wav2vec2.Wav2Vec2PositionalConvEmbedding, ("speech/layers.py", "forward")),
    TRANSFORMER: (wav2vec2.Wav2Vec2Encoder, wav2vec2.Wav2Vec2EncoderStableLayerNorm, ("onnx_model.py", "_heard")),
    "search, confidences": (("speech/transcriber.py", "_search"),),
    "backward": (("autograd/graph.py", "_engine_run_backward"),),
    "optimizer": (("optim/adamw.py", "step"), ("optim/adam.py", "step")),
}


def profiled(work: Callable[[], Any]) -> dict[str, float]:
    """Processor seconds of each part, of the rest and of all."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = vars(pstats.Stats(profile))["stats"]
    found = {
        part: sum(row[3] for key, row in stats.items() if any(_is(key, function) for function in functions))
        for part, functions in PARTS.items()
    }
    found[TRANSFORMER] = max(0.0, found[TRANSFORMER] - found[POSITIONS])
    whole = sum(row[2] for row in stats.values())
    return found | {"rest": whole - sum(found.values()), "all": whole}


def _is(key: tuple[str, int, str], function: Function) -> bool:
    if isinstance(function, type):
        code = vars(function)["forward"].__code__
        return key == (code.co_filename, code.co_firstlineno, code.co_name)
    return key[0].endswith(function[0]) and key[2] == function[1]


def work_of(what: str, model: str, way: str, count: int) -> Callable[[], Any]:
    """What is profiled, its model loaded where that can be done before."""
    if what == "training":

        def train() -> None:
            with tempfile.TemporaryDirectory() as folder:
                training._ours(model, way, count, 1, folder)

        return train
    from mondegreen.speech.audio import load_audio

    paths = transcribing.clips(count)
    transcribe = transcribing._way(model, way, paths, [load_audio(path) for path in paths])
    transcribe([0])
    return lambda: transcribe(list(range(count)))


def main() -> None:
    what, model, way, count = *sys.argv[1:4], int(sys.argv[4])
    model_folder(model)  # made before anything is measured
    found = profiled(work_of(what, model, way, count))
    rows = [
        {"part": part, "processor seconds": f"{value:.2f}", "share": f"{100 * value / found['all']:.0f} %"}
        for part, value in found.items()
        if value
    ]
    print(f"{what}, {model}, {way}, {count} clips, {Path(sys.argv[0]).parent}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
