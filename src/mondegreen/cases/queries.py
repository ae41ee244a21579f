"""Reading cases: one by its id, pages of those that pass a filter or hold words, what was written for them, counts.

Texts are cut into words and folded here, so that both databases find the same: every word that is asked for, in upper
or lower case, must begin a word of the case. Both have an index of the words.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, exists, func, select, text, tuple_
from sqlalchemy.orm import Session, aliased

from mondegreen.cases.origin import origin_of
from mondegreen.cases.records import (
    AUDIT,
    LATE,
    PEOPLE,
    Case,
    CaseFilter,
    CasePage,
    CaseSuggestion,
    Correction,
    Record,
    Statistics,
    preferred,
)
from mondegreen.db import batched
from mondegreen.errors import CaseError, UsageError
from mondegreen.tables import (
    TSVECTOR,
    CaseCountRow,
    CaseErrorRow,
    CaseRow,
    CorrectionRow,
    ErrorTypeCountRow,
    ReviewDecisionRow,
    ReviewHoldRow,
    SuggestionRow,
    TableBase,
    search_words,
)

_SHORTEST_PREFIX = 6
_LIST = "`mondegreen cases list` shows the ids."
_FEW = 2_000  # cases that are soon looked at one by one
_RARE = 5_000  # cases of a type that are soon looked at one by one
_RECENT = 5_000

# A table of cases, and the conditions that they pass there.
Place = tuple[type[CaseRow], list[ColumnElement[bool]]]


def record_of(kind: type[Record], row: TableBase, **more: Any) -> Record:
    """A record from the columns of the same names of a row that was just read, and from `more`.

    Rows call their metadata `details`. Their values are read past SQLAlchemy's descriptors, which cost more than the
    record.
    """
    values = vars(row)
    same = {name: values["details" if name == "metadata" else name] for name in kind.model_fields if name not in more}
    return kind(**same, **more)


def get_case(session: Session, case_id: str) -> Case:
    """One case by its id, or by the first six or more characters of it. Raises CaseError."""
    wanted = case_id.strip().lower()
    if not re.fullmatch(f"[0-9a-f]{{{_SHORTEST_PREFIX},16}}", wanted):
        raise CaseError(
            f"{case_id!r} is not a case id.", f"It has 16 hex digits; the first {_SHORTEST_PREFIX} may do. {_LIST}"
        )
    starts = CaseRow.id.between(wanted, wanted + "g")  # g follows all hex digits
    rows = session.scalars(select(CaseRow).where(starts).order_by(CaseRow.id).limit(2)).all()
    if not rows:
        raise CaseError(f"There is no case {case_id}.", _LIST)
    if len(rows) > 1:
        raise CaseError(f"Several cases start with {case_id}, {rows[0].id} and {rows[1].id} among them.", "Write more.")
    return _cases(session, rows)[0]


def find_cases(session: Session, where: CaseFilter, limit: int | None, after: str | None) -> CasePage:
    """The newest cases that pass the filter; those that follow the case `after`."""
    last = get_case(session, after) if after is not None else None
    if where.text is None:
        return _page(session, _query(session, where, last, (CaseRow, [])), limit)
    textless = _query(session, where.model_copy(update={"text": None}), last, (CaseRow, []))
    for place in places(session, where.text, textless if limit is not None else None):
        page = _page(session, _query(session, where, last, place), limit)
        if page.next:
            break
    return page


def _query(session: Session, where: CaseFilter, last: Case | None, place: Place) -> Select[CaseRow]:
    """What passes the filter, newest first, from behind `last`."""
    row, conditions = place
    query = select(row).where(*_conditions(where, row), *conditions)
    time, key = row.first_seen, row.id
    if where.error_type is not None:
        has_type = (CaseErrorRow.case_id == row.id) & (CaseErrorRow.error_type == where.error_type)
        if row is CaseRow and _leads(session, where):
            # Error types carry the case's time and id: a page of one type is a page of their index.
            query, time, key = query.join(CaseErrorRow, has_type), CaseErrorRow.first_seen, CaseErrorRow.case_id
        else:
            query = query.where(exists().where(has_type))
    query = query.where(*_times(where, time))
    if last is not None:
        query = query.where(tuple_(time, key) < tuple_(last.first_seen, last.id))
    return query.order_by(time.desc(), key.desc())


def _leads(session: Session, where: CaseFilter) -> bool:
    """Whether to go through the cases of the error type, rather than through those that the other filters name."""
    others = (where.model_version, where.source, where.method, where.dataset_version, where.corrected, where.used)
    if others == (None,) * len(others):
        return True
    count = select(ErrorTypeCountRow.cases).where(ErrorTypeCountRow.error_type == where.error_type)
    return (session.scalar(count) or 0) <= _RARE


def _conditions(where: CaseFilter, row: type[CaseRow]) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (row.model_version, where.model_version),
            (row.source, where.source),
            (row.label_method, where.method),
            (row.dataset_version, where.dataset_version),
        )
        if value is not None
    ]
    if where.audit is not None:
        wanted.append(row.source == AUDIT if where.audit else row.source != AUDIT)
    for column, present in ((row.label_method, where.corrected), (row.dataset_version, where.used)):
        if present is not None:
            wanted.append(column.is_not(None) if present else column.is_(None))
    return wanted


def _times(where: CaseFilter, time: Any) -> list[ColumnElement[bool]]:
    since = [time >= where.since] if where.since else []
    return since + ([time < where.until] if where.until else [])


def _page(session: Session, query: Select[CaseRow], limit: int | None) -> CasePage:
    rows = session.scalars(query if limit is None else query.limit(limit + 1)).all()
    more = limit is not None and len(rows) > limit
    return CasePage(cases=_cases(session, rows[:limit]), next=rows[:limit][-1].id if more else None)


def _cases(session: Session, rows: Sequence[CaseRow]) -> list[Case]:
    types = error_types_of(session, [row.id for row in rows])
    return [record_of(Case, row, error_types=types.get(row.id, ())) for row in rows]


def error_types_of(session: Session, case_ids: Iterable[str]) -> dict[str, list[str]]:
    """The error types of each case that has some, by name."""
    types: dict[str, list[str]] = {}
    for batch in batched(case_ids):
        query = select(CaseErrorRow.case_id, CaseErrorRow.error_type).where(CaseErrorRow.case_id.in_(batch))
        for key, name in session.execute(query):
            types.setdefault(key, []).append(name)
    return {key: sorted(names) for key, names in types.items()}


def places(session: Session, wanted: str, newest: Select[CaseRow] | None) -> Iterator[Place]:
    """Where to look for cases with these words, best first. Only the last place has them all.

    Args:
        newest: the cases in question, newest first; None when only all of them will do.

    Raises:
        UsageError: there is no word to look for.
    """
    asked = search_words(wanted)
    if not asked:
        raise UsageError(f"There is no word in {wanted!r}.", "Search for the beginnings of words.")
    if session.get_bind().dialect.name == "postgresql":
        query = " & ".join(f"'{word}':*" for word in asked)
        yield CaseRow, [text(f"{TSVECTOR} @@ CAST(:words AS tsquery)").bindparams(words=query)]  # type: ignore[list-item]  # SQL as text
        return
    if newest is not None:  # a common word fills a page from these, while its index alone takes long to go through
        recent = aliased(CaseRow, newest.limit(_RECENT).subquery())
        yield recent, _scanned(recent, asked)
    found = _few(session, asked)
    if found is None:
        yield CaseRow, _scanned(CaseRow, asked)
    else:
        # The limit keeps SQLite from looking elsewhere first and for these among them.
        yield aliased(CaseRow, select(CaseRow).where(CaseRow.number.in_(found)).limit(_FEW).subquery()), []


def _scanned(row: type[CaseRow], asked: list[str]) -> list[ColumnElement[bool]]:
    return [row.words.contains(f" {word}", autoescape=True) for word in asked]


def _few(session: Session, asked: list[str]) -> list[int] | None:
    """Numbers of the cases with these words; None when they are many."""
    query = " AND ".join(f'"{word}"*' for word in asked)
    statement = text("SELECT rowid FROM case_words WHERE case_words MATCH :words LIMIT :most")
    found = list(session.scalars(statement, {"words": query, "most": _FEW + 1}))
    return found if len(found) <= _FEW else None


def corrections(session: Session, case_id: str) -> list[Correction]:
    """The history of a case, oldest first."""
    query = select(CorrectionRow, _is_active()).where(CorrectionRow.case_id == case_id).order_by(CorrectionRow.id)
    return [record_of(Correction, row, taken_back=not active) for row, active in session.execute(query)]


def active_corrections(session: Session, case_ids: Collection[str]) -> dict[str, list[CorrectionRow]]:
    """What was written for each case and not taken back, oldest first; cases without any are absent."""
    query = select(CorrectionRow).where(CorrectionRow.case_id.in_(case_ids), _is_active())
    rows = session.scalars(query.order_by(CorrectionRow.case_id, CorrectionRow.id))
    return {
        key: sorted(found, key=lambda row: not row.details.get(LATE))
        for key, found in groupby(rows, lambda row: row.case_id)
    }


def texts_taken_back(session: Session) -> set[tuple[str, str, str]]:
    """What people wrote and then took back: case, text and author."""
    columns = (CorrectionRow.case_id, CorrectionRow.transcript, CorrectionRow.author)
    rows = session.execute(select(*columns).where(CorrectionRow.method.in_(PEOPLE), ~_is_active()))
    return {(row.case_id, row.transcript, row.author) for row in rows}


def _is_active() -> ColumnElement[bool]:
    """Of a correction: that nobody took it back."""
    undone = select(ReviewDecisionRow.correction_id).where(
        ReviewDecisionRow.action == "undo", ReviewDecisionRow.correction_id.is_not(None)
    )
    return CorrectionRow.id.not_in(undone)


def review_holds(session: Session, case_ids: Iterable[str]) -> dict[str, ReviewHoldRow]:
    """The cases among these of which a reviewer's decision keeps something from becoming the current correction."""
    rows = session.scalars(select(ReviewHoldRow).where(ReviewHoldRow.case_id.in_(list(case_ids))))
    return {row.case_id: row for row in rows}


def current_correction(history: Sequence[CorrectionRow], hold: ReviewHoldRow | None = None) -> CorrectionRow | None:
    """The correction that a case has: a person's newest, else a machine's.

    Args:
        history: what is active, oldest first.
        hold: of the case; only what a person wrote after it can be current.
    """
    if hold:
        after = [row for row in history if row.method in PEOPLE and row.id > hold.after]
        history = [row for row in after if not row.details.get(LATE)]
    return preferred(history)


def newest_suggestions(session: Session, case_ids: Iterable[str]) -> dict[str, CaseSuggestion]:
    """The newest suggestion of a language model for each case (by its whole id) that has one."""
    found: dict[str, CaseSuggestion] = {}
    for batch in batched(case_ids):
        last = select(func.max(SuggestionRow.id)).where(SuggestionRow.case_id.in_(batch))
        rows = session.scalars(select(SuggestionRow).where(SuggestionRow.id.in_(last.group_by(SuggestionRow.case_id))))
        found |= {row.case_id: record_of(CaseSuggestion, row) for row in rows}
    return found


class Audited(NamedTuple):
    """What the audit drew, heard or not: it judges what the service does, and must teach nobody."""

    sha256: frozenset[str]
    recordings: frozenset[str]  # that pieces were drawn of, by the names that were given

    def holds(self, sha256: str, recording: str) -> bool:
        """Whether a recording, or another piece of the one that it comes from, is among them."""
        return sha256 in self.sha256 or recording in self.recordings


def audited(session: Session) -> Audited:
    """All recordings of the audit sample."""
    rows = session.execute(select(CaseRow.audio_sha256, CaseRow.details).where(CaseRow.source == AUDIT)).all()
    names = (origin_of(details)["recording"] for _, details in rows)
    return Audited(frozenset(sha256 for sha256, _ in rows), frozenset(name for name in names if name))


class Kind(NamedTuple):
    """What cases are counted by."""

    model_version: str
    source: str
    label_method: str  # "" without a correction
    used: bool

    @classmethod
    def of(cls, row: Any) -> "Kind":
        """The kind of a case, by those columns of its row."""
        return cls(row.model_version, row.source, row.label_method or "", row.dataset_version is not None)


def statistics(session: Session) -> Statistics:
    """Adds up the counters of the failed cases; what the audit drew is none."""
    kinds = {
        Kind(row.model_version, row.source, row.label_method, row.used): row.cases
        for row in session.scalars(select(CaseCountRow).where(CaseCountRow.cases != 0))
    }
    types = session.scalars(select(ErrorTypeCountRow).where(ErrorTypeCountRow.cases != 0))
    return _summed(kinds, {row.error_type: row.cases for row in types})


def recounted(session: Session) -> Statistics:
    """The same from the cases themselves: what the counters must say."""
    return _summed(*counts(session))


def counts(session: Session) -> tuple[dict[Kind, int], dict[str, int]]:
    """How many cases there are of each kind, and how many failed cases of each error type."""
    by = (CaseRow.model_version, CaseRow.source, CaseRow.label_method, CaseRow.dataset_version.is_not(None))
    rows = session.execute(select(*by, func.count()).group_by(*by))
    kinds = {Kind(version, source, method or "", used): count for version, source, method, used, count in rows}
    failed = select(CaseErrorRow.error_type, func.count()).join(CaseRow).where(CaseRow.source != AUDIT)
    types = session.execute(failed.group_by(CaseErrorRow.error_type))
    return kinds, {row[0]: row[1] for row in types}


def _summed(kinds: dict[Kind, int], error_types: dict[str, int]) -> Statistics:
    kinds = {kind: count for kind, count in kinds.items() if kind.source != AUDIT}
    total = sum(kinds.values())
    corrected = sum(count for kind, count in kinds.items() if kind.label_method)
    used = sum(count for kind, count in kinds.items() if kind.used)
    both = sum(count for kind, count in kinds.items() if kind.used and kind.label_method)
    return Statistics(
        total=total,
        corrected=corrected,
        uncorrected=total - corrected,
        correction_rate=corrected / total if total else 0.0,
        used=used,
        unused=total - used,
        unused_corrected=corrected - both,
        by_method=_by((kind.label_method, count) for kind, count in kinds.items() if kind.label_method),
        by_model_version=_by((kind.model_version, count) for kind, count in kinds.items()),
        by_source=_by((kind.source, count) for kind, count in kinds.items()),
        error_types=_by(error_types.items()),
    )


def _by(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Summed by name, the most frequent first."""
    total: Counter[str] = Counter()
    for name, count in counts:
        total[name] += count
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
