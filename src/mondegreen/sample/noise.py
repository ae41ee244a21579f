"""Noise beds in integers: the same samples on every machine. Signals are int64 (num_samples,) at 16 kHz."""

import numpy as np
import numpy.typing as npt

from mondegreen.sample.tables import SINE, TELEPHONE

Signal = npt.NDArray[np.int64]

_GOLDEN, _MIX1, _MIX2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
# Mains hum: harmonic, amplitude out of 32. Even harmonics are weak, as behind a rectifier.
_HARMONICS = ((1, 32), (2, 6), (3, 16), (5, 8), (7, 4), (9, 2))


def white(length: int, seed: int) -> Signal:
    """White noise: splitmix64 over seed + counter; the sum of each number's four 16-bit parts is nearly Gaussian."""
    state = (np.arange(1, length + 1, dtype=np.uint64) + np.uint64(seed)) * _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _MIX1
    state = (state ^ (state >> np.uint64(27))) * _MIX2
    state ^= state >> np.uint64(31)
    parts = [(state >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48)]
    total: Signal = np.stack(parts).astype(np.int64).sum(axis=0)
    return (total - 2 * 0xFFFF) >> 2


def hum(length: int, hertz: int, seed: int) -> Signal:
    """Mains hum of 50 or 60 Hz with its harmonics, each at its own seeded phase."""
    time = np.arange(length, dtype=np.int64)
    total = np.zeros(length, dtype=np.int64)
    for harmonic, amplitude in _HARMONICS:
        step = (hertz * harmonic << 32) // 16000
        phase = (time * step + ((seed * harmonic * 2654435761) & 0xFFFFFFFF)) & 0xFFFFFFFF
        total += amplitude * SINE[phase >> 24]
    return total >> 6


def babble(voices: list[Signal], length: int, seed: int, talkers: int = 4) -> Signal:
    """Several talkers at once: each reads all the voices in a ring, from a seeded place of its own."""
    ring = np.concatenate(voices)
    starts = [(seed + talker * (len(ring) // talkers + 7919)) % len(ring) for talker in range(talkers)]
    at = np.arange(length, dtype=np.int64)
    total: Signal = np.stack([ring[(at + start) % len(ring)] for start in starts]).sum(axis=0)
    return total


def music(piece: Signal, length: int, seed: int) -> Signal:
    """A stretch of music from a seeded place, not from its first or last ten seconds (they fade)."""
    margin = 160_000
    start = margin + seed % max(1, len(piece) - length - 2 * margin)
    return piece[start : start + length]


def telephone(signal: Signal) -> Signal:
    """The signal through the telephone band, 300 to 3400 Hz, same length, not delayed."""
    filtered: Signal = np.convolve(signal, TELEPHONE, mode="same")
    return (filtered + (1 << 14)) >> 15
