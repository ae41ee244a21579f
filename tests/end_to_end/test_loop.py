"""The whole loop in a temporary clone: from recordings to a registered model, again with nothing changed, and on."""

import json
import re
import shutil
from pathlib import Path

import mlflow
import pytest

from mondegreen.files import read_json, read_jsonl
from mondegreen.records import Hypothesis, Metrics, RegisteredVersion, RegressionResults, RunInfo, Utterance
from mondegreen.scoring.verdict import Verdict
from tests.end_to_end.project import ROOT, Project

pytestmark = pytest.mark.xdist_group("end_to_end")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("clone"))
    project.recordings()
    project.params(
        train={"epochs": 2, "patience": 2, "batch_seconds": 6, "merge_weights": [0.5, 1.0]},
        prepare={"test_fraction": 0.4, "dev_fraction": 0.2},
    )
    project.commit("a dozen recordings, two epochs")
    project.run("dvc", "repro")
    project.commit("the round")
    return project


def test_every_stage_ran_and_the_numbers_are_measured(project: Project) -> None:
    build = project.folder / "build"
    utterances = read_jsonl(build / "prepare/manifest.jsonl", Utterance)
    assert len(utterances) == 18
    run = read_json(build / "train/run.json", RunInfo)
    for stage, model in (("transcribe", run.base_digest), ("evaluate", run.model_digest)):
        hypotheses = read_jsonl(build / stage / "hypotheses.jsonl", Hypothesis)
        assert [item.id for item in hypotheses] == [item.id for item in utterances]
        metrics = read_json(build / stage / "metrics.json", Metrics)
        assert metrics.model == model == hypotheses[0].model
        assert metrics.slices["test"].wer.reference_length > 0


def test_a_few_recordings_are_no_proof_and_the_gate_stays_shut(project: Project) -> None:
    verdict = read_json(project.folder / "build/validate/verdict.json", Verdict)
    assert verdict.outcome == "inconclusive" and not verdict.passed
    version = read_json(project.folder / "build/register/version.json", RegisteredVersion)
    assert (version.version, version.stage, version.alias) == (1, "Staging", "challenger")
    results = read_json(project.folder / "build/regress/results.json", RegressionResults)
    assert [suite.name for suite in results.suites] == ["small"]


def test_one_candidate_is_one_run_with_its_lineage(project: Project) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("mondegreen")
    run_id = read_json(project.folder / "build/train/run.json", RunInfo).run_id
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id])] == [run_id]
    run = client.get_run(run_id)
    tags = run.data.tags
    assert tags["mlflow.source.git.branch"] == "main" and len(tags["mlflow.source.git.commit"]) == 40
    assert len([name for name in tags if not name.startswith("mlflow.")]) <= 6
    lineage = json.loads((project.folder / f"mlruns/artifacts/{run_id}/artifacts/lineage.json").read_text())
    told = client.get_model_version("fine-tuned-stt", "1").description
    assert "\n\n**inconclusive**: " in told and f"{run_id}/artifacts/validate/report.html)" in told
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert {(metric.key, metric.dataset_name) for metric in model.metrics} >= {
        ("wer", "test"), ("retention_loss", "retention (test)"),
    }  # fmt: skip
    assert {"baseline/test/wer", "candidate/test/wer", "wer", "cer", "wer_improvement"} <= run.data.metrics.keys()
    assert {found.dataset.name for found in run.inputs.dataset_inputs} >= {"train", "dev", "test", "retention (test)"}
    assert lineage["git.dirty"] == "false" and run.data.tags["mlflow.note.content"].startswith("**")
    assert run.data.params["train.lora_rank"] == "8"


def test_the_registered_model_hears_what_the_candidate_heard(project: Project) -> None:
    code = (
        "import json, mondegreen, sys\n"
        "uri = 'models:/fine-tuned-stt@challenger'\n"
        "one, two = mondegreen.load(uri), mondegreen.BaselineSTTModel(uri)\n"
        "print(json.dumps([[one.transcribe(p).text, two.transcribe(p).text] for p in sys.argv[1:]]))"
    )
    hypotheses = read_jsonl(project.folder / "build/evaluate/hypotheses.jsonl", Hypothesis)[:4]
    found = project.run("python", "-c", code, *[item.path for item in hypotheses]).stdout
    assert json.loads(found) == [[item.text, item.text] for item in hypotheses]


def test_nothing_changed_means_nothing_runs(project: Project) -> None:
    before = (project.folder / "dvc.lock").read_bytes()
    said = project.run("dvc", "repro").stdout
    assert re.findall(r"Running stage '(\w+)'", said) == [
        "trial",
        "register",
    ]  # both only ask
    assert (project.folder / "dvc.lock").read_bytes() == before


@pytest.mark.slow
def test_a_comment_reruns_nothing_that_it_says(project: Project) -> None:
    module = project.folder / "src/mondegreen/files.py"
    former = module.read_text()
    module.write_text(former + "# every stage reaches this module\n")
    said = project.run("dvc", "repro").stdout
    assert re.findall(r"Running stage '(\w+)'", said) == ["code", "trial", "register"]
    module.write_text(former + "CHANGED = True\n")
    said = project.run("dvc", "repro", "prepare").stdout
    assert re.findall(r"Running stage '(\w+)'", said) == ["code", "prepare"]
    module.write_text(former)


@pytest.mark.slow
def test_a_new_recording_is_the_only_one_transcribed(project: Project) -> None:
    memory = {path: path.read_text().splitlines() for path in (project.folder / "var/hypotheses").glob("*.jsonl")}
    original = next((project.folder / "data/audio/clean").glob("*.ogg"))
    added = original.with_name("added.ogg")
    donor = sorted((ROOT / "starter/heldout").rglob("*.ogg"))[-1]
    shutil.copy(donor, added)
    said = project.run("dvc", "repro", "transcribe")
    assert "1 of 19 recordings are new to this model" in " ".join((said.stdout + said.stderr).split())
    grown = [len(path.read_text().splitlines()) - len(lines) for path, lines in memory.items()]
    assert sorted(grown) == [0] * (len(grown) - 1) + [1]
    added.unlink()


@pytest.mark.slow
def test_an_experiment_is_its_own_run_and_its_own_branch(project: Project) -> None:
    project.run("dvc", "exp", "run", "-S", "train.lora_rank=4", "-S", "train.epochs=1", "-n", "try")
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("mondegreen")
    runs = client.search_runs([experiment.experiment_id], "tags.`dvc.experiment` = 'try'")
    assert len(runs) == 1 and runs[0].data.params["train.lora_rank"] == "4"
    changed = json.loads(project.run("dvc", "params", "diff", "--json").stdout)
    assert changed["params.yaml"]["train.lora_rank"] == {"old": 8, "new": 4, "diff": -4}
    metrics = json.loads(project.run("dvc", "metrics", "diff", "--all", "--json").stdout)
    assert list(metrics) == ["build/validate/metrics.json"]
    assert {"wer", "dev_wer", "outcome"} <= metrics["build/validate/metrics.json"].keys() and len(metrics) < 20
    project.run("dvc", "exp", "branch", "try", "try-branch")
    assert "try-branch" in project.git("branch", "--list")


@pytest.mark.slow
def test_an_experiment_spends_no_look_until_it_is_judged_without_training_again(project: Project) -> None:
    def looks() -> int:
        return len(json.loads(project.run("mondegreen", "validate", "--looks", "--json").stdout))

    spent, summary = looks(), json.loads(project.run("mondegreen", "summary", "--json").stdout)
    assert spent == 1 and (summary["outcome"], summary["registered"]) == ("trial", None)
    metrics = read_json(project.folder / "build/evaluate/metrics.json", Metrics)
    assert "dev" in metrics.slices and not [name for name in metrics.slices if "test" in name]
    (trial,) = json.loads(project.run("mondegreen", "trials", "--json").stdout)["trials"]
    assert trial["name"] == "try" and trial["verdict"] == ""
    said = project.run("dvc", "repro").stdout
    assert re.findall(r"Running stage '(\w+)'", said) == ["trial", "evaluate", "validate", "regress", "register"]
    verdict = read_json(project.folder / "build/validate/verdict.json", Verdict)
    assert looks() == 2 and verdict.look and verdict.look.number == 2
    version = read_json(project.folder / "build/register/version.json", RegisteredVersion)
    assert version.version == 2 and version.digest == verdict.candidate_model
    (trial,) = json.loads(project.run("mondegreen", "trials", "--json").stdout)["trials"]
    assert trial["verdict"] == verdict.outcome


def test_summary_says_what_happened(project: Project) -> None:
    summary = json.loads(project.run("mondegreen", "summary", "--json").stdout)
    text = json.dumps(summary)
    assert "inconclusive" in text and "report.html" in text
    assert Path(project.folder / "build/validate/report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_another_machine_finds_what_was_computed_in_the_remote(project: Project, tmp_path: Path) -> None:
    project.run("dvc", "add", "--quiet", "data")
    project.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote"))
    project.commit("data and a remote")
    project.run("dvc", "push")
    clone = Project.__new__(Project)
    clone.folder = tmp_path / "clone"
    project.git("clone", "--quiet", str(project.folder), str(clone.folder))
    clone.run("dvc", "pull")
    said = clone.run("dvc", "repro").stdout
    assert re.findall(r"Running stage '(\w+)'", said) == ["trial", "register"]
    verdict = "build/validate/verdict.json"
    assert (clone.folder / verdict).read_bytes() == (project.folder / verdict).read_bytes()
