"""Which case a reviewer gets next, of those that nobody else has open: a stratified draw, in rounds; within a round the
one whose label teaches the most comes first."""

import hashlib
import heapq
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from threading import Lock

from sqlalchemy import ColumnElement, Engine, Select, delete, func, or_, select, update
from sqlalchemy.orm import Session

from mondegreen.cases.queries import error_types_of
from mondegreen.cases.records import AUDIT, PEOPLE
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
POOL = 1_000  # cases are drawn
_LLM_LABELLED = 200  # of those that a machine labelled
_LISTED = 20_000  # waiting cases that a draw is made from
ROUND = 20  # cases, each round a stratified draw of its own
_LABELLED = 1_000  # of the newest that people corrected are compared with
_FRESH: Seconds = 60.0  # for so long an order is used
_DECISIONS = ROUND  # and for so many decisions


class Queue:
    """Deals cases out, no case to two people at once.

    Args:
        manager: of the store.
        leases: over the same database.
        seed: of the draw.
        audit: deals out what the audit drew, in random order, instead of the failed cases.
    """

    def __init__(self, manager: DataManager, leases: "Leases", seed: int = 0, *, audit: bool = False) -> None:
        self.manager, self.leases, self.seed = manager, leases, seed
        self._audit, self._own = audit, CaseRow.source == AUDIT if audit else CaseRow.source != AUDIT
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
            query = select(CaseRow.id).where(CaseRow.id.in_(_skips(reviewer)), waits_for(reviewer), self._own)
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
            waiting = select(CaseRow.id).where(CaseRow.id == case_id, waits_for(reviewer), self._own)
            return session.scalar(waiting) is not None

    def _ordered(self, fresh: bool) -> list[str]:
        with self._lock:
            old = time.monotonic() - self._made > _FRESH or self._decided >= _DECISIONS
            if fresh or old or not self._made:
                with reading(self.manager.engine) as session:
                    self._order = _shuffled(session, self.seed) if self._audit else _instructive(session, self.seed)
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
    unsaid = or_(CaseRow.label_method.is_(None), CaseRow.label_method.not_in(PEOPLE))
    return unsaid & CaseRow.audio_erased_at.is_(None) & CaseRow.id.not_in(others)


@dataclass(frozen=True)
class WaitingCase:
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

    def __init__(self, labelled: Iterable[WaitingCase] = ()) -> None:
        self._counts: Counter[str] = Counter()
        for candidate in labelled:
            self.add(candidate)

    def add(self, candidate: WaitingCase) -> None:
        self._counts.update(candidate.grams | candidate.kinds)

    def novelty(self, candidate: WaitingCase) -> float:
        """1 for a case with nothing in common with the labelled ones; falls with the root of how often each was."""
        return (1 - _KINDS) * self._mean(candidate.grams) + _KINDS * self._mean(candidate.kinds)

    def _mean(self, features: frozenset[str]) -> float:
        if not features:
            return 1.0
        return sum(1 / math.sqrt(1 + self._counts[name]) for name in features) / len(features)


def doubt(candidate: WaitingCase) -> float:
    """How likely the transcript is wrong: the detector's score, else the lack of confidence, else a half."""
    if candidate.error_score is not None:
        return candidate.error_score
    return 1 - candidate.confidence if candidate.confidence is not None else 0.5


def drawn(waiting: Iterable[tuple[str, Hashable]], seed: int) -> list[str]:
    """Ids in an order of which every beginning is a draw stratified in proportion.

    Within a stratum the order is random; the r-th of its n cases has the place (r + start) / n with a random start, so
    that the strata are interleaved by their sizes, and each case is as likely as any other to be among the first k
    (systematic sampling: W. G. Cochran, "Sampling Techniques", 3rd edition 1977, chapter 8).

    Args:
        waiting: id and stratum of each case.
        seed: of all that is random; the same cases and seed give the same order on every machine.
    """
    strata = defaultdict(list)
    for key, stratum in waiting:
        strata[stratum].append(key)
    places = {}
    for stratum, keys in strata.items():
        start = _uniform(seed, repr(stratum))
        for rank, key in enumerate(sorted(keys, key=lambda key: _uniform(seed, key))):
            places[key] = (rank + start) / len(keys)
    return sorted(places, key=lambda key: (places[key], key))


def _uniform(seed: int, name: str) -> float:
    """From 0 to 1, and independent of who goes to two people (`is_double`)."""
    return int.from_bytes(hashlib.sha256(f"order\0{seed}\0{name}".encode()).digest()[:8]) / 2**64


def ranked(
    candidates: Sequence[WaitingCase], labelled: Iterable[WaitingCase], rounds_of: int | None = None
) -> list[str]:
    """Ids, the most instructive first: doubt times novelty, where each case makes the ones like it less new.

    Uncertainty weighted by how little a case has in common with what is labelled is density-weighted active learning
    turned around (B. Settles and M. Craven, "An Analysis of Active Learning Strategies for Sequence Labeling Tasks",
    EMNLP 2008). Choosing one after the other by coverage that saturates is K. Wei, R. Iyer and J. Bilmes,
    "Submodularity in Data Subset Selection and Active Learning", ICML 2015. A value can only fall while others are
    chosen, so that only the top of the heap need be computed again (M. Minoux, 1978).

    Args:
        rounds_of: so many candidates, in the order given, are ranked before the next ones come; None: all at once.
    """
    coverage = Coverage(labelled)
    step = rounds_of or max(1, len(candidates))
    rounds = (_round(candidates[first : first + step], coverage) for first in range(0, len(candidates), step))
    return [key for order in rounds for key in order]


def _round(candidates: Sequence[WaitingCase], coverage: Coverage) -> list[str]:
    """Ids, the most instructive first; they are covered then."""
    by_id = {candidate.id: candidate for candidate in candidates}
    heap = [(-_value(candidate, coverage), candidate.id) for candidate in candidates]
    heapq.heapify(heap)
    order: list[str] = []
    while heap:
        _, key = heapq.heappop(heap)
        value = -_value(by_id[key], coverage)
        if heap and (value, key) > heap[0]:
            heapq.heappush(heap, (value, key))
            continue
        order.append(key)
        coverage.add(by_id[key])
    return order


def _value(candidate: WaitingCase, coverage: Coverage) -> float:
    worth = max(_LEAST, doubt(candidate)) * coverage.novelty(candidate)
    return worth * _LABELLED_WORTH if candidate.labelled else worth


def confidence_of(details: Mapping[str, object]) -> float | None:
    """The model's confidence as a case's metadata has it."""
    value = details.get("confidence")
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _shuffled(session: Session, seed: int) -> list[str]:
    """What waits of the audit. Whatever is heard of it by some day is then a random part of what was drawn."""
    out = select(ReviewHoldRow.case_id).where(ReviewHoldRow.reason != "second")
    unsaid = CaseRow.label_method.is_(None) & CaseRow.audio_erased_at.is_(None) & CaseRow.id.not_in(out)
    waiting = select(CaseRow.id).where(CaseRow.source == AUDIT, unsaid)
    return sorted(session.scalars(waiting), key=lambda key: _uniform(seed, key))


def _instructive(session: Session, seed: int) -> list[str]:
    """Failed cases, those first whose label teaches the most."""
    return ranked(_candidates(session, seed), _labelled(session), rounds_of=ROUND)


def _candidates(session: Session, seed: int) -> list[WaitingCase]:
    """Waiting cases in the order of the draw; in between those that wait for a second person, or to be checked."""
    failed = (CaseRow.source != AUDIT) & CaseRow.audio_erased_at.is_(None)
    free = CaseRow.id.not_in(select(ReviewHoldRow.case_id))
    second = CaseRow.id.in_(select(ReviewHoldRow.case_id).where(ReviewHoldRow.reason == "second"))
    places: dict[str, int] = {}
    for condition, limit, pace in (
        (CaseRow.label_method.is_(None) & free, POOL, 1),
        (CaseRow.label_method.is_(None) & second, POOL, 2),
        ((CaseRow.label_method == "llm") & free, _LLM_LABELLED, 2),
    ):
        keys = drawn(_strata(session, condition & failed), seed)[:limit]
        places |= {key: pace * place for place, key in enumerate(keys)}
    found = {item.id: item for item in _read(session, select(CaseRow).where(CaseRow.id.in_(places)))}
    return [found[key] for key in sorted(found, key=lambda key: (places[key], key))]


def _strata(session: Session, condition: ColumnElement[bool]) -> list[tuple[str, Hashable]]:
    """Id and stratum of waiting cases: source, model, condition or channel, week, and tenth of the error score.

    Of very many an equal-chance part: an id is a digest, so the first ones in its order are a random sample.
    """
    told = func.coalesce(CaseRow.details["condition"].as_string(), CaseRow.details["channel"].as_string(), "")
    columns = (CaseRow.id, CaseRow.source, CaseRow.model_version, told, CaseRow.first_seen, CaseRow.error_score)
    rows = session.execute(select(*columns).where(condition).order_by(CaseRow.id).limit(_LISTED))
    return [
        (key, (source, model, place, at.isocalendar()[:2], -1 if score is None else min(int(10 * score), 9)))
        for key, source, model, place, at, score in rows
    ]


def _labelled(session: Session) -> list[WaitingCase]:
    newest = select(CaseRow).where(CaseRow.label_method.in_(PEOPLE), CaseRow.source != AUDIT)
    return _read(session, newest.order_by(CaseRow.first_seen.desc(), CaseRow.id.desc()).limit(_LABELLED))


def _read(session: Session, query: Select[CaseRow]) -> list[WaitingCase]:
    rows = session.scalars(query).all()
    types = error_types_of(session, [row.id for row in rows])
    return [
        WaitingCase(
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
