"""Waveform augmentation, cheap enough to do on the fly: float32 (num_samples,), 16 kHz in and out."""

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz
BANDS = [(50.0, 7_000.0), (50.0, 7_000.0), (300.0, 3_400.0), (100.0, 5_500.0)]  # Hz; G.722, telephone, other

Waveform = NDArray[np.float32]


def disturb(wave: Waveform, other: Waveform, rng: Generator) -> Waveform:
    """Room, spectrum, band and noise for three clips in five, a faint hiss for the others; variance 1 afterwards.

    `other` is babble for one in seven of the disturbed ones.
    """
    if rng.random() >= 0.6:
        hiss = rng.standard_normal(len(wave)).astype(np.float32)
        return normalise(wave + hiss * wave.std() * 10 ** rng.uniform(-4, -2.5))
    wave = filter_randomly(wave, rng)
    kind = rng.choice(["none", "coloured", "babble"], p=[0.35, 0.5, 0.15])
    if kind == "coloured":
        wave = add_at_snr(wave, coloured_noise(len(wave), rng), rng.uniform(5, 40))
    elif kind == "babble":
        wave = add_at_snr(wave, np.resize(other, len(wave)), rng.uniform(10, 30))
    return normalise(wave)


def change_speed(wave: Waveform, factor: float) -> Waveform:
    """Play `factor` times as fast, pitch and formants along with it: other tempo, other vocal tract."""
    return soxr.resample(wave, SAMPLE_RATE, SAMPLE_RATE / factor, quality="LQ")


def filter_randomly(wave: Waveform, rng: Generator) -> Waveform:
    """Tilt and bend the spectrum, sometimes limit the band, sometimes add a small room."""
    size = 1 << (len(wave) + SAMPLE_RATE // 4).bit_length()
    spectrum = np.fft.rfft(wave, size)
    hertz = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))
    gains = rng.normal(0, 3, 8)  # dB at eight points of the frequency axis
    response = 10 ** (np.interp(hertz, np.linspace(0, SAMPLE_RATE / 2, 8), gains) / 20)
    if rng.random() < 0.4:
        low, high = BANDS[rng.integers(len(BANDS))]
        response *= np.clip((hertz - low) / 50 + 0.5, 0.003, 1) * np.clip((high - hertz) / 200 + 0.5, 0.003, 1)
    if rng.random() < 0.3:
        response = response * np.fft.rfft(room(rng), size)
    return np.fft.irfft(spectrum * response, size)[: len(wave)].astype(np.float32)


def room(rng: Generator) -> Waveform:
    """An impulse followed by decaying noise: a room of 0.05-0.3 s reverberation time."""
    time = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
    tail = rng.normal(0, 1, len(time)) * 10 ** (-3 * time / rng.uniform(0.05, 0.3))
    tail *= rng.uniform(0.1, 0.6) / np.sqrt(np.sum(tail**2))
    tail[0] += 1.0
    return tail.astype(np.float32)


def coloured_noise(num_samples: int, rng: Generator) -> Waveform:
    """Noise whose power falls with frequency to the power 0 (white) to 2 (brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples).astype(np.float32))
    slope = np.maximum(np.arange(len(spectrum)), 10.0) ** (-rng.uniform(0, 2) / 2)
    return np.fft.irfft(spectrum * slope, num_samples).astype(np.float32)


def add_at_snr(wave: Waveform, noise: Waveform, decibel: float) -> Waveform:
    power, noise_power = np.mean(wave**2) + 1e-9, np.mean(noise**2) + 1e-9
    return wave + noise * np.sqrt(power / noise_power) * 10 ** (-decibel / 20)


def normalise(wave: Waveform) -> Waveform:
    """Mean 0, variance 1, as Wav2Vec2FeatureExtractor(do_normalize=True) does."""
    return ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).astype(np.float32)
