"""What a waveform says about its recording without a transcript: how noisy it is, and how much is clipped."""

from typing import NamedTuple

import numpy as np

from mondegreen.speech.audio import SAMPLE_RATE, SILENCE_PEAK, Waveform

Decibel = float

FULL_SCALE = 0.999  # |sample| from which a sample counts as clipped
HIGHEST_SNR: Decibel = 60.0  # digital silence between words would give an infinite one
_FRAME = SAMPLE_RATE // 50  # 20 ms
_FEWEST_FRAMES = 10
_QUANTISATION = (1 / 32768) ** 2 / 12  # power of the rounding to 16 bit, the least noise there is


class Acoustics(NamedTuple):
    """NaN where a quantity was not, or cannot be, measured."""

    snr: Decibel
    clipped: float  # share of the samples at full scale


UNKNOWN = Acoustics(snr=float("nan"), clipped=float("nan"))


def measure(waveform: Waveform | None) -> Acoustics:
    """Both quantities of a recording.

    Args:
        waveform: float32 (num_samples,), 16 kHz, full scale 1; None when it is not at hand. Samples that are not
            numbers are passed over.
    """
    if waveform is None:
        return UNKNOWN
    samples = waveform[np.isfinite(waveform)].astype(np.float64)
    if not len(samples):
        return UNKNOWN
    return Acoustics(snr=_snr(samples), clipped=float(np.mean(np.abs(samples) >= FULL_SCALE)))


def _snr(samples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Decibel:
    """Ratio of the loud frames' power to that of the quiet ones: the 95th and the 15th percentile over 20 ms frames.

    An estimate by energy percentiles, with the percentiles that ISIP names as usual (J. Picone, "Signal to Noise Ratio
    Estimation", isip.piconepress.com) and the frames of NIST's `stnr`, whose quick method reads the same histogram.
    It is one scale for all recordings, not the true ratio: speech is loudest well above its mean power, so steady
    noise 10 dB below the speech is measured as about 15 dB, and noise without speech as about 1 dB.

    Returns:
        Decibel, 0 to 60; NaN for less than 0.2 s and for silence.
    """
    count = len(samples) // _FRAME
    if count < _FEWEST_FRAMES or np.abs(samples).max() < SILENCE_PEAK:
        return float("nan")
    powers = samples[: count * _FRAME].reshape(count, _FRAME).var(axis=1)  # (num_frames,)
    quiet, loud = np.maximum(np.percentile(powers, [15, 95]), _QUANTISATION)
    return round(float(min(HIGHEST_SNR, 10 * np.log10(loud / quiet))), 2)
