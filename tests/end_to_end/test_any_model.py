"""model.base may name any CTC folder: one of base size, as a user would download it, goes through every stage."""

from pathlib import Path

import pytest

from mondegreen.files import read_json
from mondegreen.records import Metrics, RegisteredVersion, RunInfo
from mondegreen.speech.model_folder import model_digest
from tests.end_to_end.project import Project
from tests.tiny import save_model

BASE_SIZE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "conv_dim": (512,) * 7,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}


def _round(folder: Path, model: str) -> Project:
    project = Project(folder)
    project.recordings(target=8, retention=4, suite=2)
    train = {"epochs": 1, "merge_weights": [1.0]}
    project.params(model={"base": model}, train=train, prepare={"test_fraction": 0.25, "dev_fraction": 0.25})
    project.run("dvc", "repro")
    return project


def _check(project: Project, model: Path) -> None:
    run = read_json(project.folder / "build/train/run.json", RunInfo)
    assert run.base_digest == model_digest(model) != run.model_digest
    before = read_json(project.folder / "build/transcribe/metrics.json", Metrics)
    assert before.model == run.base_digest and before.slices["test"].wer.rate > 0.9  # random weights hear nothing
    assert read_json(project.folder / "build/register/version.json", RegisteredVersion).stage == "Staging"


@pytest.mark.slow
def test_base_size_with_the_960h_vocabulary(tmp_path: Path) -> None:
    model = save_model(tmp_path / "base-960h", **BASE_SIZE)
    assert (model / "model.safetensors").stat().st_size > 350e6  # 94.4 M parameters
    (tmp_path / "clone").mkdir()
    _check(_round(tmp_path / "clone", str(model)), model)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "norm"), [("hubert", "group"), ("wavlm", "layer")])
def test_small_models_of_the_other_kinds(tmp_path: Path, kind: str, norm: str) -> None:
    model = save_model(tmp_path / kind, kind, norm)
    (tmp_path / "clone").mkdir()
    _check(_round(tmp_path / "clone", str(model)), model)
