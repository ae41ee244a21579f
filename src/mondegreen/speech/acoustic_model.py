"""What a model is to whoever transcribes, whichever library computes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mondegreen.config import Seconds
from mondegreen.scoring.phrases import PhraseList
from mondegreen.speech.audio import Waveform
from mondegreen.speech.decoding import LogProbs, Vocabulary
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.settings import Features


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

    def features(self, waveform: Waveform, name: str = ...) -> Features:
        """The convolutional features of one utterance: float32 (num_frames, conv_dim).

        Args:
            waveform: float32 (num_samples,), 16 kHz.
            name: of the recording, for the message.

        Raises:
            AudioError: it is shorter than what the encoder takes in at once.
        """
        ...

    def lattices(self, features: Sequence[Features]) -> list[LogProbs]:
        """Log posteriors of a batch of utterances, each float32 (num_frames, vocab_size)."""
        ...
