"""The first week of a model, and what is compared with it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mondegreen.config import MonitorParams
from mondegreen.db import reading
from mondegreen.monitoring.drift import first_week
from mondegreen.monitoring.tracker import MetadataTracker
from tests.monitoring.inferences import NOW, inference, insert_rows, service

DAY = timedelta(days=1)


@pytest.fixture
def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MetadataTracker:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    return MetadataTracker(tmp_path / "var")


def week(tracker: MetadataTracker, model: str = "m") -> tuple[datetime, datetime]:
    with reading(tracker.engine) as session:
        return first_week(session, model, NOW)


def alerts(tracker: MetadataTracker, window: timedelta = DAY) -> list[str]:
    return [check.metric for check in tracker.monitor(window, MonitorParams(), now=NOW + timedelta(hours=1)).alerts]


def test_the_same_service_a_month_later_has_not_drifted(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service(range(30), a_day=150))
    found = tracker.drift(DAY, now=NOW + timedelta(hours=1))
    assert found.confidence is not None and found.error_rate is not None
    assert found.confidence.reference_count == 7 * 150 and found.confidence.window_count == 150
    assert found.confidence.psi < 0.25 and alerts(tracker) == []


def test_lower_confidence_and_more_errors_are_found(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service(range(1, 30), a_day=150) + service([0], 150, mean=0.7, error_rate=0.28, seed=1))
    found = tracker.drift(DAY, now=NOW + timedelta(hours=1))
    assert found.confidence is not None and found.confidence.psi > 1 and found.confidence.ks_statistic > 0.5
    assert found.error_rate is not None and found.error_rate.interval.low > 0
    assert alerts(tracker) == ["drift", "error_rate_rise"]


def test_the_first_week_is_seven_days_with_inferences(tracker: MetadataTracker) -> None:
    insert_rows(tracker, [inference(NOW - day * DAY) for day in (40, 39, 35, 30, 20, 19, 18, 17, 2)])
    start, end = week(tracker)
    assert (start, end) == (NOW - 40 * DAY, (NOW - 17 * DAY).replace(hour=0))


def test_one_inference_of_a_clock_at_1970_does_not_make_up_the_week(tracker: MetadataTracker) -> None:
    insert_rows(tracker, [inference(datetime(1970, 1, 1, tzinfo=UTC)), *service(range(30), a_day=150)])
    found = tracker.drift(DAY, now=NOW + timedelta(hours=1))
    assert found.confidence is not None and found.confidence.reference_count == 1 + 6 * 150


def test_within_its_first_week_a_model_is_not_compared_with_itself(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service(range(5), a_day=150))
    found = tracker.drift(DAY, now=NOW + timedelta(hours=1))
    assert found.confidence is None and "first 7 days" in found.confidence_reason
    insert_rows(tracker, service(range(5, 7), a_day=150))  # today is the seventh day
    assert tracker.drift(DAY, now=NOW + timedelta(hours=1)).confidence is None


def test_the_reference_week_is_no_part_of_a_long_window(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service(range(10), a_day=150))
    found = tracker.drift(30 * DAY, now=NOW + timedelta(hours=1))
    assert found.confidence is not None and found.error_rate is not None
    assert (found.confidence.reference_count, found.confidence.window_count) == (1050, 450)
    assert (found.error_rate.reference_count, found.error_rate.window_count) == (1050, 450)


def test_each_model_has_its_own_week(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service(range(20, 40), a_day=120) + service(range(12), 120, mean=0.9, model_version="n"))
    insert_rows(tracker, [inference(NOW, model_version="someone trying")])
    found = tracker.drift(DAY, now=NOW + timedelta(hours=1))
    assert found.model_version == "n" and found.confidence is not None and found.confidence.psi < 0.25
    assert found.reference is not None and found.reference[0] == NOW - 11 * DAY


def test_too_few_inferences_are_not_measured_and_no_alert(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service(range(1, 20), a_day=150) + service([0], 99, mean=0.2, error_rate=1.0))
    found = tracker.monitor(timedelta(hours=2), MonitorParams(), now=NOW + timedelta(hours=1))
    assert found.drift.confidence is None and "99 since then" in found.drift.confidence_reason
    statuses = {check.status for check in found.checks if check.metric != "confidence"}  # which has no threshold
    assert statuses == {"not measured"} and found.alerts == []


def test_without_a_detector_confidence_is_compared_and_errors_are_not(tracker: MetadataTracker) -> None:
    rows = [row.model_copy(update={"is_error": None}) for row in service(range(20), a_day=150)]
    insert_rows(tracker, rows)
    found = tracker.drift(DAY, now=NOW + timedelta(hours=1))
    assert found.confidence is not None and found.error_rate is None and "detector" in found.error_rate_reason


def test_inferences_of_the_future_are_in_neither_side(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service(range(30), a_day=150) + service(range(-9, -1), a_day=500, mean=0.1))
    found = tracker.drift(DAY, now=NOW + timedelta(hours=1))
    assert found.confidence is not None and found.confidence.psi < 0.25 and found.confidence.window_count == 150
