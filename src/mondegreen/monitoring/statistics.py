"""The inferences of a window in numbers, and how numbers move over days and rounds of training.

Aggregates are SQL's, percentiles come from the one column that they need. A window of a day in a database of a million
inferences takes some 30 ms, a window that holds the whole million 3 s.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from statistics import StatisticsError, fmean, linear_regression
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Engine, case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute, Session

from mondegreen.db import reading
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.monitoring.records import Bounds, InferenceStatistics, Percentiles, TimeStep, Traffic, Trend
from mondegreen.scoring.wording import many
from mondegreen.tables import CaseRow, InferenceRow

if TYPE_CHECKING:
    from mlflow.entities import Run

Values = npt.NDArray[np.float64]
WhereClause = ColumnElement[bool]
UNCALIBRATED = InferenceRow.is_error.is_(None) & InferenceRow.error_score.is_not(None)
SUMS = {
    "count": func.count(),
    "measured": func.count(InferenceRow.is_error),
    "uncalibrated": func.coalesce(func.sum(case((UNCALIBRATED, 1), else_=0)), 0),
    "errors": func.coalesce(func.sum(case((InferenceRow.is_error.is_(True), 1), else_=0)), 0),
    "confident": func.count(InferenceRow.confidence),
    "confidence": func.coalesce(func.sum(InferenceRow.confidence), 0.0),
    "audio": func.coalesce(func.sum(InferenceRow.duration), 0.0),
    "work": func.coalesce(func.sum(InferenceRow.latency), 0.0),
}
_COLUMNS = [column.label(name) for name, column in SUMS.items()]
Moments = list[tuple[datetime, float]]
ROUND_METRICS = ("wer", "cer", "corrected_wer")
_MORE_IS_BETTER = ("confidence",)


def window_statistics(engine: Engine, since: datetime, until: datetime) -> InferenceStatistics:
    """The numbers of a window, from one moment's view of the database."""
    with reading(engine) as session:
        window = within(since, until)
        model = InferenceRow.model_version
        sums, served = _by_model(session, window)
        latencies = {name: values_of(session, InferenceRow.latency, model == name, *window) for name in sums}
        cases, corrected = _cases(session, window)
        last, future = session.execute(
            select(
                select(func.max(InferenceRow.at)).where(InferenceRow.at <= until).scalar_subquery(),
                select(func.count()).where(InferenceRow.at > until).scalar_subquery(),
            )
        ).one()
    total = {name: sum(of_model[name] for of_model in sums.values()) for name in SUMS}
    return InferenceStatistics(
        **vars(_traffic(total, np.concatenate([*latencies.values(), np.empty(0)]))),
        since=since,
        until=until,
        last=last,
        in_future=future,
        cases=cases,
        corrected=corrected,
        correction_rate=_ratio(corrected, cases),
        models={name: _traffic(sums[name], latencies[name]) for name in sums},
        served=served,
    )


def _by_model(
    session: Session, window: tuple[WhereClause, WhereClause]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """SUMS by model, the busiest first; and the registered version as which each answered last."""
    model, version = InferenceRow.model_version, InferenceRow.served
    grouped = select(model, version, *_COLUMNS).where(*window).group_by(model, version)
    sums: dict[str, dict[str, Any]] = {}
    served: dict[str, str] = {}
    for name, registered, *values in session.execute(grouped.order_by(func.max(InferenceRow.at), version)):
        before = sums.get(name, dict.fromkeys(SUMS, 0))
        sums[name] = {of: before[of] + value for of, value in zip(SUMS, values, strict=True)}
        if registered:
            served[name] = registered
    return {name: sums[name] for name in sorted(sums, key=lambda name: (-sums[name]["count"], name))}, served


def time_steps(engine: Engine, edges: Sequence[datetime]) -> list[TimeStep]:
    """Aggregates between neighbouring edges, one query each over the index on time; the last edge counts too."""
    found = []
    with reading(engine) as session:
        for start, end in pairwise(edges):
            upper = InferenceRow.at <= end if end == edges[-1] else InferenceRow.at < end
            sums = session.execute(select(*_COLUMNS).where(InferenceRow.at >= start, upper)).mappings().one()
            found.append(
                TimeStep(
                    start=start,
                    count=sums["count"],
                    measured=sums["measured"],
                    errors=sums["errors"],
                    mean_confidence=_ratio(sums["confidence"], sums["confident"]),
                    mean_latency=_ratio(sums["work"], sums["count"]),
                )
            )
    return found


def wilson(hits: int, count: int, level: float = 0.95) -> Bounds:
    """The score interval of a proportion (Wilson 1927, JASA 22: 209-212).

    Raises:
        ValueError: there is nothing to divide by.
    """
    from scipy.stats import binomtest  # a second of work: imported where it is used

    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"{hits} of {count} is no proportion")
    low, high = binomtest(hits, count).proportion_ci(level, method="wilson")
    return Bounds(low=float(low), high=float(high), level=level)


def day_edges(since: datetime, until: datetime) -> list[datetime]:
    """`since`, every midnight (UTC) after it, and `until`."""
    return _edges(since, until, timedelta(days=1))


def curve_edges(since: datetime, until: datetime) -> list[datetime]:
    """Steps of a window that make a readable curve: 5 minutes, an hour, a day or a week."""
    steps = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(weeks=1))
    return _edges(since, until, next((step for step in steps if (until - since) / step <= 60), steps[-1]))


def within(since: datetime, until: datetime) -> tuple[WhereClause, WhereClause]:
    """The condition on `at`; `since` counts, `until` counts too."""
    return InferenceRow.at >= since, InferenceRow.at <= until


def values_of(session: Session, column: "InstrumentedAttribute[Any]", *conditions: WhereClause) -> Values:
    """One column of the inferences, without the rows that lack it: float64 (num_inferences,)."""
    found = session.scalars(select(column).where(column.is_not(None), *conditions))
    return np.fromiter(found, np.float64)


def _traffic(sums: dict[str, Any], latency: Values) -> Traffic:
    """Totals of a group.

    Args:
        sums: one value for each of SUMS.
        latency: float64 (num_inferences,), seconds.
    """
    measured, errors = sums["measured"], sums["errors"]
    percentiles = np.percentile(latency, [50, 95, 99]).tolist() if latency.size else []
    return Traffic(
        count=sums["count"],
        measured=measured,
        errors=errors,
        uncalibrated=sums["uncalibrated"],
        error_detection_rate=_ratio(errors, measured),
        error_interval=wilson(errors, measured) if measured else None,
        mean_confidence=_ratio(sums["confidence"], sums["confident"]),
        audio_seconds=sums["audio"],
        work_seconds=sums["work"],
        real_time_factor=_ratio(sums["work"], sums["audio"]),
        latency=Percentiles(**dict(zip(("p50", "p95", "p99"), percentiles, strict=True))) if percentiles else None,
    )


def _ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to divide by: that is not measured, and not zero."""
    return part / whole if whole else None


def _cases(session: Session, window: tuple[WhereClause, ...]) -> tuple[int, int]:
    """Failed cases that the window's inferences led to, and how many of them are corrected by now."""
    case_ids = select(InferenceRow.case_id).where(InferenceRow.case_id.is_not(None), *window)
    row = session.execute(select(func.count(), func.count(CaseRow.label_method)).where(CaseRow.id.in_(case_ids))).one()
    return row[0], row[1]


def _edges(since: datetime, until: datetime, step: timedelta) -> list[datetime]:
    midnight = datetime.combine(since.date(), time(), UTC)
    edge = midnight + step * ((since - midnight) // step + 1)
    edges = [since]
    while edge < until:
        edges.append(edge)
        edge += step
    return [*edges, until]


_DAILY: dict[str, Callable[[TimeStep], float | None]] = {
    "error_rate": lambda day: day.error_rate,
    "confidence": lambda day: day.mean_confidence,
    "latency": lambda day: day.mean_latency,
}
METRICS = (*ROUND_METRICS, *_DAILY)


def performance_trends(engine: Engine, metrics: Sequence[str], since: datetime, until: datetime) -> list[Trend]:
    """Trends of several of METRICS; the inferences are read once.

    Raises:
        UsageError: there is no such metric.
    """
    from mondegreen.monitoring.statistics import day_edges, time_steps

    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise UsageError(f"There is no metric {unknown[0]!r}.", f"Choose one of {', '.join(METRICS)}.")
    days = time_steps(engine, day_edges(since, until)) if set(metrics) & set(_DAILY) else []
    found = []
    for metric in metrics:
        if metric in ROUND_METRICS:
            values, problem = round_values(metric, since, until)
            too_few = problem or f"{many(len(values), 'round')} in the window, two at different times are needed"
        else:
            values = [(day.start, value) for day in days if (value := _DAILY[metric](day)) is not None]
            too_few = f"{many(len(values), 'day')} with a value in the window, two are needed"
        found.append(trend_through(metric, values, too_few))
    return found


def trend_through(metric: str, values: Moments, too_few: str) -> Trend:
    """The trend through the values; without two of them at different times there is none, and `too_few` says so."""
    values = sorted(values)
    heights = [value for _, value in values]
    days = [(moment - values[0][0]) / timedelta(days=1) for moment, _ in values]
    try:
        slope = linear_regression(days, heights).slope
    except StatisticsError:
        slope = None
    gain = 0.0 if slope is None else heights[-1] - heights[0]
    return Trend(
        metric=metric,
        values=values,
        latest=heights[-1] if heights else None,
        mean=fmean(heights) if heights else None,
        slope=slope,
        improvement=None if slope is None else (gain if metric in _MORE_IS_BETTER else -gain) + 0.0,  # no -0.0
        reason="" if slope is not None else too_few,
    )


def round_values(metric: str, since: datetime, until: datetime) -> tuple[Moments, str]:
    """WER or CER of each round's candidate on the test set, at the time its run began; else why there is none."""
    from mondegreen.registry.mlflow_store import registry_file

    if (database := registry_file()) and not database.exists():
        return [], "no round has run yet (`dvc repro`)"
    from mlflow.exceptions import MlflowException

    name = "candidate/corrected/wer" if metric == "corrected_wer" else f"candidate/test/{metric}"
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
