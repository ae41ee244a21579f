"""Has the service drifted from the first week of its model? Confidences by PSI and Kolmogorov-Smirnov, error rates by
the interval of their difference."""

import math
from datetime import UTC, datetime, time, timedelta

import numpy as np
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from mondegreen.db import reading
from mondegreen.monitoring.records import Bounds, ConfidenceDrift, Drift, ErrorRateDrift
from mondegreen.monitoring.statistics import SUMS, Values, WhereClause, values_of, wilson, within
from mondegreen.scoring.wording import version_name
from mondegreen.tables import InferenceRow

DAYS = 7
BINS = 10
_EXACT = 500  # values of a sample; beyond that the asymptotic p-value is within 0.02 of the exact one


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
            return _unmeasured(None, None, "there are no inferences in the window")
        week = first_week(session, model, until)
        if week[1] >= until:
            who = version_name(_served_as(session, model, since, until) or model[:12])
            reason = f"{who} is still in its first {DAYS} days, which later windows are compared with"
            return _unmeasured(model, week, reason)
        own = InferenceRow.model_version == model
        before = (own, InferenceRow.at >= week[0], InferenceRow.at < week[1])
        after = (own, *within(max(since, week[1]), until))
        reference, window = (values_of(session, InferenceRow.confidence, *side) for side in (before, after))
        errors_before, errors_after = (_errors(session, side) for side in (before, after))
    few = _too_few(len(reference), len(window), min_inferences, "a confidence")
    few_judged = _too_few(errors_before[1], errors_after[1], min_inferences, "a calibrated detector's decision")
    return Drift(
        model_version=model,
        reference=week,
        confidence=None if few else confidence_drift(reference, window),
        confidence_reason=few,
        error_rate=None if few_judged else error_rate_drift(errors_before, errors_after),
        error_rate_reason=few_judged,
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


def confidence_drift(reference: Values, window: Values) -> ConfidenceDrift:
    """PSI for the size, the two-sample Kolmogorov-Smirnov test for whether it is chance.

    Its p-value is exact for small samples, asymptotic for large ones.

    Args:
        reference: float64 (n,), n > 0; a confidence an inference.
        window: float64 (m,), m > 0.
    """
    from scipy import stats  # a second of work: imported where it is used

    edges = decile_edges(reference)
    few = max(len(reference), len(window)) <= _EXACT
    test = stats.ks_2samp(reference, window, method="exact" if few else "asymp")
    return ConfidenceDrift(
        psi=population_stability_index(reference, window),
        ks_statistic=float(test.statistic),
        ks_p_value=float(test.pvalue),
        reference_count=len(reference),
        window_count=len(window),
        reference_mean=float(reference.mean()),
        window_mean=float(window.mean()),
        edges=[0.0, *map(float, edges[1:-1]), 1.0],
        reference_shares=shares(reference, edges).tolist(),
        window_shares=shares(window, edges).tolist(),
    )


def population_stability_index(reference: Values, window: Values) -> float:
    """Sum over the reference's deciles of (w - r) ln(w / r), for the shares w of the window and r of the reference.

    0 for equal samples; by the rule of thumb of credit scoring 0.1 is a small shift and 0.25 a large one (Siddiqi,
    Credit Risk Scorecards, 2006). Without any drift it is about (bins - 1)(1/n + 1/m) large (Yurdakul and Naranjo,
    Statistical properties of the population stability index, 2020), so that small samples exceed 0.25 by chance:
    `ConfidenceDrift.ks_p_value` tells whether there is anything at all.

    Args:
        reference: float64 (n,), n > 0.
        window: float64 (m,), m > 0.
    """
    edges = decile_edges(reference)
    before, after = shares(reference, edges), shares(window, edges)
    return float(np.sum((after - before) * np.log(after / before)))


def decile_edges(reference: Values) -> Values:
    """Edges of the reference's deciles, open at both ends: float64 (num_bins + 1,), fewer bins where values repeat."""
    inner = np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.concatenate([[-np.inf], np.unique(inner), [np.inf]])


def shares(values: Values, edges: Values) -> Values:
    """The share of the values in each bin (low, high]: float64 (num_bins,).

    An empty bin holds half a value, so that its logarithm exists.
    """
    counts = np.bincount(np.searchsorted(edges[1:-1], values, side="left"), minlength=len(edges) - 1)
    return np.maximum(counts, 0.5) / len(values)


def error_rate_drift(before: tuple[int, int], after: tuple[int, int], level: float = 0.95) -> ErrorRateDrift:
    """The difference of two independent proportions, after - before, with the hybrid score interval.

    Newcombe 1998, Statistics in Medicine 17: 873-890, method 10.

    Args:
        before: errors and measured inferences of the reference.
        after: the same of the window.
        level: of the interval.
    """
    old, new = wilson(*before, level), wilson(*after, level)
    old_rate, new_rate = before[0] / before[1], after[0] / after[1]
    difference = new_rate - old_rate
    low = difference - math.hypot(new_rate - new.low, old.high - old_rate)
    high = difference + math.hypot(new.high - new_rate, old_rate - old.low)
    return ErrorRateDrift(
        reference_rate=old_rate,
        window_rate=new_rate,
        difference=difference,
        interval=Bounds(low=low, high=high, level=level),
        reference_count=before[1],
        window_count=after[1],
    )


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


def _served_as(session: Session, model: str, since: datetime, until: datetime) -> str | None:
    """The registered version as which a model answered last in the window; None where it was none."""
    row = InferenceRow
    named = (row.model_version == model, row.served.is_not(None), *within(since, until))
    return session.scalar(select(row.served).where(*named).order_by(row.at.desc(), row.id.desc()).limit(1))


def _errors(session: Session, conditions: tuple[WhereClause, ...]) -> tuple[int, int]:
    """Errors, and inferences that a detector looked at."""
    errors, measured = session.execute(select(SUMS["errors"], SUMS["measured"]).where(*conditions)).one()
    return errors, measured


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
