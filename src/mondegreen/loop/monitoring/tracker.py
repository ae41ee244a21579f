"""`MetadataTracker`: what production does, written down and read back."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sqlalchemy import Engine

from mondegreen.cases.database import open_database
from mondegreen.config import MonitorParams
from mondegreen.errors import UsageError
from mondegreen.loop.monitoring.alerts import check_thresholds, notify
from mondegreen.loop.monitoring.first_week import measure_drift
from mondegreen.loop.monitoring.inference_log import Inference, write_inferences
from mondegreen.loop.monitoring.statistics import buckets, window_statistics
from mondegreen.loop.monitoring.trends import METRICS, bucket_edges, performance_trend, performance_trends
from mondegreen.reports.monitor_records import Drift, MonitorReport, Statistics

if TYPE_CHECKING:
    from mondegreen.cases.manager import DataManager

TREND_DAYS = 30
_LONGEST = timedelta(days=36_525)


class MetadataTracker:
    """Records inferences and tells how the service does.

    Args:
        local_storage_dir: the folder of live state.
        use_gcs: failed recordings go to a bucket, see `DataManager`.
        data_manager: keeps failed cases; one over the same folder when not given.
        storage: more arguments for that `DataManager`.
    """

    def __init__(
        self,
        local_storage_dir: str | Path = "var",
        use_gcs: bool = False,
        *,
        data_manager: "DataManager | None" = None,
        **storage: Any,
    ) -> None:
        self.folder = Path(local_storage_dir)
        self._manager = data_manager
        self._storage = {"use_gcs": use_gcs, **storage}

    @cached_property
    def engine(self) -> Engine:
        """The database. Raises CaseError when it cannot be opened."""
        return self._manager.engine if self._manager else open_database(self.folder)

    @cached_property
    def cases(self) -> "DataManager":
        """Where failed cases go."""
        from mondegreen.cases.manager import DataManager

        return self._manager or DataManager(str(self.folder), **self._storage)

    def log_inference(self, audio_path: str | Path, transcript: str, **fields: Any) -> str | None:
        """Records one transcription; `fields` are those of `Inference`.

        Returns:
            The id of the failed case when `is_error` is set, else None.

        Raises:
            UsageError: a field has a value that cannot be.
            CaseError: the database refuses, or the failed case cannot be stored.
        """
        try:
            inference = Inference(audio_path=Path(audio_path), transcript=transcript, **fields)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise UsageError(f"log_inference: {field}: {first['msg']}.", f"Give another {field}.") from None
        return self.log_inferences([inference])[0]

    def log_inferences(self, inferences: Iterable[Inference]) -> list[str | None]:
        """Records many in one transaction, and the misheard ones as failed cases; see `write_inferences`."""
        found = list(inferences)
        cases = self.cases if any(inference.is_error for inference in found) else None
        return write_inferences(self.engine, cases, found)

    def get_inference_statistics(self, time_window_hours: float = 24) -> dict[str, Any]:
        """The window that ends now, as a dict of `Statistics`.

        `count`, `measured`, `errors`, `error_detection_rate` (errors / measured), `mean_confidence`, `latency` (`p50`,
        `p95`, `p99`, seconds), `real_time_factor`, `correction_rate` (of the window's failed cases), `models` (the
        same by model version), … What is not measured is None.
        """
        return self.statistics(_window(hours=time_window_hours)).model_dump()

    def get_performance_trend(self, metric: str, time_window_days: float = TREND_DAYS) -> dict[str, Any]:
        """A metric over the window that ends now, as a dict of `Trend`.

        Args:
            metric: "wer" or "cer": of the candidates of the rounds in MLflow, on the test set; "error_rate",
                "confidence" or "latency" (seconds): means of each day (UTC) of the inferences.
            time_window_days: its length.

        Returns:
            `values` (time and value, oldest first), `latest`, `mean`, `slope` (least squares, a day), `improvement`:
            by how much the latest value is better than the first, absolute; positive is better whatever the metric
            (0.05 for "wer": 5 points fewer errors). With fewer than two values `slope` and `improvement` are None and
            `reason` says so.
        """
        now = datetime.now(UTC)
        return performance_trend(self.engine, metric, now - _window(days=time_window_days), now).model_dump()

    def statistics(self, window: timedelta, now: datetime | None = None) -> Statistics:
        """The numbers of the window that ends now."""
        now = now or datetime.now(UTC)
        return window_statistics(self.engine, now - window, now)

    def drift(self, window: timedelta, params: MonitorParams | None = None, now: datetime | None = None) -> Drift:
        """The window against the first week of the model that did most of its work."""
        now = now or datetime.now(UTC)
        return measure_drift(self.engine, now - window, now, (params or MonitorParams()).min_inferences)

    def monitor(
        self,
        window: timedelta = timedelta(hours=24),
        params: MonitorParams | None = None,
        *,
        send: bool = True,
        now: datetime | None = None,
    ) -> MonitorReport:
        """Everything: statistics, drift, trends, and the checks; alerts go to the log and, with `send`, the webhook."""
        now, params = now or datetime.now(UTC), params or MonitorParams()
        found, drift = self.statistics(window, now), self.drift(window, params, now)
        checks = check_thresholds(found, drift, params, window_name(window))
        alerts = [check for check in checks if check.status == "alert"]
        start = now - max(window, timedelta(days=TREND_DAYS))
        return MonitorReport(
            database=self.engine.url.render_as_string(hide_password=True),
            statistics=found,
            buckets=buckets(self.engine, bucket_edges(now - window, now)),
            drift=drift,
            checks=checks,
            trends=performance_trends(self.engine, METRICS, start, now),
            delivery=notify(self.engine, alerts, params if send else params.model_copy(update={"webhook": None}), now),
        )


def _window(**length: float) -> timedelta:
    """A length of time that can be subtracted from now."""
    (unit, value), *_ = length.items()
    if not math.isfinite(value) or not 0 < value <= _LONGEST / timedelta(**{unit: 1}):
        raise UsageError(f"A window of {value} {unit} is not possible.", "Give a positive number, up to a century.")
    return timedelta(**length)


def window_name(window: timedelta) -> str:
    """90 minutes as "90m", a day as "24h", ten days as "10d"."""
    for letter, unit, least in (("d", timedelta(days=1), 2), ("h", timedelta(hours=1), 1)):
        if window >= least * unit and not window % unit:
            return f"{window // unit}{letter}"
    return f"{window / timedelta(minutes=1):g}m"
