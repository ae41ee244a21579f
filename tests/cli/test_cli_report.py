"""`mondegreen report`, on a build folder as `dvc repro` leaves it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mondegreen.cli.main import app
from tests.reports.conftest import build, case, outputs

__all__ = ["build", "case", "outputs"]  # fixtures


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_page_goes_beside_the_stages_and_leaves_their_files_alone(build: Path) -> None:
    before = {path: path.read_bytes() for path in build.rglob("*") if path.is_file()}
    result = run("--build", build)
    assert (result.exit_code, result.stdout) == (0, f"pass: {build}/report.html\n")
    page = (build / "report.html").read_text(encoding="utf-8")
    assert "Pass: the candidate is better" in page and "WER rose by 3.00 points." in page
    assert {path: path.read_bytes() for path in before} == before


def test_markdown_goes_to_stdout_or_to_a_file(build: Path, tmp_path: Path) -> None:
    result = run("--build", build, "--markdown")
    assert result.exit_code == 0 and result.stdout.startswith("# Pass:")
    assert run("--build", build, "--markdown", "--output", tmp_path / "pr.md").exit_code == 0
    assert (tmp_path / "pr.md").read_text(encoding="utf-8") == result.stdout


def test_json_says_outcome_and_place(build: Path) -> None:
    found = json.loads(run("--build", build, "--json").stdout)
    assert found["outcome"] == "pass" and found["bytes"] == Path(found["path"]).stat().st_size
    assert json.loads(run("--build", build, "--json", "--markdown").stdout)["markdown"].startswith("# Pass:")


def test_open_hands_the_page_to_the_browser(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    assert run("--build", build, "--open").exit_code == 0
    assert opened == [(build / "report.html").resolve().as_uri()]
    assert run("--build", build, "--open", "--markdown").exit_code == 2


def test_the_stages_own_file_is_not_overwritten(build: Path) -> None:
    result = run("--build", build, "--output", build / "validate" / "report.html")
    assert result.exit_code == 2 and "DVC would run it again" in result.stderr
    assert not (build / "validate" / "report.html").exists()


def test_without_a_verdict_it_says_what_to_run(tmp_path: Path) -> None:
    result = run("--build", tmp_path / "build")
    assert result.exit_code == 2 and "There is no project here" in result.stderr
    (tmp_path / "params.yaml").touch()  # a project
    result = run("--build", tmp_path / "build")
    assert result.exit_code == 2 and "verdict.json" in result.stderr and "dvc repro" in result.stderr


def test_no_database_is_made_and_a_damaged_one_costs_only_the_history(build: Path, tmp_path: Path) -> None:
    assert run("--build", build).exit_code == 0 and not (tmp_path / "var").exists()
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "mondegreen.db").write_text("this is no database, whatever its name says")
    result = run("--build", build)
    assert result.exit_code == 0 and "without the history of the regression suites" in result.stderr


@pytest.mark.parametrize("file", ["label/audit.json", "validate/verdict.json", "train/run.json"])
def test_a_damaged_file_is_named(build: Path, file: str) -> None:
    (build / file).write_text("{")
    result = run("--build", build)
    assert result.exit_code == 2 and file in result.stderr and not (build / "report.html").exists()
