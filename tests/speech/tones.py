"""A language that a tiny model can learn in seconds: every letter is a tone of its own."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from mondegreen.records import Example

SAMPLE_RATE = 16_000
_LETTERS = "ABCDEFGH"
_SECONDS = 0.12


def tone_waveform(text: str, seed: int = 0, pitch: float = 1.0) -> np.ndarray:
    """float32 (num_samples,): a tone a letter, quiet between letters and longer between words.

    `pitch` multiplies the frequencies: an accent.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    quiet = np.zeros(round(0.06 * SAMPLE_RATE))
    parts = [quiet]
    for character in text.upper():
        tone = (
            quiet
            if character == " "
            else 0.5 * np.sin(2 * np.pi * 300 * pitch * 1.5 ** _LETTERS.index(character) * time)
        )
        parts += [tone, quiet]
    waveform = np.concatenate(parts)
    return (waveform + 0.001 * rng.standard_normal(len(waveform))).astype(np.float32)


def tone_example(
    folder: Path, spoken: str, kind: str = "error", seed: int = 0, pitch: float = 1.0, **changes: object
) -> Example:
    """Writes the recording and returns the example that names it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{spoken.replace(' ', '_')}-{seed}-{pitch}.wav"
    waveform = tone_waveform(spoken, seed, pitch)
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fields: dict[str, object] = {
        "id": digest[:16],
        "path": str(path),
        "sha256": digest,
        "duration": len(waveform) / SAMPLE_RATE,
        "text": spoken,
        "source": "human",
        "kind": kind,
        "hypothesis": "",
    }
    return Example.model_validate({**fields, **changes})


TEXTS = ("ab cd", "fed a", "bad cab", "face", "dab fa", "be ad")


def tone_corpus(folder: Path, texts: Sequence[str] = TEXTS, pitch: float = 1.0) -> list[Example]:
    return [tone_example(folder, text, seed=number, pitch=pitch) for number, text in enumerate(texts)]
