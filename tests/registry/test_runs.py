"""Runs: where they are kept, whose they are, what is in them."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mondegreen.config import MonitorParams, Params
from mondegreen.records import Metrics, Rate, SliceMetrics
from mondegreen.registry.mlflow_store import EXPERIMENT, connect, tracking_root, tracking_uri
from mondegreen.registry.run_logs import log_metrics_file, log_verdict
from mondegreen.registry.runs import (
    flatten_params,
    lineage,
    log_history,
    own_run,
    resume_run,
    start_run,
)
from mondegreen.scoring.verdict import Retention, Verdict


def told(p_value: float = 0.01, **changes: Any) -> Verdict:
    """A verdict of which little is known."""
    nothing = {"baseline": None, "candidate": None, "slices": {}, "wer_improvement": None, "interval": None,
               "mapsswe": None, "minimum_detectable_effect": None, "notes": ()}  # fmt: skip
    known = Verdict(
        outcome="pass", passed=True, reason="", claim="", unit="speaker", clusters=12, utterances=12, words=300,
        speakers=12, without_reference=0, min_wer_improvement=0.0, p_value=p_value, alpha=0.05,
        retention=Retention(outcome="pass", reason="kept", margin=0.02), baseline_model="b", candidate_model="c",
        normalizer="n", reference_digest="r", **nothing,
    )  # fmt: skip
    return known.model_copy(update=changes)


RATE = Rate(errors=1, reference_length=8, rate=0.125, substitutions=1, deletions=0, insertions=0)


def test_four_processes_create_the_database_at_once(tmp_path: Path) -> None:
    code = "from mondegreen.registry.mlflow_store import connect; print(len(connect().search_experiments()))"
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PATH": "/usr/bin:/bin"}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0, 0], outputs
    assert {out.strip() for out, _ in outputs} == {b"2"}  # MLflow's Default and ours


def test_ctrl_c_amid_its_migrations_leaves_no_database_that_mlflow_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr("mlflow.store.db.utils._upgrade_db", pressed)
    with pytest.raises(KeyboardInterrupt):
        connect()
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_the_database_lies_in_the_workspace_that_dvc_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def test_outside_dvc_the_nearest_repository_is_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / ".git").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert tracking_root() == tmp_path


def test_artifacts_lie_beside_the_database(project: Path) -> None:
    experiment = connect().get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    assert experiment.artifact_location == str(project / "mlruns" / "artifacts")


def test_a_run_holds_params_lineage_metrics_curves_and_the_report(project: Path) -> None:
    (project / "verdict.json").write_text("{}", encoding="utf-8")
    (project / "report.html").write_text("<html>", encoding="utf-8")
    metrics = Metrics(model="d", normalizer="n", slices={"test/clean": SliceMetrics(utterances=2, wer=RATE, cer=RATE)})
    with start_run(Params()) as run_id:
        log_history(run_id, [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "dev_wer": None}])
    with resume_run(run_id) as again:
        log_metrics_file(again, "baseline", metrics)
        log_verdict(again, project / "verdict.json", project / "report.html", told(0.01))
    run = connect().get_run(run_id)
    assert again == run_id and run.info.status == "FINISHED"
    assert run.data.metrics == {
        "train/loss": 1.0, "baseline/test/clean/wer": 0.125, "baseline/test/clean/cer": 0.125, "verdict/p_value": 0.01,
        "verdict/passed": 1.0, "verdict/llm_references": 0.0, "p_value": 0.01,
    }  # fmt: skip
    assert [point.value for point in connect().get_metric_history(run_id, "train/loss")] == [2.0, 1.0]
    assert run.data.params["train.lora_targets"] == "q_proj,k_proj,v_proj,out_proj"
    shown = {name for name in run.data.tags if not name.startswith("mlflow.")}
    assert shown == {"mondegreen.kind", "dvc.experiment", "lineage", "verdict"} and run.data.tags["verdict"] == "pass"
    kept = json.loads(Path(connect().download_artifacts(run_id, "lineage.json", str(project))).read_text())
    assert kept == lineage() and {"git.commit", "git.dirty", "data.dvc", "params.sha256"} <= kept.keys()
    assert {file.path for file in connect().list_artifacts(run_id, "validate")} == {
        "validate/verdict.json",
        "validate/report.html",
    }


def test_a_verdict_that_is_logged_again_replaces_the_numbers_of_the_one_before(project: Path) -> None:
    """Also smaller ones: of two values of one moment and step MLflow shows the larger."""
    (project / "verdict.json").write_text("{}", encoding="utf-8")
    with start_run(Params()) as run_id:
        for p_value in (0.04, 0.01):
            log_verdict(run_id, project / "verdict.json", project / "verdict.json", told(p_value))
            time.sleep(0.002)  # MLflow counts milliseconds
    assert connect().get_run(run_id).data.metrics["verdict/p_value"] == 0.01


def test_params_are_few_and_named_as_in_params_yaml() -> None:
    flat = flatten_params(Params())
    assert flat["validate.alpha"] == "0.05" and flat["seed"] == "1234" and len(flat) < 65
    private = Params(monitor=MonitorParams(webhook="https://hooks.example/secret"))
    assert flatten_params(private) == flat  # what no stage reads is no candidate's parameter


def test_a_dvc_experiment_is_its_own_run_named_after_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "wide-lora")
    with start_run(Params()) as run_id:
        pass
    assert connect().get_run(run_id).info.run_name == "wide-lora"
    assert own_run(run_id) == run_id


def test_an_experiment_that_reuses_a_trained_model_leaves_the_first_run_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_run(Params()) as first:
        log_history(first, [{"epoch": 1, "loss": 2.0}])
    monkeypatch.setenv("DVC_EXP_NAME", "strict-alpha")
    with resume_run(first) as second:
        pass
    run = connect().get_run(second)
    assert second != first and own_run(first) == second
    assert run.info.run_name == "strict-alpha" and run.data.metrics["train/loss"] == 2.0


def test_a_run_of_another_database_is_stood_in_for_once(project: Path) -> None:
    with resume_run("0" * 32) as run_id:
        assert connect().get_run(run_id).data.params["seed"] == "7"
    assert own_run("0" * 32) == run_id


def test_lineage_names_branch_commit_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data\n", encoding="utf-8")

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "topic")
    git("add", "data.dvc")
    git("commit", "-m", "first")
    tags = lineage(tmp_path)
    assert (tags["git.branch"], tags["git.dirty"], tags["data.dvc"]) == ("topic", "false", "abc.dir")
    git("checkout", "--detach")  # what DVC does while an experiment runs
    (tmp_path / "data.dvc").write_text("outs: []\n", encoding="utf-8")
    tags = lineage(tmp_path)
    assert (tags["git.branch"], tags["git.dirty"], tags["data.dvc"]) == ("topic", "true", "")


def test_lineage_outside_git_is_empty_not_an_error(tmp_path: Path) -> None:
    assert lineage(tmp_path)["git.commit"] == ""


KILLED = """
import os, signal, sys
from pathlib import Path
from mondegreen.config import MonitorParams, Params
from mondegreen.registry.runs import start_run
with start_run(Params(), {"base": "a"}, Path("claim")) as run_id:
    print(run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("base", "same"), [("a", True), ("b", False)])
def test_a_killed_process_leaves_a_run_that_the_next_one_takes_up_or_closes(
    project: Path, base: str, same: bool
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True).stdout.strip()
    assert connect().get_run(killed).info.status == "RUNNING"
    with start_run(Params(), {"base": base}, Path("claim")) as run_id:
        assert (run_id == killed) is same
        assert Path("claim").read_text() == run_id
    assert connect().get_run(killed).info.status == ("FINISHED" if same else "KILLED")
    assert not Path("claim").exists()
