"""Clips and their noise, the same bytes on every machine: integers alone, without a single floating-point number.

Signals are int64 (num_samples,) at 16 kHz. Tables hold the numbers themselves, because sin() and filter design differ
between machines.
"""

import io
import wave
from functools import cache
from math import isqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
from G722 import G722

from mondegreen.sample.prompts import RATE, Noisy, draw

# One quarter of a sine, 65 points, Q15: round(32767 * sin(pi / 2 * i / 64)).
_QUARTER = (
    0, 804, 1608, 2410, 3212, 4011, 4808, 5602, 6393, 7179, 7962, 8739, 9512, 10278, 11039, 11793, 12539, 13279,
    14010, 14732, 15446, 16151, 16846, 17530, 18204, 18868, 19519, 20159, 20787, 21403, 22005, 22594, 23170, 23731,
    24279, 24811, 25329, 25832, 26319, 26790, 27245, 27683, 28105, 28510, 28898, 29268, 29621, 29956, 30273, 30571,
    30852, 31113, 31356, 31580, 31785, 31971, 32137, 32285, 32412, 32521, 32609, 32678, 32728, 32757, 32767,
)  # fmt: skip
# A whole period, int64 (256,).
SINE = np.array(
    [*_QUARTER[:64], *_QUARTER[:0:-1], *(-v for v in _QUARTER[:64]), *(-v for v in _QUARTER[:0:-1])], dtype=np.int64
)

# First half and middle of a symmetric band-pass, 300 to 3400 Hz at 16 kHz, Q15, 255 taps:
# round(32768 * scipy.signal.firwin(255, [300, 3400], fs=16000, pass_zero=False, window=("kaiser", 6.0))).
# -6 dB at 300 and 3400 Hz, below -37 dB under 200 and over 3500 Hz, flat within 0.1 dB from 400 to 3300 Hz.
_HALF = (
    -1, -2, -2, 0, 0, -3, -5, -3, 0, -2, -7, -7, -2, 1, -3, -9, -6, 2, 4, -4, -9, -1, 11, 9, -3, -4, 11, 23, 15, -1,
    4, 26, 35, 16, 0, 15, 41, 39, 9, -4, 23, 48, 29, -11, -14, 24, 41, 0, -45, -29, 19, 17, -46, -84, -43, 8, -20,
    -99, -115, -45, 0, -60, -142, -120, -21, 3, -89, -156, -81, 36, 24, -96, -124, 9, 124, 58, -75, -44, 141, 223,
    90, -36, 73, 287, 298, 95, 4, 197, 404, 305, 40, 19, 293, 439, 198, -99, -10, 325, 350, -50, -326, -84, 273,
    110, -442, -617, -178, 143, -285, -956, -910, -227, -38, -831, -1556, -1100, -102, -222, -1594, -2270, -969,
    584, -359, -3284, -3841, 1149, 8914, 12697,
)  # fmt: skip
# The telephone band's impulse response, int64 (255,), Q15.
TELEPHONE = np.array([*_HALF, *_HALF[-2::-1]], dtype=np.int64)
Signal = npt.NDArray[np.int64]

_GOLDEN, _MIX1, _MIX2 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
# Mains hum: harmonic, amplitude out of 32. Even harmonics are weak, as behind a rectifier.
_HARMONICS = ((1, 32), (2, 6), (3, 16), (5, 8), (7, 4), (9, 2))
PEAK = 32767
_RATIO_DIGITS = 12


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


def energy(signal: Signal) -> int:
    """Sum of the squares; below 2**63 for anything shorter than two hours at 16 bits."""
    return int(np.dot(signal, signal))


@cache
def power_ratio(tenth_db: int) -> int:
    """floor(10**(tenth_db / 100) * 10**12): the power ratio of so many tenths of a decibel, exactly."""
    target = 10 ** (tenth_db + 100 * _RATIO_DIGITS)
    low, high = 1, 10 ** (_RATIO_DIGITS + tenth_db // 100 + 1)
    while low < high:  # the integer 100th root
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**100 <= target else (low, middle - 1)
    return low


def at_snr(speech: Signal, noise: Signal, tenth_db: int) -> Signal:
    """The noise scaled so that speech over noise is `tenth_db` tenths of a decibel, by the energy of the whole clip.

    Raises:
        ValueError: the noise is silent: no gain makes it heard.
    """
    if energy(noise) == 0:
        raise ValueError("the noise is silent")
    squared = energy(speech) * 10**_RATIO_DIGITS * 2**32 // (energy(noise) * power_ratio(tenth_db))
    return (noise * isqrt(squared) + (1 << 15)) >> 16


def mix(speech: Signal, noise: Signal, tenth_db: int) -> Signal:
    """Speech and noise at the given ratio, turned down as a whole when the sum would clip.

    Args:
        speech: int64 (num_samples,), 16-bit range.
        noise: as long as the speech.
        tenth_db: tenths of a decibel.

    Returns:
        int64 (num_samples,) within +-32767.
    """
    mixed = speech + at_snr(speech, noise, tenth_db)
    peak = int(np.abs(mixed).max())
    return mixed if peak <= PEAK else mixed * PEAK // peak


def decode(path: Path) -> Signal:
    """A G.722 file's samples, int64 (num_samples,), 16 kHz."""
    return np.asarray(G722(RATE, 64000).decode(path.read_bytes()), dtype=np.int64)


def wav_bytes(signal: Signal) -> bytes:
    """16-bit mono WAV at 16 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(RATE)
        stream.writeframes(signal.astype("<i2").tobytes())
    return buffer.getvalue()


class Beds:
    """The noise that is mixed in, and a name for it."""

    def __init__(self, music: dict[str, Signal], voices: list[Signal]) -> None:
        self._music = music
        self._voices = voices

    def mixed(self, speech: Signal, plan: Noisy) -> tuple[Signal, str]:
        """The speech with its noise, and what was done in words ("hum of 50 Hz at 7.3 dB")."""
        seed = draw(f"noise:{plan.prompt.key}", 2**40)
        if plan.kind == "telephone":
            speech = telephone(speech)
        bed, name = self._bed(plan.kind, len(speech), seed)
        return mix(speech, bed, plan.snr), f"{name} at {plan.snr // 10}.{plan.snr % 10} dB"

    def _bed(self, kind: str, length: int, seed: int) -> tuple[Signal, str]:
        if kind == "music":
            title = sorted(self._music)[seed % len(self._music)]
            return music(self._music[title], length, seed // len(self._music)), f"music ({title})"
        if kind == "babble":
            return babble(self._voices, length, seed), "babble of 4 talkers"
        if kind == "telephone":
            return telephone(white(length, seed)), "telephone band with line noise"
        if kind == "hum":
            hertz = (50, 60)[seed % 2]
            return hum(length, hertz, seed), f"hum of {hertz} Hz"
        return white(length, seed), "white noise"
