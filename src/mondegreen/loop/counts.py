"""The counts that the trigger's rule looks at, from the database of live state."""

from datetime import datetime, timedelta

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from mondegreen.cases.database import reading
from mondegreen.cases.tables import CaseRow, InferenceRow, JobRow
from mondegreen.loop.trigger import Counts


def count(engine: Engine, window_hours: float, now: datetime) -> Counts:
    """Counts cases and the inferences of the last hours, at one moment of the database."""
    with reading(engine) as session:
        trained = trained_version(session)
        total = new = new_corrected = 0
        by_method: dict[str, int] = {}
        # The index holds both columns; there are as many groups as snapshots and ways to correct.
        columns = (CaseRow.label_method, CaseRow.dataset_version)
        for method, version, cases in session.execute(select(*columns, func.count()).group_by(*columns)):
            unused = version is None or version > trained
            total += cases
            if method:
                by_method[method] = by_method.get(method, 0) + cases
            new += cases if unused else 0
            new_corrected += cases if unused and method else 0
        seen = _inferences(session, now - timedelta(hours=window_hours), now)
        future = session.scalar(select(func.count()).where(InferenceRow.at > now)) or 0
    return Counts(
        total_error_cases=total,
        corrected_cases=sum(by_method.values()),
        by_method=by_method,
        new_error_cases=new,
        new_corrected_cases=new_corrected,
        inferences=seen.get(True, 0) + seen.get(False, 0),
        errors=seen.get(True, 0),
        unmeasured=seen.get(None, 0),
        from_future=future,
        at=now,
    )


def trained_version(session: Session) -> int:
    """The dataset version that the completed rounds have reached, 0 before the first.

    A round that failed used nothing up: its cases are still new.
    """
    query = select(func.max(JobRow.dataset_version)).where(JobRow.state == "completed")
    return session.scalar(query) or 0


def _inferences(session: Session, start: datetime, end: datetime) -> dict[bool | None, int]:
    """The number of inferences by what the detector said."""
    query = (
        select(InferenceRow.is_error, func.count())
        .where(InferenceRow.at >= start, InferenceRow.at <= end)
        .group_by(InferenceRow.is_error)
    )
    return dict(session.execute(query).tuples().all())
