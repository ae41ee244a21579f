"""Trials as MLflow knows them: ranked, told apart by their parameters, and never mixed with others."""

import json
import subprocess
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
    assert "+20.00" in shown and "-1.00 to +30.00" in shown and "judged: pass" in shown
    assert max(map(len, shown.split("Dev chose")[0].splitlines())) <= 80
    assert json.loads(CliRunner().invoke(app, ["trials", "--json"]).stdout)["trials"][0]["dev_cer"] == 0.09


def test_a_trial_alone_shows_what_it_changed_of_the_commit_it_started_from(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments], check=True)

    Path("params.yaml").write_text("train: {lora_rank: 8}\n")
    git("init", "--quiet")
    git("add", "params.yaml")
    git("commit", "--quiet", "--message", "eight")
    name = "a-trial-whose-name-is-longer-than-a-column-of-a-screen-with-eighty-of-them"
    Path("params.yaml").write_text(f"train: {{lora_rank: {len(name)}}}\n")  # as `dvc exp run` leaves the workspace
    tried(monkeypatch, name, 20, 10)
    monkeypatch.delenv("DVC_EXP_NAME")
    (found,) = list_trials().trials
    assert found.params == {"train.lora_rank": str(len(name))}
    shown = CliRunner().invoke(app, ["trials"]).stdout.split("Dev chose")[0]
    assert name in "".join(line[:40].split(" ")[0] for line in shown.splitlines()[2:])
    assert max(map(len, shown.splitlines())) <= 80
