"""Augmentation follows its seed and keeps a waveform a waveform."""

import numpy as np
import pytest

from starter.augment import SAMPLE_RATE, add_at_snr, change_speed, disturb, normalise


def tone(seconds: float, hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE).astype(np.float32)


def test_same_seed_same_audio_other_seed_other_audio() -> None:
    wave, other = tone(1.0, 440), tone(0.7, 300)
    first, again, different = (disturb(wave, other, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, different)


@pytest.mark.parametrize("seed", range(20))
def test_disturbed_audio_is_finite_float32_of_the_same_length_and_variance_one(seed: int) -> None:
    audio = disturb(tone(1.0, 440), tone(1.3, 300), np.random.default_rng(seed))
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    assert len(audio) == SAMPLE_RATE
    assert audio.var() == pytest.approx(1, abs=1e-3)


def test_faster_speech_is_shorter_and_higher() -> None:
    audio = change_speed(tone(1.0, 440), 1.1)
    peak = np.abs(np.fft.rfft(audio)).argmax() * SAMPLE_RATE / len(audio)
    assert len(audio) == pytest.approx(SAMPLE_RATE / 1.1, abs=2)
    assert peak == pytest.approx(484, abs=3)


def test_noise_is_added_at_the_given_ratio() -> None:
    wave, noise = tone(1.0, 440), tone(1.0, 900)
    added = add_at_snr(wave, noise, 20.0) - wave
    assert 10 * np.log10(np.mean(wave**2) / np.mean(added**2)) == pytest.approx(20.0, abs=0.01)


def test_normalised_audio_has_mean_zero_and_variance_one() -> None:
    audio = normalise(3 * tone(1.0, 440) + 1)
    assert audio.mean() == pytest.approx(0, abs=1e-4)
    assert audio.var() == pytest.approx(1, abs=1e-3)
