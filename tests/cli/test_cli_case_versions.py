"""`mondegreen cases snapshot | versions | diff | checkout`, as typed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from tests.cases.snapshot_project import STARTER, add_case, dvc_within, make_project, tree


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    root = make_project(tmp_path / "project")
    (root / "params.yaml").write_text(f"model: {{base: {STARTER}}}\ncases: {{min_cases: 2}}\n")
    monkeypatch.chdir(root)
    with dvc_within():
        yield root


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["cases", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_from_cases_to_versions_and_back(project: Path) -> None:
    assert "no dataset version yet" in run("versions") and json.loads(run("versions", "--json")) == []
    store = DataManager("var")
    one = add_case(store, "one", "first words")
    said = run("snapshot", code=1)
    assert "cases.min_cases: 1 is below 2" in said and "What now:" in said
    add_case(store, "two", "second words")
    add_case(store, "three")
    said = run("snapshot", "--message", "the first ones")
    assert "v1: 2 cases, 2 new, commit" in said and "1 no_correction" in said and "dvc repro" in said
    first = tree(project / "data")
    said = run("snapshot")
    assert "Nothing new since v1" in said

    store.store_correction(one, "better words")
    found = json.loads(run("snapshot", "--json"))
    assert (found["number"], found["parent"], found["created"], found["left_out"]) == (2, 1, True, {"no_correction": 1})
    listed = json.loads(run("versions", "--json"))
    assert [(item["number"], item["tag"]) for item in listed] == [(1, "failed-cases/v1"), (2, "failed-cases/v2")]
    assert listed[1]["commit"] == found["commit"] and listed[0]["date"].endswith("Z")
    table = run("versions")
    assert "v2" in table and found["commit"][:10] in table
    assert f"~ {one}  first words -> better words" in run("diff", "v1", "v2")
    assert [item["id"] for item in json.loads(run("diff", "1", "2", "--json"))["changed"]] == [one]
    assert "data/ is what it was in v1" in run("checkout", "v1")
    assert tree(project / "data") == first
    assert json.loads(run("checkout", "2", "--json"))["number"] == 2
    assert "is not a dataset version" in run("checkout", "latest", code=2)


def test_a_model_that_is_not_here_leaves_the_alphabet_unchecked_and_says_so(project: Path) -> None:
    (project / "params.yaml").write_text("model: {base: somebody/not-fetched}\n")
    add_case(DataManager("var"), "one", "price 5")
    said = run("snapshot")
    assert "v1: 1 case," in said and "not checked against the alphabet of somebody/not-fetched" in said
