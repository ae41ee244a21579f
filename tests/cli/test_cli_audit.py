"""`mondegreen audit`, and what `transcribe --log` and `monitor` make of the audit sample."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen.cases.records import AUDIT
from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.monitoring.tracker import MetadataTracker
from tests.monitoring.audited import served
from tests.tiny import save_model


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody answers


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def text_of(result: Result) -> str:
    return " ".join(result.stdout.split())


def fill(count: int = 300, heard: int = 80, waiting: int = 5) -> None:
    served(MetadataTracker("var"), count, heard, waiting=waiting, start=datetime.now(UTC) - timedelta(hours=count / 60))


def test_what_transcribe_logs_is_drawn_and_shown_apart(tmp_path: Path) -> None:
    Path("params.yaml").write_text("audit: {rate: 1.0}\n")
    soundfile.write("a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 16_000), 16_000)
    assert run("transcribe", "a.wav", "--model", save_model(tmp_path / "model"), "--log").exit_code == 0
    (case,) = DataManager("var").each_case()
    assert case.source == AUDIT
    assert run("cases", "list", "--json").stdout.count(case.id) == 0
    assert run("cases", "list", "--json", "--source", "audit").stdout.count(case.id) == 1
    assert json.loads(run("review", "--summary", "--audit", "--json").stdout)["left"] == 1
    assert json.loads(run("review", "--summary", "--json").stdout)["left"] == 0


def test_monitor_says_the_wer_and_what_mlflow_lacks() -> None:
    fill()
    found = run("monitor", "--no-notify", "--no-fail")
    assert found.exit_code == 0
    assert "80 audited of 300, last 7 days, version 3" in text_of(found)
    assert "is not in MLflow" in found.stderr
    tree = json.loads(run("monitor", "--no-notify", "--no-fail", "--json").stdout)["production"]
    assert tree["total"]["wer"]["interval"]["low"] < 0.2 < tree["total"]["wer"]["interval"]["high"]
    Path("params.yaml").write_text("audit: {max_wer: 0.01}\n")
    assert run("monitor", "--no-notify").exit_code == 1


def test_status_counts_and_plan_tells_the_width() -> None:
    fill()
    status = run("audit", "status")
    assert status.exit_code == 0 and "version 3" in text_of(status) and "5 wait to be heard" in text_of(status)
    tree = json.loads(run("audit", "status", "--json").stdout)
    assert [tree["total"][name] for name in ("inferences", "drawn", "audited")] == [300, 85, 80]
    planned = run("audit", "plan", "--half-width", 2)
    assert planned.exit_code == 0 and "± 2.00 points, difference estimate:" in text_of(planned)
    tree = json.loads(run("audit", "plan", "--half-width", 2, "--json").stdout)
    assert tree["needed"]["best"] < tree["needed"]["plain"] and tree["assumed"] is False


def test_a_plan_divides_by_the_time_that_the_traffic_spans_and_says_it() -> None:
    fill(60, heard=0, waiting=6)  # within an hour, of a window of twelve weeks
    assert "42 of 420 inferences a week are drawn (audit.rate), by the 60 in 1 day of traffic;" in text_of(
        run("audit", "plan")
    )
    tree = json.loads(run("audit", "plan", "--json").stdout)
    assert tree["traffic_days"] == 1 and tree["inferences_a_week"] == 420
    assert tree["traffic_first"] < tree["traffic_last"]


def test_a_plan_of_several_days_divides_by_them() -> None:
    served(MetadataTracker("var"), 61, 0, waiting=6, start=datetime.now(UTC) - timedelta(hours=1))
    served(
        MetadataTracker("var"),
        61,
        0,
        start=datetime.now(UTC) - timedelta(days=14, hours=1),
        model="b" * 64,
        version="stt/2",
    )
    tree = json.loads(run("audit", "plan", "--json").stdout)
    assert tree["traffic_days"] == pytest.approx(14, abs=0.1)
    assert tree["inferences_a_week"] == pytest.approx(61, abs=0.5)


def test_an_empty_store_is_planned_for_and_said() -> None:
    assert "Assumed" in run("audit", "plan").stdout
    assert "no inference was offered" in text_of(run("audit", "status"))
    assert run("audit", "plan", "--half-width", 0).exit_code == 2
    assert run("audit", "status", "--store", "elsewhere").exit_code == 2 and not Path("elsewhere").exists()
    assert run("cases", "add", "a.wav", "--text", "HI", "--source", AUDIT).exit_code == 2
    assert run("audit", "status", "--since", "often").exit_code == 2
