"""The page of a run in MLflow: description, datasets, the utterances as a table."""

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mondegreen.config import Params
from mondegreen.git import revision_tags
from mondegreen.records import Hypothesis, Utterance
from mondegreen.registry.mlflow_store import connect
from mondegreen.registry.run_logs import log_round, log_verdict
from mondegreen.registry.run_page import log_run_page
from mondegreen.registry.runs import start_run
from mondegreen.scoring.paired_sets import pair_test_sets
from tests.registry.test_runs import told


def rows() -> list[Utterance]:
    return [
        Utterance(
            id=f"u{number}", path=f"data/{domain}/u{number}.wav", sha256=f"{number:064}", duration=3.0,
            condition="clean", speaker="ann", recording=f"u{number}", reference="one two", split=split, domain=domain,
        )
        for number, (domain, split) in enumerate(
            [("target", "train"), ("target", "test"), ("target", "test"), ("retention", "test"), ("target", "dev")]
        )
    ]  # fmt: skip


def heard(text: str, model: str) -> list[Hypothesis]:
    return [
        Hypothesis(id=row.id, path=row.path, text=text, confidence=1, duration=3, words=[], nbest=[], model=model)
        for row in rows()
    ]


def test_a_run_says_how_it_came_out_on_what_and_what_was_different(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "report.html"
    page.write_text("<html>")
    params = Params()
    slower = params.model_copy(update={"train": params.train.model_copy(update={"epochs": 3})})
    runs = []
    for settings in (params, slower):
        with start_run(settings) as run_id:
            log_verdict(run_id, page, page, told())
            for _ in range(2):  # a rerun of the stage
                sets = pair_test_sets(rows(), heard("one", "b" * 64), heard("one two", "c" * 64), settings)
                log_run_page(run_id, told(), sets, rows())
        runs.append(connect().get_run(run_id))
        time.sleep(0.01)
    first, second = runs
    assert first.data.tags["mlflow.note.content"].startswith("**pass**: the candidate ")
    assert "Changed" not in str(first.data.tags)
    told_of = second.data.tags["mlflow.note.content"]
    assert f"`train.epochs` {params.train.epochs} -> 3." in told_of and first.info.run_id in told_of
    found = {one.dataset.name: json.loads(one.dataset.profile) for one in second.inputs.dataset_inputs}
    assert {name: profile["recordings"] for name, profile in found.items()} == {
        "train": 1, "dev": 1, "test": 2, "retention (test)": 1,
    }  # fmt: skip
    table = connect().download_artifacts(second.info.run_id, "validate/utterances.json", str(tmp_path))
    written = json.loads(Path(table).read_text())
    assert len(written["data"]) == 3 and written["data"][0][3:] == ["one two", "one", "one two", 2, 1, 0]
    assert json.loads(second.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "validate/utterances.json", "type": "table"}
    ]
    assert second.data.tags["mlflow.user"] and second.data.tags["mlflow.source.name"] == tmp_path.name


def test_a_round_is_a_run_above_that_of_its_candidate(project: Path) -> None:
    with start_run(Params()) as candidate:
        log_verdict(candidate, project / "params.yaml", project / "params.yaml", told(0.01))
    began = datetime(2026, 11, 29, 12, tzinfo=UTC)
    runs = [log_round(3, began, "the gate opened", completed=True, candidate=candidate) for _ in range(2)]
    failed = log_round(3, began + timedelta(days=1), "while training: no memory", completed=False)  # another store's
    assert runs[0] == runs[1] != failed and connect().get_run(failed).info.status == "FAILED"
    parent = connect().get_run(runs[0])
    assert (parent.info.run_name, parent.info.status) == ("round 3", "FINISHED")
    assert parent.data.metrics == {"p_value": 0.01} and parent.data.tags["mlflow.note.content"] == "the gate opened"
    assert connect().get_run(candidate).data.tags["mlflow.parentRunId"] == runs[0]


def test_what_dvc_writes_down_of_a_run_is_no_dirt(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet")
    for name in ("dvc.lock", "params.yaml"):
        (tmp_path / name).write_text("a: 1\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    (tmp_path / "dvc.lock").write_text("a: 2\n")
    assert revision_tags(tmp_path)["git.dirty"] == "false"
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert revision_tags(tmp_path)["git.dirty"] == "true"
