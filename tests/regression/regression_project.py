"""A project with regression suites of pure tones, and models that hear them: each sentence has a pitch of its own."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from mondegreen.config import Params
from mondegreen.regression.tester import RegressionConfig, RegressionTester
from mondegreen.speech.audio import load_audio

SENTENCES = (
    "please delete the message now", "do not delete the message", "press one for the next folder",
    "your call cannot be completed", "the conference is locked", "enter your password again",
    "all circuits are busy now", "thank you for calling us", "the extension is not valid",
    "you have seven new messages", "please hold for an agent", "this mailbox is full today",
    "say your name after that", "good bye and thank you",
)  # fmt: skip
_LOWEST, _STEP = 300.0, 110.0  # Hz
_SECONDS = 0.3


class ToneModel:
    """Hears the loudest pitch. What it mishears is said by `mishear`, which gets the sentence and the waveform."""

    def __init__(self, digest: str = "", mishear: Callable[[str, np.ndarray], str] = lambda text, sound: text) -> None:
        self.digest = digest
        self.mishear = mishear
        self.heard: list[str] = []

    def transcribe(self, path: str) -> str:
        self.heard.append(path)
        sound = load_audio(path)
        return self.mishear(sentence(sound), sound)


def sentence(sound: np.ndarray) -> str:
    """What is said, "" in silence."""
    power = np.abs(np.fft.rfft(sound.astype(np.float64))) ** 2
    if sound.size == 0 or np.sqrt(np.mean(sound**2)) < 1e-3:
        return ""
    pitch = np.argmax(power) * 16_000 / len(sound)
    return SENTENCES[int(np.clip(round((pitch - _LOWEST) / _STEP), 0, len(SENTENCES) - 1))]


def level(sound: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


def lose_last(text: str, sound: np.ndarray) -> str:
    """One word in five is lost."""
    return " ".join(text.split()[:-1])


def write_suite(
    folder: Path, sentences: Sequence[int] = range(12), columns: dict[int, dict[str, str]] | None = None
) -> Path:
    """A folder with tones and references.csv; `columns` adds fields to the row of a sentence."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    extra = sorted({name for fields in (columns or {}).values() for name in fields})
    with (folder / "references.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["path", "text", *extra], restval="")
        writer.writeheader()
        for number in sentences:
            write_tone(folder / f"audio/{number:02}.wav", number)
            row = {"path": f"audio/{number:02}.wav", "text": SENTENCES[number].capitalize() + "."}
            writer.writerow(row | (columns or {}).get(number, {}))
    return folder / "references.csv"


def write_tone(path: Path, number: int) -> Path:
    time = np.arange(round(_SECONDS * 16_000)) / 16_000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * (_LOWEST + _STEP * number) * time), 16_000, subtype="PCM_16")
    return path


def write_index(*suites: dict[str, Any], path: Path = Path("data/regression/suites.yaml")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"suites": list(suites)}), encoding="utf-8")
    return path


def entry(name: str = "core", **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "benchmark", "references": f"{name}/references.csv", "margin": 0.05} | fields


def small_params(**regress: Any) -> Params:
    """Few resamples: these tests ask for rules, not for intervals."""
    rules = {"bootstrap_samples": 1000, "permutations": 1000}
    return Params.model_validate({"validate": rules, "regress": regress})


def regression_tester(store: Path = Path("var"), **knobs: Any) -> RegressionTester:
    return RegressionTester(RegressionConfig(**knobs), params=small_params(), store=store)
