import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mlflow import MlflowClient
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.files import write_jsonl
from mondegreen.registry.mlflow_store import connect, experiment_id
from mondegreen.registry.run_logs import log_detector_run
from tests.detector.detector_corpus import MODEL, corpus


def test_an_evaluation_is_a_run_of_its_own_kind(project: Path) -> None:
    utterances, hypotheses, _ = corpus(160, seed=5, strength=3.0)
    write_jsonl(project / "build/prepare/manifest.jsonl", utterances)
    write_jsonl(project / "build/transcribe/hypotheses.jsonl", hypotheses)
    for utterance in utterances:
        soundfile.write(project / utterance.path, np.zeros(8_000), 16_000)
    result = CliRunner().invoke(app, ["detector", "evaluate", "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    client = connect()
    run = client.get_run(found["run_id"])
    assert run.info.status == "FINISHED" and run.data.tags["mondegreen.kind"] == "detector"
    assert run.data.tags["model.digest"] == MODEL and run.data.params["detector.threshold"] == "0.5"
    figures = found["evaluations"][0]["slices"][0]["scorers"][0]["measures"]
    assert run.data.metrics["wer_0/test/detector/roc_auc"] == figures["roc_auc"]["value"]
    names = {item.path for item in client.list_artifacts(found["run_id"], "detector")}
    assert names == {"detector/report.json", "detector/reliability.csv", "detector/reliability.svg"}


def test_a_run_that_breaks_off_is_marked_as_failed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(MlflowClient, "log_text", full)
    with pytest.raises(OSError, match="No space"):
        log_detector_run(MODEL, {"roc_auc": 0.9}, {}, {"reliability.csv": "low\n"})
    client = connect()
    (run,) = client.search_runs([experiment_id(client)])
    assert run.info.status == "FAILED"
