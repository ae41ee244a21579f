"""Reading the reviews: how far they are, who decided what, and how often two people agree.

What a recording looks like: its loudness over time, drawn as one path of an SVG.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from mondegreen.cases.records import PEOPLE
from mondegreen.config import Seconds
from mondegreen.review.decisions import Action, Verdict, agree, taken_back
from mondegreen.scoring.normalizer import NormalizerName, normalize
from mondegreen.scoring.wer import ErrorCounts, count_words
from mondegreen.speech.audio import SAMPLE_RATE, stream_windows
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


class Entry(_Record):
    """One line of the history."""

    id: int
    case_id: str
    reviewer: str
    at: datetime
    action: Action
    role: str
    transcript: str | None
    chosen: str
    seconds: Seconds | None
    heard: str
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
    heard: str
    first: Verdict
    second: Verdict


def progress(session: Session, reviewer: str) -> Progress:
    """Counts from counters and small tables, quick in a store of any size."""
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    mine = (ReviewDecisionRow.reviewer == reviewer, *_standing())
    today = select(func.count(ReviewDecisionRow.case_id.distinct())).where(*mine, ReviewDecisionRow.at >= midnight)
    waiting = or_(CaseRow.label_method.is_(None), CaseRow.label_method.not_in(PEOPLE))
    kinds = select(ReviewHoldRow.reason, func.count()).join(CaseRow, CaseRow.id == ReviewHoldRow.case_id)
    held = dict(session.execute(kinds.where(waiting).group_by(ReviewHoldRow.reason)).tuples().all())
    uncorrected = select(func.sum(CaseCountRow.cases)).where(CaseCountRow.label_method.not_in(PEOPLE))
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
) -> list[Entry]:
    """Decisions, newest first: of one person, about one case, older than the decision `before`."""
    query = select(ReviewDecisionRow, CaseRow.original_transcript, ReviewDecisionRow.id.in_(taken_back()))
    query = query.join(CaseRow, CaseRow.id == ReviewDecisionRow.case_id).where(ReviewDecisionRow.action != "undo")
    for column, wanted in ((ReviewDecisionRow.reviewer, reviewer), (ReviewDecisionRow.case_id, case_id)):
        query = query.where(column == wanted) if wanted is not None else query
    if before is not None:
        query = query.where(ReviewDecisionRow.id < before)
    found = session.execute(query.order_by(ReviewDecisionRow.id.desc()).limit(limit))
    return [
        Entry.model_validate(
            {name: getattr(row, name) for name in Entry.model_fields if name not in ("heard", "undone")}
            | {"heard": heard, "undone": undone}
        )
        for row, heard, undone in found
    ]


def waiting_for_second(session: Session) -> dict[str, str]:
    """The cases that wait for a second person, who is not to know what the first one wrote; and who that was."""
    query = select(ReviewHoldRow.case_id, ReviewHoldRow.reviewer).where(ReviewHoldRow.reason == "second")
    return dict(session.execute(query).tuples().all())


def reviewers(session: Session) -> list[Reviewer]:
    """Everybody who decided something, by name."""
    people: dict[str, list[Entry]] = defaultdict(list)
    for entry in history(session, limit=None):
        people[entry.reviewer].append(entry)
    return [_reviewer(name, entries) for name, entries in sorted(people.items())]


def _reviewer(name: str, entries: Sequence[Entry]) -> Reviewer:
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
    heard = dict(session.execute(texts).tuples().all())
    return [
        Dispute(case_id=key, heard=heard[key], first=first, second=second) for key, (first, second) in pairs.items()
    ]


def _pairs(session: Session, case_ids: Select[str]) -> dict[str, tuple[Verdict, Verdict]]:
    """First and second decision of the cases that have both, in the order of the second ones."""
    query = select(ReviewDecisionRow).where(
        ReviewDecisionRow.case_id.in_(case_ids), ReviewDecisionRow.role.in_(("first", "second")), *_standing()
    )
    first: dict[str, Verdict] = {}
    pairs: dict[str, tuple[Verdict, Verdict]] = {}
    for row in session.scalars(query.order_by(ReviewDecisionRow.id)):
        verdict = Verdict.model_validate(row)
        if row.role == "first":
            first[row.case_id] = verdict
        elif row.case_id in first:
            pairs[row.case_id] = first[row.case_id], verdict
    return pairs


def _standing() -> tuple[ColumnElement[bool], ...]:
    return ReviewDecisionRow.action.not_in(("skip", "undo")), ReviewDecisionRow.id.not_in(taken_back())


def _timed() -> Select[float | None]:
    return select(ReviewDecisionRow.seconds).where(ReviewDecisionRow.seconds.is_not(None))


def _pace(seconds: Iterable[float | None]) -> float | None:
    found = [item for item in seconds if item is not None]
    return round(median(found), 1) if found else None


WIDTH, HEIGHT = 600, 100  # of the drawing's own units
_SLICE = SAMPLE_RATE // 200  # samples of one measurement, 5 ms
_WINDOW: Seconds = 30.0
_LOUD = 0.05  # quieter recordings are not drawn larger than as if this were their peak


class Drawing(NamedTuple):
    """A waveform; `path` fits WIDTH x HEIGHT."""

    path: str
    duration: Seconds


@lru_cache(maxsize=256)
def draw(recording: Path) -> Drawing:
    """Reads a recording window by window. Raises AudioError.

    Args:
        recording: named after its content, so that what was drawn once need not be read again.
    """
    peaks: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
    samples = 0
    for _, window in stream_windows(recording, _WINDOW, 0.0):
        padded = np.pad(np.abs(window), (0, -len(window) % _SLICE))
        peaks.append(padded.reshape(-1, _SLICE).max(axis=1))  # (num_slices,)
        samples += len(window)
    return Drawing(_path(np.concatenate(peaks)), samples / SAMPLE_RATE)


def _path(levels: np.ndarray[tuple[int], np.dtype[np.float32]]) -> str:
    """One upright bar for every second unit of the width, mirrored about the middle."""
    columns = min(WIDTH // 2, len(levels))
    edges = np.linspace(0, len(levels), columns + 1).astype(int)
    highest = np.maximum.reduceat(levels, edges[:-1]) / max(_LOUD, float(levels.max(initial=0.0)))
    step = WIDTH / columns
    bars = []
    for column, level in enumerate(np.nan_to_num(highest)):
        half = max(1.0, float(level) * (HEIGHT / 2 - 2))
        bars.append(f"M{(column + 0.5) * step:.1f} {HEIGHT / 2 - half:.1f}v{2 * half:.1f}")
    return "".join(bars)
