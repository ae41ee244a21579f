"""Where the processor time goes: in transcribing, and in the first epoch of a training, by part.

    python -m benchmarks.profiles transcribing MODEL WAY CLIPS
    python -m benchmarks.profiles training MODEL WAY CLIPS

MODEL and WAY as benchmarks/transcribing.py and benchmarks/training.py name them, with their set-up. One thread:
OMP_NUM_THREADS=1. A clock is put around each part alone, since a profiler of every call would cost the search, which is
Python, several times its own time.
"""

import importlib
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

from benchmarks import training, transcribing
from benchmarks.common import clips, model_folder, table

TRANSFORMER, POSITIONS = "transformer", "positional convolution"
_WAV2VEC2 = "transformers.models.wav2vec2.modeling_wav2vec2"
# Module, class and method of each part; what a version of the code does not have is passed over.
PARTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "convolutional encoder": (
        (_WAV2VEC2, "Wav2Vec2FeatureEncoder", "forward"),
        ("mondegreen.speech.onnx_model", "OnnxModel", "features"),
    ),
    POSITIONS: (
        (_WAV2VEC2, "Wav2Vec2PositionalConvEmbedding", "forward"),
        ("mondegreen.speech.layers", "TrimmedPositionalConvolution", "forward"),
        ("mondegreen.speech.positions", "TrimmedPositionalConvolution", "forward"),
    ),
    TRANSFORMER: (
        (_WAV2VEC2, "Wav2Vec2Encoder", "forward"),
        (_WAV2VEC2, "Wav2Vec2EncoderStableLayerNorm", "forward"),
        ("mondegreen.speech.onnx_model", "OnnxModel", "_heard"),
    ),
    "search, confidences": (("mondegreen.speech.transcriber", "BaselineSTTModel", "_search"),),
    "backward": (("accelerate", "Accelerator", "backward"),),
    "optimizer": (("torch.optim", "AdamW", "step"),),
}


def profiled(work: Callable[[], Any]) -> dict[str, float]:
    """Processor seconds of each part, of the rest and of all."""
    found: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for part, methods in PARTS.items():
            for module, name, method in methods:
                try:
                    owner = getattr(importlib.import_module(module), name)
                except (ImportError, AttributeError):
                    continue
                stack.enter_context(mock.patch.object(owner, method, _timed(getattr(owner, method), part, found)))
        started = time.process_time()
        work()
        whole = time.process_time() - started
    found[TRANSFORMER] -= found[POSITIONS]  # which is within it
    return {part: found[part] for part in PARTS} | {"rest": whole - sum(found.values()), "all": whole}


def _timed(method: Callable[..., Any], part: str, found: dict[str, float]) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        started = time.process_time()
        try:
            return method(*given, **named)
        finally:
            found[part] += time.process_time() - started

    return timed


def work_of(what: str, model: str, way: str, count: int) -> Callable[[], Any]:
    """What is profiled, once everything that it imports and loads is there."""
    if what == "training":

        def train(number: int = count) -> None:
            with tempfile.TemporaryDirectory() as folder:
                training._ours(model, way, number, 1, folder)

        train(2)
        return train
    from mondegreen.speech.audio import load_audio

    paths = clips(count)
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
    print(f"{what}, {model}, {way}, {count} clips\n\n{table(rows)}")


if __name__ == "__main__":
    main()
