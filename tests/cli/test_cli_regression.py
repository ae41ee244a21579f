"""`mondegreen regression`: add, list, run, baseline and report as commands."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from mondegreen.cli import regression
from mondegreen.cli.main import app
from mondegreen.config import load_params
from mondegreen.speech.corpus_transcription import pipeline_transcriber
from mondegreen.speech.transcriber import load_transcriber
from tests.regression.regression_project import ToneModel, entry, lose_last, write_index, write_suite
from tests.support.libraries import printed_and_loaded
from tests.tiny import save_model

DATA = Path("data/regression")
INDEX = DATA / "suites.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MONDEGREEN_DATABASE_URL", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("validate: {bootstrap_samples: 1000, permutations: 1000}\nmodel: {base: old}\n")


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, ToneModel]:
    found = {"old": ToneModel("old" * 10), "good": ToneModel("good" * 10), "bad": ToneModel("bad" * 10, lose_last)}
    monkeypatch.setattr(regression, "_load", lambda name, tester: found[name])
    monkeypatch.setattr(regression, "_base", lambda tester: found[tester.params.model.base])
    return found


def mondegreen(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["regression", *arguments])


def test_add_copies_measures_and_says_what_records_it(tmp_path: Path, models: dict[str, ToneModel]) -> None:
    source = write_suite(tmp_path / "elsewhere", range(12)).parent
    done = mondegreen("add", "core", str(source), "--type", "critical", "--margin", "0.03", "--owner", "Ada",
                      "--severity", "major", "--model", "bad", "--baseline-version", "3")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "core: WER 20.3 %" in done.stdout and "dvc add data" in done.stdout
    (found,) = yaml.safe_load(INDEX.read_text())["suites"]
    assert (found["type"], found["margin"], found["owner"], found["baseline_version"]) == ("critical", 0.03, "Ada", "3")
    assert len(list((DATA / "core/audio").iterdir())) == 12
    again = mondegreen("add", "core", str(source))
    assert again.exit_code == 2 and "another suite core" in again.stderr and "--replace" in again.stderr


def test_add_takes_a_behaviour_as_the_index_has_it(models: dict[str, ToneModel]) -> None:
    done = mondegreen(
        "add", "quiet", "--type", "behaviour", "--behaviour", "{kind: minimum, expect: silence}", "--json"
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["behaviour"]["expect"] == "silence"
    for text, problem in (
        ("[", "not YAML"),
        ("minimum", "no mapping"),
        ("{kind: odd}", "Suite odd: behaviour"),
        ("{kind: minimum, expect: right, expect: silence}", "field expect stands twice"),
    ):
        failed = mondegreen("add", "odd", "--type", "behaviour", "--behaviour", text)
        assert failed.exit_code == 2 and problem in failed.stderr
    assert mondegreen("run", "good").exit_code == 0


def test_add_imports_nothing_when_a_recording_or_a_row_is_wrong(tmp_path: Path) -> None:
    source = write_suite(tmp_path / "elsewhere", range(3))
    whole = (source.parent / "audio/01.wav").read_bytes()
    (source.parent / "audio/01.wav").write_bytes(whole[:500])
    cut = mondegreen("add", "core", str(source))
    assert cut.exit_code == 1 and "01.wav is truncated" in cut.stderr
    (source.parent / "audio/01.wav").unlink()
    gone = mondegreen("add", "core", str(source))
    assert gone.exit_code == 2 and "references.csv:3: field path" in gone.stderr
    assert not DATA.exists()


def test_run_compares_with_the_base_model_and_its_exit_code_is_the_gate(models: dict[str, ToneModel]) -> None:
    write_suite(DATA / "core", range(12))
    write_index(entry(severity="major"))
    good = mondegreen("run", "good")
    assert good.exit_code == 0 and "passed: 1 suites passed" in good.stdout and "core" in good.stdout
    bad = mondegreen("run", "bad", "--json")
    found = json.loads(bad.stdout)
    assert bad.exit_code == 1 and found["passed"] is False and found["model_version"] == "bad"
    assert found["baseline_model"] == "old" * 10
    itself = mondegreen("run", "bad", "--baseline", "bad")
    assert itself.exit_code == 2 and "the same model" in itself.stderr and "--stored" in itself.stderr
    models["worse"] = ToneModel("worse" * 10, lambda text, sound: "")
    better = mondegreen("run", "bad", "--baseline", "worse", "--version", "7", "--json")
    assert better.exit_code == 0 and json.loads(better.stdout)["model_version"] == "7"


def test_run_with_stored_baselines(models: dict[str, ToneModel]) -> None:
    write_suite(DATA / "core", range(12))
    write_index(entry())
    unknown = mondegreen("run", "good", "--stored")
    assert unknown.exit_code == 1 and "regression baseline core" in " ".join(unknown.stdout.split())
    measured = mondegreen("baseline", "--model", "old", "--version", "1", "core", "--json")
    assert measured.exit_code == 0 and json.loads(measured.stdout)["core"]["baseline_wer"] == 0
    assert mondegreen("run", "good", "--stored").exit_code == 0
    assert mondegreen("run", "bad", "--stored").exit_code == 1
    assert mondegreen("run", "bad", "--stored", "--baseline", "old").exit_code == 2
    assert mondegreen("baseline", "--model", "old", "other").exit_code == 2


@pytest.mark.parametrize("content", ["suites: []", "suites: [", None])
def test_run_without_suites_is_no_pass(models: dict[str, ToneModel], content: str | None) -> None:
    if content:
        INDEX.parent.mkdir(parents=True)
        INDEX.write_text(content)
    done = mondegreen("run", "good")
    assert done.exit_code == 1 and "suites.yaml" in done.stdout


def test_list_shows_what_would_fail_before_a_model_is_heard(models: dict[str, ToneModel]) -> None:
    write_suite(DATA / "core", range(3))
    write_suite(DATA / "gone", range(3))
    write_index(entry(severity="major", owner="Ada"), entry("gone"))
    mondegreen("baseline", "--model", "bad", "core")
    (DATA / "gone/audio/01.wav").unlink()
    mondegreen("run", "good")
    shown = mondegreen("list")
    assert shown.exit_code == 0 and "Ada" in shown.stdout and "%, version bad" in shown.stdout
    assert "gone: " in shown.stderr and "references.csv:3" in shown.stderr
    write_suite(DATA / "core", range(4))
    core, gone = json.loads(mondegreen("list", "--json").stdout)
    assert core["recordings"] == 4 and "changed since" in core["stored_baseline_fault"] and not core["problem"]
    assert gone["recordings"] == 0 and gone["problem"] and gone["last_outcome"] == "fail"


def test_a_suite_too_small_to_bound_a_loss_is_said_when_it_is_added_and_listed(
    tmp_path: Path, models: dict[str, ToneModel], caplog: pytest.LogCaptureFixture
) -> None:
    said = "small: the suite has 3 recordings, 12 are needed to bound a loss"
    for name, sentences in (("small", 3), ("large", 12)):
        source = write_suite(tmp_path / name, range(sentences)).parent
        assert mondegreen("add", name, str(source)).exit_code == 0
    assert [record.getMessage().startswith(said) for record in caplog.records] == [True]
    shown = mondegreen("list")
    assert said in shown.stderr and "large: " not in shown.stderr
    small, large = json.loads(mondegreen("list", "--json").stdout)
    assert f"small: {small['limit']}".startswith(said) and not small["problem"] and large["limit"] == ""


def test_report_draws_the_suites_over_the_versions(tmp_path: Path, models: dict[str, ToneModel]) -> None:
    assert "No run of the regression suites" in mondegreen("report").stdout
    write_suite(DATA / "core", range(12))
    write_index(entry())
    for name in ("bad", "good"):
        mondegreen("run", name)
    page, text = tmp_path / "page.html", tmp_path / "page.md"
    shown = mondegreen("report", "--html", str(page), "--markdown", str(text))
    assert shown.exit_code == 0 and "█▁" in shown.stdout and "20.3 %" in shown.stdout
    assert "<svg" in page.read_text() and "| core |" in text.read_text()
    found = json.loads(mondegreen("report", "--json", "--limit", "1").stdout)
    assert [run["model_version"] for run in found["runs"]] == ["good"]


def test_a_database_that_cannot_be_opened_is_said_before_the_work(
    models: dict[str, ToneModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONDEGREEN_DATABASE_URL", "sqlite:////proc/nowhere/mondegreen.db")
    done = mondegreen("run", "good")
    assert done.exit_code == 1 and "cannot be opened" in done.stderr and models["good"].heard == []


def test_a_real_model_is_heard_in_batches_and_never_twice(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    write_suite(DATA / "core", range(3))
    quieter = {"kind": "invariance", "change": "gain", "values": [-6]}
    write_index(entry(), entry("quieter", type="behaviour", references="core/references.csv", behaviour=quieter))
    assert mondegreen("baseline", "--model", str(model)).exit_code == 0
    (memory,) = Path("var/hypotheses").glob("*.jsonl")
    heard = memory.read_text()
    assert len(heard.splitlines()) == 6  # three recordings as they are, and three quieter ones
    done = mondegreen("run", str(model), "--stored", "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["model"]) == 64 and memory.read_text() == heard


def test_the_base_model_hears_by_the_pipelines_phrases_as_in_the_stage(tmp_path: Path) -> None:
    """Else a run that the stage made beside it would have no equal, and could not be made good."""
    old, new = (save_model(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    write_suite(DATA / "core", range(3))
    write_index(entry())
    Path("heard.yaml").write_text("phrases: [extension]\n")
    Path("params.yaml").write_text(f"model: {{base: {old}}}\ntranscribe: {{phrases: heard.yaml}}\n")
    params = load_params()
    beside = json.loads(mondegreen("run", str(new), "--json").stdout)["baseline_model"]
    assert beside == pipeline_transcriber(str(old), params).digest != load_transcriber(str(old), params).digest


def test_help_loads_no_heavy_library() -> None:
    code = (
        "from typer.testing import CliRunner\nfrom mondegreen.cli.main import app\n"
        "assert CliRunner().invoke(app, ['regression', 'run', '--help']).exit_code == 0\n"
        "assert CliRunner().invoke(app, ['regression', 'report', '--json']).exit_code == 0"
    )
    assert printed_and_loaded(code, "torch", "mlflow", "transformers", "matplotlib").splitlines()[-1] == "[]"
