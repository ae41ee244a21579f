"""The monitor says the same over SQLite and over PostgreSQL."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mondegreen.config import MonitorParams
from mondegreen.monitoring.records import MonitorReport, ProductionReport
from mondegreen.monitoring.tracker import MetadataTracker
from tests.cases.conftest import Recorder, chosen, postgres, record  # noqa: F401
from tests.monitoring.audited import served
from tests.monitoring.inferences import NOW, inference, insert_rows, service
from tests.monitoring.listener import OK, listening


@pytest.fixture(autouse=True)
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")


def test_both_databases_give_the_same_report(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    record: Recorder,  # noqa: F811
) -> None:
    def fill(kind: str) -> tuple[MonitorReport, list[dict[str, object]]]:
        tracker = MetadataTracker(tmp_path / kind)
        insert_rows(tracker, service(range(1, 12), a_day=10) + service([0], 40, mean=0.6, error_rate=0.7, seed=1))
        insert_rows(tracker, [inference(NOW + timedelta(days=1)), inference(model_version="n", is_error=None)])
        tracker.log_inferences([inference(NOW, audio_path=record(seed), is_error=True) for seed in range(3)])
        with listening(OK) as server:
            params = MonitorParams(webhook=server.url, min_inferences=20)
            first = tracker.monitor(timedelta(days=2), params, now=NOW + timedelta(hours=1))
            again = tracker.monitor(timedelta(days=2), params, now=NOW + timedelta(hours=2))
        assert first.delivery is not None and first.delivery.sent == ["error_rate", "drift", "error_rate_rise"]
        assert again.delivery is not None and again.delivery.cooling_down == first.delivery.sent
        assert len(server.requests) == 1
        return first, [tracker.get_performance_trend(name, 3000) for name in ("error_rate", "latency")]

    found = {kind: with_database(kind, request, lambda kind=kind: fill(kind)) for kind in ("sqlite", "postgresql")}
    (one, one_trends), (other, other_trends) = found.values()
    assert one.statistics.cases == 3 and one.statistics.in_future == 1 and one.drift.confidence is not None
    assert flat(one.model_dump(exclude={"database"})) == pytest.approx(flat(other.model_dump(exclude={"database"})))
    assert flat(one_trends) == pytest.approx(flat(other_trends))
    assert "sqlite" in one.database and "postgresql" in other.database


def test_both_databases_give_the_same_wer_in_production(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    def fill(kind: str) -> ProductionReport:
        tracker = MetadataTracker(tmp_path / kind)
        served(tracker, 120, 60, waiting=3)
        served(tracker, 120, 60, model="n" * 64, version="stt/4", start=NOW - timedelta(days=1))
        served(tracker, 120, 60, model="p" * 64, version=None, start=NOW - timedelta(hours=9))
        return tracker.production_wer(timedelta(days=7), now=NOW)

    one, other = (with_database(kind, request, lambda kind=kind: fill(kind)) for kind in ("sqlite", "postgresql"))
    assert one.total.wer and one.difference and one.difference.interval
    assert flat(one.model_dump()) == pytest.approx(flat(other.model_dump()))


def with_database(kind: str, request: pytest.FixtureRequest, work: Callable[[], object]) -> object:
    with chosen(kind, request):
        return work()


def flat(tree: object, name: str = "") -> dict[str, object]:
    """Leaves by their path: sums of floats may differ in the last digit."""
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {name: tree if isinstance(tree, int | float) else str(tree)}
    return {key: leaf for part, branch in items for key, leaf in flat(branch, f"{name}/{part}").items()}
