"""What a model is to whoever transcribes, whichever library computes it, and how it wants a waveform."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soxr

from mondegreen.config import Seconds
from mondegreen.errors import AudioError, UsageError
from mondegreen.scoring.phrases import PhraseList
from mondegreen.speech.audio import SAMPLE_RATE, Waveform
from mondegreen.speech.decoding import LogProbs, Vocabulary
from mondegreen.speech.model_folder import nested_settings, read_object
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.recording import Hertz

EncoderFeatures = npt.NDArray[np.float32]  # (num_frames, conv_dim): what the convolutional encoder makes of a waveform
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How the model wants a waveform."""

    normalize: bool = True  # zero mean, unit variance for each waveform
    rate: Hertz = SAMPLE_RATE


def read_settings(folder: Path, name: str) -> Settings:
    """What transformers' feature extractor would do, from where transformers 5 or older versions keep it.

    `return_attention_mask` needs no reading: here no recording sees the padding of another, with a mask or without.

    Raises:
        UsageError: features other than a waveform, or a rate that cannot be.
    """
    found = nested_settings(folder)
    if found is None and (folder / "preprocessor_config.json").is_file():
        found = read_object(folder / "preprocessor_config.json")
    if found is None:
        logger.warning("%s says nothing of its waveforms: 16 kHz, normalised, as most models want them.", name)
        return Settings()
    kind, rate = (
        found.get("feature_extractor_type", "Wav2Vec2FeatureExtractor"),
        found.get("sampling_rate", SAMPLE_RATE),
    )
    if kind != "Wav2Vec2FeatureExtractor":
        raise UsageError(f"{name} hears features of {kind}, not waveforms.", "Name a model that hears waveforms.")
    if not isinstance(rate, int) or not 1_000 <= rate <= 768_000:
        raise UsageError(f"{name}: sampling_rate {rate!r} is no rate in hertz.", "Correct it, most have 16000.")
    return Settings(normalize=bool(found.get("do_normalize", True)), rate=rate)


def normalized(waveform: Waveform) -> Waveform:
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor does it.

    Args:
        waveform: float32 (num_samples,), 16 kHz.
    """
    result: Waveform = ((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)).astype(np.float32)
    return result


def prepared(settings: Settings, waveform: Waveform) -> Waveform:
    """A waveform as the encoder wants it: at its rate, and normalised where the model's settings say so.

    Args:
        waveform: float32 (num_samples,), 16 kHz.
    """
    if settings.rate != SAMPLE_RATE:
        waveform = soxr.resample(waveform, SAMPLE_RATE, settings.rate, quality="HQ")
    return normalized(waveform) if settings.normalize else waveform


def too_short(waveform: Waveform, name: str, model: str) -> AudioError:
    """What is said of a recording that is shorter than what a model's encoder takes in at once."""
    return AudioError(
        f"{name} lasts {len(waveform) / SAMPLE_RATE:.3f} s, too little for a frame of {model}.",
        "Leave it out.",
        "too_short",
    )


class AcousticModel(Protocol):
    """A CTC model that makes lattices of waveforms."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def weights(self) -> str: ...  # digest of configuration, tokenizer and weights
    @property
    def encoder_digest(self) -> str: ...
    @property
    def phrases(self) -> PhraseList | None: ...
    @property
    def lm(self) -> NGramModel | None: ...
    @property
    def frame_seconds(self) -> Seconds: ...
    @property
    def runtime(self) -> str: ...  # torch | onnx

    def features(self, waveform: Waveform, name: str = ...) -> EncoderFeatures:
        """The convolutional features of one utterance: float32 (num_frames, conv_dim).

        Args:
            waveform: float32 (num_samples,), 16 kHz.
            name: of the recording, for the message.

        Raises:
            AudioError: it is shorter than what the encoder takes in at once.
        """
        ...

    def lattices(self, features: Sequence[EncoderFeatures]) -> list[LogProbs]:
        """Log posteriors of a batch of utterances, each float32 (num_frames, vocab_size)."""
        ...
