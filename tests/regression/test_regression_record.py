"""The record of runs, in both databases, and what a database that is away, locked or read-only does to a verdict."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from mondegreen import db as databases
from mondegreen.config import RegressParams
from mondegreen.db import open_database, transaction
from mondegreen.errors import CaseError, UsageError
from mondegreen.files import read_json, write_json
from mondegreen.records import RegressionResults, SuiteResult, Trial
from mondegreen.registry.regression_runs import (
    last_of_each_model,
    latest_run,
    list_runs,
    record_run,
    store_run,
    suites_registered,
)
from mondegreen.speech.model_folder import model_digest
from mondegreen.stages import regress
from mondegreen.tables import RegressionRunRow
from tests.cases.conftest import chosen, postgres  # noqa: F401
from tests.regression.regression_project import ToneModel, entry, lose_last, regression_tester, write_index, write_suite

DATA = Path("data/regression")
OUTPUT = Path("build/regress/results.json")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MONDEGREEN_DATABASE_URL", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    Path("params.yaml").write_text("validate: {bootstrap_samples: 1000, permutations: 1000}\n")
    write_suite(DATA / "core", range(12))
    write_index(entry())
    write_json(Path("build/trial/trial.json"), Trial(trial=False))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, ToneModel]:
    """What the stage finds under the names of the models."""
    found = {"starter/model": ToneModel("old"), "build/train/model": ToneModel("new" * 10)}
    monkeypatch.setattr(regress, "pipeline_transcriber", lambda name, params: found[name])
    from mondegreen.speech.corpus_transcription import corpus_transcriber

    monkeypatch.setattr(regress, "corpus_transcriber", lambda model: corpus_transcriber(model.transcribe))
    return found


def results(passed: bool = True, model: str = "aa", version: str = "1") -> RegressionResults:
    suite = SuiteResult(name="core", kind="critical", outcome="pass" if passed else "fail", reason="Because.")
    return RegressionResults(passed=passed, reason="r", model=model, suites=[suite], model_version=version)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_was_stored_comes_back_and_the_last_run_counts(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with chosen(kind, request):
        engine = open_database(tmp_path / "var")
        first = store_run(engine, results(), NOON)
        second = store_run(engine, results(passed=False), NOON - timedelta(days=1))  # the clock was moved back
        other = store_run(engine, results(model="bb"), NOON)
        assert list_runs(engine) == [other, second, first] and first.results == results()
        assert latest_run(engine, "aa") == second and latest_run(engine, "cc") is None
        named = [store_run(engine, results(model="", version=version), NOON) for version in ("7", "7", "8")]
        assert last_of_each_model(engine) == [second, other, *named[1:]]
        assert last_of_each_model(engine, limit=2) == named[1:]
        assert latest_run(engine, "") is None
        with transaction(engine) as session:
            session.execute(delete(RegressionRunRow).where(RegressionRunRow.model_digest == ""))
        assert list_runs(engine, limit=1) == [other] and list_runs(engine, since=NOON) == [other, first]
        engine.dispose()


def test_a_row_that_was_changed_by_hand_is_no_pass(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "var")
    store_run(engine, results(passed=False))
    with transaction(engine) as session:
        session.execute(update(RegressionRunRow).values(results={"passed": True}))
    with pytest.raises(CaseError, match="Run 1 of regression_runs: field results"):
        latest_run(engine, "aa")


def test_the_stage_writes_the_same_bytes_each_time_and_records_each_run(models: dict[str, ToneModel]) -> None:
    written = []
    for _ in range(2):
        regress.main()
        written.append(OUTPUT.read_bytes())
        OUTPUT.unlink()
    assert written[0] == written[1]
    runs = regression_tester().get_history()
    assert len(runs) == 2 and all(run.passed and run.model_digest == "new" * 10 for run in runs)
    assert runs[0].model_version == "newnewnewnew" and runs[0].results.baseline_model == "old"


def test_a_trial_runs_no_suite_and_says_so(models: dict[str, ToneModel], monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(Path("build/trial/trial.json"), Trial(trial=True))
    monkeypatch.setattr(regress, "model_digest", lambda folder: "new" * 10)
    regress.main()
    found = read_json(OUTPUT, RegressionResults)
    assert (found.outcome, found.reason, found.model) == ("fail", "a trial runs no suites", "new" * 10)
    assert regression_tester().get_history() == []
    write_json(Path("build/trial/trial.json"), Trial(trial=False))  # `dvc exp apply X && dvc repro`
    regress.main()
    assert read_json(OUTPUT, RegressionResults).passed


def test_a_failing_suite_is_written_and_recorded_and_the_stage_goes_on(models: dict[str, ToneModel]) -> None:
    models["build/train/model"] = ToneModel("bad", lose_last)
    regress.main()
    assert not read_json(OUTPUT, RegressionResults).passed
    latest = regression_tester().get_latest_run("bad")
    assert latest and not latest.passed


def test_a_model_beside_itself_is_no_run_and_no_failure_of_it(models: dict[str, ToneModel]) -> None:
    """After a deployment `base: models:/…@champion` names the candidate; `dvc add data && dvc repro` tests it again."""
    regress.main()
    OUTPUT.unlink()
    models["starter/model"] = ToneModel("new" * 10)
    with pytest.raises(UsageError, match=r"(?s)the same model.*--baseline.*--stored"):
        regress.main()
    assert not OUTPUT.exists()
    suites, itself = regression_tester(), models["build/train/model"]
    with pytest.raises(UsageError, match="the same model"):
        suites.run_test_suite("2", itself.transcribe, itself.transcribe)
    (run,) = suites.get_history()
    assert run.passed and run.results.baseline_model == "old"


def test_without_suites_the_stage_says_so_loads_no_model_and_records_no_run() -> None:
    (DATA / "suites.yaml").write_text("suites: []\n")
    model = Path("build/train/model")
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    regress.main()
    found = read_json(OUTPUT, RegressionResults)
    assert (found.reason, found.outcome, found.passed) == ("no suites are registered", "none", False)
    assert found.model == model_digest(model)
    assert not Path("var").exists()


@pytest.mark.parametrize(
    ("index", "section", "due"),
    [
        (None, {}, False),
        ("suites: []\n", {}, False),
        (None, {"required": True}, True),
        ("suites: []\n", {"required": True}, True),
        ("suites: [", {}, True),  # what cannot be read
        ("suites:\n- name: a\n", {}, True),
        ("", {}, True),
        (None, {"suites": "data/suites.yml"}, True),  # named, and not there
    ],
)
def test_suites_are_due_unless_there_plainly_are_none(index: str | None, section: dict[str, object], due: bool) -> None:
    shutil.rmtree(DATA)
    if index is not None:
        DATA.mkdir()
        (DATA / "suites.yaml").write_text(index)
    assert suites_registered(RegressParams.model_validate(section)) == due


def test_recordings_of_suites_without_an_index_are_suites_that_cannot_run(models: dict[str, ToneModel]) -> None:
    (DATA / "suites.yaml").unlink()
    assert suites_registered(RegressParams())
    regress.main()
    found = read_json(OUTPUT, RegressionResults)
    assert found.outcome == "fail" and "suites.yaml does not exist" in found.reason


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process writes, and does not come to an end."""
    open_database(path.parent).dispose()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def test_the_stage_writes_nothing_when_the_run_cannot_be_recorded(
    models: dict[str, ToneModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_PATIENCE", 0.05)
    with locked(Path("var/mondegreen.db")), pytest.raises(CaseError, match="locked"):
        regress.main()
    assert not OUTPUT.exists()
    regress.main()
    assert read_json(OUTPUT, RegressionResults).passed


def test_a_damaged_database_stops_the_stage(models: dict[str, ToneModel]) -> None:
    Path("var").mkdir()
    Path("var/mondegreen.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(CaseError, match="cannot be opened"):
        regress.main()
    assert not OUTPUT.exists()


def test_the_tester_gives_no_pass_when_the_run_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_PATIENCE", 0.05)
    suites, model, old = regression_tester(), ToneModel("aa"), ToneModel("00")
    _ = suites.engine
    with locked(Path("var/mondegreen.db")):
        found = suites.run_test_suite("1", model.transcribe, old.transcribe)
    assert not found.passed and "not on record" in found.reason and "locked" in found.reason
    assert [suite.outcome for suite in found.suites] == ["pass"]  # what was found is not lost
    assert suites.get_latest_run("aa") is None
    assert suites.run_test_suite("1", model.transcribe, old.transcribe).passed


def test_a_table_that_is_read_only_gives_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write to any file, so it is the database that refuses."""
    suites, model, old = regression_tester(), ToneModel("aa"), ToneModel("00")
    with transaction(suites.engine) as session:
        session.connection().exec_driver_sql("PRAGMA query_only = ON")
    found = suites.run_test_suite("1", model.transcribe, old.transcribe)
    assert not found.passed and "readonly" in found.reason


def test_a_database_that_cannot_be_opened_stops_the_tester_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDEGREEN_DATABASE_URL", "sqlite:////proc/nowhere/mondegreen.db")
    model = ToneModel()
    with pytest.raises(CaseError, match="cannot be opened"):
        regression_tester().run_test_suite("1", model.transcribe)
    assert model.heard == []


def test_runs_of_dvcs_temporary_copies_come_to_the_projects_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copy").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path / "copy")
    record_run(results())
    assert not (tmp_path / "copy/var").exists()
    assert latest_run(open_database(tmp_path / "var"), "aa") is not None
