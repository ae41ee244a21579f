"""The closing table and the model card."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from mondegreen.errors import RegistryError, UsageError
from mondegreen.files import write_json
from mondegreen.records import NotRegistered, RegisteredVersion, RegressionResults, RunInfo
from mondegreen.reports.outputs import read_outputs, render, summary
from mondegreen.reports.page import render_card

RESULTS = RegressionResults(passed=True, reason="1 suite passed", model="new", suites=[])


@pytest.fixture
def build(case: SimpleNamespace, tmp_path: Path) -> Path:
    write_json(tmp_path / "validate" / "verdict.json", case.verdict)
    return tmp_path


def shown(build: Path) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(summary(build)))
    return console.export_text()


def test_it_shows_rates_verdict_version_and_where_to_look(build: Path, case: SimpleNamespace) -> None:
    write_json(build / "regress" / "results.json", RESULTS)
    version = RegisteredVersion(
        name="stt", version=3, stage="Staging", alias="challenger", outcome="pass", run_id="r", digest="new", uri="u"
    )
    write_json(build / "register" / "version.json", version)
    text = shown(build)
    assert f"{100 * case.verdict.slices['test'].baseline.wer.rate:.1f} %" in text
    assert "does not have stt version 3." in text and "`dvc repro` registers" in text  # no registry is there
    assert "stt version 3, Staging, @challenger" in text and "report.html" in text and "make ui" in text


@pytest.mark.parametrize(
    ("aliases", "said"),
    [
        ({"challenger": 3}, "@challenger"),
        ({"champion": 3}, "; now @champion"),
        ({"champion": 4}, "; now no alias"),
    ],
)
def test_it_says_what_became_of_the_version_and_of_the_page(
    build: Path, monkeypatch: pytest.MonkeyPatch, aliases: dict[str, int], said: str
) -> None:
    version = RegisteredVersion(
        name="stt", version=3, stage="Staging", alias="challenger", outcome="pass", run_id="r", digest="new", uri="u"
    )
    write_json(build / "register" / "version.json", version)
    monkeypatch.setattr("mondegreen.reports.outputs.lost", lambda version: "")
    monkeypatch.setattr("mondegreen.reports.outputs.holdings", lambda name, stages: SimpleNamespace(aliases=aliases))
    lines = [line.rstrip() for line in shown(build).splitlines()]
    assert any(line.startswith("registered") and line.endswith(said) for line in lines)
    assert "is gone: `dvc checkout`" in shown(build)
    (build / "validate" / "report.html").touch()
    assert "is gone" not in shown(build)


def test_it_works_before_anything_is_registered(build: Path) -> None:
    assert "not registered" in shown(build) and "not run" in shown(build)


def test_what_is_of_another_candidate_does_not_stand_beside_the_verdict(build: Path) -> None:
    write_json(build / "regress" / "results.json", RESULTS.model_copy(update={"model": "former"}))
    version = RegisteredVersion(
        name="stt", version=2, stage="Staging", alias="challenger", outcome="pass", run_id="r", digest="former", uri="u"
    )
    write_json(build / "register" / "version.json", version)
    assert "not registered" in shown(build) and "version 2" not in shown(build) and "not run" in shown(build)
    write_json(build / "register" / "version.json", NotRegistered(digest="new", reason="a trial"))
    assert "not registered" in shown(build)


def test_an_edited_verdict_is_not_shown(build: Path) -> None:
    path = build / "validate" / "verdict.json"
    path.write_text(path.read_text().replace('"words": ', '"words": 1', 1))
    with pytest.raises(RegistryError, match="not as it was written"):
        summary(build)
    with pytest.raises(RegistryError, match="not as it was written"):
        read_outputs(build)


def test_the_json_form_has_the_same_numbers(build: Path, case: SimpleNamespace) -> None:
    found = json.loads(json.dumps(summary(build).model_dump(mode="json")))
    assert found["outcome"] == "pass" and [row["slice"] for row in found["rows"]] == [
        "clean",
        "noisy",
        "all",
        "retention",
    ]
    assert found["rows"][2]["candidate_wer"] == case.verdict.slices["test"].candidate.wer.rate


def test_without_a_verdict_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dvc repro"):
        summary(tmp_path)


def test_the_model_card_names_base_data_rates_and_limits(case: SimpleNamespace) -> None:
    run = RunInfo(
        run_id="r1", base="starter/model", base_digest="b" * 64, model_digest="m" * 64, method="lora",
        merge_weight=0.75, best_epoch=4, dev_wer=0.1, data={"data.dvc": "abc.dir", "empty": ""},
    )  # fmt: skip
    card = render_card(run, case.verdict, RESULTS)
    assert "`starter/model` (`bbbbbbbbbbbb`)" in card and "| data.dvc | `abc.dir` |" in card and "empty" not in card
    assert "LoRA, merge weight 0.75" in card and "## Limits" in card and case.verdict.claim in card
    assert "| all | 30 |" in card and "95 % interval" in card
