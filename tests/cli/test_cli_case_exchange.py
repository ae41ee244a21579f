"""`mondegreen cases export | import`, as typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.config import Params
from mondegreen.review.decisions import NewDecision, record_decision
from tests.cases.snapshot_project import add_case
from tests.tiny import save_model


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataManager:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return DataManager("var")


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["cases", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_cases_travel_to_another_store(store: DataManager) -> None:
    one, two = add_case(store, "one", "some words"), add_case(store, "two", source="help desk")
    said = json.loads(run("export", "out/cases.csv", "--with-audio", "--source", "help desk", "--json"))
    assert said == {"file": "out/cases.csv", "cases": 1, "notices": []}
    assert "out/cases.json has 2 cases" in run("export", "out/cases.json", "--with-audio", "--audio-prefix", "/d/")
    assert json.loads(Path("out/cases.json").read_text())[0]["data"]["audio"].startswith("/d/audio/")
    dry = run("import", "out/cases.csv", "--store", "other", "--dry-run")
    assert "Nothing was changed. There would be 1 new case," in dry
    assert DataManager("other").find_cases().cases == []
    assert "Imported 1 new case, 0 new corrections" in run("import", "out/cases.csv", "--store", "other")
    report = json.loads(run("import", "out/cases.json", "--store", "other", "--json"))
    assert (report["new_cases"], report["new_corrections"]) == (1, 1)
    assert {case.id for case in DataManager("other").find_cases().cases} == {one, two}
    assert json.loads(run("import", "out/cases.json", "--store", "other", "--json"))["new_corrections"] == 0


def test_an_export_says_which_corrections_a_review_keeps_back(store: DataManager) -> None:
    key = add_case(store, "one", "some words")
    new = NewDecision(case_id=key, reviewer="ann", action="bad_audio")
    record_decision(store.engine, Params(), new)
    said = " ".join(run("export", "cases.csv").split())
    assert f"Note: cases.csv: corrections that a review keeps from counting are left out, of 1 case: {key}" in said
    (notice,) = json.loads(run("export", "cases.csv", "--json"))["notices"]
    assert notice["code"] == "held" and "some words" not in Path("cases.csv").read_text()


def test_a_wrong_file_is_a_usage_error_with_its_lines(store: DataManager) -> None:
    Path("cases.csv").write_text("audio,original_transcript,corrected_transcript\n../a.wav,heard,said\n")
    said = run("import", "cases.csv", code=2)
    assert "line 2: the audio '../a.wav'" in said and "What now:" in said
    assert "no format of ours" in run("export", "cases.xml", code=2)
    assert "--since soon is no time" in run("export", "cases.csv", "--since", "soon", code=2)


def test_an_author_is_given_to_corrections_without_one(store: DataManager) -> None:
    key = add_case(store, "one")
    Path("cases.csv").write_text(f"id,original_transcript,corrected_transcript\n{key},,said\n")
    run("import", "cases.csv", "--author", "ann")
    assert [(item.transcript, item.author) for item in store.corrections(key)] == [("said", "ann")]


def test_corrections_that_the_model_cannot_write_are_counted_and_kept(store: DataManager, tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    Path("params.yaml").write_text("model: {base: model}\n")
    for name, text in (("one", "dial 1 2 for it"), ("two", "gate 7"), ("three", "gate seven")):
        add_case(store, name, text)
    run("export", "out/cases.csv", "--with-audio")
    said = " ".join(run("import", "out/cases.csv", "--store", "other").split())
    assert "Imported 3 new cases, 3 new corrections" in said
    assert "model.base cannot write are kept, and not trained on (2): " in said and "('1' '2')" in said
    notices = json.loads(run("import", "out/cases.csv", "--store", "other", "--json"))["notices"]
    assert [notice["code"] for notice in notices] == ["unwritable"]
