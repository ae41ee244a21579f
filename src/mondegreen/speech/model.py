"""A CTC model: loading it by name, its convolutional features, and the transformer over a batch of them.

Base models normalise their first convolution over time (GroupNorm), so padding a waveform changes every frame of it.
Here an utterance passes the convolutions by itself; only its features are padded, and the transformer gets the mask.
Any batch then gives what a batch of one gives.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mondegreen.config import Params, Seconds
from mondegreen.scoring.phrases import PhraseList, digest_with, pipeline_phrases
from mondegreen.speech.acoustic_model import EncoderFeatures, Settings, prepared, read_settings, too_short
from mondegreen.speech.audio import SAMPLE_RATE, Waveform
from mondegreen.speech.checkpoint import load_network, load_vocabulary
from mondegreen.speech.decoding import LogProbs, Vocabulary
from mondegreen.speech.layers import trim_positions
from mondegreen.speech.model_folder import (
    PRECISION_FILE,
    is_adapter,
    phrases_in,
    read_config,
    resolve_model,
    weights_digest,
)
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.ngram_files import lm_in, pipeline_lm
from mondegreen.speech.windows import LIMIT_KEY, heard_in_windows, read_limit

# Changes whenever decoding or normalising a recording changes: cached features of another version are not used.
FEATURE_VERSION = "1"
logger = logging.getLogger(__name__)
_ADAPTERS = "mondegreen.speech.saving"  # named, not imported: it needs this module, and few models are adapters


@dataclass(frozen=True)
class SpeechModel:
    """A loaded CTC model in evaluation mode, in float32 unless it is a variant.

    `weights` covers configuration, tokenizer and weights, `digest` the folder's list of phrases and language model
    besides, which are parts of the model; `encoder_digest` only what computes convolutional features, so that a base
    model and its LoRA or frozen-encoder children share cached features.
    """

    name: str
    folder: Path
    tokenizer_folder: Path  # another one for an adapter, whose base has the tokenizer's files
    network: PreTrainedModel
    vocabulary: Vocabulary
    weights: str
    encoder_digest: str
    settings: Settings  # how the encoder wants a waveform
    max_seconds: Seconds | None = None  # what it hears in one piece; None: any length
    phrases: PhraseList | None = None  # that it is to hear
    lm: NGramModel | None = None  # by which it hears
    alone: bool = False  # a batch is one utterance, see `runtime`

    @property
    def digest(self) -> str:
        """The identity of weights, phrases and language model."""
        return digest_with(self.weights, self.phrases, self.lm.digest if self.lm else "")

    @property
    def frame_seconds(self) -> float:
        """Seconds between two frames of the logits."""
        return float(self.network.config.inputs_to_logits_ratio) / self.settings.rate

    @property
    def max_frames(self) -> int | None:
        """The longest piece in frames; None: any length."""
        if self.max_seconds is None:
            return None
        return num_frames(self.network, int(self.max_seconds * self.settings.rate))

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def runtime(self) -> str:
        return "torch"

    def features(self, waveform: Waveform, name: str = "The recording") -> EncoderFeatures:
        """As `acoustic_model.AcousticModel` has it."""
        return encode(self, waveform, name).numpy()

    def lattices(self, features: Sequence[EncoderFeatures]) -> list[LogProbs]:
        """As `acoustic_model.AcousticModel` has it."""
        return log_probabilities(self, [torch.from_numpy(item) for item in features])


def load_model(name: str, device: str | None = None, folder: Path | None = None) -> SpeechModel:
    """Loads weights and tokenizer; `name` is a folder (also of a LoRA adapter), a hub name or `models:/name@alias`.

    Always in float32, to be trained or exported: of a variant its parent's weights. Who hears takes `runtime`'s.

    Args:
        folder: where it is, when that is known; then nothing is said of a variant.

    Raises:
        UsageError: nothing loadable there (see `checkpoint`), or no Wav2Vec2, HuBERT or WavLM with a CTC head.
    """
    if is_adapter(Path(name)):
        model: SpeechModel = import_module(_ADAPTERS).load_adapter(Path(name), device)
        return model
    if folder is None:
        folder = resolve_model(name)
        if (folder / PRECISION_FILE).is_file():
            logger.warning("%s is a variant in fewer bits: its parent's float32 weights are taken.", name)
    config = read_config(folder, name)
    limit = read_limit(folder / "config.json", config.get(LIMIT_KEY))
    settings = read_settings(folder, name)
    network = load_network(folder, name)
    vocabulary = load_vocabulary(folder, name, network, config.get("pad_token_id"))
    network.config.pad_token_id = vocabulary.blank  # training's loss, and whoever is saved from this one, go by it
    network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    trim_positions(network)
    return SpeechModel(
        name=name,
        folder=folder,
        tokenizer_folder=folder,
        network=network,
        vocabulary=vocabulary,
        weights=weights_digest(folder),
        encoder_digest=encoder_digest(network, settings),
        settings=settings,
        max_seconds=limit,
        phrases=phrases_in(folder),
        lm=lm_in(folder),
    )


def load_base(params: Params) -> SpeechModel:
    """The base model as the pipeline hears with it: with what transcribe.phrases and .lm name, else with its own."""
    model = load_model(params.model.base)
    return replace(model, phrases=pipeline_phrases(params) or model.phrases, lm=pipeline_lm(params) or model.lm)


def encoder_digest(network: PreTrainedModel, settings: Settings) -> str:
    """sha256 over the convolutional encoder: its configuration, its weights, and how waveforms are prepared."""
    config = network.config
    encoder: Any = network.base_model.feature_extractor
    shape = [config.feat_extract_norm, config.feat_extract_activation, config.conv_kernel, config.conv_stride]
    rate = [settings.rate] if settings.rate != SAMPLE_RATE else []  # the usual one left no trace in older digests
    total = hashlib.sha256(json.dumps([FEATURE_VERSION, settings.normalize, *shape, *rate]).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


@torch.inference_mode()
def encode(model: SpeechModel, waveform: Waveform, name: str = "The recording") -> Tensor:
    """The convolutional features of one utterance.

    Args:
        waveform: float32 (num_samples,), 16 kHz.
        name: of the recording, for the message.

    Returns:
        float32 (num_frames, conv_dim), on the CPU.

    Raises:
        AudioError: it is shorter than what the encoder takes in at once, which is longer at a lower rate.
    """
    samples = torch.from_numpy(prepared(model.settings, waveform))
    if num_frames(model.network, len(samples)) < 1:
        raise too_short(waveform, name, model.name)
    encoder: Any = model.network.base_model.feature_extractor
    features: Tensor = encoder(samples[None].to(model.device))  # (1, conv_dim, num_frames)
    return features[0].T.contiguous().cpu()


def num_frames(network: PreTrainedModel, num_samples: int) -> int:
    """Frames that the encoder makes of a waveform (its convolutions have no padding)."""
    lengths: Any = network._get_feat_extract_output_lengths
    return int(lengths(num_samples))


def pad(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pads features of several utterances with zeros.

    Args:
        features: each float32 (num_frames, conv_dim).

    Returns:
        float32 (batch, max_frames, conv_dim) and the mask, bool (batch, max_frames), True on real frames. It must be
        bool: the networks index with it, and integers would index rows instead of masking them.
    """
    lengths = torch.tensor([len(item) for item in features])
    padded = pad_sequence(list(features), batch_first=True)
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]


def project(base: Any, features: Tensor) -> Tensor:
    """Features in the transformer's width; some networks give the normalised ones as well."""
    projected = base.feature_projection(features)
    return cast(Tensor, projected[0] if isinstance(projected, tuple) else projected)


def forward_features(network: PreTrainedModel, features: Tensor, mask: Tensor) -> Tensor:
    """What the network does after its convolutional encoder, SpecAugment included when it trains.

    Args:
        network: Wav2Vec2ForCTC, HubertForCTC or WavLMForCTC (or such a one under peft's base model).
        features: float32 (batch, max_frames, conv_dim).
        mask: bool (batch, max_frames).

    Returns:
        logits, float32 (batch, max_frames, vocab_size). Those of masked frames mean nothing.
    """
    ctc: Any = network  # torch types every attribute of a module as tensor or module
    base = ctc.base_model
    hidden = project(base, features)
    hidden = base._mask_hidden_states(hidden, attention_mask=mask)
    # A mask that hides nothing only costs: without it the attention takes its fast path.
    hidden = base.encoder(hidden, attention_mask=None if bool(mask.all()) else mask).last_hidden_state
    logits: Tensor = ctc.lm_head(ctc.dropout(hidden))
    return logits


@torch.inference_mode()
def log_probabilities(model: SpeechModel, features: Sequence[Tensor]) -> list[LogProbs]:
    """Log posteriors of a batch of utterances; one longer than the model hears in one piece is taken in windows.

    Args:
        features: each float32 (num_frames, conv_dim).

    Returns:
        one float32 (num_frames, vocab_size) an utterance.
    """

    if model.alone and len(features) > 1:
        return [row for item in features for row in log_probabilities(model, [item])]

    def heard(pieces: list[Tensor]) -> list[LogProbs]:
        padded, mask = pad(pieces)
        logits = forward_features(model.network, padded.to(model.device), mask.to(model.device))
        rows = torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
        return [row[: len(piece)] for row, piece in zip(rows, pieces, strict=True)]

    return heard_in_windows(features, model.max_frames, model.frame_seconds, model.vocabulary.blank, heard, model.name)
