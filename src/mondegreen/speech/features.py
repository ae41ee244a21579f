"""Convolutional features, each computed alone, and the transformer over a batch of them.

Base models normalise their first convolution over time (GroupNorm), so padding a waveform changes every frame of it.
Here an utterance passes the convolutions by itself; only its features are padded, and the transformer gets the mask.
Any batch then gives what a batch of one gives.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mondegreen.speech.audio import Waveform
from mondegreen.speech.decoding import LogProbs
from mondegreen.speech.model import SpeechModel


def normalized(waveform: Waveform) -> Waveform:
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor does it.

    Args:
        waveform: float32 (num_samples,), 16 kHz.
    """
    result: Waveform = ((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)).astype(np.float32)
    return result


@torch.inference_mode()
def encode(model: SpeechModel, waveform: Waveform) -> Tensor:
    """The convolutional features of one utterance.

    Args:
        waveform: float32 (num_samples,), 16 kHz.

    Returns:
        float32 (num_frames, conv_dim), on the CPU.
    """
    samples = torch.from_numpy(normalized(waveform) if model.normalize else waveform)
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
    """Log posteriors of a batch of utterances.

    Args:
        features: each float32 (num_frames, conv_dim).

    Returns:
        one float32 (num_frames, vocab_size) an utterance.
    """
    padded, mask = pad(features)
    logits = forward_features(model.network, padded.to(model.device), mask.to(model.device))
    rows = torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
    return [row[: len(item)] for row, item in zip(rows, features, strict=True)]


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
