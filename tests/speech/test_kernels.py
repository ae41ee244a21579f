"""`transcribe` writes the same bytes whatever kernels a processor has: what is kept is rounded where they differ."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mondegreen.records import Alternative, Word
from mondegreen.speech.corpus_transcription import heard
from mondegreen.speech.transcriber import Transcription

ROOT = Path(__file__).resolve().parents[2]
PLAIN_KERNELS = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}


def test_what_is_kept_does_not_tell_last_digits_apart() -> None:
    def kept(noise: float) -> object:
        word = Word(text="ONE", start=0.1, end=0.5, confidence=0.8123 + noise)
        best = Alternative(text="ONE", score=-5.33 + 10 * noise)
        return heard(
            Transcription(
                path="a.wav", text="ONE", confidence=0.9 + noise, duration=1.0, words=[word], nbest=[best],
                real_time_factor=0.1, model="",
            )
        )  # fmt: skip

    assert kept(0.0) == kept(1e-4) == kept(-1e-4)
    assert kept(0.0) != kept(0.02)


@pytest.mark.slow  # minutes: the starter hears the sample three times
def test_the_sample_has_one_hash_by_three_kinds_of_kernels(tmp_path: Path) -> None:
    def written(name: str, runtime: str, environment: dict[str, str]) -> bytes:
        folder = tmp_path / name
        folder.mkdir()
        for linked in ("data", "starter", "lm", "phrases.yaml"):
            (folder / linked).symlink_to(ROOT / linked)
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["transcribe"]["runtime"] = runtime
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        clean = {key: value for key, value in os.environ.items() if key != "MONDEGREEN_RUNTIME"}
        for stage in ("prepare", "transcribe"):
            command = [sys.executable, "-m", f"mondegreen.stages.{stage}"]
            subprocess.run(command, cwd=folder, env=clean | environment, check=True, capture_output=True)
        return (folder / "build/transcribe/hypotheses.jsonl").read_bytes()

    usual = written("usual", "torch", {})
    assert written("plain", "torch", PLAIN_KERNELS) == usual
    assert written("onnx", "onnx", {}) == usual
