"""Noise and mixing in integers: the very same samples everywhere, at the ratio that was asked for."""

import hashlib
from fractions import Fraction
from math import log10

import numpy as np
import pytest

from mondegreen.sample import audio
from mondegreen.sample.audio import Signal, wav_bytes

SPEECH = audio.hum(16_000, 210, 3) // 3 + audio.white(16_000, 4) // 50
BEDS: dict[str, Signal] = {
    "white": audio.white(16_000, 11),
    "hum": audio.hum(16_000, 50, 12),
    "babble": audio.babble([audio.white(9_000, 13), audio.hum(5_000, 60, 14)], 16_000, 15),
    "music": audio.music(audio.hum(400_000, 440, 16), 16_000, 17),
    "telephone": audio.telephone(audio.white(16_000, 18)),
}
GOLDEN = {
    "white": "cc28ddfd2c287d1c",
    "hum": "9ab1c20542f6da00",
    "babble": "87ccca97547f51c8",
    "music": "f5296cea7ca15718",
    "telephone": "615181f6de009bf6",
}


def digest(signal: Signal) -> str:
    return hashlib.sha256(signal.astype("<i8").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("kind", BEDS)
def test_mixtures_are_the_golden_ones(kind: str) -> None:
    assert digest(audio.mix(SPEECH, BEDS[kind], 73)) == GOLDEN[kind]


@pytest.mark.parametrize("kind", BEDS)
@pytest.mark.parametrize("tenth_db", [0, 1, 73, 200])
def test_the_ratio_is_the_wanted_one(kind: str, tenth_db: int) -> None:
    scaled = audio.at_snr(SPEECH, BEDS[kind], tenth_db)
    measured = 10 * log10(Fraction(audio.energy(SPEECH), audio.energy(scaled)))
    assert measured == pytest.approx(tenth_db / 10, abs=0.05)


@pytest.mark.parametrize("kind", BEDS)
def test_no_floating_point_number_is_made(kind: str) -> None:
    assert BEDS[kind].dtype == audio.mix(SPEECH, BEDS[kind], 0).dtype == np.int64


def test_what_would_clip_is_turned_down() -> None:
    loud = audio.hum(16_000, 50, 1) * 2
    assert int(np.abs(audio.mix(loud, BEDS["white"], 0)).max()) == audio.PEAK


def test_silence_cannot_be_mixed_in() -> None:
    with pytest.raises(ValueError, match="silent"):
        audio.at_snr(SPEECH, np.zeros(16_000, np.int64), 0)


def test_power_ratio_is_exact() -> None:
    for tenth_db in range(201):
        ratio = audio.power_ratio(tenth_db)
        assert ratio**100 <= 10 ** (tenth_db + 1200) < (ratio + 1) ** 100


def test_telephone_keeps_speech_and_drops_what_lies_outside() -> None:
    def kept(hertz: int) -> float:
        time = np.arange(16_000)
        tone = np.round(20_000 * np.sin(2 * np.pi * hertz * time / 16_000)).astype(np.int64)
        return audio.energy(audio.telephone(tone)) / audio.energy(tone)

    assert min(kept(500), kept(1000), kept(3000)) > 0.95
    assert max(kept(100), kept(150), kept(4000), kept(6000)) < 0.01


def test_wav_bytes_are_stable() -> None:
    assert wav_bytes(np.array([0, 1, -1], np.int64)).hex() == (
        "524946462a00000057415645666d74201000000001000100803e0000007d00000200100064617461060000000000" + "0100ffff"
    )
