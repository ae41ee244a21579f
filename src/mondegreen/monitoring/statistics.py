"""The inferences of a window in numbers: aggregates by SQL, percentiles from the one column that they need.

A window of a day in a database of a million inferences takes some 30 ms, a window that holds the whole million 3 s.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sqlalchemy import ColumnElement, Engine, case, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from mondegreen.db import reading
from mondegreen.monitoring.records import Bounds, InferenceStatistics, Percentiles, TimeStep, Traffic
from mondegreen.tables import CaseRow, InferenceRow

Values = npt.NDArray[np.float64]
Condition = ColumnElement[bool]
SUMS = {
    "count": func.count(),
    "measured": func.count(InferenceRow.is_error),
    "errors": func.coalesce(func.sum(case((InferenceRow.is_error.is_(True), 1), else_=0)), 0),
    "confident": func.count(InferenceRow.confidence),
    "confidence": func.coalesce(func.sum(InferenceRow.confidence), 0.0),
    "audio": func.coalesce(func.sum(InferenceRow.duration), 0.0),
    "work": func.coalesce(func.sum(InferenceRow.latency), 0.0),
}
_COLUMNS = [column.label(name) for name, column in SUMS.items()]


def window_statistics(engine: Engine, since: datetime, until: datetime) -> InferenceStatistics:
    """The numbers of a window, from one moment's view of the database."""
    with reading(engine) as session:
        window = within(since, until)
        model = InferenceRow.model_version
        grouped = select(model, *_COLUMNS).where(*window).group_by(model).order_by(func.count().desc(), model)
        sums = {row["model_version"]: dict(row) for row in session.execute(grouped).mappings()}
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
    )


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


def within(since: datetime, until: datetime) -> tuple[Condition, Condition]:
    """The condition on `at`; `since` counts, `until` counts too."""
    return InferenceRow.at >= since, InferenceRow.at <= until


def values_of(session: Session, column: "InstrumentedAttribute[Any]", *conditions: Condition) -> Values:
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


def _cases(session: Session, window: tuple[Condition, ...]) -> tuple[int, int]:
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
