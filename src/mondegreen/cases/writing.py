"""Writing cases, corrections, suggestions and the mark of a dataset version, each within the caller's transaction.

Rows are locked in the order of their ids, so that writers wait for each other and never in a circle. The counters of
cases are kept in the transactions that change the cases.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, bindparam, case, delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from mondegreen.cases.origin import FIELDS, merged, origin_of
from mondegreen.cases.queries import Kind, active_corrections, counts, current_correction, review_holds
from mondegreen.cases.records import AUDIT, LATE, PEOPLE, NewCase, NewCorrection, NewSuggestion
from mondegreen.cases.selecting import erased_cases
from mondegreen.config import Seconds
from mondegreen.db import batched, plain, upserting
from mondegreen.errors import CaseError
from mondegreen.tables import (
    CaseCountRow,
    CaseErrorRow,
    CaseRow,
    CorrectionRow,
    ErrorTypeCountRow,
    SuggestionRow,
    TableBase,
    searchable,
)

_log = logging.getLogger(__name__)
_SAME = ("model_version", "original_transcript", "error_score", "source", "metadata")  # in a NewCase and in its row
_Locked = Row[str, str, str, str | None, int | None, str, str]  # see _lock


class AudioCase(NamedTuple):
    """A case whose audio lies in the blob store."""

    case: NewCase
    sha256: str
    duration: Seconds

    @property
    def id(self) -> str:
        return case_id(self.sha256, self.case.model_version, self.case.source)


@dataclass(frozen=True)
class _Sighting:
    """What a call says of one case, which may be there several times."""

    stored: AudioCase
    times: int
    error_types: frozenset[str]


def case_id(audio_sha256: str, model_version: str, source: str = "") -> str:
    """The same on every machine. What the audit drew is never the failed case of the same recording."""
    kind = f"\0{AUDIT}" if source == AUDIT else ""
    return hashlib.sha256(f"{audio_sha256}\0{model_version}{kind}".encode()).hexdigest()[:16]


def store_cases(session: Session, cases: Sequence[AudioCase], at: datetime) -> list[str]:
    """Adds cases, or sees them once more; returns their ids in the order given."""
    tally = Tally()
    ids = [stored.id for stored in cases]
    sightings = _by_id(zip(ids, cases, strict=True))
    for batch in batched(sorted(sightings)):
        seen = {key: sightings[key] for key in batch}
        first_seen = _upsert(session, seen, at, tally)
        _warn_of_erased(session, [key for key in batch if first_seen[key] == at])
        _add_error_types(session, seen, first_seen, tally)
        again = {key: sighting.stored.case.metadata for key, sighting in seen.items() if first_seen[key] != at}
        merge_metadata(session, again)
    corrections = [
        NewCorrection(case_id=key, transcript=new.corrected_transcript, method=new.correction_method, author=new.author)
        for key, (new, _, _) in zip(ids, cases, strict=True)
        if new.corrected_transcript is not None
    ]
    _correct(session, corrections, at, tally)
    tally.write(session)
    return ids


def store_corrections(session: Session, corrections: Sequence[NewCorrection], at: datetime) -> list[int]:
    """Appends corrections in the order given and returns their ids. Raises CaseError for an unknown case."""
    tally = Tally()
    ids = _correct(session, corrections, at, tally)
    tally.write(session)
    return ids


def store_suggestions(session: Session, suggestions: Iterable[NewSuggestion], at: datetime) -> None:
    """Appends what a language model wrote."""
    if rows := [vars(item) | {"at": at} for item in suggestions]:
        session.execute(insert(plain(SuggestionRow)), rows)


def update_current_correction(session: Session, case_id: str) -> None:
    """Works out anew which correction a case has, after a reviewer's decision. Raises CaseError."""
    tally = Tally()
    before = _lock(session, [case_id])
    history = active_corrections(session, [case_id]).get(case_id, [])
    current = current_correction(history, review_holds(session, [case_id]).get(case_id))
    _set_current(session, before, {case_id: current}, tally)
    tally.write(session)


def mark_used(session: Session, case_ids: Iterable[str], dataset_version: int) -> int:
    """Notes the first dataset version that holds the cases; returns how many had none. Raises CaseError."""
    tally, marked = Tally(), 0
    for batch in batched(sorted(set(case_ids))):
        rows = _lock(session, batch)
        fresh = [row for row in rows.values() if row.dataset_version is None]
        session.execute(
            update(CaseRow).where(CaseRow.id.in_([row.id for row in fresh])).values(dataset_version=dataset_version)
        )
        for row in fresh:
            tally.move(Kind.of(row), Kind.of(row)._replace(used=True))
        marked += len(fresh)
    tally.write(session)
    return marked


def merge_metadata(session: Session, given: Mapping[str, Mapping[str, Any]], *, write: bool = True) -> int:
    """Adds what is said of cases to what the store knows of them; returns how many learn something.

    Args:
        given: metadata by case id; ids that the store does not know are passed over.
        write: else it is only counted.
    """
    changes = {}
    for batch in batched(sorted(key for key, new in given.items() if new)):
        query = select(CaseRow.id, CaseRow.details).where(CaseRow.id.in_(batch)).order_by(CaseRow.id)
        for key, known in session.execute(query.with_for_update() if write else query):
            details = merged(known, given[key])
            if details != known:
                _warn_of_another_origin(key, known, details)
                changes[key] = {"metadata": details}
    if write:
        update_rows(session, CaseRow, "id", changes)
    return len(changes)


def _warn_of_erased(session: Session, ids: Iterable[str]) -> None:
    for key, when in erased_cases(session, ids).items():
        _log.warning("case %s was erased on %s, and is in the store again", key, f"{when:%Y-%m-%d}")


def _warn_of_another_origin(key: str, known: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    before, now = origin_of(known), origin_of(details)
    for name in FIELDS:
        if before[name] and before[name] != now[name]:
            _log.warning("case %s: its %s was %r and is %r now", key, name, before[name], now[name])


def update_rows(
    session: Session, table_class: type[TableBase], key: str, changes: Mapping[Any, dict[str, Any]]
) -> None:
    """Sets columns of many rows: `changes` by the value of the column `key`, each of the same columns in one order."""
    if changes:
        table, names = plain(table_class), list(next(iter(changes.values())))
        parameters = ["row_key", *(f"new_{name}" for name in names)]
        statement = update(table).where(table.c[key] == bindparam("row_key"))
        session.execute(
            statement.values({name: bindparam(f"new_{name}") for name in names}),
            [dict(zip(parameters, (at, *row.values()), strict=True)) for at, row in changes.items()],
        )


class Tally:
    """What a transaction changes in the counters. `write` comes last, and in key order, so that writers never cross."""

    def __init__(self, kinds: Mapping[Kind, int] | None = None, error_types: Mapping[str, int] | None = None) -> None:
        self.kinds, self.error_types = Counter(kinds), Counter(error_types)

    def move(self, before: Kind | None, after: Kind) -> None:
        """A case became another kind; `before` is None for a new one."""
        self.kinds[after] += 1
        if before:
            self.kinds[before] -= 1

    def write(self, session: Session) -> None:
        kinds = [{**kind._asdict(), "cases": count} for kind, count in sorted(self.kinds.items()) if count]
        types = [{"error_type": name, "cases": count} for name, count in sorted(self.error_types.items()) if count]
        _add(session, CaseCountRow, kinds)
        _add(session, ErrorTypeCountRow, types)


def _add(session: Session, table: type[CaseCountRow] | type[ErrorTypeCountRow], rows: list[dict[str, Any]]) -> None:
    insert, known = upserting(session, table), plain(table)
    add = insert.on_conflict_do_update(
        index_elements=known.primary_key, set_={"cases": known.c.cases + insert.excluded.cases}
    )
    for row in rows:  # one at a time: a single statement may lock them in any order
        session.execute(add, row)


def rebuild_counters(session: Session) -> None:
    """Writes the counters anew from the cases."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        session.execute(text("LOCK TABLE case_counts, error_type_counts IN EXCLUSIVE MODE"))
    kinds, types = counts(session)
    for table in (CaseCountRow, ErrorTypeCountRow):
        session.execute(delete(table))
    Tally(kinds, types).write(session)


def _by_id(cases: Iterable[tuple[str, AudioCase]]) -> dict[str, _Sighting]:
    sightings: dict[str, _Sighting] = {}
    for key, stored in cases:
        types = frozenset(stored.case.error_types)
        known = sightings.get(key)
        if known is None:
            sightings[key] = _Sighting(stored, 1, types)
            continue
        details = merged(known.stored.case.metadata, stored.case.metadata)
        case = known.stored.case.model_copy(update={"metadata": details})
        both = known.stored._replace(case=case)
        sightings[key] = replace(known, stored=both, times=known.times + 1, error_types=known.error_types | types)
    return sightings


def _upsert(session: Session, seen: Mapping[str, _Sighting], at: datetime, tally: Tally) -> dict[str, datetime]:
    """Returns when each case was first seen."""
    statement, known = upserting(session, CaseRow), plain(CaseRow).c
    new = statement.excluded
    later = case((new.last_seen > known.last_seen, new.last_seen), else_=known.last_seen)  # clocks move back
    statement = statement.on_conflict_do_update(
        index_elements=["id"],
        set_={
            "times_seen": known.times_seen + new.times_seen,
            "last_seen": later,
            "error_score": func.coalesce(known.error_score, new.error_score),
            "audio_erased_at": None,
        },
    )
    rows = session.execute(
        statement.returning(known.id, known.times_seen, known.first_seen),
        [_values(key, sighting, at) for key, sighting in seen.items()],
    )
    first_seen = {}
    for key, times, first in rows:
        first_seen[key] = first
        if times == seen[key].times:  # nobody had seen it before
            case_ = seen[key].stored.case
            tally.move(None, Kind(case_.model_version, case_.source, "", used=False))
    return first_seen


def _values(key: str, sighting: _Sighting, at: datetime) -> dict[str, Any]:
    new, sha256, duration = sighting.stored
    name = os.fsencode(new.audio_path.name).decode(errors="replace")
    return {
        **{column: getattr(new, column) for column in _SAME},
        "id": key,
        "audio_sha256": sha256,
        "audio_name": name,
        "duration": duration,
        "first_seen": at,
        "last_seen": at,
        "times_seen": sighting.times,
        "words": searchable(new.original_transcript, name),
    }


def _add_error_types(
    session: Session, seen: Mapping[str, _Sighting], first_seen: Mapping[str, datetime], tally: Tally
) -> None:
    rows = [
        {"case_id": key, "error_type": name, "first_seen": first_seen[key]}
        for key, sighting in seen.items()
        for name in sorted(sighting.error_types)
    ]
    if rows:
        table = plain(CaseErrorRow)
        statement = (
            upserting(session, CaseErrorRow).on_conflict_do_nothing().returning(table.c.case_id, table.c.error_type)
        )
        added = session.execute(statement, rows)
        # What the audit drew is no failed case, and counts in no statistics of them.
        tally.error_types.update(name for key, name in added if seen[key].stored.case.source != AUDIT)


def _correct(session: Session, corrections: Sequence[NewCorrection], at: datetime, tally: Tally) -> list[int]:
    """Appends, and repeats in the case its current correction: the newest of a person, else of a machine."""
    ids: list[int] = []
    for batch in batched(sorted(corrections, key=lambda given: given.case_id)):
        before = _lock(session, [given.case_id for given in batch])
        newest: dict[str, NewCorrection] = {}
        held = review_holds(session, before)
        for given in batch:
            known = newest[given.case_id].method if given.case_id in newest else before[given.case_id].label_method
            if given.metadata.get(LATE):
                continue
            if given.method in PEOPLE or (known not in PEOPLE and given.case_id not in held):
                newest[given.case_id] = given
        table = plain(CorrectionRow)
        statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
        ids.extend(session.scalars(statement, [vars(given) | {"at": at} for given in batch]))
        _set_current(session, before, newest, tally)
    order = sorted(range(len(corrections)), key=lambda index: corrections[index].case_id)
    return [number for _, number in sorted(zip(order, ids, strict=True))]


def _set_current(
    session: Session,
    cases: Mapping[str, _Locked],
    current: Mapping[str, NewCorrection | CorrectionRow | None],
    tally: Tally,
) -> None:
    """Repeats in each case its current correction; None: it has none."""
    changes = {}
    for key, given in current.items():
        row, transcript = cases[key], given.transcript if given else None
        changes[key] = {
            "label_method": given.method if given else None,
            "corrected_transcript": transcript,
            "words": searchable(row.original_transcript, row.audio_name, transcript),
        }
        tally.move(Kind.of(row), Kind.of(row)._replace(label_method=given.method if given else ""))
    update_rows(session, CaseRow, "id", changes)


def _lock(session: Session, case_ids: Iterable[str]) -> dict[str, _Locked]:
    """The cases, each held until the transaction ends. Raises CaseError naming an unknown one."""
    wanted = set(case_ids)
    columns = (
        CaseRow.id,
        CaseRow.model_version,
        CaseRow.source,
        CaseRow.label_method,
        CaseRow.dataset_version,
        CaseRow.original_transcript,
        CaseRow.audio_name,
    )
    statement = select(*columns).where(CaseRow.id.in_(wanted)).order_by(CaseRow.id).with_for_update()
    rows = {row.id: row for row in session.execute(statement)}
    if unknown := sorted(wanted - rows.keys()):
        raise CaseError(f"There is no case {unknown[0]}.", "`mondegreen cases list` shows the ids.")
    return rows
