"""The stage train: what was trained outlives whatever happens until its result is written down."""

from pathlib import Path
from typing import Any

import pytest

from mondegreen.errors import RegistryError
from mondegreen.files import read_json, sha256_tree, write_jsonl
from mondegreen.records import RunInfo, TrainingHistory
from mondegreen.registry.mlflow_store import connect
from mondegreen.registry.runs import log_history
from mondegreen.stages import train
from tests.registry.conftest import database_template, project
from tests.speech.tones import tone_corpus
from tests.tiny import save_model

__all__ = ["database_template", "project"]  # fixtures
PARAMS = """
seed: 5
model: {base: base}
train: {epochs: 2, batch_seconds: 3.0, merge_weights: [1.0]}
"""


@pytest.fixture
def selected(project: Path) -> Path:
    """A project whose stage select has run."""
    Path("params.yaml").write_text(PARAMS)
    save_model(Path("base"), num_hidden_layers=1)
    examples = tone_corpus(Path("audio"))
    for name, rows in (("train", examples), ("dev", examples[:3]), ("retention", examples[3:])):
        write_jsonl(Path(f"build/select/{name}.jsonl"), rows)
    return project


@pytest.mark.parametrize("broken", ["log_history", "write_json"])
def test_a_training_whose_result_could_not_be_written_down_is_not_trained_again(
    selected: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, Any]] = []

    def log(run_id: str, rows: list[dict[str, Any]]) -> None:
        if broken == "log_history" and "merge_weight" in rows[0]:
            raise RegistryError("MLflow is away.")
        logged.extend(rows)
        log_history(run_id, rows)

    def full(path: Path, record: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(train, "log_history", log)
        if broken == "write_json":
            patch.setattr(train, "write_json", full)
        with pytest.raises((RegistryError, OSError)):
            train.main()
    assert not Path("build/train/run.json").exists()
    before, trained = sha256_tree(Path("build/train/model")), [row for row in logged if "seconds" in row]
    assert len(trained) == 2

    logged.clear()
    broken = ""
    with monkeypatch.context() as patch:
        patch.setattr(train, "log_history", log)
        train.main()
    assert [row["epoch"] for row in logged[:2]] == [1, 2]
    assert not [row for row in logged if "seconds" in row]  # nothing was trained twice
    assert sha256_tree(Path("build/train/model")) == before
    assert len(read_json(Path("build/train/history.json"), TrainingHistory).epochs) == 2
    info = read_json(Path("build/train/run.json"), RunInfo)
    assert connect().get_run(info.run_id).info.status == "FINISHED"
    assert not [path for path in Path("var/checkpoints").iterdir() if path.is_dir()]  # they are forgotten with it
