import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.files import read_jsonl, write_jsonl
from mondegreen.records import Hypothesis, Utterance
from tests.detector.detector_corpus import MODEL, corpus, hypothesis
from tests.support.libraries import printed_and_loaded

MANIFEST, HYPOTHESES = Path("build/prepare/manifest.jsonl"), Path("build/transcribe/hypotheses.jsonl")
STORED = Path(f"var/detector/{MODEL[:16]}.json")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have run: 160 recordings of half a second, some errors."""
    folder = tmp_path_factory.mktemp("detector") / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text("seed: 7\n", encoding="utf-8")
    utterances, hypotheses, _ = corpus(160, seed=5, strength=3.0)
    write_jsonl(folder / MANIFEST, utterances)
    write_jsonl(folder / HYPOTHESES, hypotheses)
    write_jsonl(
        folder / "build/evaluate/hypotheses.jsonl", [h.model_copy(update={"model": "cd" * 32}) for h in hypotheses]
    )
    generator = np.random.default_rng(0)
    for utterance in utterances:
        soundfile.write(folder / utterance.path, generator.normal(0, 0.1, 8_000), 16_000)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def detector(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["detector", *arguments], catch_exceptions=False)


def rewrite_references(split: str, text: str) -> None:
    rows = read_jsonl(MANIFEST, Utterance)
    write_jsonl(MANIFEST, [row.model_copy(update={"reference": text}) if row.split == split else row for row in rows])


def test_calibrate_writes_the_file_of_the_model_and_says_what_it_learnt(project: Path) -> None:
    result = detector("calibrate", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["path"] == str(STORED) and facts["model"] == MODEL and facts["utterances"] == 80
    assert 5 <= facts["misheard"] <= 75 and facts["splits"] == ["train", "dev"] and facts["roc_auc"] > 0.8
    assert [path.name for path in STORED.parent.iterdir()] == [STORED.name]
    assert "lexicon" not in facts and json.loads(STORED.read_text())["lexicon"]
    assert f"Wrote {STORED}" in detector("calibrate").stdout


def test_corrected_cases_of_production_teach_and_are_in_no_figure(project: Path) -> None:
    plain = json.loads(detector("calibrate", "--json").stdout)
    store = DataManager("var")
    heard = hypothesis("tonte lamse", 0.3, model=MODEL)
    kept = {"confidence": 0.3, "words": [word.model_dump() for word in heard.words], "nbest": []}
    tested = next(row for row in read_jsonl(MANIFEST, Utterance) if row.split == "test")
    cases = [
        # source, model, correction, method, metadata: only the first two can teach
        ("production", MODEL, "tonte lamsa", "manual", kept),
        ("production", MODEL, "tonte lamse", "import", kept),
        ("manual", MODEL, "fonte lamse", "manual", kept),
        ("production", "ef" * 32, "fonte danse", "manual", kept),
        ("production", MODEL, "fonte bamse", "llm", kept),
        ("production", MODEL, tested.reference, "manual", kept),
        ("production", MODEL, "balte lamse", "manual", {}),
        ("production", MODEL, "", "manual", kept),
    ]
    for number, (source, model, text, method, metadata) in enumerate(cases):
        path = Path(f"case{number}.wav")
        soundfile.write(path, np.random.default_rng(100 + number).normal(0, 0.1, 8_000), 16_000)
        key = store.store_failed_case(
            path, heard.text, model_version=model, source=source, metadata=metadata, error_score=0.9
        )
        store.store_correction(key, text, method)
    store.close()
    result = detector("calibrate", "--json")
    found = json.loads(result.stdout)
    assert (found["cases"], found["misheard_cases"]) == (2, 1)
    same = ("utterances", "misheard", "recordings")
    assert [found[name] for name in same] == [plain[name] for name in same] and found["data"] != plain["data"]
    assert "1 corrected cases teach the detector nothing: they share something with what judges" in result.stderr
    assert "2 corrected cases teach the detector nothing: they lack" in result.stderr
    assert "learnt from 2 corrected cases as well" in detector("evaluate", "--no-log").stdout
    assert json.loads(detector("calibrate", "--no-cases", "--json").stdout) == plain


def test_test_references_never_change_the_file(project: Path) -> None:
    detector("calibrate")
    before = STORED.read_bytes()
    STORED.unlink()
    rewrite_references("test", "something else was said here")
    assert detector("calibrate").exit_code == 0 and STORED.read_bytes() == before
    STORED.unlink()
    rewrite_references("dev", "something else was said here")
    assert detector("calibrate").exit_code == 0 and STORED.read_bytes() != before


def test_evaluate_prints_every_figure_as_one_json_object(project: Path) -> None:
    result = detector("evaluate", "--no-log", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["run_id"] is None and found["model"] == MODEL
    assert [item["error_wer"] for item in found["evaluations"]] == [0.0, 0.25, 0.5]
    first, second, _ = found["evaluations"]
    part = first["slices"][0]
    assert part["name"] == "test" and part["utterances"] == 80 and len(part["reliability"]) == 10
    figures = part["scorers"][0]["measures"]
    assert figures["roc_auc"]["low"] < figures["roc_auc"]["value"] < figures["roc_auc"]["high"]
    assert {"recall_at_precision_0.85", "recall_at_precision_0.92"} < figures.keys()
    # Planted are errors of one word in six: nothing is misheard above 0.25.
    assert second["learnt"] is None and "0 were misheard, 80 heard rightly" in second["reason"]


@pytest.mark.parametrize(("columns", "first"), [("80", "| test, "), ("200", "| test ")])
def test_evaluate_prints_tables_for_people(
    project: Path, monkeypatch: pytest.MonkeyPatch, columns: str, first: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = detector("evaluate", "--no-log")
    assert result.exit_code == 0
    assert "…" not in result.stdout and max(map(len, result.stdout.splitlines())) <= int(columns)
    for text in (first, "1 - confidence", "flag everything", "ROC-AUC", "the guide's claim", "low_confidence"):
        assert text in result.stdout


def test_evaluate_calibrates_once_and_again_when_something_is_new(project: Path) -> None:
    def stored() -> tuple[int, bytes]:
        assert detector("evaluate", "--no-log").exit_code == 0
        return STORED.stat().st_ino, STORED.read_bytes()

    first = stored()
    rewrite_references("test", "balte bamse danse fonte")
    assert stored() == first
    rewrite_references("dev", "balte bamse danse fonte")
    second = stored()
    assert second != first
    (project / "params.yaml").write_text("seed: 7\ndetector: {error_wer: 0.1}\n", encoding="utf-8")
    assert stored()[1] != second[1] and json.loads(STORED.read_text())["error_wer"] == 0.1


def test_hypotheses_of_another_model_get_a_calibration_of_their_own(project: Path) -> None:
    detector("evaluate", "--no-log")
    rows = read_jsonl(HYPOTHESES, Hypothesis)
    write_jsonl(HYPOTHESES, [row.model_copy(update={"model": "ef" * 32}) for row in rows])
    assert detector("evaluate", "--no-log").exit_code == 0
    assert {path.stem for path in STORED.parent.iterdir()} == {MODEL[:16], "ef" * 8}


def test_the_candidate_is_calibrated_on_dev_alone(project: Path) -> None:
    result = detector("calibrate", "--candidate", "--json")
    facts = json.loads(result.stdout)
    assert facts["model"] == "cd" * 32 and facts["splits"] == ["dev"] and facts["utterances"] == 40


def test_one_class_is_refused_by_calibrate_and_reported_by_evaluate(project: Path) -> None:
    for split in ("train", "dev", "test"):
        rewrite_references(split, "nothing like it was ever said")
    result = detector("calibrate")
    assert result.exit_code == 1 and "80 were misheard, 0 heard rightly" in result.stderr and not STORED.exists()
    result = detector("evaluate", "--no-log", "--json")
    assert result.exit_code == 0 and not STORED.exists()
    first = json.loads(result.stdout)["evaluations"][0]
    assert first["learnt"] is None and "80 were misheard" in first["reason"]
    assert first["slices"][0]["scorers"][0]["measures"]["roc_auc"]["value"] is None


def test_without_stage_outputs_the_next_step_is_dvc_repro(project: Path) -> None:
    shutil.rmtree("build")
    for command in ("calibrate", "evaluate"):
        result = detector(command)
        assert result.exit_code == 2 and "dvc repro" in result.stderr


def test_a_missing_recording_is_named(project: Path) -> None:
    missing = read_jsonl(MANIFEST, Utterance)[0].path
    Path(missing).unlink()
    result = detector("calibrate")
    assert result.exit_code == 1 and missing in result.stderr and not STORED.exists()


def test_help_loads_no_heavy_library() -> None:
    code = (
        "from typer.testing import CliRunner\nfrom mondegreen.cli.main import app\n"
        "assert CliRunner().invoke(app, ['detector', 'evaluate', '--help']).exit_code == 0"
    )
    assert printed_and_loaded(code, "torch", "mlflow", "sklearn", "scipy", "matplotlib") == "[]"
