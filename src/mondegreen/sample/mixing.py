"""Mixing at a signal-to-noise ratio without a single floating-point number."""

from functools import cache
from math import isqrt

import numpy as np

from mondegreen.sample.noise import Signal

PEAK = 32767
_RATIO_DIGITS = 12


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
