"""Reading inferences: aggregates by SQL, percentiles from the one column that they need.

A window of a day in a database of a million inferences takes some 30 ms, a window that holds the whole million 3 s.

A metric over time: error rates of the rounds from MLflow, the rest by day from the inferences.

The reference for drift: what the champion did in its first week, and what it does now.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Engine, Row, case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute, Session

from mondegreen.db import reading
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.monitoring.drift import confidence_drift, error_rate_drift, wilson
from mondegreen.monitoring.records import (
    Bucket,
    ConfidenceDrift,
    Drift,
    ErrorRateDrift,
    Percentiles,
    Statistics,
    Traffic,
    Trend,
)
from mondegreen.tables import CaseRow, InferenceRow

if TYPE_CHECKING:
    from mlflow.entities import Run

_SUMS = (
    func.count(),
    func.count(InferenceRow.is_error),
    func.coalesce(func.sum(case((InferenceRow.is_error.is_(True), 1), else_=0)), 0),
    func.count(InferenceRow.confidence),
    func.coalesce(func.sum(InferenceRow.confidence), 0.0),
    func.coalesce(func.sum(InferenceRow.duration), 0.0),
    func.coalesce(func.sum(InferenceRow.latency), 0.0),
)
_COUNT, _MEASURED, _ERRORS, _CONFIDENT, _CONFIDENCE, _AUDIO, _WORK = range(len(_SUMS))
Values = npt.NDArray[np.float64]


def within(since: datetime, until: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """The condition on `at`; `since` counts, `until` counts too."""
    return InferenceRow.at >= since, InferenceRow.at <= until


def column(session: Session, values: "InstrumentedAttribute[Any]", *conditions: ColumnElement[bool]) -> Values:
    """One column of the inferences, without the rows that lack it: float64 (num_inferences,)."""
    found = session.scalars(select(values).where(values.is_not(None), *conditions))
    return np.fromiter(found, np.float64)


def window_statistics(engine: Engine, since: datetime, until: datetime) -> Statistics:
    """The numbers of a window, from one moment's view of the database."""
    with reading(engine) as session:
        window = within(since, until)
        grouped = select(InferenceRow.model_version, *_SUMS).where(*window).group_by(InferenceRow.model_version)
        sums = {str(row[0]): np.array(row[1:], np.float64) for row in session.execute(grouped)}
        latencies = {
            name: column(session, InferenceRow.latency, InferenceRow.model_version == name, *window) for name in sums
        }
        cases, corrected = _cases(session, window)
        last, future = session.execute(
            select(
                select(func.max(InferenceRow.at)).where(InferenceRow.at <= until).scalar_subquery(),
                select(func.count()).where(InferenceRow.at > until).scalar_subquery(),
            )
        ).one()
    total = _traffic(
        sum(sums.values(), np.zeros(len(_SUMS))), np.concatenate(list(latencies.values())) if sums else np.empty(0)
    )
    models = {name: _traffic(sums[name], latencies[name]) for name in sorted(sums, key=lambda n: -sums[n][_COUNT])}
    return Statistics(
        **total.model_dump(),
        since=since,
        until=until,
        last=last,
        in_future=future,
        cases=cases,
        corrected=corrected,
        correction_rate=corrected / cases if cases else None,
        models=models,
    )


def buckets(engine: Engine, edges: Sequence[datetime]) -> list[Bucket]:
    """Aggregates between neighbouring edges, one query each over the index on time; the last edge counts too."""
    found = []
    with reading(engine) as session:
        for number, (start, end) in enumerate(pairwise(edges), 2):
            upper = InferenceRow.at <= end if number == len(edges) else InferenceRow.at < end
            row = session.execute(select(*_SUMS).where(InferenceRow.at >= start, upper)).one()
            found.append(_bucket(start, row))
    return found


def _bucket(start: datetime, row: Row[Any]) -> Bucket:
    return Bucket(
        start=start,
        count=row[_COUNT],
        measured=row[_MEASURED],
        errors=row[_ERRORS],
        mean_confidence=row[_CONFIDENCE] / row[_CONFIDENT] if row[_CONFIDENT] else None,
        mean_latency=row[_WORK] / row[_COUNT] if row[_COUNT] else None,
    )


def _traffic(sums: Values, latency: Values) -> Traffic:
    """Totals of a group.

    Args:
        sums: float64 (len(_SUMS),).
        latency: float64 (num_inferences,), seconds.
    """
    count, measured, errors = (int(sums[index]) for index in (_COUNT, _MEASURED, _ERRORS))
    return Traffic(
        count=count,
        measured=measured,
        errors=errors,
        error_detection_rate=errors / measured if measured else None,
        error_interval=wilson(errors, measured) if measured else None,
        mean_confidence=float(sums[_CONFIDENCE] / sums[_CONFIDENT]) if sums[_CONFIDENT] else None,
        audio_seconds=float(sums[_AUDIO]),
        work_seconds=float(sums[_WORK]),
        real_time_factor=float(sums[_WORK] / sums[_AUDIO]) if sums[_AUDIO] else None,
        latency=_percentiles(latency) if latency.size else None,
    )


def _percentiles(latency: Values) -> Percentiles:
    p50, p95, p99 = (float(value) for value in np.percentile(latency, [50, 95, 99]))
    return Percentiles(p50=p50, p95=p95, p99=p99)


def _cases(session: Session, window: tuple[ColumnElement[bool], ...]) -> tuple[int, int]:
    """Failed cases that the window's inferences led to, and how many of them are corrected by now."""
    case_ids = select(InferenceRow.case_id).where(InferenceRow.case_id.is_not(None), *window)
    row = session.execute(select(func.count(), func.count(CaseRow.label_method)).where(CaseRow.id.in_(case_ids))).one()
    return row[0], row[1]


Points = list[tuple[datetime, float]]
ROUND_METRICS = ("wer", "cer")
_DAILY: dict[str, Callable[[Bucket], float | None]] = {
    "error_rate": lambda day: day.error_rate,
    "confidence": lambda day: day.mean_confidence,
    "latency": lambda day: day.mean_latency,
}
METRICS = (*ROUND_METRICS, *_DAILY)
_MORE_IS_BETTER = ("confidence",)


def performance_trend(engine: Engine, metric: str, since: datetime, until: datetime) -> Trend:
    """See `MetadataTracker.get_performance_trend`."""
    if metric not in METRICS:
        raise UsageError(f"There is no metric {metric!r}.", f"Choose one of {', '.join(METRICS)}.")
    return performance_trends(engine, [metric], since, until)[0]


def performance_trends(engine: Engine, metrics: Sequence[str], since: datetime, until: datetime) -> list[Trend]:
    """Several of METRICS; the inferences are read once."""
    days = buckets(engine, day_edges(since, until)) if set(metrics) & set(_DAILY) else []
    found = []
    for metric in metrics:
        if metric in ROUND_METRICS:
            values, problem = round_values(metric, since, until)
            too_few = problem or "{count} rounds in the window, two at different times are needed"
        else:
            values = [(day.start, value) for day in days if (value := _DAILY[metric](day)) is not None]
            too_few = "{count} days in the window have a value, two are needed"
        found.append(summarise(metric, values, too_few.replace("{count}", str(len(values)))))
    return found


def summarise(metric: str, values: Points, too_few: str) -> Trend:
    """The trend through the values; without two of them at different times there is none, and `too_few` says so."""
    values = sorted(values)
    heights = np.array([value for _, value in values])
    slope = _slope(values)
    better = 1 if metric in _MORE_IS_BETTER else -1
    return Trend(
        metric=metric,
        values=values,
        latest=float(heights[-1]) if values else None,
        mean=float(heights.mean()) if values else None,
        slope=slope,
        improvement=None if slope is None else better * float(heights[-1] - heights[0]) + 0.0,  # no -0.0
        reason="" if slope is not None else too_few,
    )


def round_values(metric: str, since: datetime, until: datetime) -> tuple[Points, str]:
    """WER or CER of each round's candidate on the test set, at the time its run began; else why there is none."""
    from mondegreen.registry.mlflow_store import tracking_uri

    parts = urlsplit(tracking_uri())
    if parts.scheme == "sqlite" and not Path(unquote(parts.path[1:])).exists():
        return [], "no round has run yet (`dvc repro`)"
    from mlflow.exceptions import MlflowException

    name = f"candidate/test/{metric}"
    try:
        runs = _runs(name, since, until)
    except (MlflowException, MondegreenError, SQLAlchemyError) as error:
        return [], f"MLflow cannot be read: {str(error).splitlines()[0]}"
    known = {run.info.run_id for run in runs}
    return [
        (datetime.fromtimestamp(run.info.start_time / 1000, UTC), float(run.data.metrics[name]))
        for run in runs
        # A run that stands in for another one repeats its numbers.
        if run.data.tags.get("mondegreen.resumes") not in known
    ], ""


def _runs(metric: str, since: datetime, until: datetime) -> "list[Run]":
    """The runs of the experiment that hold the metric and began in the window."""
    from mondegreen.registry.mlflow_store import connect, experiment_id

    client = connect()
    start, end = (round(1000 * moment.timestamp()) for moment in (since, until))
    query = f"metrics.`{metric}` >= 0 and attributes.start_time >= {start} and attributes.start_time <= {end}"
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id(client)], query, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def day_edges(since: datetime, until: datetime) -> list[datetime]:
    """`since`, every midnight (UTC) after it, and `until`."""
    return _edges(since, until, timedelta(days=1))


def bucket_edges(since: datetime, until: datetime) -> list[datetime]:
    """Steps of a window that make a readable curve: 5 minutes, an hour, a day or a week."""
    steps = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1))
    step = next((step for step in steps if (until - since) / step <= 60), steps[-1])
    return _edges(since, until, step)


def _edges(since: datetime, until: datetime, step: timedelta) -> list[datetime]:
    midnight = datetime.combine(since.date(), time(), UTC)
    edge = midnight + step * ((since - midnight) // step + 1)
    edges = [since]
    while edge < until:
        edges.append(edge)
        edge += step
    return [*edges, until]


def _slope(values: Sequence[tuple[datetime, float]]) -> float | None:
    """Least squares, a day; None without two different times."""
    if len({moment for moment, _ in values}) < 2:
        return None
    days = np.array([(moment - values[0][0]) / timedelta(days=1) for moment, _ in values])
    heights = np.array([value for _, value in values])
    centred = days - days.mean()
    return float(centred @ (heights - heights.mean()) / (centred @ centred))


DAYS = 7


def measure_drift(engine: Engine, since: datetime, until: datetime, min_inferences: int) -> Drift:
    """The window against the first week of the model version that did most of its inferences.

    Args:
        engine: the database.
        since: the window's start; what belongs to the reference week is left out of the window.
        until: the window's end; nothing later is looked at.
        min_inferences: with fewer on either side there is no measurement.
    """
    with reading(engine) as session:
        model = _busiest(session, since, until)
        if model is None:
            reason = "there are no inferences in the window"
            return _unmeasured(None, None, reason)
        week = first_week(session, model, until)
        if week[1] >= until:
            reason = f"model {model[:12]} is still in its first {DAYS} days, which later windows are compared with"
            return _unmeasured(model, week, reason)
        own = InferenceRow.model_version == model
        before = (own, InferenceRow.at >= week[0], InferenceRow.at < week[1])
        after = (own, *within(max(since, week[1]), until))
        confidence, confidence_reason = _confidence(session, before, after, min_inferences)
        error_rate, error_rate_reason = _error_rate(session, before, after, min_inferences)
    return Drift(
        model_version=model,
        reference=week,
        confidence=confidence,
        confidence_reason=confidence_reason,
        error_rate=error_rate,
        error_rate_reason=error_rate_reason,
    )


def first_week(session: Session, model: str, until: datetime) -> tuple[datetime, datetime]:
    """Start of the first and end of the seventh day (UTC) on which this model produced inferences.

    Days without inferences do not count, so neither a pause nor one entry of a clock that was wrong makes up the week.
    """
    earliest = func.min(InferenceRow.at)
    own = (InferenceRow.model_version == model, InferenceRow.at <= until)
    start = session.scalar(select(earliest).where(*own)) or until
    end = _next_day(start)
    for _ in range(DAYS - 1):
        found = session.scalar(select(earliest).where(*own, InferenceRow.at >= end))
        if found is None:  # fewer days so far: those to come belong to the week
            return start, _next_day(max(end, until))
        end = _next_day(found)
    return start, end


def _next_day(moment: datetime) -> datetime:
    return datetime.combine(moment.date(), time(), UTC) + timedelta(days=1)


def _busiest(session: Session, since: datetime, until: datetime) -> str | None:
    """The model version with the most inferences in the window; of equals the newest."""
    return session.scalar(
        select(InferenceRow.model_version)
        .where(*within(since, until))
        .group_by(InferenceRow.model_version)
        .order_by(func.count().desc(), func.max(InferenceRow.id).desc())
        .limit(1)
    )


def _confidence(
    session: Session, before: tuple[ColumnElement[bool], ...], after: tuple[ColumnElement[bool], ...], least: int
) -> tuple[ConfidenceDrift | None, str]:
    reference = column(session, InferenceRow.confidence, *before)
    window = column(session, InferenceRow.confidence, *after)
    if reason := _too_few(len(reference), len(window), least, "a confidence"):
        return None, reason
    return confidence_drift(reference, window), ""


def _error_rate(
    session: Session, before: tuple[ColumnElement[bool], ...], after: tuple[ColumnElement[bool], ...], least: int
) -> tuple[ErrorRateDrift | None, str]:
    counts = []
    for conditions in (before, after):
        counted = select(func.coalesce(func.sum(case((InferenceRow.is_error.is_(True), 1), else_=0)), 0), func.count())
        errors, count = session.execute(counted.where(*conditions, InferenceRow.is_error.is_not(None))).one()
        counts.append((int(errors), count))
    if reason := _too_few(counts[0][1], counts[1][1], least, "a detector's decision"):
        return None, reason
    return error_rate_drift(counts[0], counts[1]), ""


def _too_few(reference: int, window: int, least: int, what: str) -> str:
    if min(reference, window) >= least:
        return ""
    return f"{reference} inferences of the first week and {window} since then have {what}, {least} each are needed"


def _unmeasured(model: str | None, week: tuple[datetime, datetime] | None, reason: str) -> Drift:
    return Drift(
        model_version=model,
        reference=week,
        confidence=None,
        confidence_reason=reason,
        error_rate=None,
        error_rate_reason=reason,
    )
