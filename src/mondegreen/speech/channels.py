"""Which channel of a recording is heard: all of them mixed, one of them, or the better one where the mix cancels.

A recorder with a swapped wire writes the same voice into both channels, once upside down: their mean is silence, or
noise. Two microphones at a distance cancel what arrives at one later than at the other.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mondegreen.files import sha256_file

FRAME = 0.032  # seconds
SPEECH = (150.0, 3_800.0)  # Hz
STRETCH = 0.5  # seconds
WORST_STRETCH = -3.0  # dB, for a stretch: in so few frames two voices cancel by chance, in read speech by 1.1 at most
_PAUSE = 1e-2  # a stretch that lies 20 dB below the loudest holds no speech
WORST_MIX = -1.0  # dB, the mean over the bands of speech, below channels that have nothing in common (0.1 dB apart)
_FLOOR = 1e-3  # bands that lie 30 dB below the strongest are not looked at
_SUFFIX = re.compile(r"(.+)#(\d{1,3})", re.DOTALL)


def channel_of(path: Path | str) -> tuple[Path, int | None]:
    """The file, and the channel that `call.wav#2` means (1 is the first); None for a path that is a file itself."""
    found = _SUFFIX.fullmatch(str(path))
    if not found or os.path.exists(path):  # noqa: PTH110 - Path.exists raises on names that no disk can hold
        return Path(path), None
    return Path(found[1]), int(found[2])


def named_channel(file: Path, channel: int | None) -> Path:
    """What `channel_of` reads: `call.wav#2`, or the file itself for None."""
    return file if channel is None else file.with_name(f"{file.name}#{channel}")


def content_digest(path: Path | str) -> str:
    """The sha256 under which what was computed from a recording is kept: of its bytes, and of its channel."""
    file, channel = channel_of(path)
    return channel_digest(sha256_file(file), channel)


def channel_digest(digest: str, channel: int | None) -> str:
    """`content_digest` of a channel (1 is the first; None for all) of a file whose sha256 is known."""
    return digest if channel is None else hashlib.sha256(f"{digest}#{channel}".encode()).hexdigest()


@dataclass(frozen=True)
class Instead:
    """What to hear instead of the mix."""

    channels: dict[int, int]  # the channel, counted from 0, by the number of the block, counted from 0
    below: float  # dB that the mix lies below, where it lies deepest
    seconds: float  # how long those blocks are
    everywhere: bool


def better_channels(blocks: Iterable[tuple[int, npt.NDArray[np.float32]]]) -> Instead | None:
    """Where channels cancel each other, and which to take there; None to mix everything.

    The spectrum of the mix is compared with what channels would give that have nothing in common (their powers over the
    square of their number). Two speakers, or an empty channel, give 0 dB; the same voice twice +3 dB. A wire may be
    swapped in one part of a joined recording, or come loose on the way: every block and stretch is judged.

    Args:
        blocks: rate and float32 (frames, channels); blocks with one channel are passed over.
    """
    kinds: dict[tuple[int, int], _Kind] = {}
    number = 0
    for number, (rate, block) in enumerate(blocks):
        if block.shape[1] > 1:
            kinds.setdefault((rate, block.shape[1]), _Kind()).add(number, rate, block)
    channels: dict[int, int] = {}
    below, seconds = 0.0, 0.0
    for kind in kinds.values():
        if chosen := kind.cancelled():
            better = _clearest(np.concatenate([kind.levels[one] for one in chosen], axis=1))
            channels |= dict.fromkeys(chosen, better)
            below = max(below, kind.depth)
            seconds += sum(kind.seconds[one] for one in chosen)
    return Instead(channels, below, seconds, len(channels) == number + 1) if channels else None


@dataclass
class _Kind:
    """What the blocks of one rate and number of channels sound like, alone and mixed."""

    mixed: npt.NDArray[np.float64] | float = 0.0  # power by frequency
    expected: npt.NDArray[np.float64] | float = 0.0  # of a mix of channels that have nothing in common
    levels: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)  # by block: (channels, FRAMEs)
    seconds: dict[int, float] = field(default_factory=dict)
    ratios: dict[int, float | None] = field(default_factory=dict)  # dB of a block's mix
    stretches: list[tuple[int, float, float]] = field(default_factory=list)  # block, power, dB of the mix
    depth: float = 0.0  # dB

    def add(self, number: int, rate: int, block: npt.NDArray[np.float32]) -> None:
        size = round(FRAME * rate)
        frames = block[: len(block) // size * size].T.reshape(block.shape[1], -1, size)
        mixed, powers = _powers(frames.mean(axis=0)), _powers(frames)
        expected = powers.sum(axis=0) / block.shape[1] ** 2
        self.levels[number], self.seconds[number] = powers.sum(axis=2), len(block) / rate
        self.ratios[number] = _mix_level(mixed.sum(axis=0), expected.sum(axis=0))
        self.mixed, self.expected = self.mixed + mixed.sum(axis=0), self.expected + expected.sum(axis=0)
        for rows in np.array_split(np.arange(len(mixed)), max(1, round(len(mixed) * FRAME / STRETCH))):
            ratio = _mix_level(mixed[rows].sum(axis=0), expected[rows].sum(axis=0))
            if ratio is not None:
                self.stretches.append((number, float(expected[rows].sum()) / len(rows), ratio))

    def cancelled(self) -> list[int]:
        """The blocks that the mix would take something from."""
        whole = _mix_level(np.asarray(self.mixed), np.asarray(self.expected))
        loudest = max((power for _, power, _ in self.stretches), default=0.0)
        # A hum that cancels in the pauses is well gone.
        stretches = {
            number: ratio
            for number, power, ratio in sorted(self.stretches, key=lambda one: -one[2])
            if power > _PAUSE * loudest and ratio < WORST_STRETCH
        }
        chosen: list[int] = []
        for number, ratio in self.ratios.items():
            follows = ratio is None and number - 1 in chosen  # too short to be judged
            if number in stretches or follows or ((whole or 0.0) < WORST_MIX and (ratio or 0.0) < WORST_MIX):
                chosen.append(number)
        depths = [*stretches.values(), *((whole or 0.0,) if len(chosen) == len(self.ratios) else ())]
        self.depth = -min(depths, default=whole or 0.0)
        return chosen


def _mix_level(mixed: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> float | None:
    """Power of the mix in dB above what is expected, the mean over the bands of speech; None for silence."""
    bands = expected > _FLOOR * expected.max(initial=0.0)
    if not bands.any():
        return None
    return float(np.mean(10 * np.log10(np.maximum(mixed[bands] / expected[bands], 1e-10))))


def _powers(frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Power of the frequencies of speech: (..., size) to (..., frequencies)."""
    window = np.hanning(frames.shape[-1]).astype(np.float32)
    band = slice(round(SPEECH[0] * FRAME), round(SPEECH[1] * FRAME) + 1)
    return np.asarray(np.abs(np.fft.rfft(frames * window)[..., band]) ** 2, np.float64)


def _clearest(levels: npt.NDArray[np.float64]) -> int:
    """The channel whose speech stands out most from its pauses; the first of several within a decibel."""
    pauses, speech = np.percentile(levels, 10, axis=1), np.percentile(levels, 95, axis=1)
    contrast = 10 * np.log10((speech + 1e-12) / np.maximum(pauses, 1e-6 * speech.max() + 1e-12))
    return int(np.argmax(contrast > contrast.max() - 1.0))
