"""Clips: G.722 to samples, and samples to WAV bytes that are the same on every machine."""

import io
import wave
from pathlib import Path

import numpy as np
from G722 import G722

from mondegreen.sample import mixing, noise
from mondegreen.sample.choose import RATE, Noisy, draw
from mondegreen.sample.noise import Signal


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
            speech = noise.telephone(speech)
        bed, name = self._bed(plan.kind, len(speech), seed)
        return mixing.mix(speech, bed, plan.snr), f"{name} at {plan.snr // 10}.{plan.snr % 10} dB"

    def _bed(self, kind: str, length: int, seed: int) -> tuple[Signal, str]:
        if kind == "music":
            title = sorted(self._music)[seed % len(self._music)]
            return noise.music(self._music[title], length, seed // len(self._music)), f"music ({title})"
        if kind == "babble":
            return noise.babble(self._voices, length, seed), "babble of 4 talkers"
        if kind == "telephone":
            return noise.telephone(noise.white(length, seed)), "telephone band with line noise"
        if kind == "hum":
            hertz = (50, 60)[seed % 2]
            return noise.hum(length, hertz, seed), f"hum of {hertz} Hz"
        return noise.white(length, seed), "white noise"
