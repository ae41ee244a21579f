"""Writes what an import found missing. Everything happens within the caller's transaction."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from mondegreen.cases import storing
from mondegreen.cases.database import plain
from mondegreen.cases.exchange.records import SentCase, SentCorrection
from mondegreen.cases.records import NewCase, NewCorrection
from mondegreen.cases.storing import Stored
from mondegreen.cases.tables import CaseErrorRow, CaseRow, CorrectionRow, Table
from mondegreen.config import Seconds

_BATCH = 500  # rows of one statement
Advance = Callable[[int], None]
Audio = tuple[str, Seconds]  # sha256 and length
Item = TypeVar("Item")


class ImportReport(BaseModel):
    """What an import did, or with `dry_run` would do."""

    model_config = ConfigDict(frozen=True)
    cases: int  # in the file
    new_cases: int
    new_corrections: int
    known_corrections: int  # there already
    dry_run: bool


def apply(
    session: Session,
    cases: Iterable[tuple[str, SentCase]],
    audio: Mapping[str, Audio],
    author: str,
    write: bool,
    advance: Advance,
) -> ImportReport:
    """Adds new cases, and to known ones the corrections that they lack.

    Args:
        cases: with their ids.
        audio: of the new cases, by id.
        author: of the corrections that name none.
        write: False only counts.
        advance: called with a number of cases that are done.
    """
    now, total, added, corrected, known = datetime.now(UTC), 0, 0, 0, 0
    for batch in batched(cases):
        stored = stored_audio(session, [key for key, _ in batch])
        new = [(key, case) for key, case in batch if key not in stored]
        missing = _missing(session, batch, author)
        if write:
            _add_cases(session, new, audio, now)
            _add_corrections(session, missing, now)
        total, added, corrected = total + len(batch), added + len(new), corrected + len(missing)
        known += sum(len(case.corrections) for _, case in batch) - len(missing)
        advance(len(batch))
    return ImportReport(
        cases=total, new_cases=added, new_corrections=corrected, known_corrections=known, dry_run=not write
    )


def stored_audio(session: Session, ids: Sequence[str]) -> dict[str, str]:
    """The sha256 of the audio of those cases that the store has, by id."""
    rows = session.execute(select(CaseRow.id, CaseRow.audio_sha256).where(CaseRow.id.in_(ids)))
    return {row.id: row.audio_sha256 for row in rows}


def _add_cases(
    session: Session, cases: Sequence[tuple[str, SentCase]], audio: Mapping[str, Audio], now: datetime
) -> None:
    if not cases:
        return
    stored = [_stored(case, *audio[key]) for key, case in cases]
    storing.store_cases(session, stored, now)
    first = {key: case.first_seen or now for key, case in cases}
    rows = [
        {
            "key": key,
            "new_first_seen": first[key],
            "new_last_seen": case.last_seen or first[key],
            "new_times_seen": case.times_seen or 1,
        }
        for key, case in cases
    ]
    _update(session, CaseRow, "id", rows)
    # An error type carries its case's time.
    types = [{"key": key, "new_first_seen": first[key]} for key, case in cases if case.error_types]
    _update(session, CaseErrorRow, "case_id", types)


def _update(session: Session, table_class: type[Table], key: str, rows: Sequence[dict[str, Any]]) -> None:
    """Sets in the rows whose `key` is row["key"] each column x to row["new_x"]."""
    if rows:
        table = plain(table_class)
        values: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in rows[0] if name != "key"}
        session.execute(update(table).where(table.c[key] == bindparam("key")).values(values), rows)


def _stored(case: SentCase, sha256: str, duration: Seconds) -> Stored:
    new = NewCase(
        audio_path=Path(case.audio_name or PurePosixPath(case.audio).name),
        original_transcript=case.original_transcript or "",
        error_types=case.error_types,
        error_score=case.error_score,
        metadata=case.metadata,
        model_version=case.model_version,
        duration=duration,
        source=case.source,
    )
    return Stored(new, sha256, duration)


def _missing(session: Session, batch: Sequence[tuple[str, SentCase]], author: str) -> list[tuple[str, SentCorrection]]:
    """The corrections that the store lacks, in the file's order."""
    query = select(CorrectionRow).where(CorrectionRow.case_id.in_([key for key, _ in batch]))
    rows = session.scalars(query.order_by(CorrectionRow.case_id))
    stored = {key: list(found) for key, found in groupby(rows, lambda row: row.case_id)}
    missing = []
    for key, case in batch:
        there = Counter((row.transcript, row.method, row.author, row.at) for row in stored.get(key, []))
        texts = {facts[:3] for facts in there}
        for item in case.corrections:
            sent = item if item.author else item.model_copy(update={"author": author})
            facts = (sent.transcript, sent.method, sent.author)
            if sent.at is None and facts in texts:
                continue
            if sent.at is not None and there[(*facts, sent.at)] > 0:
                there[(*facts, sent.at)] -= 1  # the same words in the same moment twice are two corrections
                continue
            texts.add(facts)
            missing.append((key, sent))
    return missing


def _add_corrections(session: Session, missing: Sequence[tuple[str, SentCorrection]], now: datetime) -> None:
    if not missing:
        return
    new = [
        NewCorrection(
            case_id=key, transcript=sent.transcript, method=sent.method, author=sent.author, metadata=sent.metadata
        )
        for key, sent in missing
    ]
    numbers = storing.store_corrections(session, new, now)
    rows = [{"key": number, "new_at": sent.at or now} for number, (_, sent) in zip(numbers, missing, strict=True)]
    _update(session, CorrectionRow, "id", rows)


def batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    """As many as one statement takes."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
