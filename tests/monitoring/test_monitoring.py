"""Inferences: written down whole, read back as statistics."""

import io
import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy import select

from mondegreen.cases.blobs import LocalBlobStore
from mondegreen.cases.store import DataManager
from mondegreen.db import open_database, reading
from mondegreen.errors import CaseError, CloudError, StoreAwayError, UsageError
from mondegreen.files import sha256_file
from mondegreen.monitoring.alerts import window_name
from mondegreen.monitoring.statistics import curve_edges, day_edges, time_steps
from mondegreen.monitoring.tracker import Inference, MetadataTracker
from mondegreen.reports.monitor import model_names, render
from mondegreen.reports.monitor_page import write_page
from mondegreen.tables import InferenceRow
from tests.monitoring.inferences import NOW, inference, insert_rows, service

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")


@pytest.fixture
def tracker(tmp_path: Path) -> MetadataTracker:
    return MetadataTracker(tmp_path / "var")


def recording(path: Path, seed: int = 0) -> Path:
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, 16_000), 16_000)
    return path


def rows(tracker: MetadataTracker) -> list[Any]:
    with reading(tracker.engine) as session:
        return list(session.scalars(select(InferenceRow).order_by(InferenceRow.id)))


def test_an_inference_is_recorded_with_all_that_is_known(tracker: MetadataTracker, tmp_path: Path) -> None:
    audio = recording(tmp_path / "a.wav")
    before = datetime.now(UTC)
    case_id = tracker.log_inference(
        audio, "HELLO", model_version="abc", duration=1.0, latency=0.2, confidence=0.9, error_score=0.1, is_error=False
    )
    (row,) = rows(tracker)
    assert case_id is None and row.case_id is None and before <= row.at <= datetime.now(UTC)
    assert (row.model_version, row.duration, row.latency, row.confidence) == ("abc", 1.0, 0.2, 0.9)
    assert (row.error_score, row.is_error, row.audio_sha256) == (0.1, False, sha256_file(audio))


def test_a_misheard_one_is_kept_as_a_failed_case_and_linked(tracker: MetadataTracker, tmp_path: Path) -> None:
    audio = recording(tmp_path / "a.wav")
    case_id = tracker.log_inference(
        audio, "HULLO", model_version="abc", duration=1.0, latency=0.2, confidence=0.2, error_score=0.8,
        error_types=("low_confidence",), is_error=True,
    )  # fmt: skip
    case = DataManager(tracker.folder).get_case(str(case_id))
    assert rows(tracker)[0].case_id == case_id
    assert (case.source, case.original_transcript, case.model_version) == ("production", "HULLO", "abc")
    assert (case.error_types, case.error_score) == (("low_confidence",), 0.8)
    assert case.audio_sha256 == sha256_file(audio)


def test_one_recording_that_cannot_be_kept_takes_nothing_else_with_it(tracker: MetadataTracker, tmp_path: Path) -> None:
    good = recording(tmp_path / "good.wav")
    gone = inference(audio_path=tmp_path / "gone.wav", is_error=True, audio_sha256="b" * 64)
    with pytest.raises(CaseError, match=r"1 of 3 inferences were logged without their recordings: .*gone\.wav") as said:
        tracker.log_inferences([inference(), gone, inference(audio_path=good, is_error=True)])
    assert "Logged again these would count twice" in said.value.next_step and "cases add" in said.value.next_step
    found = rows(tracker)
    assert len(found) == 3 and [row.case_id is not None for row in found] == [False, False, True]
    assert found[1].is_error is True  # it still counts as an error


@pytest.mark.parametrize("error", [CloudError("Cannot write gs://ours.", "Check."), OSError(28, "No space left")])
def test_nothing_is_logged_while_no_recording_can_be_kept(
    tracker: MetadataTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(*_: object) -> None:
        raise error

    given = [inference(), inference(audio_path=recording(tmp_path / "a.wav"), is_error=True)]
    with monkeypatch.context() as patch:
        patch.setattr(LocalBlobStore, "put", away)
        with pytest.raises(StoreAwayError, match=r"Cannot write gs|No space left"):
            tracker.log_inferences(given)
    assert rows(tracker) == []
    assert [case is not None for case in tracker.log_inferences(given)] == [False, True]
    assert len(rows(tracker)) == 2


def test_a_recording_that_is_gone_before_it_is_hashed_is_named(tracker: MetadataTracker, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"^1 of 2 inferences were not logged: .*gone\.wav") as said:
        tracker.log_inferences([inference(audio_path=tmp_path / "gone.wav", audio_sha256=None), inference()])
    assert "may be logged again" in said.value.next_step and "cases add" not in said.value.next_step
    assert len(rows(tracker)) == 1


def test_a_batch_is_written_whole_or_not_at_all(tracker: MetadataTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    import mondegreen.monitoring.tracker as module

    real = module.row_of
    calls = iter(range(10))

    def breaks(*arguments: Any) -> dict[str, object]:
        found = real(*arguments)
        return found | {"audio_sha256": None} if next(calls) == 2 else found

    monkeypatch.setattr(module, "row_of", breaks)
    with pytest.raises(Exception, match="NOT NULL"):
        tracker.log_inferences([inference() for _ in range(4)])
    assert rows(tracker) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("latency", -1.0), ("latency", math.nan), ("duration", math.inf), ("confidence", 1.2), ("error_score", -0.1),
     ("model_version", ""), ("audio_sha256", "abc"), ("at", datetime(2026, 1, 1)), ("latencyy", 1.0)],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(tracker: MetadataTracker, field: str, value: object) -> None:
    fields = {"model_version": "m", "duration": 1.0, "latency": 1.0, field: value}
    with pytest.raises(UsageError, match=field):
        tracker.log_inference("a.wav", "", **fields)
    assert rows(tracker) == []


def test_without_data_nothing_is_made_up(tracker: MetadataTracker) -> None:
    found = tracker.get_inference_statistics(24)
    assert found["count"] == found["measured"] == 0 and found["models"] == {}
    for name in ("error_detection_rate", "mean_confidence", "real_time_factor", "correction_rate"):
        assert math.isnan(found[name])
    assert all(math.isnan(value) for part in ("latency", "error_interval") for value in found[part].values())
    assert found["last"] is None and found["reason"] == "no inference in the last 24 hours"


def test_inferences_at_which_no_detector_looked_give_no_rate_and_the_reason_says_so(tracker: MetadataTracker) -> None:
    insert_rows(tracker, [inference(datetime.now(UTC) - HOUR, is_error=None)] * 3)
    found = tracker.get_inference_statistics(24)
    assert math.isnan(found["error_detection_rate"]) and "no calibrated detector looked at the 3" in found["reason"]
    (model,) = found["models"].values()
    assert model["count"] == 3 and math.isnan(model["error_detection_rate"]) and model["latency"]["p50"] > 0


def test_the_numbers_of_a_window(tracker: MetadataTracker) -> None:
    insert_rows(
        tracker,
        [
            *[inference(NOW - HOUR, latency=float(n), duration=10.0, is_error=n <= 20) for n in range(1, 101)],
            *[inference(NOW - HOUR, model_version="n", is_error=None, confidence=None) for _ in range(50)],
            inference(NOW - 25 * HOUR, latency=900.0),
        ],
    )
    found = tracker.statistics(timedelta(hours=24), NOW)
    old, new = found.models["m"], found.models["n"]
    assert (found.count, found.measured, found.errors, found.error_detection_rate) == (150, 100, 20, 0.2)
    assert old.latency is not None
    assert (old.latency.p50, old.latency.p95, old.latency.p99) == pytest.approx((50.5, 95.05, 99.01))
    assert old.real_time_factor == pytest.approx(5050 / 1000) and old.mean_confidence == pytest.approx(0.9)
    assert (new.count, new.measured, new.error_detection_rate, new.mean_confidence) == (50, 0, None, None)
    assert found.mean_confidence == pytest.approx(0.9) and list(found.models) == ["m", "n"]
    assert found.error_interval is not None and found.error_interval.low < 0.2 < found.error_interval.high


def test_who_answered_as_a_version_is_called_by_it(tracker: MetadataTracker, tmp_path: Path) -> None:
    digests = [letter * 64 for letter in "abcd"]
    shown = dict(zip(digests, (["stt/9", "stt/10"], ["stt/8"], ["stt/8"], [None]), strict=True))
    rows = [
        inference(NOW - (3 - turn) * HOUR, model_version=digest, served=name, latency=float(turn + 1))
        for digest, names in shown.items()
        for turn, name in enumerate(names)
    ]
    insert_rows(tracker, [*rows, inference(NOW - HOUR, model_version=digests[0], latency=9.0)])
    report = tracker.monitor(timedelta(hours=24), now=NOW)
    found = report.statistics
    assert list(found.models) == digests and found.models[digests[0]].count == 3
    assert found.models[digests[0]].work_seconds == 12 and found.count == 6
    assert found.served == dict(zip(digests, ("stt/10", "stt/8", "stt/8"), strict=False))  # the one of late
    names = model_names(found)
    assert [names[digest] for digest in digests] == [
        "version 10", f"version 8 ({'b' * 12})", f"version 8 ({'c' * 12})", "d" * 12,
    ]  # fmt: skip
    write_page(tmp_path / "page.html", report)
    console = Console(file=io.StringIO(), width=120)
    console.print(render(report))
    for text in ((tmp_path / "page.html").read_text(), console.file.getvalue()):  # type: ignore[attr-defined]
        assert "version 10" in text and f"version 8 ({'b' * 12})" in text and "a" * 12 not in text


def test_the_correction_rate_is_of_the_windows_failed_cases(tracker: MetadataTracker, tmp_path: Path) -> None:
    paths = [recording(tmp_path / f"{number}.wav", number) for number in range(4)]
    ids = tracker.log_inferences([inference(NOW, audio_path=path, is_error=True) for path in paths])
    tracker.log_inferences([inference(NOW - 30 * HOUR, audio_path=paths[0], is_error=True)])  # seen once more
    DataManager(tracker.folder).store_correction(str(ids[0]), "HELLO")
    found = tracker.statistics(timedelta(hours=24), NOW)
    assert (found.cases, found.corrected, found.correction_rate) == (4, 1, 0.25)
    older = tracker.statistics(timedelta(hours=1), NOW - 30 * HOUR)
    assert (older.cases, older.correction_rate) == (1, 1.0)


def test_a_clock_that_was_ahead_is_left_out_and_named(tracker: MetadataTracker) -> None:
    insert_rows(tracker, [inference(NOW - HOUR), *[inference(NOW + 3 * HOUR, is_error=True)] * 3])
    found = tracker.monitor(timedelta(hours=24), now=NOW)
    assert (found.statistics.count, found.statistics.in_future) == (1, 3)
    assert found.statistics.last == NOW - HOUR and not found.alerts


def test_a_clock_that_moves_back_between_inferences_breaks_nothing(tracker: MetadataTracker) -> None:
    for at in (NOW, NOW - 2 * HOUR, NOW - HOUR, NOW - timedelta(days=3000)):
        tracker.log_inferences([inference(at)])
    assert tracker.statistics(timedelta(hours=24), NOW).count == 3
    assert sum(step.count for step in tracker.monitor(timedelta(days=1), now=NOW).buckets) == 3


@pytest.mark.parametrize("length", [0, -1, math.nan, math.inf, 1e9])
def test_a_window_that_cannot_be_is_refused(tracker: MetadataTracker, length: float) -> None:
    with pytest.raises(UsageError, match="window"):
        tracker.get_inference_statistics(length)
    with pytest.raises(UsageError, match="window"):
        tracker.get_performance_trend("latency", length)


def test_two_trackers_write_into_one_store(tracker: MetadataTracker) -> None:
    again = MetadataTracker(data_manager=DataManager(tracker.folder))
    again.log_inferences([inference()])
    tracker.log_inferences([inference()])
    assert len(rows(again)) == 2


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 3), st.sampled_from(["a", "b"])), max_size=40))
def test_models_and_steps_add_up_and_percentiles_are_numpys(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[float, float, str]]
) -> None:
    tracker = MetadataTracker(tmp_path_factory.mktemp("var"))
    insert_rows(tracker, [inference(NOW - h * HOUR, latency=s, model_version=m) for h, s, m in drawn])
    window = timedelta(hours=48)
    inside = [seconds for hours, seconds, _ in drawn if NOW - hours * HOUR >= NOW - window]
    found = tracker.statistics(window, NOW)
    steps = time_steps(tracker.engine, curve_edges(NOW - window, NOW))
    assert found.count == len(inside) == sum(part.count for part in found.models.values())
    assert found.count == sum(step.count for step in steps)
    if found.latency:
        expected = np.percentile(inside, [50, 95, 99])
        assert (found.latency.p50, found.latency.p95, found.latency.p99) == pytest.approx(tuple(expected))


@given(st.integers(1, 5_000_000), st.integers(0, 86_400))
def test_edges_cover_the_window_in_order(minutes: int, seconds: int) -> None:
    until = NOW + timedelta(seconds=seconds)
    since = until - timedelta(minutes=minutes)
    for edges in (curve_edges(since, until), day_edges(since, until)):
        assert (edges[0], edges[-1]) == (since, until)
        assert all(low < high for low, high in pairwise(edges))
    assert all(edge.hour == edge.minute == edge.second == 0 for edge in day_edges(since, until)[1:-1])


def test_windows_have_names_that_the_command_takes() -> None:
    from mondegreen.cli.common import duration

    def parse_window(name: str) -> timedelta:
        return duration(name, "--since", "mhd", "")

    for name in ("30m", "90m", "1h", "24h", "36h", "2d", "7d"):
        assert window_name(parse_window(name)) == name
    assert parse_window("1d") == parse_window("24h") == parse_window("1440m")


def test_a_full_month_of_service_is_read_from_a_second_process(tracker: MetadataTracker) -> None:
    insert_rows(tracker, service(range(30), a_day=20))
    open_database(tracker.folder).dispose()
    again = MetadataTracker(tracker.folder)
    assert again.statistics(timedelta(days=31), NOW + HOUR).count == 600
    assert isinstance(inference(), Inference)
