"""The project of somebody who reads the guide: cases, recordings, a tiny model, two versions in production before."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mondegreen.files import write_jsonl
from mondegreen.loop import rounds
from mondegreen.loop.orchestrator import FinetuningOrchestrator
from tests.gcs import emulated_bucket
from tests.loop import loop_project, stand_in
from tests.loop.loop_store import Store
from tests.registry.conftest import database_template, enter, make_project, without_code
from tests.registry.registered import add, deployer
from tests.scoring.verdict_corpus import WORDS, corpus
from tests.speech.tones import tone_example
from tests.tiny import save_model

__all__ = ["database_template"]  # a fixture
SPOKEN = ("ab", "bc", "cd", "de", "ef", "fa", "ace", "bed", "cab", "dab", "fed", "bad")
RULES = "bootstrap_samples: 1000, permutations: 1000, require_retention: false"


@pytest.fixture
def place(tmp_path: Path, database_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project ; it is the working directory."""
    folder = without_code(enter(make_project(tmp_path / "project", database_template), monkeypatch), monkeypatch)
    (folder / "params.yaml").write_text(f"model: {{base: base}}\nvalidate: {{{RULES}}}\n")
    return folder


@pytest.fixture
def production(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same with a hundred failed cases, evaluation data, a bucket, and a champion with one before it."""
    write_jsonl(Path("build/prepare/manifest.jsonl"), corpus(60) + corpus(20, "r", domain="retention"))
    save_model(Path("models/finetuned_wav2vec2"))
    Path("path/to/finetuned").mkdir(parents=True)
    Path("path/to/finetuned/model").symlink_to(place / "models/finetuned_wav2vec2")
    noise = np.random.default_rng(0)
    soundfile.write("audio_file.wav", noise.normal(0, 0.1, 8_000), 16_000)
    evaluation_data(noise)
    for seed in (1, 2):
        deployer().deploy_model(add(place, seed))
    cases(place, monkeypatch)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "")  # which the guide's project_id sets: put back afterwards
    with emulated_bucket(monkeypatch):
        yield place


def evaluation_data(noise: np.random.Generator) -> None:
    """data/evaluation/test.jsonl, as a user writes one."""
    folder = Path("data/evaluation")
    folder.mkdir(parents=True)
    rows = []
    for number in range(5):
        soundfile.write(folder / f"call{number}.wav", noise.normal(0, 0.1, 8_000), 16_000)
        rows.append({"audio_path": f"call{number}.wav", "reference": " ".join(WORDS), "speaker": f"s{number}"})
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def cases(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A hundred failed cases, half of them corrected; the pipeline and the freezing of cases are stand-ins."""
    store = Store(folder / "data/failed_cases")
    store.cases(100, corrected=50)
    (folder / "dvc.yaml").write_text(loop_project.GRAPH)
    verdict = loop_project.sealed("pass", 0.03).to_dict()
    (folder / "plan.json").write_text(json.dumps({"verdict": verdict}))
    pipeline = (sys.executable, "-I", "-S", stand_in.__file__)
    patch.setattr("mondegreen.loop.orchestrator.PIPELINE", pipeline)
    patch.setattr(FinetuningOrchestrator, "_freeze", lambda self: store.freeze())
    assert tuple(rounds.PIPELINE) != pipeline


@pytest.fixture
def audio(place: Path) -> Path:
    """data/finetuning_audio with clean/ and noisy/, what is said in references.csv, and the model that hears it."""
    folder = place / "data/finetuning_audio"
    lines = ["path,text"]
    for condition, pitch in (("clean", 1.0), ("noisy", 2.0)):
        for number, word in enumerate(SPOKEN):
            spoken = f"{word} {word[::-1]}"
            path = Path(tone_example(folder / condition, spoken, pitch=pitch).path)
            path.rename(path.with_name(f"audio_{number:03}.wav"))
            lines.append(f"{condition}/audio_{number:03}.wav,{spoken}")
    (folder / "references.csv").write_text("\n".join(lines) + "\n")
    save_model(place / "base")
    return folder
