"""Speech as training examples: writes and reads shards, draws utterances, joins them, makes batches."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from starter.augment import SAMPLE_RATE, Waveform, change_speed
from starter.network import VOCABULARY
from starter.texts import spoken_label

WEIGHTS = {"kokoro": 2.5, "hibari": 0.8, "hibari-text": 0.8, "flite": 0.4, "espeak": 0.5}  # chance of an engine
FULL_WEIGHT = 1_500  # utterances from which an engine has its whole weight
REAL_SHARE = 0.12  # of the seconds of speech drawn
LENGTHS = [0, 0, 0, 4, 4, 8, 8, 14, 14, 24]  # seconds that an example is filled up to; 0: one utterance
LONGEST = 24.0  # seconds
POOL = 48  # examples among which similarly long ones are looked for
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
    def wave(self) -> Waveform:
        return self.audio.astype(np.float32) / 32768


@dataclass(frozen=True)
class Example:
    wave: Waveform  # (num_samples,)
    label: str

    @property
    def letters(self) -> list[int]:
        return [LETTER["|" if letter == " " else letter] for letter in self.label]


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


def write_shard(path: Path, spoken: list[tuple[Waveform, dict[str, Any]]]) -> float:
    """Write int16 samples (num_samples,), 16 kHz, and one line an utterance; return the seconds of speech."""
    pieces, lines, position = [np.zeros(0, np.int16)], [], 0
    for audio, row in spoken:
        pieces.append((audio * 32767).astype(np.int16))
        lines.append(json.dumps({"start": position, "samples": len(audio), **row}) + "\n")
        position += len(audio)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, np.concatenate(pieces))
    partial.replace(path.with_suffix(".npy"))
    lines_partial = path.with_suffix(".partial")
    lines_partial.write_text("".join(lines), "utf-8")
    lines_partial.replace(path.with_suffix(".jsonl"))  # last: its presence says that the shard is whole
    return position / SAMPLE_RATE


def training_utterances(shards: list[Path], held_out: list[Utterance]) -> list[Utterance]:
    """What the shards hold, without sentences that a held-out voice speaks too."""
    unwanted = {spoken_label(utterance.text) for utterance in held_out}
    return [utterance for utterance in read_shards(shards) if spoken_label(utterance.text) not in unwanted]


class Speech:
    """Draws examples: utterances by the weight of their engine, joined with gaps to various lengths.

    Joined ones teach the new layers what Whisper's layers write at late positions.
    """

    def __init__(self, utterances: list[Utterance], rng: np.random.Generator) -> None:
        if not utterances:
            raise FileNotFoundError("No speech to train on: run starter.synthesize first.")
        self.rng = rng
        self.engines: dict[str, list[Utterance]] = {}
        for utterance in utterances:
            self.engines.setdefault(utterance.engine, []).append(utterance)
        weights = self.weights()
        self.names = list(weights)
        self.chances = np.array(list(weights.values())) / sum(weights.values())

    def weights(self) -> dict[str, float]:
        """By engine; real readers, who read long, get their share in seconds."""
        engines = self.engines
        mean = {name: float(np.mean([item.seconds for item in items])) for name, items in engines.items()}
        weights = {
            name: WEIGHTS[name] * min(1.0, len(items) / FULL_WEIGHT)
            for name, items in engines.items()
            if name != "real"
        }
        if "real" in engines:
            seconds = sum(weight * mean[name] for name, weight in weights.items())
            weights["real"] = REAL_SHARE / (1 - REAL_SHARE) * seconds / mean["real"] if weights else 1.0
        return weights

    def __str__(self) -> str:
        parts = []
        for name, chance in zip(self.names, self.chances, strict=True):
            items = self.engines[name]
            parts.append(f"{name} {len(items)} ({sum(item.seconds for item in items) / 3600:.2f} h, {chance:.0%})")
        return "speech: " + ", ".join(parts)

    def draw(self) -> Utterance:
        items = self.engines[self.names[self.rng.choice(len(self.names), p=self.chances)]]
        return items[self.rng.integers(len(items))]

    def example(self) -> Example:
        rng, target = self.rng, self.rng.choice(LENGTHS) * SAMPLE_RATE
        waves: list[Waveform] = []
        labels: list[str] = []
        while not waves or sum(map(len, waves)) < target:
            utterance = self.draw()
            wave = change_speed(utterance.wave, rng.uniform(0.86, 1.16)) if rng.random() < 0.75 else utterance.wave
            if waves and sum(map(len, waves)) + len(wave) > LONGEST * SAMPLE_RATE:
                break
            if waves:
                waves.append(np.zeros(rng.integers(SAMPLE_RATE // 2), np.float32))
            waves.append(wave / (wave.std() + 1e-6) * rng.uniform(0.5, 1.6))
            labels.append(spoken_label(utterance.text))
        if rng.random() < 0.3:
            before, behind = rng.integers(0, SAMPLE_RATE // 2, 2)
            waves = [np.zeros(before, np.float32), *waves, np.zeros(behind, np.float32)]
        return Example(np.concatenate(waves).astype(np.float32), " ".join(labels))

    def batches(self, seconds: float) -> Iterator[list[Example]]:
        """Batches without end of similarly long examples, `seconds` of padded speech at most (or one example)."""
        pool: list[Example] = []
        while True:
            pool += [self.example() for _ in range(POOL - len(pool))]
            pool.sort(key=lambda example: len(example.wave))
            place = int(self.rng.integers(len(pool)))
            batch = [pool.pop(place)]
            while place < len(pool) and (len(batch) + 1) * len(pool[place].wave) <= seconds * SAMPLE_RATE:
                batch.append(pool.pop(place))
            yield batch


def pad(waves: list[Waveform]) -> tuple[Tensor, Tensor]:
    """Waveforms as (batch, samples), zeros behind the shorter ones, and their lengths (batch,)."""
    lengths = torch.tensor([len(wave) for wave in waves])
    padded = torch.zeros(len(waves), int(lengths.max()))
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return padded, lengths
