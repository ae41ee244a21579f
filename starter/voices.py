"""Free speech synthesisers behind one function: Kokoro and hibari (near-natural), flite and espeak-ng (robotic)."""

import random
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from starter.kokoro import Kokoro, load_style

SAMPLE_RATE = 16_000  # Hz
KOKORO_RATE = 24_000  # Hz
MAX_PHONEMES = 510  # Kokoro's context
SILENCE = 0.02  # of the peak; what lies below it at the ends is trimmed

DEV_VOICES = {"kokoro": ["af_sky", "am_eric"], "flite": ["awb"], "espeak": ["en-us+f4", "en-gb+m5"]}
TEST_VOICES = {
    "kokoro": ["af_sarah", "am_michael", "bf_emma", "bm_lewis"],
    "flite": ["awb"],
    "espeak": ["en-us+f1", "en-gb+m3", "en-gb-scotland+f2"],
}
# fmt: off
KOKORO_TRAIN = [
    "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river",
    "am_adam", "am_echo", "am_fenrir", "am_liam", "am_onyx", "am_puck", "am_santa",
    "bf_alice", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george",
]
ESPEAK_VARIANTS = [
    "f3", "f5", "m1", "m2", "m4", "m6", "m7", "m8", "klatt", "klatt2", "klatt4", "linda", "steph", "Annie",
]
# fmt: on
FLITE_PITCH = {"slt": 180, "kal": 105, "kal16": 105, "rms": 100, "awb": 130}  # Hz
FLITE_TRAIN = ["slt", "slt", "rms", "kal", "kal16"]  # slt twice: the only woman
HIBARI_ENGINES = ["hibari", "hibari-text"]  # one voice; the second one speaks other texts
HIBARI_VOICE = "heart"
ESPEAK_ACCENTS = ["en-us", "en-us", "en-gb", "en-gb-x-rp", "en-029", "en-gb-scotland", "en-gb-x-gbclan"]

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Voice:
    """One way of speaking: `name` is an engine's voice, for Kokoro also a blend such as `af_nova:0.4+af_bella:0.6`."""

    engine: str
    name: str
    speed: float  # 1.0 is the engine's usual rate; above is faster
    pitch: float = 0.0  # -1..1, flite and espeak-ng only


def random_voice(engine: str, rng: random.Random, names: list[str] | None = None) -> Voice:
    """A training voice, or one of the given held-out `names` at close to its usual rate."""
    if names:
        return Voice(engine, rng.choice(names), round(rng.uniform(0.9, 1.15), 2))
    if engine in HIBARI_ENGINES:
        return Voice(engine, HIBARI_VOICE, round(rng.uniform(0.8, 1.25), 2))
    if engine == "kokoro":
        return Voice(engine, random_blend(rng), round(rng.uniform(0.8, 1.3), 2))
    pitch, speed = round(rng.uniform(-1, 1), 2), round(rng.uniform(0.75, 1.3), 2)
    if engine == "flite":
        return Voice(engine, rng.choice(FLITE_TRAIN), speed, pitch)
    return Voice(engine, f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(ESPEAK_VARIANTS)}", speed, pitch)


def random_blend(rng: random.Random) -> str:
    """Mostly women of the American voices, because prompts are mostly spoken by such; one in four is no blend."""
    prefix = rng.choices(["af_", "am_", "b", ""], [0.55, 0.15, 0.12, 0.18])[0]
    pool = [name for name in KOKORO_TRAIN if name.startswith(prefix)]
    if rng.random() < 0.25:
        return rng.choice(pool)
    first, second = rng.sample(pool, 2)
    weight = round(rng.uniform(0.2, 0.8), 2)
    return f"{first}:{weight}+{second}:{round(1 - weight, 2)}"


def speak(text: str, voice: Voice, kokoro_voices: Path) -> Waveform:
    """Synthesise one utterance: float32 (num_samples,), 16 kHz, silence trimmed to 0.1 s, peak 0.7."""
    if voice.engine == "kokoro":
        audio, rate = _speak_kokoro(text, voice, kokoro_voices)
    elif voice.engine in HIBARI_ENGINES:
        seed = zlib.crc32(text.encode())  # of its noise: the same text sounds the same
        audio, rate = np.asarray(_load_hibari()(text, speed=voice.speed, seed=seed), np.float32), KOKORO_RATE
    else:
        audio, rate = _speak_command(text, voice)
    audio = soxr.resample(audio, rate, SAMPLE_RATE).astype(np.float32)
    loud = np.flatnonzero(np.abs(audio) > SILENCE * np.abs(audio).max(initial=1e-9))
    if not len(loud):
        raise ValueError(f"{voice} is silent for {text!r}")
    margin = SAMPLE_RATE // 10
    audio = audio[max(0, loud[0] - margin) : loud[-1] + margin]
    return audio * (0.7 / np.abs(audio).max())


def _speak_command(text: str, voice: Voice) -> tuple[Waveform, int]:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        if voice.engine == "flite":
            pitch = FLITE_PITCH[voice.name] * (1 + 0.25 * voice.pitch)
            settings = [f"duration_stretch={1 / voice.speed:.3f}", f"int_f0_target_mean={pitch:.0f}"]
            options = [word for setting in settings for word in ("--setf", setting)]
            command = ["flite", "-voice", voice.name, *options, "-t", text, "-o", file.name]
        else:
            pace, pitch = str(round(165 * voice.speed)), str(round(50 + 35 * voice.pitch))
            command = ["espeak-ng", "-v", voice.name, "-s", pace, "-p", pitch, "-w", file.name, text]
        subprocess.run(command, check=True, capture_output=True)
        return soundfile.read(file.name, dtype="float32")


def _speak_kokoro(text: str, voice: Voice, folder: Path) -> tuple[Waveform, int]:
    kokoro, phonemize = _load_kokoro()
    symbols = [symbol for symbol in "".join(phonemize(text)) if symbol in kokoro.vocabulary]
    tokens = [kokoro.vocabulary[symbol] for symbol in symbols][:MAX_PHONEMES]
    style = sum(weight * load_style(folder / f"{name}.bin")[len(tokens) - 1] for name, weight in _parts(voice.name))
    return kokoro(tokens, np.asarray(style, np.float32), voice.speed), KOKORO_RATE


def _parts(name: str) -> list[tuple[str, float]]:
    pairs = (part.partition(":") for part in name.split("+"))
    return [(voice, float(weight or 1.0)) for voice, _, weight in pairs]


@cache
def _load_kokoro() -> tuple[Kokoro, Callable[[str], Iterable[str]]]:
    return Kokoro(), _load_hibari().phonemize


@cache
def _load_hibari() -> Any:
    from hibari import Hibari

    return Hibari()
