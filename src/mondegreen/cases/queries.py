"""Reading cases: by id, or filtered and page by page in the order in which they came."""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, select, tuple_
from sqlalchemy.orm import Session

from mondegreen.cases.counting import stands
from mondegreen.cases.records import Case, CaseFilter, CasePage, Correction
from mondegreen.cases.search import Place, places
from mondegreen.cases.tables import CaseErrorRow, CaseRow, CorrectionRow, ErrorTypeCountRow
from mondegreen.errors import CaseError

_SHORTEST_PREFIX = 6
_RARE = 5_000  # cases that are soon looked at one by one
_LIST = "`mondegreen cases list` shows the ids."


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


def corrections(session: Session, case_id: str) -> list[Correction]:
    """The history of a case, oldest first."""
    query = select(CorrectionRow, stands()).where(CorrectionRow.case_id == case_id).order_by(CorrectionRow.id)
    return [
        Correction(
            id=row.id,
            case_id=row.case_id,
            transcript=row.transcript,
            method=row.method,
            author=row.author,
            at=row.at,
            metadata=row.details,
            taken_back=not stood,
        )
        for row, stood in session.execute(query)
    ]


def _leads(session: Session, where: CaseFilter) -> bool:
    """Whether to go through the cases of the error type, rather than through those that the other filters name."""
    if not {"model_version", "source", "method", "dataset_version", "corrected", "used"} & _given(where):
        return True
    count = select(ErrorTypeCountRow.cases).where(ErrorTypeCountRow.error_type == where.error_type)
    return (session.scalar(count) or 0) <= _RARE


def _given(where: CaseFilter) -> set[str]:
    return {name for name, value in where if value is not None}


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
    types: dict[str, list[str]] = {}
    for start in range(0, len(rows), 500):
        ids = [row.id for row in rows[start : start + 500]]
        query = select(CaseErrorRow.case_id, CaseErrorRow.error_type).where(CaseErrorRow.case_id.in_(ids))
        for key, name in session.execute(query):
            types.setdefault(key, []).append(name)
    return [_case(row, types.get(row.id, [])) for row in rows]


def _case(row: CaseRow, error_types: list[str]) -> Case:
    return Case(
        id=row.id,
        audio_sha256=row.audio_sha256,
        audio_name=row.audio_name,
        model_version=row.model_version,
        original_transcript=row.original_transcript,
        corrected_transcript=row.corrected_transcript,
        label_method=row.label_method,
        error_types=tuple(sorted(error_types)),
        error_score=row.error_score,
        duration=row.duration,
        source=row.source,
        metadata=row.details,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        times_seen=row.times_seen,
        dataset_version=row.dataset_version,
    )
