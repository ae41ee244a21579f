"""Reading the reviews: how far they are, who decided what, and how often two people agree."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from mondegreen.cases.records import AUDIT, PEOPLE
from mondegreen.config import Seconds
from mondegreen.review.decisions import Action, ReviewDecision, agree, taken_back
from mondegreen.scoring.normalizer import NormalizerName, normalize
from mondegreen.scoring.wer import ErrorCounts, count_words
from mondegreen.tables import CaseCountRow, CaseRow, ReviewDecisionRow, ReviewHoldRow

_RECENT = 20  # decisions that the pace is measured on


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Progress(_Record):
    """How far a reviewer and all of them are."""

    today: int  # cases that the reviewer decided since midnight of this machine's clock
    left: int  # cases that wait for somebody
    second: int  # for a second person
    disputed: int  # that two people hear differently
    pace: Seconds | None  # the median of the reviewer's last decisions


class HistoryEntry(_Record):
    """One line of the history."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    case_id: str
    reviewer: str
    at: datetime
    action: Action
    role: str
    transcript: str | None
    chosen: str
    seconds: Seconds | None
    hypothesis: str
    undone: bool


class Reviewer(_Record):
    """What one person did."""

    name: str
    decisions: int  # that stand, skips aside
    actions: dict[str, int]
    chosen: dict[str, int]  # where the texts came from
    skipped: int
    undone: int
    pace: Seconds | None


class Agreement(_Record):
    """How two people who heard the same recording differ: corpus rates, the first one's text is the reference.

    `pairs` counts cases on which both decided, whatever they decided; `wer` is over those on which both wrote words.
    """

    pairs: int
    agreeing: int
    texts: int
    words: int
    wer: float | None  # None where nobody wrote a word
    by_pair: dict[str, float]  # "ann and ben" to the rate of their texts


class Dispute(_Record):
    """A case that two people hear differently, not decided yet."""

    case_id: str
    hypothesis: str
    first: ReviewDecision
    second: ReviewDecision


def progress(session: Session, reviewer: str, *, audit: bool = False) -> Progress:
    """Counts from counters and small tables, quick in a store of any size; of the failed cases, or of the audit."""
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    mine = (ReviewDecisionRow.reviewer == reviewer, *_counted())
    today = select(func.count(ReviewDecisionRow.case_id.distinct())).where(*mine, ReviewDecisionRow.at >= midnight)
    waiting = or_(CaseRow.label_method.is_(None), CaseRow.label_method.not_in(PEOPLE))
    kinds = select(ReviewHoldRow.reason, func.count()).join(CaseRow, CaseRow.id == ReviewHoldRow.case_id)
    own = CaseRow.source == AUDIT if audit else CaseRow.source != AUDIT
    held = dict(session.execute(kinds.where(waiting, own).group_by(ReviewHoldRow.reason)).tuples().all())
    uncorrected = select(func.sum(CaseCountRow.cases)).where(
        CaseCountRow.label_method.not_in(PEOPLE),
        CaseCountRow.source == AUDIT if audit else CaseCountRow.source != AUDIT,
    )
    out = sum(count for reason, count in held.items() if reason != "second")
    return Progress(
        today=session.scalar(today) or 0,
        left=max(0, int(session.scalar(uncorrected) or 0) - out),
        second=held.get("second", 0),
        disputed=held.get("disputed", 0),
        pace=_pace(session.scalars(_timed().where(*mine).order_by(ReviewDecisionRow.id.desc()).limit(_RECENT)).all()),
    )


def history(
    session: Session,
    *,
    reviewer: str | None = None,
    case_id: str | None = None,
    before: int | None = None,
    limit: int | None = 100,
) -> list[HistoryEntry]:
    """Decisions, newest first: of one person, about one case, older than the decision `before`."""
    undone = ReviewDecisionRow.id.in_(taken_back())
    query = select(ReviewDecisionRow.__table__, CaseRow.original_transcript.label("hypothesis"), undone.label("undone"))
    query = query.join(CaseRow, CaseRow.id == ReviewDecisionRow.case_id).where(ReviewDecisionRow.action != "undo")
    for column, wanted in ((ReviewDecisionRow.reviewer, reviewer), (ReviewDecisionRow.case_id, case_id)):
        query = query.where(column == wanted) if wanted is not None else query
    if before is not None:
        query = query.where(ReviewDecisionRow.id < before)
    found = session.execute(query.order_by(ReviewDecisionRow.id.desc()).limit(limit))
    return [HistoryEntry.model_validate(row) for row in found]


def waiting_for_second(session: Session) -> dict[str, str]:
    """The cases that wait for a second person, who is not to know what the first one wrote; and who that was."""
    query = select(ReviewHoldRow.case_id, ReviewHoldRow.reviewer).where(ReviewHoldRow.reason == "second")
    return dict(session.execute(query).tuples().all())


def reviewers(session: Session) -> list[Reviewer]:
    """Everybody who decided something, by name."""
    people: dict[str, list[HistoryEntry]] = defaultdict(list)
    for entry in history(session, limit=None):
        people[entry.reviewer].append(entry)
    return [_reviewer(name, entries) for name, entries in sorted(people.items())]


def _reviewer(name: str, entries: Sequence[HistoryEntry]) -> Reviewer:
    counted = [entry for entry in entries if not entry.undone and entry.action != "skip"]
    return Reviewer(
        name=name,
        decisions=len(counted),
        actions=dict(Counter(entry.action for entry in counted).most_common()),
        chosen=dict(Counter(entry.chosen for entry in counted if entry.chosen).most_common()),
        skipped=sum(entry.action == "skip" and not entry.undone for entry in entries),
        undone=sum(entry.undone for entry in entries),
        pace=_pace(entry.seconds for entry in counted),
    )


def agreement(session: Session, normalizer: NormalizerName) -> Agreement:
    """Over all cases on which two people decided independently of each other, also those that were resolved since."""
    pairs = _pairs(session, select(ReviewDecisionRow.case_id).where(ReviewDecisionRow.role == "second"))
    total, texts, agreeing = ErrorCounts.zero(), 0, 0
    by_pair: dict[str, ErrorCounts] = defaultdict(ErrorCounts.zero)
    for first, second in pairs.values():
        agreeing += agree(first, second, normalizer)
        if first.action == second.action == "text":
            counts = count_words(
                normalize(first.transcript or "", normalizer), normalize(second.transcript or "", normalizer)
            )
            texts, total = texts + 1, total + counts
            by_pair[" and ".join(sorted((first.reviewer, second.reviewer)))] += counts
    return Agreement(
        pairs=len(pairs),
        agreeing=agreeing,
        texts=texts,
        words=total.reference_length,
        wer=total.rate if total.reference_length else None,
        by_pair={name: counts.rate for name, counts in sorted(by_pair.items()) if counts.reference_length},
    )


def disputes(session: Session) -> list[Dispute]:
    """The cases that wait for somebody to say who is right."""
    open_ones = (
        select(ReviewHoldRow.case_id)
        .join(CaseRow, CaseRow.id == ReviewHoldRow.case_id)
        .where(ReviewHoldRow.reason == "disputed", CaseRow.label_method.is_(None))
    )
    pairs = _pairs(session, open_ones)
    texts = select(CaseRow.id, CaseRow.original_transcript).where(CaseRow.id.in_(open_ones))
    hypotheses = dict(session.execute(texts).tuples().all())
    return [
        Dispute(case_id=key, hypothesis=hypotheses[key], first=first, second=second)
        for key, (first, second) in pairs.items()
    ]


def _pairs(session: Session, case_ids: Select[str]) -> dict[str, tuple[ReviewDecision, ReviewDecision]]:
    """First and second decision of the cases that have both, in the order of the second ones."""
    query = select(ReviewDecisionRow).where(
        ReviewDecisionRow.case_id.in_(case_ids), ReviewDecisionRow.role.in_(("first", "second")), *_counted()
    )
    first: dict[str, ReviewDecision] = {}
    pairs: dict[str, tuple[ReviewDecision, ReviewDecision]] = {}
    for row in session.scalars(query.order_by(ReviewDecisionRow.id)):
        decision = ReviewDecision.model_validate(row)
        if row.role == "first":
            first[row.case_id] = decision
        elif row.case_id in first:
            pairs[row.case_id] = first[row.case_id], decision
    return pairs


def _counted() -> tuple[ColumnElement[bool], ...]:
    return ReviewDecisionRow.action.not_in(("skip", "undo")), ReviewDecisionRow.id.not_in(taken_back())


def _timed() -> Select[float | None]:
    return select(ReviewDecisionRow.seconds).where(ReviewDecisionRow.seconds.is_not(None))


def _pace(seconds: Iterable[float | None]) -> float | None:
    found = [item for item in seconds if item is not None]
    return round(median(found), 1) if found else None
