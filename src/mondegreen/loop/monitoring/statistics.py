"""Reading inferences: aggregates by SQL, percentiles from the one column that they need.

A window of a day in a database of a million inferences takes some 30 ms, a window that holds the whole million 3 s.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Engine, Row, case, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from mondegreen.cases.database import reading
from mondegreen.cases.tables import CaseRow, InferenceRow
from mondegreen.loop.monitoring.drift import wilson
from mondegreen.reports.monitor_records import Bucket, Percentiles, Statistics, Traffic

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
