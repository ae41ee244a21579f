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
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mondegreen.config import Params, Seconds
from mondegreen.errors import AudioError, UsageError
from mondegreen.scoring.phrases import PHRASES_FILE, PhraseList, digest_with, pipeline_phrases
from mondegreen.speech.audio import SAMPLE_RATE, Waveform
from mondegreen.speech.checkpoint import (
    ADAPTER_CONFIG,
    NAME_A_MODEL,
    Settings,
    load_network,
    load_vocabulary,
    read_config,
    read_settings,
)
from mondegreen.speech.decoding import LogProbs, Vocabulary
from mondegreen.speech.digests import phrases_in, weights_digest
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.ngram_files import LM_FILE, lm_in, pipeline_lm
from mondegreen.speech.positions import trim_positions
from mondegreen.speech.windows import LIMIT_KEY, OVERLAP, join, read_limit, window_starts

# Changes whenever decoding or normalising a recording changes: cached features of another version are not used.
FEATURE_VERSION = "1"
# A scheme's resolver is named, not imported: speech stays below registry.
_RESOLVERS = {"models:/": "mondegreen.registry.resolving:resolve_uri"}
_ADAPTERS = "mondegreen.speech.adapters"  # named, not imported: it needs this module, and few models are adapters
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt", PHRASES_FILE, LM_FILE)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeechModel:
    """A loaded CTC model in float32 and evaluation mode.

    `weights` covers configuration, tokenizer and weights, `digest` the folder's list of phrases and language model
    besides, which are parts of the model; `encoder_digest` only what computes convolutional features, so that a base
    model and its LoRA or frozen-encoder children share cached features.
    """

    name: str
    folder: Path
    network: PreTrainedModel
    vocabulary: Vocabulary
    weights: str
    encoder_digest: str
    settings: Settings  # how the encoder wants a waveform
    max_seconds: Seconds | None = None  # what it hears in one piece; None: any length
    phrases: PhraseList | None = None  # that it is to hear
    lm: NGramModel | None = None  # by which it hears

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


def load_model(name: str, device: str | None = None) -> SpeechModel:
    """Loads weights and tokenizer; `name` is a folder (also of a LoRA adapter), a hub name or `models:/name@alias`.

    Raises:
        UsageError: nothing loadable there (see `checkpoint`), or no Wav2Vec2, HuBERT or WavLM with a CTC head.
    """
    if (Path(name) / "base.json").is_file() and not (Path(name) / "config.json").is_file():  # one of our adapters
        model: SpeechModel = import_module(_ADAPTERS).load_adapter(Path(name), device)
        return model
    folder = resolve_model(name)
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


def resolve_model(name: str) -> Path:
    """The local folder of a model, fetched first when it lives in the registry or on the hub."""
    for scheme, resolver in _RESOLVERS.items():
        if name.startswith(scheme):
            module, function = resolver.split(":")
            return Path(getattr(import_module(module), function)(name))
    if any((Path(name) / file).is_file() for file in ("config.json", ADAPTER_CONFIG)):
        return Path(name)
    if Path(name).exists() or name.startswith((".", "/")) or name.count("/") != 1:
        raise UsageError(f"{name} is not a model: {Path(name) / 'config.json'} does not exist.", NAME_A_MODEL)
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_MODEL_FILES)))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UsageError(
            f"{name} is neither a local folder nor to be had from the model hub ({type(error).__name__}).",
            "Check the name and the network, or download the model and name its folder.",
        ) from error


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


def normalized(waveform: Waveform) -> Waveform:
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor does it.

    Args:
        waveform: float32 (num_samples,), 16 kHz.
    """
    result: Waveform = ((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)).astype(np.float32)
    return result


def prepared(model: SpeechModel, waveform: Waveform) -> Waveform:
    """A waveform as the encoder wants it: at its rate, and normalised where the model's settings say so.

    Args:
        waveform: float32 (num_samples,), 16 kHz.
    """
    if model.settings.rate != SAMPLE_RATE:
        waveform = soxr.resample(waveform, SAMPLE_RATE, model.settings.rate, quality="HQ")
    return normalized(waveform) if model.settings.normalize else waveform


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
    samples = torch.from_numpy(prepared(model, waveform))
    if num_frames(model.network, len(samples)) < 1:
        raise AudioError(
            f"{name} lasts {len(waveform) / SAMPLE_RATE:.3f} s, too little for a frame of {model.name}.",
            "Leave it out.",
            "too_short",
        )
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
    projected = base.feature_projection(features)
    hidden = projected[0] if isinstance(projected, tuple) else projected
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
    longest, overlap = model.max_frames, round(OVERLAP / model.frame_seconds)
    starts = [window_starts(len(item), longest, overlap) for item in features]
    pieces = [
        item if longest is None else item[start : start + longest]
        for item, begins in zip(features, starts, strict=True)
        for start in begins
    ]
    padded, mask = pad(pieces)
    logits = forward_features(model.network, padded.to(model.device), mask.to(model.device))
    rows = iter(torch.log_softmax(logits.float(), dim=-1).cpu().numpy())
    heard = iter([row[: len(piece)] for row, piece in zip(rows, pieces, strict=True)])
    return [join([next(heard) for _ in begins], begins, model.vocabulary.blank) for begins in starts]


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups utterances of like length: each group's padded size (count x longest) stays within `budget` frames.

    A single utterance longer than the budget is a group of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    groups: list[list[int]] = []
    for index in order:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
