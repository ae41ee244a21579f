"""What is trained on: clips that passed the preflight, as features or waveforms, in batches of like length."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from mondegreen.config import Seconds
from mondegreen.records import Example
from mondegreen.speech.audio import Waveform, load_audio
from mondegreen.speech.cache import FeatureCache
from mondegreen.speech.features import batches, encode, normalized, num_frames, pad
from mondegreen.speech.model import SpeechModel

_BUCKET = 25  # frames (0.5 s): clips of one bucket change places between epochs
_NOISE = (0.001, 0.01)  # of the loudest sample
_GAIN = (0.5, 1.5)


class Recordings:
    """Waveforms and convolutional features of examples.

    Args:
        base: whose encoder makes the features.
        cache: where features are kept; None when the encoder itself is trained, then nothing can be kept.
        max_duration: as audio.max_duration of params.yaml.
    """

    def __init__(self, base: SpeechModel, cache: FeatureCache | None, max_duration: Seconds | None = None) -> None:
        self.base, self.cache, self.max_duration = base, cache, max_duration
        self._frames: dict[str, int] = {}

    def waveform(self, example: Example) -> Waveform:
        """float32 (num_samples,), 16 kHz. Raises AudioError."""
        return load_audio(Path(example.path), self.max_duration)

    def features(self, example: Example, model: SpeechModel | None = None) -> Tensor:
        """float32 (num_frames, conv_dim), of `model` when the encoder trains, else of the base. Raises AudioError."""
        if self.cache is None:
            return encode(model or self.base, self.waveform(example))
        return self.cache.get_or_compute(example.sha256, lambda: encode(self.base, self.waveform(example)))

    def frames(self, example: Example) -> int:
        """Number of frames; computes and keeps the features when there is a cache. Raises AudioError."""
        if example.sha256 not in self._frames:
            self._frames[example.sha256] = (
                num_frames(self.base.network, len(self.waveform(example)))
                if self.cache is None
                else len(self.features(example))
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
        return item | {
            "waveform": torch.from_numpy(normalized(waveform) if self.recordings.base.normalize else waveform)
        }


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
