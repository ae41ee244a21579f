"""The reference for drift: what the champion did in its first week, and what it does now."""

from datetime import UTC, datetime, time, timedelta

from sqlalchemy import ColumnElement, Engine, case, func, select
from sqlalchemy.orm import Session

from mondegreen.cases.database import reading
from mondegreen.cases.tables import InferenceRow
from mondegreen.loop.monitoring.drift import confidence_drift, error_rate_drift
from mondegreen.loop.monitoring.statistics import column, within
from mondegreen.reports.monitor_records import ConfidenceDrift, Drift, ErrorRateDrift

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
