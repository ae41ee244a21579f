"""A CTC model as ONNX Runtime computes it.

Neither torch nor transformers is loaded: they take most of the seconds of a short transcription.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from pydantic import BaseModel, ConfigDict

from mondegreen.config import Seconds
from mondegreen.scoring.phrases import PhraseList
from mondegreen.speech.acoustic_model import EncoderFeatures, Settings, prepared, too_short
from mondegreen.speech.audio import Waveform
from mondegreen.speech.decoding import LogProbs, Vocabulary
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.windows import heard_in_windows

ENCODER, TRANSFORMER = "encoder.onnx", "transformer.onnx"


class NoExport(Exception):
    """Why ONNX Runtime cannot compute a model."""


class Export(BaseModel):
    """What is known of an export: all that transcribing needs besides the two graphs."""

    model_config = ConfigDict(frozen=True)

    vocabulary: Vocabulary
    settings: Settings
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    max_seconds: Seconds | None
    encoder_digest: str
    files: dict[str, str]  # name to sha256
    refused: str = ""  # why it is not to be used; it is not tried again


@dataclass(frozen=True)
class OnnxModel:
    """Implements `acoustic_model.AcousticModel`."""

    name: str
    folder: Path
    weights: str
    facts: Export
    place: Path  # of the export
    phrases: PhraseList | None = None
    lm: NGramModel | None = None
    alone: bool = False  # a batch is one utterance, see `runtime`

    @property
    def runtime(self) -> str:
        return "onnx"

    @property
    def vocabulary(self) -> Vocabulary:
        return self.facts.vocabulary

    @property
    def encoder_digest(self) -> str:
        """Not torch's: features that are kept differ in their last bits."""
        return hashlib.sha256(f"onnx {self.facts.encoder_digest}".encode()).hexdigest()

    @property
    def frame_seconds(self) -> Seconds:
        return math.prod(self.facts.strides) / self.facts.settings.rate

    def load(self) -> None:
        """Loads both graphs. Raises NoExport."""
        try:
            _ = self._encoder, self._transformer
        except Exception as error:  # onnxruntime raises many kinds
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".: ")
            raise NoExport(f"its export cannot be loaded ({said})") from error

    @cached_property
    def _encoder(self) -> onnxruntime.InferenceSession:
        return _session(self.place / ENCODER)

    @cached_property
    def _transformer(self) -> onnxruntime.InferenceSession:
        return _session(self.place / TRANSFORMER)

    def num_frames(self, num_samples: int) -> int:
        """Frames that the encoder makes of so many samples."""
        for kernel, stride in zip(self.facts.kernels, self.facts.strides, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def features(self, waveform: Waveform, name: str = "The recording") -> EncoderFeatures:
        samples = prepared(self.facts.settings, waveform)
        if self.num_frames(len(samples)) < 1:
            raise too_short(waveform, name, self.name)
        found: EncoderFeatures = self._encoder.run(None, {"samples": samples[None]})[0][0]
        return found

    def lattices(self, features: Sequence[EncoderFeatures]) -> list[LogProbs]:
        if self.alone and len(features) > 1:
            return [row for item in features for row in self.lattices([item])]
        limit, rate = self.facts.max_seconds, self.facts.settings.rate
        longest = None if limit is None else self.num_frames(int(limit * rate))
        return heard_in_windows(features, longest, self.frame_seconds, self.vocabulary.blank, self._heard, self.name)

    def _heard(self, pieces: list[EncoderFeatures]) -> list[LogProbs]:
        lengths = np.array([len(piece) for piece in pieces])
        padded = np.zeros((len(pieces), lengths.max(), pieces[0].shape[1]), np.float32)
        for row, piece in zip(padded, pieces, strict=True):
            row[: len(piece)] = piece
        mask = np.arange(lengths.max())[None] < lengths[:, None]
        rows = self._transformer.run(None, {"features": padded, "mask": mask})[0]
        return [row[: len(piece)] for row, piece in zip(rows, pieces, strict=True)]


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else len(os.sched_getaffinity(0))
    # Threads that spin while they wait take the other core from whoever else works.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # of no use for inputs of every length
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
