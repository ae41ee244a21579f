"""Synthesised speech as training batches: reads the shards of `synthesize.py`, draws rounds, pads."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from starter.augment import SAMPLE_RATE, augment, normalise
from starter.model import VOCABULARY
from starter.texts import spoken_label

ROUND_SECONDS = 2 * 3600.0  # speech between two looks at the folder for new shards
WEIGHTS = {"kokoro": 2.5, "flite": 1.0, "espeak": 0.8}  # chance of an utterance to be drawn: near-natural speech first
LETTER = {letter: index for index, letter in enumerate(VOCABULARY)}


@dataclass(frozen=True)
class Utterance:
    audio: NDArray[np.int16]  # (num_samples,), 16 kHz
    text: str
    engine: str
    voice: str

    @property
    def seconds(self) -> float:
        return len(self.audio) / SAMPLE_RATE

    @property
    def wave(self) -> NDArray[np.float32]:
        return self.audio.astype(np.float32) / 32768

    @property
    def label(self) -> list[int]:
        return [LETTER["|" if letter == " " else letter] for letter in spoken_label(self.text)]


@dataclass(frozen=True)
class Batch:
    waves: Tensor  # float32 (batch, samples), normalised, zero-padded
    lengths: Tensor  # int64 (batch,), true samples
    labels: Tensor  # int64, the labels one after another
    label_lengths: Tensor  # int64 (batch,)
    texts: list[str]


def finished_shards(split: Path) -> list[Path]:
    return sorted(path.with_suffix("") for path in split.glob("*/*.jsonl"))


def read_shards(shards: list[Path]) -> list[Utterance]:
    utterances = []
    for shard in shards:
        samples = np.load(shard.with_suffix(".npy"), mmap_mode="r")
        for line in shard.with_suffix(".jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            audio = samples[row["start"] : row["start"] + row["samples"]]
            utterances.append(Utterance(audio, row["text"], row["engine"], row["name"]))
    return utterances


def training_utterances(shards: list[Path], held_out: list[Utterance]) -> list[Utterance]:
    """What the shards hold, without sentences that a held-out voice speaks too."""
    unwanted = {spoken_label(utterance.text) for utterance in held_out}
    return [utterance for utterance in read_shards(shards) if spoken_label(utterance.text) not in unwanted]


def draw_round(utterances: list[Utterance], batch_seconds: float, seed: int, number: int) -> list[list[int]]:
    """Batches of indices of similarly long utterances; the first round goes from short to long, later ones shuffle."""
    rng = np.random.default_rng([seed, number])
    weights = np.array([WEIGHTS[utterance.engine] for utterance in utterances])
    order = np.argsort(rng.exponential(size=len(weights)) / weights)  # weighted, without replacement
    seconds = np.array([utterance.seconds for utterance in utterances])
    drawn = order[: max(1, np.searchsorted(np.cumsum(seconds[order]), ROUND_SECONDS))]
    drawn = drawn[np.argsort(seconds[drawn])]
    batches: list[list[int]] = [[]]
    for index in drawn:
        # The last one is the longest: its length times the count is what the padded batch costs.
        if batches[-1] and seconds[index] * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
        batches[-1].append(int(index))
    return batches if number == 0 else [batches[place] for place in rng.permutation(len(batches))]


def make_batch(utterances: list[Utterance], rng: np.random.Generator | None) -> Batch:
    """Augment (with `rng` only), normalise and pad."""
    waves = [utterance.wave for utterance in utterances]
    if rng is not None:
        others = [waves[place - 1] for place in range(len(waves))]
        waves = [augment(wave, other, rng) for wave, other in zip(waves, others, strict=True)]
    lengths = torch.tensor([len(wave) for wave in waves])
    padded = torch.zeros(len(waves), int(lengths.max()))
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(normalise(wave))
    labels = [utterance.label for utterance in utterances]
    label_lengths = torch.tensor([len(label) for label in labels])
    flat = torch.tensor([letter for label in labels for letter in label])
    return Batch(padded, lengths, flat, label_lengths, [spoken_label(utterance.text) for utterance in utterances])
