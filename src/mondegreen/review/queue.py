"""Which case a reviewer gets next: the one whose label teaches the most, of those that nobody else has open."""

import heapq
import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from threading import Lock

from sqlalchemy import ColumnElement, Engine, Select, delete, or_, select, update
from sqlalchemy.orm import Session

from mondegreen.cases.queries import error_types_of
from mondegreen.cases.records import PEOPLE
from mondegreen.cases.store import DataManager
from mondegreen.config import Seconds
from mondegreen.db import plain, reading, transaction, upserting
from mondegreen.review.decisions import taken_back
from mondegreen.tables import CaseRow, ReviewDecisionRow, ReviewHoldRow, ReviewLeaseRow

_GRAM = 3  # characters
_WORD = re.compile(r"[^\W_]+")
_KINDS = 0.3  # share of error types and model in how new a case is; the rest is its words
_LABELLED_WORTH = 0.5  # what a case is worth that a machine labelled: it teaches already, a person would check it
_LEAST = 0.05  # no case is worth nothing
POOL = 1_000  # of the newest waiting cases the best are sought
_LLM_LABELLED = 200  # of those that a machine labelled
_LABELLED = 1_000  # of the newest that people corrected are compared with
_FRESH: Seconds = 60.0  # for so long an order is used
_DECISIONS = 20  # and for so many decisions


class Queue:
    """Deals cases out, no case to two people at once.

    Args:
        manager: of the store.
        leases: over the same database.
    """

    def __init__(self, manager: DataManager, leases: "Leases") -> None:
        self.manager, self.leases = manager, leases
        self._lock = Lock()
        self._order: list[str] = []
        self._made, self._decided = 0.0, 0

    def current(self, holder: str, reviewer: str) -> str | None:
        """The case on a browser's screen; where there is none, the next one. None when there is nothing to do."""
        for lease in self.leases.held(holder):
            if lease.reviewer != reviewer or not self._waits(lease.case_id, reviewer):
                continue
            if lease.shown_at or self.leases.take(lease.case_id, holder, reviewer, shown=True):
                return lease.case_id
        return self._next(holder, reviewer, shown=True)

    def ahead(self, holder: str, reviewer: str, present: str) -> str | None:
        """The case after the present one, kept ready."""
        ready = [lease.case_id for lease in self.leases.held(holder) if lease.case_id != present]
        if ready and self._waits(ready[0], reviewer):
            return ready[0]
        return self._next(holder, reviewer, shown=False, other_than=present)

    def open(self, case_id: str, holder: str, reviewer: str) -> None:
        """Puts a case on a browser's screen if it is free; one that waits for nobody can be looked at all the same."""
        self.leases.release(holder)
        self.leases.take(case_id, holder, reviewer, shown=True)

    def decided(self, case_id: str) -> None:
        """Told of each decision: what is labelled has changed."""
        with self._lock:
            self._decided += 1
            self._order = [key for key in self._order if key != case_id]

    def skipped(self, reviewer: str) -> list[str]:
        """What a reviewer skipped and nobody decided since."""
        with reading(self.manager.engine) as session:
            query = select(CaseRow.id).where(CaseRow.id.in_(_skips(reviewer)), waits_for(reviewer))
            return sorted(session.scalars(query))

    def _next(self, holder: str, reviewer: str, *, shown: bool, other_than: str = "") -> str | None:
        with reading(self.manager.engine) as session:
            avoided = set(session.scalars(_skips(reviewer)))
        avoided |= set(self.leases.taken(holder)) | {other_than}
        for fresh in (False, True):  # what came since the order was made is looked for before there is nothing
            for key in self._ordered(fresh):
                if key not in avoided and self.leases.take(key, holder, reviewer, shown=shown):
                    return key
        return None

    def _waits(self, case_id: str, reviewer: str) -> bool:
        with reading(self.manager.engine) as session:
            return waits(session, case_id, reviewer)

    def _ordered(self, fresh: bool) -> list[str]:
        with self._lock:
            old = time.monotonic() - self._made > _FRESH or self._decided >= _DECISIONS
            if fresh or old or not self._made:
                with reading(self.manager.engine) as session:
                    self._order = ranked(_candidates(session), _labelled(session))
                self._made, self._decided = time.monotonic(), 0
            return list(self._order)


class Leases:
    """The cases that browsers have open.

    A lease that is not renewed ends by itself, so that a closed lid keeps no case from the others.

    Args:
        lasting: from when it was taken or renewed.
    """

    def __init__(self, engine: Engine, lasting: timedelta) -> None:
        self.engine, self.lasting = engine, lasting

    def take(self, case_id: str, holder: str, reviewer: str, *, shown: bool) -> bool:
        """Takes a case that waits for this reviewer; False when somebody else has it, or it waits no longer.

        Args:
            shown: to the reviewer now, from when the seconds are counted; False keeps it ready as the next one.
        """
        now = datetime.now(UTC)
        values = {
            "case_id": case_id,
            "holder": holder,
            "reviewer": reviewer,
            "shown_at": now if shown else None,
            "expires_at": now + self.lasting,
        }
        with transaction(self.engine) as session:
            # Whoever decides on it at this moment ends first.
            session.execute(select(CaseRow.id).where(CaseRow.id == case_id).with_for_update())
            if not waits(session, case_id, reviewer):
                return False
            known = plain(ReviewLeaseRow).c
            statement = (
                upserting(session, ReviewLeaseRow)
                .values(values)
                .on_conflict_do_update(
                    index_elements=["case_id"],
                    set_={name: values[name] for name in ("holder", "reviewer", "shown_at", "expires_at")},
                    where=or_(known.expires_at <= now, known.holder == holder),
                )
                .returning(known.case_id)
            )
            return session.scalar(statement) is not None

    def held(self, holder: str) -> list[ReviewLeaseRow]:
        """What a browser has, the case on its screen first."""
        query = select(ReviewLeaseRow).where(
            ReviewLeaseRow.holder == holder, ReviewLeaseRow.expires_at > datetime.now(UTC)
        )
        with reading(self.engine) as session:
            rows = list(session.scalars(query.order_by(ReviewLeaseRow.case_id)))
        return sorted(rows, key=lambda row: row.shown_at is None)

    def taken(self, holder: str) -> dict[str, str]:
        """The cases that others have open, and who they are."""
        query = select(ReviewLeaseRow.case_id, ReviewLeaseRow.reviewer).where(
            ReviewLeaseRow.holder != holder, ReviewLeaseRow.expires_at > datetime.now(UTC)
        )
        with reading(self.engine) as session:
            return {row.case_id: row.reviewer for row in session.execute(query)}

    def renew(self, holder: str) -> None:
        """Called by an open page from time to time."""
        expires = datetime.now(UTC) + self.lasting
        with transaction(self.engine) as session:
            mine = _locked(session, ReviewLeaseRow.holder == holder)
            session.execute(update(ReviewLeaseRow).where(ReviewLeaseRow.case_id.in_(mine)).values(expires_at=expires))

    def release(self, holder: str) -> None:
        """Lets everything go that a browser has, and what nobody has any more."""
        ended = or_(ReviewLeaseRow.holder == holder, ReviewLeaseRow.expires_at <= datetime.now(UTC))
        with transaction(self.engine) as session:
            session.execute(delete(ReviewLeaseRow).where(ReviewLeaseRow.case_id.in_(_locked(session, ended))))


def _locked(session: Session, condition: ColumnElement[bool]) -> list[str]:
    """Leases held until the transaction ends, without waiting for those that somebody else holds: no circle forms."""
    query = select(ReviewLeaseRow.case_id).where(condition).order_by(ReviewLeaseRow.case_id)
    return list(session.scalars(query.with_for_update(skip_locked=True)))


def waits(session: Session, case_id: str, reviewer: str) -> bool:
    """Whether a case waits for this reviewer."""
    return session.scalar(select(CaseRow.id).where(CaseRow.id == case_id, waits_for(reviewer))) is not None


def waits_for(reviewer: str) -> ColumnElement[bool]:
    """Of a case: that this reviewer may be asked. A person's correction ends that, and so does what holds it.

    A case that waits for its second person does not wait for the first.
    """
    others = select(ReviewHoldRow.case_id).where(
        or_(ReviewHoldRow.reason != "second", ReviewHoldRow.reviewer == reviewer)
    )
    return or_(CaseRow.label_method.is_(None), CaseRow.label_method.not_in(PEOPLE)) & CaseRow.id.not_in(others)


@dataclass(frozen=True)
class Candidate:
    """What is known of a case before anybody listened."""

    id: str
    hypothesis: str
    error_score: float | None
    confidence: float | None
    error_types: tuple[str, ...]
    model: str
    labelled: bool = False  # by a machine

    @cached_property
    def grams(self) -> frozenset[str]:
        """Letter triples of the hypothesis, word borders among them."""
        text = f" {' '.join(_WORD.findall(self.hypothesis.casefold()))} "
        return frozenset(text[start : start + _GRAM] for start in range(len(text) - _GRAM + 1))

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Its error types and its model."""
        return frozenset({f"model\0{self.model}", *(f"type\0{name}" for name in self.error_types)})


class Coverage:
    """How often each feature was labelled: letter triples, error types, models."""

    def __init__(self, labelled: Iterable[Candidate] = ()) -> None:
        self._counts: Counter[str] = Counter()
        for candidate in labelled:
            self.add(candidate)

    def add(self, candidate: Candidate) -> None:
        self._counts.update(candidate.grams | candidate.kinds)

    def novelty(self, candidate: Candidate) -> float:
        """1 for a case with nothing in common with the labelled ones; falls with the root of how often each was."""
        return (1 - _KINDS) * self._mean(candidate.grams) + _KINDS * self._mean(candidate.kinds)

    def _mean(self, features: frozenset[str]) -> float:
        if not features:
            return 1.0
        return sum(1 / math.sqrt(1 + self._counts[name]) for name in features) / len(features)


def doubt(candidate: Candidate) -> float:
    """How likely the transcript is wrong: the detector's score, else the lack of confidence, else a half."""
    if candidate.error_score is not None:
        return candidate.error_score
    return 1 - candidate.confidence if candidate.confidence is not None else 0.5


def ranked(candidates: Sequence[Candidate], labelled: Iterable[Candidate], limit: int | None = None) -> list[str]:
    """Ids, the most instructive first: doubt times novelty, where each case makes the ones like it less new.

    Uncertainty weighted by how little a case has in common with what is labelled is density-weighted active learning
    turned around (B. Settles and M. Craven, "An Analysis of Active Learning Strategies for Sequence Labeling Tasks",
    EMNLP 2008). Choosing one after the other by coverage that saturates is K. Wei, R. Iyer and J. Bilmes,
    "Submodularity in Data Subset Selection and Active Learning", ICML 2015. A value can only fall while others are
    chosen, so that only the top of the heap need be computed again (M. Minoux, 1978).
    """
    coverage = Coverage(labelled)
    by_id = {candidate.id: candidate for candidate in candidates}
    heap = [(-_value(candidate, coverage), candidate.id) for candidate in candidates]
    heapq.heapify(heap)
    order: list[str] = []
    while heap and (limit is None or len(order) < limit):
        _, key = heapq.heappop(heap)
        value = -_value(by_id[key], coverage)
        if heap and (value, key) > heap[0]:
            heapq.heappush(heap, (value, key))
            continue
        order.append(key)
        coverage.add(by_id[key])
    return order


def _value(candidate: Candidate, coverage: Coverage) -> float:
    worth = max(_LEAST, doubt(candidate)) * coverage.novelty(candidate)
    return worth * _LABELLED_WORTH if candidate.labelled else worth


def confidence_of(details: Mapping[str, object]) -> float | None:
    """The model's confidence as a case's metadata has it."""
    value = details.get("confidence")
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _candidates(session: Session) -> list[Candidate]:
    """Waiting cases: the newest, the newest that a machine labelled, and all that wait for a second person."""
    free = CaseRow.id.not_in(select(ReviewHoldRow.case_id))
    second = CaseRow.id.in_(select(ReviewHoldRow.case_id).where(ReviewHoldRow.reason == "second"))
    found: dict[str, Candidate] = {}
    for condition, limit in (
        (CaseRow.label_method.is_(None) & free, POOL),
        ((CaseRow.label_method == "llm") & free, _LLM_LABELLED),
        (CaseRow.label_method.is_(None) & second, POOL),
    ):
        found |= {item.id: item for item in _read(session, _newest(condition, limit))}
    return list(found.values())


def _labelled(session: Session) -> list[Candidate]:
    return _read(session, _newest(CaseRow.label_method.in_(PEOPLE), _LABELLED))


def _newest(condition: ColumnElement[bool], limit: int) -> Select[CaseRow]:
    return select(CaseRow).where(condition).order_by(CaseRow.first_seen.desc(), CaseRow.id.desc()).limit(limit)


def _read(session: Session, query: Select[CaseRow]) -> list[Candidate]:
    rows = session.scalars(query).all()
    types = error_types_of(session, [row.id for row in rows])
    return [
        Candidate(
            id=row.id,
            hypothesis=row.original_transcript,
            error_score=row.error_score,
            confidence=confidence_of(row.details),
            error_types=tuple(types.get(row.id, ())),
            model=row.model_version,
            labelled=row.label_method is not None,
        )
        for row in rows
    ]


def _skips(reviewer: str) -> Select[str]:
    return select(ReviewDecisionRow.case_id).where(
        ReviewDecisionRow.reviewer == reviewer,
        ReviewDecisionRow.action == "skip",
        ReviewDecisionRow.id.not_in(taken_back()),
    )
