"""`mondegreen monitor`, and what `mondegreen transcribe --log` gives it."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sqlalchemy import select
from typer.testing import CliRunner, Result

from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.db import open_database, reading
from mondegreen.files import sha256_file
from mondegreen.monitoring.tracker import MetadataTracker
from mondegreen.speech.transcriber import BaselineSTTModel
from mondegreen.tables import InferenceRow
from tests.monitoring.inferences import inference, insert_rows
from tests.monitoring.listener import OK, listening, status
from tests.tiny import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    return tmp_path


@pytest.fixture
def recordings(project: Path) -> list[Path]:
    draw = np.random.default_rng(0)
    paths = [project / f"{name}.wav" for name in "abc"]
    for path in paths:
        soundfile.write(path, draw.uniform(-0.3, 0.3, 16_000), 16_000)
    return paths


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def logged() -> list[Any]:
    with reading(open_database(Path("var"))) as session:
        return list(session.scalars(select(InferenceRow).order_by(InferenceRow.id)))


def fill(count: int = 150, **changes: Any) -> None:
    now = datetime.now(UTC)
    rows = [inference(now - timedelta(minutes=number), **changes) for number in range(count)]
    insert_rows(MetadataTracker("var"), rows)


def text_of(result: Result) -> str:
    return " ".join(result.stdout.split())


def test_every_inference_is_logged_and_misheard_ones_are_kept(model: Path, recordings: list[Path]) -> None:
    (Path("bad.wav")).write_text("no audio\n" * 50)
    Path("calls.csv").write_text("".join(["path,speaker\n", *(f"{path.name},s {path.stem}\n" for path in recordings)]))
    origin = ("--metadata", "calls.csv", "--recording", "call 7")
    result = run("transcribe", *recordings, "bad.wav", "--model", model, "--log", "--json", *origin)
    heard = [json.loads(line) for line in result.stdout.splitlines()]
    rows = logged()
    assert len(heard) == 4 and len(rows) == 3  # what is no audio is no inference
    digest = BaselineSTTModel(str(model)).digest
    for row, line, path in zip(rows, heard, recordings, strict=False):
        assert (row.model_version, row.audio_sha256) == (digest, sha256_file(path))
        assert row.latency == pytest.approx(line["real_time_factor"] * line["duration"]) and row.duration == 1.0
        assert row.confidence == line["confidence"] and 0 <= row.error_score <= 1 and row.is_error is None
    assert any(row.case_id for row in rows)  # untrained: it hears rubbish, which the rules keep and measure nothing by
    cases = DataManager().find_cases().cases
    assert {case.id for case in cases} == {row.case_id for row in rows if row.case_id}
    assert {case.source for case in cases} == {"production"}
    assert {case.metadata["speaker"] for case in cases} == {f"s {Path(case.audio_name).stem}" for case in cases}
    assert {case.metadata["recording"] for case in cases} == {"call 7"}


def test_without_log_nothing_is_written(model: Path, recordings: list[Path]) -> None:
    assert run("transcribe", *recordings, "--model", model).exit_code == 0
    assert not Path("var").exists()


def test_groups_and_the_rest_are_logged(model: Path, recordings: list[Path]) -> None:
    assert run("transcribe", *recordings, "--model", model, "--log", "--batch-size", 2).exit_code == 0
    assert [row.audio_sha256 for row in logged()] == [sha256_file(path) for path in recordings]


def test_transcripts_are_printed_when_the_log_cannot_be_opened(model: Path, recordings: list[Path]) -> None:
    plain = run("transcribe", *recordings, "--model", model, "--json")
    Path("var").write_text("in the way")
    result = run("transcribe", *recordings, "--model", model, "--log", "--batch-size", 1, "--json")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == [
        json.loads(line)["text"] for line in plain.stdout.splitlines()
    ]
    assert result.exit_code == 1 and result.stderr.count("are not logged") == 1 and "3 inferences" in result.stderr


def test_transcripts_are_printed_when_the_database_breaks_meanwhile(
    model: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mondegreen.monitoring.tracker.MetadataTracker.log_inferences", full)
    result = run("transcribe", *recordings, "--model", model, "--log", "--batch-size", 1)
    assert len(result.stdout.splitlines()) == 3 and result.exit_code == 1
    assert result.stderr.count("No space left") == 1 and "not logged in full: 3 inferences" in result.stderr


def test_where_only_a_recording_is_missing_nobody_is_told_to_log_it_again(
    model: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, gone = MetadataTracker.log_inferences, recordings[1]

    def without_one(self: MetadataTracker, given: list[Any]) -> list[str | None]:
        gone.unlink(missing_ok=True)  # between its transcript and its place in the store
        return real(self, [item.model_copy(update={"is_error": True, "audio_sha256": "b" * 64}) for item in given])

    monkeypatch.setattr(MetadataTracker, "log_inferences", without_one)
    result = run("transcribe", *recordings, "--model", model, "--log")
    assert result.exit_code == 1 and len(logged()) == 3
    assert "1 of 3 inferences were logged without their recordings" in result.stderr
    assert "`mondegreen cases add AUDIO`" in result.stderr and "not logged:" not in result.stderr
    assert "not logged in full: 1 inference." in result.stderr


def test_without_data_it_says_what_to_do() -> None:
    result = run("monitor")
    assert result.exit_code == 0
    assert "No inferences yet" in text_of(result) and "mondegreen transcribe --log" in text_of(result)
    assert "not measured" in text_of(result) and "no round has run yet" in text_of(result)


def test_an_empty_window_names_the_last_inference() -> None:
    insert_rows(MetadataTracker("var"), [inference(datetime(2026, 1, 2, 3, 4, tzinfo=UTC))])
    assert "the last one was at 2026-01-02 03:04 UTC" in text_of(run("monitor", "--since", "30m"))


def test_one_screen_has_traffic_checks_and_trends() -> None:
    fill(is_error=False)
    result = run("monitor", "--since", "24h")
    shown = text_of(result)
    assert result.exit_code == 0
    for part in ("150 inferences", "latency p95", "real-time factor", "error_rate", "drift", "wer", "no failed cases"):
        assert part in shown
    assert "first 7 days" in shown  # why there is no drift yet


def test_an_alert_is_the_exit_code_unless_it_is_switched_off() -> None:
    fill(is_error=True)
    result = run("monitor")
    assert result.exit_code == 1 and "alert" in result.stdout and "100.0 % of 150" in text_of(result)
    assert run("monitor", "--no-fail").exit_code == 0
    Path("params.yaml").write_text("monitor: {max_error_rate: 1.0}\n")
    assert run("monitor").exit_code == 0


def test_a_detector_that_is_not_calibrated_says_no_share_of_misheard_calls(tmp_path: Path) -> None:
    fill(is_error=True, calibrated=False, error_score=0.99)
    result = run("monitor", "--json", "--html", tmp_path / "page.html")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["outcome"] == "unknown"
    traffic = found["statistics"]
    assert (traffic["measured"], traffic["error_detection_rate"], traffic["uncalibrated"]) == (0, None, 150)
    assert found["drift"]["error_rate"] is None and {step["errors"] for step in found["buckets"]} == {0}
    assert {trend["latest"] for trend in found["trends"] if trend["metric"] == "error_rate"} == {None}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for text in (" ".join(page.split()), text_of(run("monitor"))):
        assert "not calibrated" in text and "mondegreen detector calibrate" in text and "100.0 %" not in text
        assert "nothing was measured against a threshold that says how well it hears" in text
    day = json.loads(run("status", "--json").stdout)["inferences"]
    assert (day["inferences"], day["error_rate"], day["uncalibrated"]) == (0, None, 150)
    assert "not calibrated: 150" in text_of(run("status"))


def test_json_is_one_object_with_everything() -> None:
    fill(is_error=True)
    result = run("monitor", "--json", "--since", "7d")
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and found["statistics"]["error_detection_rate"] == 1.0
    keys = {"statistics", "buckets", "drift", "production", "checks", "trends", "delivery", "database", "outcome"}
    assert found.keys() == keys
    assert [check["metric"] for check in found["checks"] if check["status"] == "alert"] == ["error_rate"]
    assert found["checks"][0]["window"] == "7d"


def test_the_webhook_gets_it_once_and_a_failure_is_the_exit_code() -> None:
    fill(is_error=True)
    with listening(status(404), OK) as server:
        Path("params.yaml").write_text(f"monitor: {{webhook: '{server.url}'}}\n")
        assert run("monitor", "--no-notify").exit_code == 1 and server.requests == []
        failed = run("monitor", "--no-fail")
        assert failed.exit_code == 1 and "NOT DELIVERED" in failed.stdout and "SECRET" not in failed.output
        assert run("monitor", "--no-fail").exit_code == 0
        again = run("monitor", "--no-fail")
    assert len(server.requests) == 2 and "cooling down: error_rate" in text_of(again)


@pytest.mark.parametrize("since", ["", "24", "1w", "-1h", "0h", "24 h", "1.5h", "999999d", "٣h"])
def test_a_length_of_time_that_is_none_is_refused(since: str) -> None:
    result = run("monitor", f"--since={since}")
    assert result.exit_code == 2 and "30m, 24h, 7d" in result.stderr and not Path("var").exists()


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    draw = np.random.default_rng(0)
    rows = [
        inference(now - timedelta(days=day, minutes=number), confidence=float(draw.beta(8, 2)), is_error=number < 10,
                  model_version="<b>model")
        for day in range(12) for number in range(120)
    ]  # fmt: skip
    insert_rows(MetadataTracker("var"), rows)
    result = run("monitor", "--since", "2d", "--html", tmp_path / "out" / "page.html")
    page = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert result.exit_code == 0, result.output
    assert "http" not in page and not re.search(r"<(link|script|img|iframe)\b|@import|url\((?!#)", page)
    assert page.count("<svg") == 5 and "#010203" not in page and "prefers-color-scheme: dark" in page
    assert "&lt;b&gt;model" in page and "<b>model" not in page and "No alert" in page and "viewport" in page


def test_the_page_without_data_says_so(tmp_path: Path) -> None:
    assert run("monitor", "--html", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Nothing to look at" in page and "mondegreen transcribe --log" in page and "<svg" not in page
