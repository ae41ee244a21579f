"""Recordings changed as a behaviour test asks: louder, padded, noisier, in another format, or none at all."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mondegreen.loop.regression.behaviour_kinds import Change, Value
from mondegreen.records import Utterance
from mondegreen.speech.audio import SAMPLE_RATE, Waveform, load_audio

_FULL = 0.999  # of full scale: a sample above is clipped
_ROOM = 10 ** (-70 / 20)  # the quiet noise of a recording in which nobody speaks: -70 dBFS
_FORMATS = {"flac": (".flac", "FLAC", "PCM_16"), "ogg": (".ogg", "OGG", "VORBIS"), "8bit": (".wav", "WAV", "PCM_U8")}


def changed(source: Utterance, change: Change, value: Value, seed: int, folder: Path) -> Utterance:
    """The recording, changed and written below `folder`.

    Its sha256 is that of the decoded samples: an Ogg file has other bytes each time.

    Args:
        value: see `Invariance`.
        seed: of the noise, which also differs from recording to recording.

    Raises:
        AudioError: the recording cannot be decoded.
    """
    waveform, rate = load_audio(Path(source.path)), SAMPLE_RATE
    suffix, container, subtype = ".wav", "WAV", "PCM_16"
    if isinstance(value, str):
        suffix, container, subtype = _FORMATS[value]
    elif change == "rate":
        rate = round(value)
        waveform = soxr.resample(waveform, SAMPLE_RATE, rate, quality="HQ")
    else:
        waveform = _altered(waveform, change, value, np.random.default_rng([seed, int(source.sha256[:8], 16)]))
    label = f"{change} {value}" if isinstance(value, str) else f"{change} {value:g}"
    key = f"{source.id} {label}"
    path = _place(folder, key, suffix)
    soundfile.write(path, np.clip(waveform, -1, 1), rate, format=container, subtype=subtype)
    return _as_utterance(source, key, path)


def silences(suite: str, seconds: tuple[float, ...], seed: int, folder: Path) -> Iterator[Utterance]:
    """For each length one recording of digital silence, and one of a quiet room."""
    generator = np.random.default_rng(seed)
    for length in seconds:
        count = max(1, round(length * SAMPLE_RATE))
        sounds = {"digital": np.zeros(count), "room": _ROOM * generator.standard_normal(count)}
        for name, waveform in sounds.items():
            label = f"{name} silence, {length:g} s"
            path = _place(folder, f"{suite}: {label}", ".wav")
            soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
            empty = Utterance(
                id="", path="", sha256="", duration=0, condition="", speaker="", recording=label, reference="",
                split="test", domain="target",
            )  # fmt: skip
            yield _as_utterance(empty, f"{suite}: {label}", path)


def _altered(waveform: Waveform, change: Change, value: float, generator: np.random.Generator) -> Waveform:
    if change == "gain":
        peak = float(np.abs(waveform).max(initial=0.0))
        factor = 10 ** (value / 20)
        return (waveform * (min(factor, _FULL / peak) if peak else factor)).astype(np.float32)
    if change == "padding":
        silence = np.zeros(round(value * SAMPLE_RATE), np.float32)
        return np.concatenate([silence, waveform, silence])
    power = float(np.mean(np.square(waveform, dtype=np.float64)))
    noise = generator.standard_normal(len(waveform)) * (power * 10 ** (-value / 10)) ** 0.5
    noisy = waveform + noise
    unclipped: Waveform = (noisy * min(1.0, _FULL / max(float(np.abs(noisy).max()), 1e-9))).astype(np.float32)
    return unclipped


def _place(folder: Path, key: str, suffix: str) -> Path:
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}{suffix}"


def _as_utterance(source: Utterance, key: str, path: Path) -> Utterance:
    decoded = load_audio(path)
    fields = {
        "id": key,
        "path": path.as_posix(),
        "sha256": hashlib.sha256(decoded.tobytes()).hexdigest(),
        "duration": round(len(decoded) / SAMPLE_RATE, 6),
    }
    return source.model_copy(update=fields)
