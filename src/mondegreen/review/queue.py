"""Which case a reviewer gets next."""

import time
from collections.abc import Iterable
from threading import Lock

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from mondegreen.cases.database import reading
from mondegreen.cases.manager import DataManager
from mondegreen.cases.records import PEOPLE
from mondegreen.cases.tables import CaseErrorRow, CaseRow
from mondegreen.cases.tables_review import ReviewDecisionRow, ReviewHoldRow
from mondegreen.config import Seconds
from mondegreen.review.decisions import taken_back
from mondegreen.review.leases import Leases, waits, waits_for
from mondegreen.review.ranking import Candidate, confidence_of, ranked

POOL = 1_000  # of the newest waiting cases the best are sought
_MACHINES = 200  # of those that a machine labelled
_LABELLED = 1_000  # of the newest that people corrected are compared with
_FRESH: Seconds = 60.0  # for so long an order is used
_DECISIONS = 20  # and for so many decisions


class Queue:
    """Deals cases out, no case to two people at once.

    Args:
        manager: of the store.
        leases: over the same database.
    """

    def __init__(self, manager: DataManager, leases: Leases) -> None:
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


def _candidates(session: Session) -> list[Candidate]:
    """Waiting cases: the newest, the newest that a machine labelled, and all that wait for a second person."""
    free = CaseRow.id.not_in(select(ReviewHoldRow.case_id))
    second = CaseRow.id.in_(select(ReviewHoldRow.case_id).where(ReviewHoldRow.reason == "second"))
    found: dict[str, Candidate] = {}
    for condition, limit in (
        (CaseRow.label_method.is_(None) & free, POOL),
        ((CaseRow.label_method == "llm") & free, _MACHINES),
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
    types = _error_types(session, [row.id for row in rows])
    return [
        Candidate(
            id=row.id,
            heard=row.original_transcript,
            error_score=row.error_score,
            confidence=confidence_of(row.details),
            error_types=tuple(sorted(types.get(row.id, ()))),
            model=row.model_version,
            labelled=row.label_method is not None,
        )
        for row in rows
    ]


def _error_types(session: Session, ids: Iterable[str]) -> dict[str, list[str]]:
    types: dict[str, list[str]] = {}
    query = select(CaseErrorRow.case_id, CaseErrorRow.error_type).where(CaseErrorRow.case_id.in_(list(ids)))
    for key, name in session.execute(query):
        types.setdefault(key, []).append(name)
    return types


def _skips(reviewer: str) -> Select[str]:
    return select(ReviewDecisionRow.case_id).where(
        ReviewDecisionRow.reviewer == reviewer,
        ReviewDecisionRow.action == "skip",
        ReviewDecisionRow.id.not_in(taken_back()),
    )
