"""The rows of an erasure: out of every table that says something of what is erased.

A table is found by its columns: one that leads to a case or an inference, or names a recording, a speaker or a caller,
loses the rows of those that are erased, and what leads to these rows. Tables that say nothing of anybody are `KEPT`.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sqlalchemy import Column, ColumnElement, CursorResult, Engine, delete, func, insert, null, select, update
from sqlalchemy import Table as SqlTable
from sqlalchemy.orm import Session

from mondegreen.cases.queries import Kind
from mondegreen.cases.records import AUDIT
from mondegreen.cases.selecting import ErasedCases, person_key, subject_digest
from mondegreen.cases.writing import Tally
from mondegreen.db import batched, plain, transaction
from mondegreen.errors import CaseError
from mondegreen.tables import CaseErrorRow, CaseRow, ErasedSubjectRow, ErasureRow, TableBase

_TABLES = TableBase.metadata.tables
_CASES, _INFERENCES = _TABLES["cases"], _TABLES["inferences"]
# Columns that lead to a row although no foreign key says so.
_LINKS = {"case_id": _CASES.c.id, "audit_id": _CASES.c.id, "request_id": _INFERENCES.c.request_id}
_AGAIN = "Make room, or stop what has it open, and run `mondegreen cases erase` again, which goes on."
_NAMES = ("audio_sha256", "speaker", "caller")  # columns that say whose a row is
# Tables without a word of anybody's, and why their rows stay.
KEPT: Mapping[str, str] = MappingProxyType(
    {
        "case_counts": "numbers by model, source and method, kept right as cases go",
        "error_type_counts": "numbers by error type, kept right as cases go",
        "jobs": "rounds: thresholds, numbers, paths of logs",
        "job_events": "what became of a round, and why",
        "alerts": "a metric and its threshold",
        "schema_version": "a number",
        "test_spend": "digests of test sets and models; the first digits of the digests of their recordings",
        "regression_runs": "rates of suites that people keep in data/regression",
        "deployments": "who moved which version, and why",
        "erasures": "the record of erasures itself",
        "erased_subjects": "digests of what was erased",
    }
)


class _Link(NamedTuple):
    child: SqlTable
    column: Column[str]
    to: Column[str]


def _links_to(table: SqlTable) -> Iterator[_Link]:
    """What leads to the rows of a table, by a foreign key or by the name of the column."""
    for child in _TABLES.values():
        if child is table:
            continue
        for column in child.columns:
            keys = [key.column for key in column.foreign_keys]
            named = [] if keys or column.name not in _LINKS else [_LINKS[column.name]]
            yield from (_Link(child, column, to) for to in keys + named if to.table is table)


def erased_tables() -> set[str]:
    """The tables that lose rows: those that name somebody, and what leads to them."""
    found: set[str] = set()
    waiting = [_CASES, *(table for table in _TABLES.values() if any(name in table.c for name in _NAMES))]
    while waiting:
        table = waiting.pop()
        if table.name not in found:
            found.add(table.name)
            waiting += [link.child for link in _links_to(table)]
    return found


def begin_erasure(session: Session, selection: ErasedCases, who: str, reason: str, at: datetime) -> int:
    """Writes down that it is erased, before anything goes: from now on a replay brings nothing back. Its number."""
    row = ErasureRow(at=at, who=who, reason=reason, what=selection.what, before=selection.before, counts={})
    session.add(row)
    session.flush()
    digests = {subject_digest("speaker", name) for name in selection.names("speaker")}
    digests |= {subject_digest("speaker", person_key(name)) for name in selection.names("speaker")}
    digests |= {subject_digest("caller", name) for name in selection.names("caller")}
    digests |= {subject_digest("case", key) for key in selection.cases}
    if not selection.aged:
        digests |= {subject_digest("audio", sha256) for sha256 in selection.recordings}
    if digests:
        rows = [{"digest": digest, "erasure_id": row.id} for digest in sorted(digests)]
        session.execute(insert(plain(ErasedSubjectRow)), rows)
    return row.id


def finish_erasure(session: Session, number: int, counts: Mapping[str, int]) -> None:
    """Writes down that nothing is left of it."""
    values = {"finished_at": datetime.now(UTC), "counts": dict(counts)}
    session.execute(update(ErasureRow).where(ErasureRow.id == number).values(**values))


def erase_rows(engine: Engine, selection: ErasedCases) -> Counter[str]:
    """Removes the rows, some at a time; killed in between, it is called again. Returns how many, by table."""
    counts: Counter[str] = Counter()
    for batch in batched(selection.cases):
        with transaction(engine) as session:
            _remove_cases(session, batch, counts, detach=selection.aged)
    for batch in batched(selection.silenced):
        with transaction(engine) as session:
            session.execute(update(CaseRow).where(CaseRow.id.in_(batch)).values(audio_erased_at=datetime.now(UTC)))
    if selection.before:
        _remove_by(engine, _INFERENCES, _INFERENCES.c.at < selection.before, counts)
    if not selection.aged:
        for table in (table for table in _TABLES.values() if table is not _CASES):
            if (column := table.c.get("audio_sha256")) is not None:
                for batch in batched(selection.recordings):
                    with transaction(engine) as session:
                        _remove(session, table, column.in_(batch), counts)
            whose: tuple[Literal["speaker", "caller"], ...] = ("speaker", "caller")
            for name in whose:
                if (column := table.c.get(name)) is not None and (spelt := selection.names(name)):
                    _remove_by(engine, table, column.in_(spelt), counts)
    return counts


def _remove_cases(session: Session, ids: Sequence[str], counts: Counter[str], *, detach: bool) -> None:
    """With the counters of cases; `detach`: what may be without its case stays."""
    tally = Tally()
    columns = CaseRow.model_version, CaseRow.source, CaseRow.label_method, CaseRow.dataset_version
    rows = session.execute(select(*columns).where(CaseRow.id.in_(ids)).order_by(CaseRow.id).with_for_update())
    for row in rows:
        tally.kinds[Kind.of(row)] -= 1
    types = select(CaseErrorRow.error_type, func.count()).join(CaseRow)
    failed = types.where(CaseErrorRow.case_id.in_(ids), CaseRow.source != AUDIT)
    for error_type, number in session.execute(failed.group_by(CaseErrorRow.error_type)):
        tally.error_types[error_type] -= number
    if detach:
        for link in _links_to(_CASES):
            if link.column.nullable:
                session.execute(update(link.child).where(link.column.in_(ids)).values({link.column: null()}))
    _remove(session, _CASES, _CASES.c.id.in_(ids), counts)
    tally.write(session)


def _remove_by(engine: Engine, table: SqlTable, where: ColumnElement[bool], counts: Counter[str]) -> None:
    """Some rows of a table at a time, so that nobody waits long for the database."""
    key = next(iter(table.primary_key.columns))
    while True:
        with transaction(engine) as session:
            ids = list(session.scalars(select(key).where(where).order_by(key).limit(500)))
            if not ids:
                return
            _remove(session, table, key.in_(ids), counts)


def _remove(session: Session, table: SqlTable, where: ColumnElement[bool], counts: Counter[str]) -> None:
    """The rows, after those that lead to them."""
    for link in _links_to(table):
        _remove(session, link.child, link.column.in_(select(link.to).where(where)), counts)
    result = session.execute(delete(table).where(where))
    assert isinstance(result, CursorResult)
    counts[table.name] += result.rowcount


def unneeded_recordings(session: Session, recordings: Sequence[str]) -> list[str]:
    """Those whose bytes no row needs: inferences and cases without their recording name it and have no audio."""
    needed: set[str] = set()
    for table in _TABLES.values():
        column = table.c.get("audio_sha256")
        if column is None or table is _INFERENCES:
            continue
        for batch in batched(recordings):
            query = select(column).where(column.in_(batch))
            if table is _CASES:
                query = query.where(CaseRow.audio_erased_at.is_(None))
            needed |= set(session.scalars(query))
    return [sha256 for sha256 in recordings if sha256 not in needed]


def overwrite_freed(engine: Engine) -> None:
    """Leaves nothing of removed rows in SQLite's file, its index of words and its WAL; frees them in PostgreSQL.

    Raises:
        CaseError: the disk has no room for a second copy of SQLite's file, or others keep it busy.
    """
    if engine.dialect.name != "sqlite":
        with closing(engine.raw_connection()) as raw:
            raw.rollback()
            driver: Any = raw.driver_connection
            driver.autocommit = True  # pg8000's own: under SQLAlchemy's AUTOCOMMIT it begins a transaction
            try:
                for name in sorted(erased_tables()):
                    raw.cursor().execute(f"VACUUM {name}")
            finally:
                driver.autocommit = False
        return
    with closing(engine.raw_connection()) as raw:  # both vacuum outside of any transaction
        raw.rollback()
        cursor = raw.cursor()
        try:
            cursor.execute("INSERT INTO case_words(case_words) VALUES ('rebuild')")
            cursor.execute("VACUUM")
            busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise CaseError(f"What was removed is not overwritten yet: {error}.", _AGAIN) from error
    if busy:
        raise CaseError("What was removed is not overwritten yet: others read the database.", _AGAIN)
