import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.reports.outputs import Summary, SummaryRow


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> Summary:
    """The summary of a candidate that is not better."""
    row = SummaryRow(
        slice="all", utterances=90, baseline_wer=0.31, candidate_wer=0.33, baseline_cer=0.12, candidate_cer=0.13
    )
    found = Summary(
        outcome="fail",
        reason="It is worse.",
        forgetting="FORGETTING WAS NOT MEASURED",
        rows=[row],
        wer_improvement=None,
        interval=None,
        p_value=None,
        regression="not run",
        registered=None,
        lost="",
        now="",
        report="build/validate/report.html",
    )
    monkeypatch.setattr("mondegreen.reports.outputs.summary", lambda build: found)
    return found


def test_a_failed_verdict_is_still_a_summary(failed: Summary) -> None:
    result = CliRunner().invoke(app, ["summary"])
    assert result.exit_code == 0 and "fail" in result.stdout and "It is worse." in result.stdout


def test_json_is_the_whole_summary(failed: Summary) -> None:
    result = CliRunner().invoke(app, ["summary", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout) == failed.model_dump(mode="json")


def test_without_stage_outputs_it_says_what_to_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["summary", "--build", str(tmp_path)])
    assert result.exit_code == 2 and result.stdout == ""
    assert "verdict.json" in result.stderr and "dvc repro" in result.stderr
