"""What the monitor found, as the tracker measures it and the screen, the page and `--json` show it."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

CheckStatus = Literal["ok", "alert", "not measured", "off"]
CheckOutcome = Literal["ok", "alert", "unknown"]
_QUALITY = ("production_wer", "error_rate", "confidence", "drift", "error_rate_rise")  # what says how well it hears


class MonitorRecord(BaseModel):
    """Base of all that is measured in production: it never changes afterwards."""

    model_config = ConfigDict(frozen=True)


class Bounds(MonitorRecord):
    """A confidence interval."""

    low: float
    high: float
    level: float = 0.95


class Percentiles(MonitorRecord):
    """Seconds of work for one recording."""

    p50: float
    p95: float
    p99: float


class Traffic(MonitorRecord):
    """Inferences of a window. None stands for "not measured", never for zero.

    `error_detection_rate` is errors / measured: a calibrated detector must have looked at an inference for it to count.
    """

    count: int
    measured: int
    errors: int
    uncalibrated: int = 0  # scored by a detector that does not know the model; they count in no rate
    error_detection_rate: float | None
    error_interval: Bounds | None  # Wilson's
    mean_confidence: float | None
    audio_seconds: float
    work_seconds: float
    real_time_factor: float | None  # seconds of work for a second of audio
    latency: Percentiles | None


class InferenceStatistics(Traffic):
    """A window as a whole and by model version, with the failed cases that it left behind."""

    since: datetime
    until: datetime
    last: datetime | None  # the newest inference of all, also before the window
    in_future: int  # inferences later than `until`: the clock was moved back; they count nowhere
    cases: int
    corrected: int
    correction_rate: float | None  # corrected / cases
    models: dict[str, Traffic]  # by digest
    served: dict[str, str] = {}  # the registered version, such as fine-tuned-stt/3, of those that answered as one


class TimeStep(MonitorRecord):
    """A step of the window: the numbers behind the curves."""

    start: datetime
    count: int
    measured: int
    errors: int
    mean_confidence: float | None
    mean_latency: float | None

    @property
    def error_rate(self) -> float | None:
        """Errors / measured."""
        return self.errors / self.measured if self.measured else None


class ConfidenceDrift(MonitorRecord):
    """The confidences of the window against those of the reference."""

    psi: float
    ks_statistic: float  # largest distance of the two distribution functions, 0 to 1: the size of the effect
    ks_p_value: float
    reference_count: int
    window_count: int
    reference_mean: float
    window_mean: float
    edges: list[float]  # (num_bins + 1,)
    reference_shares: list[float]  # (num_bins,)
    window_shares: list[float]


class ErrorRateDrift(MonitorRecord):
    """The error rate of the window against the reference's; a positive difference is worse."""

    reference_rate: float
    window_rate: float
    difference: float
    interval: Bounds
    reference_count: int
    window_count: int


class Drift(MonitorRecord):
    """The window against the first week of the model that did most of its work. A part that is None has a reason."""

    model_version: str | None
    reference: tuple[datetime, datetime] | None
    confidence: ConfidenceDrift | None
    confidence_reason: str = ""
    error_rate: ErrorRateDrift | None
    error_rate_reason: str = ""


class Check(MonitorRecord):
    """A threshold of params.yaml and what was compared with it."""

    metric: str
    status: CheckStatus
    value: float | None
    threshold: float
    window: str
    detail: str  # the value and the threshold in words, or why there is no value
    next_step: str


class WerEstimate(MonitorRecord):
    """A WER in production. "difference" leans on the detector's predictions, "plain" on what was heard alone."""

    value: float
    interval: Bounds
    method: Literal["difference", "plain"]
    standard_error: float  # between clusters
    degrees_of_freedom: float


class ProductionWer(MonitorRecord):
    """What the audit sample says of a window, for one version or for all. `wer` that is None has a reason."""

    label: str  # of the version
    since: datetime
    until: datetime
    inferences: int  # that could have been drawn
    first: datetime | None  # of them
    last: datetime | None
    drawn: int
    audited: int  # that a person heard
    without_speech: int  # of them: bad audio or no speech, which are in no rate
    clusters: int  # callers, speakers or recordings among the audited
    words: int  # of the references
    errors: int
    wer: WerEstimate | None
    plain: WerEstimate | None
    correlation: float | None  # of predicted and found errors
    reason: str  # why there is no estimate, or why it is the plain one


class VersionDifference(MonitorRecord):
    """WER of the version that answers now minus that of the one before; positive is worse."""

    before: str
    after: str
    difference: float | None = None
    interval: Bounds | None = None
    reason: str = ""


class ProductionReport(MonitorRecord):
    """The WER in production, as far as people heard the audit sample."""

    total: ProductionWer
    versions: list[ProductionWer]  # the one that answers now last, what was nothing but a canary first
    weeks: list[ProductionWer]  # calendar weeks (UTC) that had traffic, oldest first
    difference: VersionDifference | None  # None: one version answered, but for a canary
    outside: int  # inferences that were logged without a draw
    max_wer: float | None  # audit.max_wer


class Trend(MonitorRecord):
    """A metric over time. `improvement` is absolute and positive when the metric got better."""

    metric: str
    values: list[tuple[datetime, float]]
    latest: float | None
    mean: float | None
    slope: float | None  # a day
    improvement: float | None
    reason: str = ""  # why there is no improvement or slope


_UNMEASURED: dict[str, Any] = {
    **dict.fromkeys(("error_detection_rate", "mean_confidence", "real_time_factor", "correction_rate"), math.nan),
    **dict.fromkeys(("latest", "mean", "slope", "improvement"), math.nan),
    "error_interval": dict.fromkeys(Bounds.model_fields, math.nan),
    "latency": dict.fromkeys(Percentiles.model_fields, math.nan),
}


def printable(found: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a trend or of statistics, NaN where nothing was measured, which every format of numbers takes."""
    numbers = {name: _UNMEASURED.get(name) if value is None else value for name, value in found.items()}
    if "models" in numbers:
        numbers["models"] = {name: printable(traffic) for name, traffic in found["models"].items()}
    return numbers


class Delivery(MonitorRecord):
    """What became of the alerts at the webhook."""

    sent: list[str]  # metrics
    cooling_down: list[str]  # sent not long ago
    problem: str = ""


class MonitorReport(MonitorRecord):
    """All that `mondegreen monitor` says."""

    database: str
    statistics: InferenceStatistics
    buckets: list[TimeStep]
    drift: Drift
    production: ProductionReport
    checks: list[Check]
    trends: list[Trend]
    delivery: Delivery | None  # None: no webhook, or nothing to say

    @property
    def alerts(self) -> list[Check]:
        """The checks that fire."""
        return [check for check in self.checks if check.status == "alert"]

    @computed_field  # type: ignore[prop-decorator]  # python/mypy#1362: decorated properties
    @property
    def outcome(self) -> CheckOutcome:
        """ "ok" only where something that says how well it hears was measured against a threshold."""
        if self.alerts:
            return "alert"
        return "ok" if any(item.status == "ok" and item.metric in _QUALITY for item in self.checks) else "unknown"
