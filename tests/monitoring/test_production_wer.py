"""The WER in production, from the log and what people heard: its numbers, its refusals, its alert, its curve."""

from datetime import timedelta
from pathlib import Path

import pytest

from mondegreen.config import AuditParams
from mondegreen.monitoring.alerts import check_production
from mondegreen.monitoring.production import log_weeks
from mondegreen.monitoring.records import ProductionReport
from mondegreen.monitoring.sampling import plan_audit
from mondegreen.monitoring.tracker import MetadataTracker
from mondegreen.registry.mlflow_store import PRODUCTION, connect
from mondegreen.reports.monitor import production_lines
from mondegreen.reports.monitor_page import write_page
from mondegreen.review.decisions import NewDecision, record_decision
from tests.monitoring.audited import served
from tests.monitoring.inferences import NOW, insert_rows, service
from tests.registry.conftest import database_template, project  # noqa: F401
from tests.review.conftest import SINGLE

WEEK = timedelta(days=7)


@pytest.fixture
def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MetadataTracker:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return MetadataTracker(tmp_path / "var")


def found(tracker: MetadataTracker, **params: object) -> ProductionReport:
    return tracker.production_wer(WEEK, AuditParams.model_validate(params), now=NOW)


def test_what_was_heard_speaks_of_all_that_was_said(tracker: MetadataTracker) -> None:
    served(tracker, 400, 100, waiting=7)
    report = found(tracker)
    total = report.total
    assert (total.inferences, total.drawn, total.audited, total.words, total.clusters) == (400, 107, 100, 1000, 41)
    assert total.wer and total.plain and total.wer.method == "difference"
    assert total.wer.interval.low < 0.2 < total.wer.interval.high and total.plain.value == pytest.approx(0.2)
    assert total.wer.standard_error < total.plain.standard_error
    assert [wer.label for wer in report.versions] == ["stt/3"] and report.difference is None
    (text,) = production_lines(report)
    assert text.startswith("production WER 2") or text.startswith("production WER 19")
    assert "100 audited of 400, last 7 days, version 3" in text and "7 wait" in text


@pytest.mark.parametrize(
    ("heard", "changes", "reason"),
    [
        (29, {}, "29 heard of the 30"),
        (40, {"callers": 4}, "4 callers, speakers or recordings of the 10"),
        (40, {"errors": lambda number: 0}, "no error in the 400 words"),
    ],
)
def test_too_little_gives_no_number_and_says_why(
    tracker: MetadataTracker, heard: int, changes: dict[str, object], reason: str
) -> None:
    served(tracker, 100, heard, **changes)  # type: ignore[arg-type]
    total = found(tracker).total
    assert total.wer is None and total.plain is None and reason in total.reason
    assert "not measured" in next(iter(production_lines(found(tracker))))


def test_where_the_detector_predicts_nothing_the_plain_estimate_stands(tracker: MetadataTracker) -> None:
    served(tracker, 300, 90)
    with tracker.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE inferences SET error_score = 0.5")
    total = found(tracker).total
    assert total.wer and total.wer.method == "plain" and total.wer == total.plain
    assert "the plain estimate, as predicted and found errors correlate by" in total.reason


def test_what_a_language_model_wrote_is_no_reference(tracker: MetadataTracker) -> None:
    served(tracker, 200, 60, method="llm")
    total = found(tracker).total
    assert (total.drawn, total.audited) == (60, 0) and total.wer is None


def test_what_holds_no_speech_is_heard_and_in_no_rate(tracker: MetadataTracker) -> None:
    served(tracker, 200, 60, waiting=1)
    before = found(tracker).total
    waiting = next(iter(_waiting(tracker)))
    record_decision(tracker.engine, SINGLE, NewDecision(case_id=waiting, reviewer="ann", action="not_speech"))
    after = found(tracker).total
    assert (after.audited, after.without_speech, after.words) == (61, 1, before.words)
    assert after.plain and before.plain and after.plain.value == pytest.approx(before.plain.value)


def _waiting(tracker: MetadataTracker) -> list[str]:
    with tracker.engine.connect() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT id FROM cases WHERE label_method IS NULL")]


def test_inferences_that_nobody_drew_from_are_counted_apart(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service([1], a_day=50))
    assert "50 inferences were logged without a draw" in next(iter(production_lines(found(tracker))))
    served(tracker, 200, 60)
    report = found(tracker)
    assert (report.total.inferences, report.outside) == (200, 50)


def test_a_new_version_is_compared_with_the_one_before(tracker: MetadataTracker) -> None:
    served(tracker, 200, 60, errors=lambda number: 3 + number % 3)
    served(tracker, 200, 60, model="n" * 64, version="stt/4", start=NOW - timedelta(days=1), errors=lambda n: n % 3)
    report = found(tracker)
    assert [wer.label for wer in report.versions] == ["stt/3", "stt/4"]
    difference = report.difference
    assert difference and difference.interval and difference.interval.high < 0
    assert (difference.before, difference.after) == ("stt/3", "stt/4")
    assert any("version 4 against version 3: -" in text for text in production_lines(report))
    thin = found(tracker, min_audited=70).difference
    assert thin and thin.difference is None and thin.reason


def test_after_a_rollback_the_version_that_answers_now_is_compared_and_judged(tracker: MetadataTracker) -> None:
    served(tracker, 100, 60, model="n" * 64, version="stt/4", start=NOW - timedelta(days=2), errors=lambda n: 5 + n % 3)
    served(tracker, 400, 60, start=NOW - timedelta(days=4), errors=lambda n: n % 3)
    assert [wer.label for wer in found(tracker).versions] == ["stt/3", "stt/4"]
    served(tracker, 200, 60, start=NOW - timedelta(hours=5), errors=lambda n: n % 3)  # stt/3 again
    report = found(tracker, max_wer=0.4)
    assert report.difference and (report.difference.before, report.difference.after) == ("stt/4", "stt/3")
    assert report.difference.difference and report.difference.difference < 0
    assert [check.status for check in check_production(report, "7d")] == ["ok"]


def test_a_version_that_was_deployed_within_the_hour_is_the_one_that_answers_now(tracker: MetadataTracker) -> None:
    served(tracker, 400, 60, start=NOW - timedelta(hours=7, seconds=10), errors=lambda n: n % 3)  # until 11:39:50
    started = NOW - timedelta(minutes=20)
    served(tracker, 5, 5, model="a" * 64, version="stt/4", start=started, role="champion")
    report = found(tracker)
    assert [wer.label for wer in report.versions] == ["stt/3", "stt/4"]
    assert report.difference and (report.difference.before, report.difference.after) == ("stt/3", "stt/4")
    assert report.difference.difference is None  # too few were heard to say what it changed


def test_what_the_replaced_version_got_wrong_is_no_alert(tracker: MetadataTracker) -> None:
    served(tracker, 400, 60, errors=lambda n: 5 + n % 3)
    assert [check.status for check in check_production(found(tracker, max_wer=0.4), "7d")] == ["alert"]
    mended = {"model": "a" * 64, "version": "stt/4", "errors": lambda n: n % 3}
    served(tracker, 40, 8, start=NOW - timedelta(hours=3), **mended)  # too few to say how well it hears
    (check,) = check_production(found(tracker, max_wer=0.4), "7d")
    assert (check.status, check.value) == ("not measured", None) and "stt/4: 8 heard of the 30" in check.detail
    served(tracker, 200, 60, start=NOW - timedelta(hours=2), **mended)
    assert [check.status for check in check_production(found(tracker, max_wer=0.4), "7d")] == ["ok"]


@pytest.mark.parametrize("seconds", [-30, 30])
def test_a_canary_is_not_taken_for_the_champion_that_it_answers_beside(tracker: MetadataTracker, seconds: int) -> None:
    good, bad = (lambda n: n % 3), (lambda n: 5 + n % 3)
    served(tracker, 200, 60, model="o" * 64, version="stt/2", start=NOW - timedelta(days=4), errors=bad)
    served(tracker, 200, 60, start=NOW - timedelta(hours=5), errors=good, role="champion")
    beside = NOW - timedelta(hours=5) + timedelta(seconds=seconds)
    served(tracker, 201, 60, model="z" * 64, version="stt/4", start=beside, errors=bad, role="canary")
    report = found(tracker, max_wer=0.4)
    assert [wer.label for wer in report.versions] == ["stt/4", "stt/2", "stt/3"]
    assert report.difference and (report.difference.before, report.difference.after) == ("stt/2", "stt/3")
    assert [check.status for check in check_production(report, "7d")] == ["ok"]
    served(tracker, 5, 5, model="z" * 64, version="stt/4", start=NOW - timedelta(minutes=9), role="champion")
    assert found(tracker).versions[-1].label == "stt/4"  # it was deployed


@pytest.mark.parametrize(("version", "count"), [("stt/4", 1), (None, 1), (None, 60)])
def test_one_answer_by_other_phrases_does_not_silence_the_alert(
    tracker: MetadataTracker, version: str | None, count: int
) -> None:
    served(tracker, 400, 60, errors=lambda n: n % 3)
    served(tracker, 200, 60, model="n" * 64, version="stt/4", start=NOW - timedelta(days=1), errors=lambda n: 4 + n % 3)
    before = found(tracker, max_wer=0.3)
    assert [check.status for check in check_production(before, "7d")] == ["alert"]
    # A request with phrases of its own is the version's; `transcribe --log` by another model is nobody's turn.
    served(tracker, count, count, model="p" * 64, version=version, start=NOW - timedelta(hours=2), errors=lambda n: 0)
    report = found(tracker, max_wer=0.3)
    labels = ["stt/3", "stt/4"] if version else ["p" * 12, "stt/3", "stt/4"]
    assert [wer.label for wer in report.versions] == labels
    assert [check.status for check in check_production(report, "7d")] == ["alert"]
    assert report.difference and (report.difference.before, report.difference.after) == ("stt/3", "stt/4")
    assert report.difference.difference and report.difference.difference > 0.2


def test_where_no_version_answered_digests_take_turns(tracker: MetadataTracker) -> None:
    served(tracker, 200, 60, version=None, errors=lambda n: 3 + n % 3)
    served(tracker, 200, 60, model="n" * 64, version=None, start=NOW - timedelta(days=1), errors=lambda n: n % 3)
    difference = found(tracker).difference
    assert difference and (difference.before, difference.after) == ("m" * 12, "n" * 12)


def test_beside_its_canary_a_champion_is_compared_with_nobody(tracker: MetadataTracker) -> None:
    served(tracker, 200, 60, role="champion")
    served(tracker, 200, 60, model="z" * 64, version="stt/4", role="canary")
    report = found(tracker)
    assert [wer.label for wer in report.versions] == ["stt/4", "stt/3"] and report.difference is None


@pytest.mark.parametrize(("bound", "status"), [(None, None), (0.05, "alert"), (0.5, "ok")])
def test_the_alert_fires_when_the_whole_interval_lies_above(
    tracker: MetadataTracker, bound: float | None, status: str | None
) -> None:
    served(tracker, 200, 60)
    checks = check_production(found(tracker, max_wer=bound), "7d")
    assert [check.status for check in checks] == ([status] if status else [])


def test_a_bound_without_an_estimate_is_neither_good_nor_bad(tracker: MetadataTracker) -> None:
    served(tracker, 40, 10)
    assert [check.status for check in check_production(found(tracker, max_wer=0.1), "7d")] == ["not measured"]


def test_weeks_are_calendar_weeks_and_a_curve_with_its_band(tracker: MetadataTracker, tmp_path: Path) -> None:
    for weeks in range(3):
        served(tracker, 120, 60, start=NOW - timedelta(days=1, weeks=weeks), model=f"{weeks}" * 64)
    report = tracker.monitor(now=NOW)
    weeks_found = report.production.weeks
    assert [week.audited for week in weeks_found] == [60, 60, 60]
    assert all(week.since.weekday() == 0 and week.since.hour == 0 for week in weeks_found)
    write_page(tmp_path / "page.html", report)
    page = (tmp_path / "page.html").read_text()
    assert "WER in production by week" in page and "audited of" in page


def test_the_weeks_are_logged_in_mlflow_once(project: Path) -> None:  # noqa: F811
    tracker = MetadataTracker("var")
    served(tracker, 120, 60, start=NOW - timedelta(days=1))
    (week,) = found(tracker).weeks
    assert week.wer and log_weeks([week]) == "" and log_weeks([week]) == ""
    client = connect()
    experiment = client.get_experiment_by_name(PRODUCTION)
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    (logged,) = client.get_metric_history(run.info.run_id, "production/wer")
    assert logged.value == pytest.approx(week.wer.value)
    assert run.data.metrics["production/wer_low"] < logged.value < run.data.metrics["production/wer_high"]


def test_a_plan_follows_what_was_heard_and_says_when_it_is_assumed(tracker: MetadataTracker) -> None:
    served(tracker, 400, 20)
    early = plan_audit(found(tracker).total, 0.02)
    served(tracker, 400, 100, model="n" * 64)
    late = plan_audit(found(tracker).total, 0.02)
    assert early["assumed"] and not late["assumed"]
    widths = [row["best"] for row in late["half_widths"]]  # type: ignore[attr-defined]
    assert widths == sorted(widths, reverse=True)
    assert late["needed"]["best"] <= late["needed"]["plain"]  # type: ignore[index]
