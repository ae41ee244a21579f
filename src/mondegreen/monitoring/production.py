"""The WER in production: of a window, by version and by week, from the audit sample (scoring.production).

The weeks go into MLflow as a curve: one run of an experiment of its own, a step a calendar week.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sqlalchemy import ColumnElement, Engine, Select, case, func, literal, select
from sqlalchemy.orm import Session

from mondegreen.cases.records import PEOPLE
from mondegreen.config import AuditParams
from mondegreen.db import reading
from mondegreen.errors import MondegreenError
from mondegreen.monitoring.records import Bounds, ProductionReport, ProductionWer, VersionDifference, WerEstimate
from mondegreen.registry.mlflow_store import PRODUCTION, connect, ensured_experiment, registry_file
from mondegreen.scoring.normalizer import NormalizerName
from mondegreen.scoring.production import EstimatedRate, HeardSample, ProductionEstimate, difference_of, estimate_wer
from mondegreen.scoring.wer import ErrorCounts, count_words, read_pair
from mondegreen.tables import CaseRow, InferenceRow, ReviewHoldRow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# Whose error is whose: of a caller, else a speaker, else a recording that was cut, else of the audio itself.
_CLUSTER = func.coalesce(
    literal("caller ") + InferenceRow.caller,
    literal("speaker ") + InferenceRow.speaker,
    literal("recording ") + InferenceRow.recording,
    literal("audio ") + InferenceRow.audio_sha256,
)
# Who answered: the registered version, with whatever phrases somebody asked it to hear; else a digest of weights,
# phrases and language model, as of `transcribe --log --model` or of somebody's own service.
_ANSWERED_BY = func.coalesce(InferenceRow.served, InferenceRow.model_version)
_DOUBT = func.coalesce(InferenceRow.error_score, 1 - InferenceRow.confidence, 0.5)
_DIGITS = 12  # of a digest, where no version answered
_SETTLED = ("bad_audio", "not_speech")
_TAG = "mondegreen.production"  # of the run
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)  # of step 0
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class _Heard:
    """One drawn inference that somebody decided on. Without speech it is part of the traffic and of no rate."""

    model: str
    cluster: str
    inclusion: float
    features: tuple[float, float, float]
    errors: int
    words: int
    speech: bool


@dataclass
class _Window:
    """What a window of the log holds for the estimate."""

    traffic: dict[tuple[str, str], tuple[float, float, float]]  # sums of the features by model and cluster
    registered: set[str]  # of the models, those that are a version by its name
    last: dict[str, datetime]  # answer of each model; none as a canary, which answers beside the champion
    heard: list[_Heard]
    drawn: Counter[str]  # by model
    outside: int  # inferences that nobody drew from
    spans: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)  # first and last of what could be drawn

    def seen(self, model: str, first: datetime, last: datetime) -> None:
        """Widens the span of a model's traffic."""
        known = self.spans.get(model, (first, last))
        self.spans[model] = (min(known[0], first), max(known[1], last))

    def add(self, other: "_Window") -> None:
        """Takes what another window holds, none of whose inferences is here."""
        for key, (count, words, doubtful) in other.traffic.items():
            mine = self.traffic.get(key, (0.0, 0.0, 0.0))
            self.traffic[key] = (mine[0] + count, mine[1] + words, mine[2] + doubtful)
        for model, span in other.spans.items():
            self.seen(model, *span)
        self.registered |= other.registered
        for model, at in other.last.items():
            self.last[model] = max(self.last.get(model, at), at)
        self.heard += other.heard
        self.drawn.update(other.drawn)
        self.outside += other.outside

    @property
    def in_turn(self) -> dict[str, datetime]:
        """The last answer of each that took its turn in production.

        A digest counts only where no version answered at all: beside a server it is somebody's trial of another model.
        """
        return {model: at for model, at in self.last.items() if model in self.registered} or self.last


def production_wer(
    engine: Engine, params: AuditParams, normalizer: NormalizerName, window: timedelta, until: datetime
) -> ProductionReport:
    """The WER of the window as a whole, by version and by week, and what the version that answers now changed.

    Args:
        params: audit. A window shorter than its window_days is as long as these: in less, too little is heard.
        normalizer: score.normalizer, by which errors are counted.
        window: how long before `until` it begins.
    """
    since = until - max(window, timedelta(days=params.window_days))
    weeks = _mondays(until, params.weeks)
    edges = sorted({since, *weeks})  # each inference is read once, in whatever it counts
    with reading(engine) as session:
        parts = {start: _read(session, start, end, normalizer, until) for start, end in pairwise(edges)}

    def between(start: datetime, end: datetime) -> _Window:
        found = _Window({}, set(), {}, [], Counter(), 0)
        for part in (part for begun, part in parts.items() if start <= begun < end):
            found.add(part)
        return found

    read = between(since, until)
    total, _ = _estimated(read, None, "all versions", params, since, until)
    order, in_turn = _in_order(read), read.in_turn
    names = {model: model if model in read.registered else model[:_DIGITS] for model in order}
    estimated = [_estimated(read, model, names[model], params, since, until) for model in order]
    return ProductionReport(
        total=total,
        versions=[wer for wer, _ in estimated],
        weeks=[
            _estimated(week, None, "", params, start, end)[0]
            for start, end in pairwise(weeks)
            if (week := between(start, end)).traffic
        ],
        difference=_difference(
            [(wer.label, found) for model, (wer, found) in zip(order, estimated, strict=True) if model in in_turn]
        ),
        outside=read.outside,
        max_wer=params.max_wer,
    )


def _mondays(until: datetime, weeks: int) -> list[datetime]:
    """The edges of calendar weeks, so that a week stays the same week; the last one is not over yet."""
    monday = datetime.combine(until.date() - timedelta(days=until.weekday()), time(), UTC)
    return [*(monday - timedelta(weeks=number) for number in range(weeks - 1, -1, -1)), until]


def _estimated(
    window: _Window, model: str | None, label: str, params: AuditParams, since: datetime, until: datetime
) -> tuple[ProductionWer, ProductionEstimate | None]:
    """Of one model, or of all."""
    heard = [item for item in window.heard if model in (None, item.model)]
    numbers = {name: number for number, name in enumerate(sorted({cluster for _, cluster in window.traffic}))}
    traffic = np.zeros((len(numbers), 3))
    for (owner, cluster), sums in window.traffic.items():
        if model in (None, owner):
            traffic[numbers[cluster]] += sums
    drawn = sum(count for owner, count in window.drawn.items() if model in (None, owner))
    clusters = len({item.cluster for item in heard})
    spans = [span for owner, span in window.spans.items() if model in (None, owner)]
    reason = _too_few(heard, clusters, params)
    estimate = None if reason else estimate_wer(_sample(heard, numbers), traffic)
    facts: dict[str, Any] = {
        "label": label,
        "since": since,
        "until": until,
        "inferences": int(traffic[:, 0].sum()),
        "first": min((first for first, _ in spans), default=None),
        "last": max((last for _, last in spans), default=None),
        "drawn": drawn,
        "audited": len(heard),
        "without_speech": sum(not item.speech for item in heard),
        "clusters": clusters,
        "words": sum(item.words for item in heard),
        "errors": sum(item.errors for item in heard),
    }
    if estimate is None:
        return ProductionWer(**facts, wer=None, plain=None, correlation=None, reason=reason), None
    return _described(estimate, facts), estimate


def _described(estimate: ProductionEstimate, facts: dict[str, Any]) -> ProductionWer:
    helps = estimate.predictions_help
    reason = "" if helps else _why_plain(estimate)
    return ProductionWer(
        **facts,
        wer=_interval(estimate.best, "difference" if helps else "plain"),
        plain=_interval(estimate.plain, "plain"),
        correlation=estimate.correlation,
        reason=reason,
    )


def _why_plain(estimate: ProductionEstimate) -> str:
    found, least = estimate.correlation, estimate.least_correlation
    if found >= least:
        return "the plain estimate, as the detector's predictions make no clear one"
    return f"the plain estimate, as predicted and found errors correlate by {found:.2f} only ({least:.2f} helps)"


def _interval(rate: EstimatedRate, method: Literal["difference", "plain"]) -> WerEstimate:
    low, high = rate.interval()
    return WerEstimate(
        value=rate.value,
        interval=Bounds(low=low, high=high),
        method=method,
        standard_error=rate.standard_error,
        degrees_of_freedom=rate.degrees_of_freedom,
    )


def _too_few(heard: Sequence[_Heard], clusters: int, params: AuditParams) -> str:
    """Why there is no estimate, "" where there is one."""
    if len(heard) < params.min_audited:
        return f"{len(heard)} heard of the {params.min_audited} that it needs (audit.min_audited)"
    if clusters < params.min_clusters:
        return f"{clusters} callers, speakers or recordings of the {params.min_clusters} that it needs"
    if not sum(item.words for item in heard):
        return "nobody heard a word in what was drawn"
    if not sum(item.errors for item in heard):
        return f"no error in the {sum(item.words for item in heard):,} words that were heard: no interval follows"
    return ""


def _sample(heard: Sequence[_Heard], numbers: dict[str, int]) -> HeardSample:
    return HeardSample(
        cluster=np.array([numbers[item.cluster] for item in heard], dtype=np.int64),
        inclusion=np.array([item.inclusion for item in heard]),
        errors=np.array([item.errors for item in heard], dtype=np.int64),
        words=np.array([item.words for item in heard], dtype=np.int64),
        features=np.array([item.features for item in heard], dtype=np.float64),
    )


def _in_order(window: _Window) -> list[str]:
    """The models, the one that answers now at the end: whose last answer is the latest, also after a rollback.

    Of several that answered in the same moment it is the busiest. What was a canary or a trial only stands first.
    """
    counts, last = Counter[str](), window.in_turn
    for (model, _), sums in window.traffic.items():
        counts[model] += int(sums[0])
    return sorted(counts, key=lambda model: (last.get(model, _NEVER), counts[model], model))


def _difference(found: Sequence[tuple[str, ProductionEstimate | None]]) -> VersionDifference | None:
    """The version that answers now against the one before; None where one answered, beside its canary or alone."""
    if len(found) < 2:
        return None
    (before, old), (after, new) = found[-2:]
    if old is None or new is None:
        return VersionDifference(before=before, after=after, reason="one of the two has too few that were heard")
    value, low, high = difference_of(old.best, new.best)
    return VersionDifference(before=before, after=after, difference=value, interval=Bounds(low=low, high=high))


def _read(session: Session, start: datetime, end: datetime, normalizer: NormalizerName, last: datetime) -> _Window:
    """From `start` to before `end`; the end of all, `last`, counts too."""
    row = InferenceRow
    window = (row.at >= start, row.at <= end if end == last else row.at < end)
    columns = (
        _ANSWERED_BY.label("model"),
        row.served,
        _CLUSTER.label("cluster"),
        case((row.inclusion > 0, func.coalesce(row.words, 0))).label("words"),  # none of what could not be drawn
        _DOUBT.label("doubt"),
        case(((row.inclusion > 0) & row.role.is_distinct_from("canary"), row.at)).label("at"),
        case((row.inclusion > 0, row.at)).label("drawable_at"),
        row.audit_id,
        row.inclusion,
    )
    each = select(*columns).where(*window).subquery().c
    sums = (func.count(each.words), func.sum(each.words), func.sum(each.words * each.doubt), func.max(each.served))
    others = (func.max(each.at), func.count(each.audit_id), func.count() - func.count(each.inclusion))
    span = (func.min(each.drawable_at), func.max(each.drawable_at))
    groups = select(each.model, each.cluster, *sums, *others, *span).group_by(each.model, each.cluster)
    found = _Window(
        {}, set(), {}, [_counted(row, normalizer) for row in session.execute(_decided(*window))], Counter(), 0
    )
    for model, cluster, count, heard, doubtful, version, at, drawn, undrawable, begun, ended in session.execute(groups):
        found.drawn[model] += drawn
        found.outside += undrawable
        if count:
            found.traffic[model, cluster] = (float(count), float(heard), float(doubtful))
            found.seen(model, begun, ended)
        if version:
            found.registered.add(model)
        if at:
            found.last[model] = max(found.last.get(model, at), at)
    return found


def _decided(*window: ColumnElement[bool]) -> Select[str, str, float | None, int, float, str, str | None, str | None]:
    """Drawn inferences that a person wrote a reference for, or said that there is nothing to write."""
    settled = select(ReviewHoldRow.case_id).where(ReviewHoldRow.reason.in_(_SETTLED))
    return (
        select(
            _ANSWERED_BY.label("model"),
            _CLUSTER.label("cluster"),
            InferenceRow.inclusion,
            func.coalesce(InferenceRow.words, 0).label("words"),
            _DOUBT.label("doubt"),
            CaseRow.original_transcript,
            CaseRow.corrected_transcript,
            CaseRow.label_method,
        )
        .join(CaseRow, CaseRow.id == InferenceRow.audit_id)
        .where(*window, CaseRow.label_method.in_(PEOPLE) | CaseRow.id.in_(settled))
        .order_by(InferenceRow.id)
    )


def _counted(row: Any, normalizer: NormalizerName) -> _Heard:
    speech = row.label_method in PEOPLE
    texts = read_pair(row.corrected_transcript or "", row.original_transcript, normalizer)
    counts = count_words(*texts) if speech else ErrorCounts.zero()
    return _Heard(
        model=row.model,
        cluster=row.cluster,
        inclusion=row.inclusion,
        features=(1.0, row.words, row.words * row.doubt),
        errors=counts.errors,
        words=counts.reference_length,
        speech=speech,
    )


def log_weeks(weeks: Sequence[ProductionWer]) -> str:
    """Logs `production/wer`, its interval and how many were heard, of the weeks that have changed since.

    Returns:
        Why it could not be, "" when it was.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = connect()
        run = _run(client)
        known = {item.step: item.value for item in client.get_metric_history(run, "production/wer")}
        for week in weeks:
            step = (week.since - _MONDAY).days // 7
            if week.wer and known.get(step) != week.wer.value:
                client.log_batch(run, metrics=_metrics(week, step))
    except (MlflowException, MondegreenError, SQLAlchemyError) as error:
        return str(error).splitlines()[0]
    return ""


def _metrics(week: ProductionWer, step: int) -> "list[Metric]":
    from mlflow.entities import Metric

    values = {"audited": float(week.audited), "inferences": float(week.inferences)}
    if week.wer:
        values |= {"wer": week.wer.value, "wer_low": week.wer.interval.low, "wer_high": week.wer.interval.high}
    moment = round(1000 * week.until.timestamp())
    return [Metric(f"production/{name}", value, moment, step) for name, value in values.items()]


def _run(client: "MlflowClient") -> str:
    """The id of the run; it is made when it is first needed."""
    number = ensured_experiment(client, PRODUCTION, registry_file())
    for run in client.search_runs([number], f"tags.`{_TAG}` = 'wer'", max_results=1):
        return str(run.info.run_id)
    return str(client.create_run(number, run_name="WER in production", tags={_TAG: "wer"}).info.run_id)
