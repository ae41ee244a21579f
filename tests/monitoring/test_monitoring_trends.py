"""Trends: of the rounds in MLflow, and by day from the inferences."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.monitoring.statistics import round_values, trend_through
from mondegreen.monitoring.tracker import MetadataTracker
from mondegreen.records import Metrics, Rate, SliceMetrics
from mondegreen.registry.mlflow_store import connect
from mondegreen.registry.run_logs import log_metrics_file
from mondegreen.registry.runs import resume_run, start_run
from tests.monitoring.inferences import NOW, inference, insert_rows
from tests.registry.conftest import database_template, project  # noqa: F401

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


def run_round(wer: float, cer: float = 0.1, slice_name: str = "test") -> str:
    """A candidate's run as the stages leave it."""

    def rate(value: float) -> Rate:
        return Rate(errors=1, reference_length=9, rate=value, substitutions=1, deletions=0, insertions=0)

    slices = {slice_name: SliceMetrics(utterances=2, wer=rate(wer), cer=rate(cer))}
    with start_run(Params()) as run_id:
        log_metrics_file(run_id, "baseline", Metrics(model="b", normalizer="n", slices=slices))
        log_metrics_file(run_id, "candidate", Metrics(model="c", normalizer="n", slices=slices))
    return run_id


def test_rounds_that_get_better_have_a_positive_improvement(project: Path) -> None:  # noqa: F811
    before = datetime.now(UTC)
    for wer, cer in ((0.50, 0.20), (0.44, 0.21), (0.42, 0.23)):
        run_round(wer, cer)
    tracker = MetadataTracker("var")
    wer, cer = (tracker.get_performance_trend(name) for name in ("wer", "cer"))
    assert [value for _, value in wer["values"]] == [0.50, 0.44, 0.42]
    assert wer["latest"] == 0.42 and wer["mean"] == pytest.approx(1.36 / 3) and wer["slope"] < 0
    assert wer["improvement"] == pytest.approx(0.08) and cer["improvement"] == pytest.approx(-0.03)
    assert all(before - timedelta(seconds=1) <= at <= datetime.now(UTC) for at, _ in wer["values"])


def test_a_run_without_a_candidate_on_test_is_no_round(project: Path) -> None:  # noqa: F811
    with start_run(Params()):
        pass
    run_round(0.3, slice_name="dev")
    deleted = run_round(0.1)
    connect().delete_run(deleted)
    found = MetadataTracker("var").get_performance_trend("wer")
    assert found["values"] == [] and math.isnan(found["latest"]) and math.isnan(found["improvement"])
    assert found["reason"].startswith("0 rounds in the window")


def test_one_round_is_no_trend(project: Path) -> None:  # noqa: F811
    run_round(0.3)
    found = MetadataTracker("var").get_performance_trend("wer")
    assert (found["latest"], found["mean"]) == (0.3, 0.3)
    assert math.isnan(found["slope"]) and math.isnan(found["improvement"])
    assert "1 round " in found["reason"] and "two" in found["reason"]


def test_a_run_that_stands_in_for_another_is_not_a_second_round(
    project: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = run_round(0.3)
    monkeypatch.setenv("DVC_EXP_NAME", "strict-alpha")
    with resume_run(first) as second:
        assert second != first
    assert len(MetadataTracker("var").get_performance_trend("wer")["values"]) == 1


def test_rounds_outside_the_window_are_left_out(project: Path) -> None:  # noqa: F811
    run_round(0.3)
    now = datetime.now(UTC)
    assert len(round_values("wer", now - DAY, now)[0]) == 1
    assert round_values("wer", now - 3 * DAY, now - DAY) == ([], "")


def test_without_an_mlflow_database_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    found = MetadataTracker(tmp_path).get_performance_trend("wer")
    assert math.isnan(found["improvement"]) and "no round has run yet" in found["reason"]
    assert not (tmp_path / "mlruns").exists()


def test_an_mlflow_that_cannot_be_read_is_a_reason_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 500)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    found = MetadataTracker(tmp_path / "var").get_performance_trend("wer")
    assert math.isnan(found["improvement"]) and "MLflow" in found["reason"]


def test_days_are_means_and_less_latency_is_better(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    tracker = MetadataTracker(tmp_path / "var")
    rows = []
    for day, (latency, confidence, errors) in enumerate([(2.0, 0.9, 1), (3.0, 0.8, 2), (5.0, 0.6, 4)]):
        at = (now - (3 - day) * DAY).replace(hour=12)
        rows += [inference(at, latency=latency + d, confidence=confidence, is_error=d < 0) for d in (-1, 1)] * errors
        rows += [inference(at, latency=latency, confidence=confidence, is_error=None)] * 3
    insert_rows(tracker, rows)
    latency, confidence, errors = (
        tracker.get_performance_trend(metric, 30) for metric in ("latency", "confidence", "error_rate")
    )
    assert [value for _, value in latency["values"]] == pytest.approx([2.0, 3.0, 5.0])
    assert (latency["improvement"], confidence["improvement"]) == (pytest.approx(-3), pytest.approx(-0.3))
    assert latency["slope"] == pytest.approx(1.5) and confidence["latest"] == pytest.approx(0.6)
    assert [value for _, value in errors["values"]] == [0.5, 0.5, 0.5]
    assert errors["improvement"] == 0 and errors["slope"] == pytest.approx(0)


def test_a_day_without_a_detector_has_no_error_rate(tmp_path: Path) -> None:
    tracker = MetadataTracker(tmp_path / "var")
    insert_rows(tracker, [inference(datetime.now(UTC) - DAY, is_error=None)] * 5)
    assert tracker.get_performance_trend("error_rate")["values"] == []


def test_the_slope_is_least_squares() -> None:
    draw = np.random.default_rng(0)
    hours, values = draw.uniform(0, 500, 20), draw.uniform(0, 1, 20)
    found = trend_through(
        "wer", [(NOW + timedelta(hours=float(h)), float(v)) for h, v in zip(hours, values, strict=True)], ""
    )
    assert found.slope == pytest.approx(np.polyfit(hours / 24, values, 1)[0])
    together = trend_through("wer", [(NOW, 0.1), (NOW, 0.2)], "two")
    assert together.slope is None and together.improvement is None and together.reason == "two"


def test_an_unknown_metric_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="error_rate, confidence, latency"):
        MetadataTracker(tmp_path).get_performance_trend("bleu")
