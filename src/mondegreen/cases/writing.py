"""Writing cases, corrections and the mark of a dataset version. Each function works within the caller's transaction.

Rows are locked in the order of their ids, so that writers wait for each other and never in a circle."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Row, bindparam, case, func, insert, select, update
from sqlalchemy.orm import Session

from mondegreen.cases.queries import Kind, Tally, counting, holds, standing_corrections, words
from mondegreen.cases.records import PEOPLE, NewCase, NewCorrection
from mondegreen.config import Seconds
from mondegreen.db import plain, upserting
from mondegreen.errors import CaseError
from mondegreen.tables import CaseErrorRow, CaseRow, CorrectionRow

_BATCH = 500  # rows of one statement
Item = TypeVar("Item")
_Known = Row[str, str, str, str | None, int | None, str, str]  # see _locked


class Stored(NamedTuple):
    """A case whose audio lies in the blob store."""

    case: NewCase
    sha256: str
    duration: Seconds

    @property
    def id(self) -> str:
        return case_id(self.sha256, self.case.model_version)


@dataclass(frozen=True)
class _Sighting:
    """What a call says of one case, which may be there several times."""

    stored: Stored
    times: int
    error_types: frozenset[str]


def case_id(audio_sha256: str, model_version: str) -> str:
    """The same on every machine."""
    return hashlib.sha256(f"{audio_sha256}\0{model_version}".encode()).hexdigest()[:16]


def store_cases(session: Session, cases: Sequence[Stored], at: datetime) -> list[str]:
    """Adds cases, or sees them once more; returns their ids in the order given."""
    tally = Tally()
    ids = [stored.id for stored in cases]
    sightings = _by_id(zip(ids, cases, strict=True))
    for batch in _batched(sorted(sightings), _BATCH):
        seen = {key: sightings[key] for key in batch}
        _add_error_types(session, seen, _upsert(session, seen, at, tally), tally)
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


def recount(session: Session, case_id: str) -> None:
    """Works out anew which correction of a case counts, after a reviewer's decision. Raises CaseError."""
    tally = Tally()
    before = _locked(session, [case_id])
    written = standing_corrections(session, [case_id]).get(case_id, [])
    found = counting(written, holds(session, [case_id]).get(case_id))
    _count(session, before, {case_id: found})
    tally.move(_kind(before[case_id]), _kind(before[case_id])._replace(label_method=found.method if found else ""))
    tally.write(session)


def mark_used(session: Session, case_ids: Iterable[str], dataset_version: int) -> int:
    """Notes the first dataset version that holds the cases; returns how many had none. Raises CaseError."""
    tally, marked = Tally(), 0
    for batch in _batched(sorted(set(case_ids)), _BATCH):
        rows = _locked(session, batch)
        fresh = [row for row in rows.values() if row.dataset_version is None]
        session.execute(
            update(CaseRow).where(CaseRow.id.in_([row.id for row in fresh])).values(dataset_version=dataset_version)
        )
        for row in fresh:
            tally.move(_kind(row), _kind(row)._replace(used=True))
        marked += len(fresh)
    tally.write(session)
    return marked


def _by_id(cases: Iterable[tuple[str, Stored]]) -> dict[str, _Sighting]:
    sightings: dict[str, _Sighting] = {}
    for key, stored in cases:
        types = frozenset(stored.case.error_types)
        known = sightings.get(key)
        sightings[key] = (
            replace(known, times=known.times + 1, error_types=known.error_types | types)
            if known
            else _Sighting(stored, 1, types)
        )
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
        "id": key,
        "audio_sha256": sha256,
        "audio_name": name,
        "model_version": new.model_version,
        "original_transcript": new.original_transcript,
        "error_score": new.error_score,
        "duration": duration,
        "source": new.source,
        "metadata": new.metadata,
        "first_seen": at,
        "last_seen": at,
        "times_seen": sighting.times,
        "words": words(new.original_transcript, name),
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
        statement = (
            upserting(session, CaseErrorRow).on_conflict_do_nothing().returning(plain(CaseErrorRow).c.error_type)
        )
        tally.error_types.update(session.scalars(statement, rows))


def _correct(session: Session, corrections: Sequence[NewCorrection], at: datetime, tally: Tally) -> list[int]:
    """Appends, and repeats in the case the correction that counts: the newest of a person, else of a machine."""
    ids: list[int] = []
    for batch in _batched(sorted(corrections, key=lambda given: given.case_id), _BATCH):
        before = _locked(session, [given.case_id for given in batch])
        newest: dict[str, NewCorrection] = {}
        held = holds(session, before)
        for given in batch:
            known = newest[given.case_id].method if given.case_id in newest else before[given.case_id].label_method
            if given.method in PEOPLE or (known not in PEOPLE and given.case_id not in held):
                newest[given.case_id] = given
        ids.extend(_append(session, batch, at))
        _count(session, before, newest)
        for key, given in newest.items():
            tally.move(_kind(before[key]), _kind(before[key])._replace(label_method=given.method))
    order = sorted(range(len(corrections)), key=lambda index: corrections[index].case_id)
    return [number for _, number in sorted(zip(order, ids, strict=True))]


def _append(session: Session, batch: Sequence[NewCorrection], at: datetime) -> list[int]:
    rows = [
        {
            "case_id": given.case_id,
            "transcript": given.transcript,
            "method": given.method,
            "author": given.author,
            "at": at,
            "metadata": given.metadata,
        }
        for given in batch
    ]
    table = plain(CorrectionRow)
    statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    return list(session.scalars(statement, rows))


def _count(
    session: Session, cases: Mapping[str, _Known], newest: Mapping[str, NewCorrection | CorrectionRow | None]
) -> None:
    table = plain(CaseRow)
    values: dict[str, Any] = {
        name: bindparam(f"new_{name}") for name in ("label_method", "corrected_transcript", "words")
    }
    rows = [
        {
            "key": key,
            "new_label_method": given.method if given else None,
            "new_corrected_transcript": given.transcript if given else None,
            "new_words": words(
                cases[key].original_transcript, cases[key].audio_name, given.transcript if given else None
            ),
        }
        for key, given in newest.items()
    ]
    if rows:
        session.execute(update(table).where(table.c.id == bindparam("key")).values(values), rows)


def _locked(session: Session, case_ids: Iterable[str]) -> dict[str, _Known]:
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


def _kind(row: _Known) -> Kind:
    return Kind(row.model_version, row.source, row.label_method or "", row.dataset_version is not None)


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
