"""What is trained on: clips that passed the preflight, in batches of like length, and the module that learns from them.

Every label and every length is checked before the first step.
"""

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel

from mondegreen.config import Seconds
from mondegreen.errors import AudioError, TrainingError, VocabularyError
from mondegreen.records import Example, Problem
from mondegreen.speech.acoustic_model import prepared
from mondegreen.speech.audio import MAX_MISSING_SHARE, Waveform, load_audio
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.model import SpeechModel, encode, forward_features, num_frames, pad
from mondegreen.speech.text import Labeller, min_frames
from mondegreen.speech.windows import LIMIT_KEY, batches

SHORTEST_SAMPLES = 3_280  # 0.205 s: the least that transformers' Wav2Vec2 can train on with its usual mask of 10 frames
_BUCKET = 25  # frames (0.5 s): clips of one bucket change places between epochs
_NOISE = (0.001, 0.01)  # of the loudest sample
_GAIN = (0.5, 1.5)
logger = logging.getLogger(__name__)


class Recordings:
    """Waveforms and convolutional features of examples.

    Args:
        base: whose encoder makes the features.
        cache: where features are kept; None when the encoder itself is trained, then nothing can be kept.
        max_duration, max_missing_share: as in the section audio of params.yaml.
    """

    def __init__(
        self,
        base: SpeechModel,
        cache: FeatureCache | None,
        max_duration: Seconds | None = None,
        max_missing_share: float = MAX_MISSING_SHARE,
    ) -> None:
        self.base, self.cache = base, cache
        self.max_duration, self.max_missing_share = max_duration, max_missing_share
        self._frames: dict[str, int] = {}

    def waveform(self, example: Example) -> Waveform:
        """float32 (num_samples,), 16 kHz. Raises AudioError."""
        return load_audio(Path(example.path), self.max_duration, max_missing_share=self.max_missing_share)

    def features(self, example: Example, model: SpeechModel | None = None) -> Tensor:
        """float32 (num_frames, conv_dim), of `model` when the encoder trains, else of the base. Raises AudioError."""
        if self.cache is None:
            return encode(model or self.base, self.waveform(example))
        return self.cache.get_or_compute(example.sha256, lambda: encode(self.base, self.waveform(example)))

    def frames(self, example: Example) -> int:
        """Number of frames; computes and keeps the features when there is a cache. Raises AudioError.

        The recording is decoded even where its features are there: whether it may be heard is no part of them.
        """
        if example.sha256 not in self._frames:
            waveform = self.waveform(example)
            self._frames[example.sha256] = (
                num_frames(self.base.network, len(prepared(self.base.settings, waveform)))
                if self.cache is None
                else len(self.cache.get_or_compute(example.sha256, lambda: encode(self.base, waveform)))
            )
        return self._frames[example.sha256]


@dataclass(frozen=True)
class Clip:
    """An example that can be trained on."""

    example: Example
    labels: tuple[int, ...]
    frames: int


class ClipDataset(Dataset[dict[str, Any]]):
    """Clips as inputs of FeatureCTC, before batching.

    Args:
        waveforms: give waveforms instead of cached features.
        augment: random gain and white noise on the waveforms.
    """

    def __init__(
        self, clips: Sequence[Clip], recordings: Recordings, *, waveforms: bool = False, augment: bool = False
    ) -> None:
        self.clips, self.recordings = clips, recordings
        self.waveforms, self.augment = waveforms or augment, augment

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[index]
        item: dict[str, Any] = {"id": clip.example.id, "labels": torch.tensor(clip.labels)}
        if not self.waveforms:
            return item | {"features": self.recordings.features(clip.example)}
        waveform = self.recordings.waveform(clip.example)
        waveform = augmented(waveform) if self.augment else waveform
        return item | {"waveform": torch.from_numpy(prepared(self.recordings.base.settings, waveform))}


def augmented(waveform: Waveform) -> Waveform:
    """Another loudness, and white noise 40 to 60 dB below the peak; draws from numpy's global state, as SpecAugment.

    Args:
        waveform: float32 (num_samples,).
    """
    noise = np.random.normal(0.0, np.random.uniform(*_NOISE) * float(np.abs(waveform).max()), len(waveform))
    result: Waveform = (np.random.uniform(*_GAIN) * (waveform + noise)).astype(np.float32)
    return result


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch for FeatureCTC.

    Returns:
        "ids": list of str; "labels": int64 (batch, max_labels), padded with -100; and "features" with "mask", or
        "waveforms", a list.
    """
    batch: dict[str, Any] = {
        "ids": [item["id"] for item in items],
        "labels": pad_sequence([item["labels"] for item in items], batch_first=True, padding_value=-100),
    }
    if "waveform" in items[0]:
        return batch | {"waveforms": [item["waveform"] for item in items]}
    features, mask = pad([item["features"] for item in items])
    return batch | {"features": features, "mask": mask}


def batch_of(clips: Sequence[Clip], recordings: Recordings, device: torch.device) -> dict[str, Any]:
    """What FeatureCTC takes of a few clips at once, on a device: features, mask and labels as `collate` gives them."""
    dataset = ClipDataset(clips, recordings)
    batch = collate([dataset[index] for index in range(len(clips))])
    return {name: value.to(device) for name, value in batch.items() if name != "ids"}


class LikeLengthBatches(Sampler[list[int]]):
    """Batches of like length within a budget of frames, in another order each epoch.

    The order depends on seed and epoch alone, so a resumed run sees what an uninterrupted one sees. The number of
    batches is the same in every epoch and a multiple of `processes` (the first ones are repeated), as accelerate needs.

    Args:
        lengths: frames of each clip.
        budget: padded frames in a batch.
    """

    def __init__(self, lengths: Sequence[int], budget: int, seed: int, processes: int = 1) -> None:
        self._buckets = [-(-length // _BUCKET) * _BUCKET for length in lengths]
        self._budget, self._seed, self._processes = budget, seed, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        count = len(batches(self._buckets, self._budget))
        return -(-count // self._processes) * self._processes

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self._seed}/{self.epoch}")
        order = list(range(len(self._buckets)))
        rng.shuffle(order)
        groups = batches([self._buckets[index] for index in order], self._budget)
        rng.shuffle(groups)
        for number in range(len(self)):
            yield [order[position] for position in groups[number % len(groups)]]


def preflight(examples: Sequence[Example], recordings: Recordings) -> tuple[list[Clip], list[Problem]]:
    """Examples that can be trained on, and those left out with the reason.

    Raises:
        TrainingError: nothing is left.
    """
    base, labeller = recordings.base, Labeller(recordings.base.vocabulary)
    shortest, longest = num_frames(base.network, SHORTEST_SAMPLES), base.max_frames
    clips: list[Clip] = []
    left_out: list[Problem] = []
    for example in examples:
        try:
            labels = labeller.encode(example.text, example.id)
            clip = Clip(example, tuple(labels), recordings.frames(example))
        except (AudioError, VocabularyError) as error:
            reason = error.reason if isinstance(error, AudioError) else "unwritable"
            left_out.append(Problem(path=example.path, reason=reason, message=error.problem))
            continue
        problem = _fault(clip, shortest)
        if longest is not None and clip.frames > longest:
            message = (
                f"{example.duration:.1f} s, over {LIMIT_KEY} ({base.max_seconds:g}) of the model; cut it to train on it"
            )
            problem = Problem(path=example.path, reason="over_model_limit", message=message)
        if problem:
            left_out.append(problem)
        else:
            clips.append(clip)
    for problem in left_out:
        logger.warning("Left out of training: %s: %s", problem.path, problem.message)
    if not clips:
        raise TrainingError(
            f"None of the {len(examples)} selected recordings can be trained on.",
            f"See why: {left_out[0].path}: {left_out[0].message}" if left_out else "Select training examples first.",
        )
    return clips, left_out


def _fault(clip: Clip, shortest: int) -> Problem | None:
    needed = min_frames(clip.labels)
    if not clip.labels:
        reason, message = "empty_label", "the transcript holds no word"
    elif clip.frames < shortest:
        reason, message = "too_short", f"{clip.frames} frames; training needs {shortest} ({SHORTEST_SAMPLES} samples)"
    elif clip.frames < needed:
        reason = "label_too_long"
        message = f"{clip.frames} frames cannot hold the transcript, which needs {needed}: is it of another recording?"
    else:
        return None
    return Problem(path=clip.example.path, reason=reason, message=message)


class FeatureCTC(nn.Module):
    """Wraps a Wav2Vec2, HuBERT or WavLM CTC network (with or without LoRA layers inside) for the Trainer.

    Args:
        network: changed in place by training.
        train_encoder: let gradients into the convolutional encoder. Needs waveforms.
        bfloat16: matrices are multiplied in bfloat16; weights, their steps and the loss stay in float32.
    """

    def __init__(self, network: PreTrainedModel, train_encoder: bool = False, bfloat16: bool = False) -> None:
        super().__init__()
        self.network = network
        self.train_encoder = train_encoder
        self.in_bfloat16 = bfloat16

    def forward(
        self,
        labels: Tensor,
        features: Tensor | None = None,
        mask: Tensor | None = None,
        waveforms: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Loss and logits of a batch, given features with their mask, or waveforms.

        Args:
            labels: int64 (batch, max_labels), padded with -100.
            features: float32 (batch, max_frames, conv_dim).
            mask: bool (batch, max_frames), True on real frames.
            waveforms: each float32 (num_samples,), 16 kHz, prepared as the model wants them.

        Returns:
            "loss": float32 (); "logits": float32 (batch, max_frames, vocab_size).
        """
        if waveforms is not None:
            features, mask = self._encode(waveforms)
        if features is None or mask is None:
            raise ValueError("give features with their mask, or waveforms")
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            logits = forward_features(self.network, features, mask)
        return {"loss": ctc_loss(logits, mask, labels, int(self.network.config.pad_token_id)), "logits": logits}

    def _encode(self, waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """One utterance at a time: padding must never enter the statistics of a normalised convolution."""
        encoder = cast(nn.Module, self.network.base_model.feature_extractor)
        with torch.set_grad_enabled(self.train_encoder and torch.is_grad_enabled()):
            features, mask = pad([encoder(waveform[None])[0].T for waveform in waveforms])
        return features, mask.to(features.device)


def ctc_loss(logits: Tensor, mask: Tensor, labels: Tensor, blank: int) -> Tensor:
    """Mean over the batch of the loss for each label.

    A clip whose frames cannot hold its label has an infinite loss; it counts as zero and sends no gradient back.

    Args:
        logits: (batch, max_frames, vocab_size).
        mask: bool (batch, max_frames).
        labels: int64 (batch, max_labels), padded with -100.
        blank: id of the blank.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=-1).transpose(0, 1)  # (max_frames, batch, vocab_size)
    real = labels >= 0
    with torch.backends.cudnn.flags(enabled=False):  # cuDNN's CTC takes no zero_infinity
        return F.ctc_loss(
            log_probabilities,
            labels[real],
            mask.sum(dim=1),
            real.sum(dim=1),
            blank=blank,
            reduction="mean",
            zero_infinity=True,
        )
