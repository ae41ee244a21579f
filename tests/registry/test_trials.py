"""Trials as MLflow knows them: ranked, told apart by their parameters, and never mixed with others."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.config import Params
from mondegreen.records import Metrics, Rate, SliceMetrics
from mondegreen.registry.run_logs import log_metrics_file, log_verdict
from mondegreen.registry.runs import start_run
from mondegreen.registry.trials import list_trials
from mondegreen.scoring.verdict import Interval
from tests.registry.test_runs import told


def rates(words: int, characters: int) -> SliceMetrics:
    wer, cer = (
        Rate(errors=wrong, reference_length=100, rate=wrong / 100, substitutions=wrong, deletions=0, insertions=0)
        for wrong in (words, characters)
    )
    return SliceMetrics(utterances=9, wer=wer, cer=cer)


def tried(monkeypatch: pytest.MonkeyPatch, name: str, words: int, characters: int, **changes: Any) -> str:
    """An experiment that trained with a rank of its own, and what dev said of it."""
    monkeypatch.setenv("DVC_EXP_NAME", name)
    params = Params.model_validate({"train": {"lora_rank": len(name)}})
    (Path("report.html")).write_text("<html>")
    with start_run(params) as run_id:
        for model, found in (("baseline", rates(40, 20)), ("candidate", rates(words, characters))):
            log_metrics_file(run_id, model, Metrics(model=model, normalizer="n", slices={"dev": found}))
    interval = Interval(low=-0.01, high=0.3, level=0.95)
    verdict = {"outcome": "trial", "passed": False, "wer_improvement": 0.4 - words / 100, "interval": interval}
    log_verdict(run_id, Path("report.html"), Path("report.html"), told(**verdict | changes))
    return run_id


def test_the_best_on_dev_comes_first_with_what_differs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No trials yet" in CliRunner().invoke(app, ["trials"]).stdout
    tried(monkeypatch, "other", 1, 1, reference_digest="another dev set")
    tried(monkeypatch, "aaa", 20, 10)
    best = tried(monkeypatch, "a", 20, 9)  # as many words, fewer characters
    tried(monkeypatch, "aa", 30, 8)
    tried(monkeypatch, "aa", 25, 8)  # again, under the same name
    monkeypatch.delenv("DVC_EXP_NAME")
    log_verdict(best, Path("report.html"), Path("report.html"), told())  # applied and judged
    found = list_trials()
    assert [(row.name, row.dev_wer, row.verdict) for row in found.trials] == [
        ("a", 0.2, "pass"), ("aaa", 0.2, ""), ("aa", 0.25, ""),
    ]  # fmt: skip
    assert [row.params for row in found.trials] == [{"train.lora_rank": str(rank)} for rank in (1, 3, 2)]
    assert found.others == 1 and list_trials(everything=True).trials[0].name == "other"
    shown = CliRunner().invoke(app, ["trials"]).stdout
    assert "train.lora_rank=3" in shown and "dvc exp apply a && dvc repro" in shown and "--all" in shown
    assert "+20.00 (-1.00 to +30.00)" in shown
    assert json.loads(CliRunner().invoke(app, ["trials", "--json"]).stdout)["trials"][0]["dev_cer"] == 0.09
