"""What `transcribe` keeps is rounded where the kernels of processors differ."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mondegreen.files import read_jsonl
from mondegreen.records import Alternative, Hypothesis, Word
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
    assert kept(0.095) != kept(0.097)  # near 1, thousandths


@pytest.mark.slow  # minutes: the starter hears the sample three times
def test_three_kinds_of_kernels_write_the_same_of_the_sample_but_for_ties_of_the_search(tmp_path: Path) -> None:
    def rows(name: str, runtime: str, environment: dict[str, str]) -> list[Hypothesis]:
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
        return read_jsonl(folder / "build/transcribe/hypotheses.jsonl", Hypothesis)

    usual = rows("usual", "torch", {})
    for other in (rows("plain", "torch", PLAIN_KERNELS), rows("onnx", "onnx", {})):
        changed = [(one, two) for one, two in zip(usual, other, strict=True) if one != two]
        assert len(changed) <= len(usual) // 100
        # Two prefixes that are as good as each other at the edge of the beam: which one goes on is the last bit's.
        assert all(one == two.model_copy(update={"nbest": one.nbest}) for one, two in changed)
