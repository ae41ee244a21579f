"""A fresh MLflow for each test, copied from a database that is migrated once (0.03 s instead of 3-7 s)."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.servers import Server, on_postgresql, on_sqlite


@pytest.fixture(scope="session")
def database_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mondegreen.registry.mlflow_store import connect

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        connect()
    return path


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory, database_template: Path) -> Iterator[Server]:
    with on_sqlite(tmp_path_factory.mktemp("server") / "sqlite", database_template) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with on_postgresql(tmp_path_factory.mktemp("server") / "postgresql") as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, database_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with params.yaml and its own MLflow; it is the working directory."""
    return enter(make_project(tmp_path / "project", database_template), monkeypatch)


def make_project(folder: Path, database_template: Path) -> Path:
    """An empty project in `folder`, which nobody stands in yet."""
    database = folder / "mlruns" / "mlflow.db"
    database.parent.mkdir(parents=True)
    shutil.copy(database_template, database)
    with sqlite3.connect(database) as connection:
        connection.execute("update experiments set artifact_location = ?", [str(database.parent / "artifacts")])
    (folder / "params.yaml").write_text("seed: 7\n", encoding="utf-8")
    return folder


def enter(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Makes a project the one that everything works on."""
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlruns/mlflow.db")
    patch.delenv("DVC_EXP_NAME", raising=False)
    patch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    patch.setenv("DVC_ROOT", str(folder))
    patch.chdir(folder)
    return folder


def without_code(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Packages hold no copy of mondegreen's code, which is the same in all of them."""
    (folder / "code").mkdir()
    patch.setattr("mondegreen.registry.package._CODE", folder / "code")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CTC model of a few thousand weights, saved as the train stage saves one."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("train") / "model"
    folder.mkdir()
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    vocabulary = folder.parent / "vocab.json"
    vocabulary.write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(tokens), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(16, 16), conv_kernel=(10, 8), conv_stride=(8, 8), num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One second of seeded noise as a 16-bit wav file."""
    import io

    import numpy as np
    import soundfile

    stream = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(stream, noise, 16_000, format="WAV", subtype="PCM_16")
    return stream.getvalue()


@pytest.fixture
def light(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose packages are quick to make."""
    return without_code(project, monkeypatch)
