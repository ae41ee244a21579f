"""Which channel of a recording is heard: all of them mixed, one of them, or the better one where the mix cancels.

A recorder with a swapped wire writes the same voice into both channels, once upside down: their mean is silence, or
noise. Two microphones at a distance cancel what arrives at one later than at the other.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mondegreen.files import sha256_file

FRAME = 0.032  # seconds
SPEECH = (150.0, 3_800.0)  # Hz
WORST_MIX = -1.0  # dB, the mean over the bands of speech, below channels that have nothing in common (0.1 dB apart)
_FLOOR = 1e-3  # bands that lie 30 dB below the strongest are not looked at
_SUFFIX = re.compile(r"(.+)#(\d{1,3})", re.DOTALL)


def channel_of(path: Path | str) -> tuple[Path, int | None]:
    """The file, and the channel that `call.wav#2` means (1 is the first); None for a path that is a file itself."""
    found = _SUFFIX.fullmatch(str(path))
    if not found or Path(path).exists():
        return Path(path), None
    return Path(found[1]), int(found[2])


def content_digest(path: Path | str) -> str:
    """The sha256 under which what was computed from a recording is kept: of its bytes, and of its channel."""
    file, channel = channel_of(path)
    digest = sha256_file(file)
    return digest if channel is None else hashlib.sha256(f"{digest}#{channel}".encode()).hexdigest()


def better_channel(blocks: Iterable[tuple[int, npt.NDArray[np.float32]]]) -> tuple[int, float] | None:
    """The channel to take instead of the mix, counted from 0, and how many dB the mix lies below; None to take the mix.

    The spectrum of the mix is compared with what channels would give that have nothing in common (their powers over the
    square of their number). Two speakers, or an empty channel, give 0 dB; the same voice twice +3 dB.

    Args:
        blocks: rate and float32 (frames, channels), of a recording with two channels or more.
    """
    kind: tuple[int, int] | None = None
    mixed, single = np.zeros(0), np.zeros(0)
    levels = []
    for rate, block in blocks:
        if block.shape[1] < 2 or kind not in (None, (rate, block.shape[1])):
            continue  # in a file of several recordings the first one with channels tells
        size = round(FRAME * rate)
        frames = block[: len(block) // size * size].T.reshape(block.shape[1], -1, size)
        mix, powers = _powers(frames.mean(axis=0)), _powers(frames)
        if kind is None:
            kind, mixed, single = (rate, block.shape[1]), np.zeros(mix.shape[1]), np.zeros((len(powers), mix.shape[1]))
        mixed += mix.sum(axis=0)
        single += powers.sum(axis=1)
        levels.append(powers.sum(axis=2))
    if kind is None:
        return None
    expected = single.sum(axis=0) / kind[1] ** 2
    bands = expected > _FLOOR * expected.max(initial=0.0)
    if not bands.any():
        return None
    below = float(np.mean(10 * np.log10(np.maximum(mixed[bands] / expected[bands], 1e-10))))
    return (_clearest(np.concatenate(levels, axis=1)), -below) if below < WORST_MIX else None


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
