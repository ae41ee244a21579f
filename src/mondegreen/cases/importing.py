"""Cases out of a file into the store: all of it or nothing, and a second time changes nothing.

Writes what an import found missing. Everything happens within the caller's transaction.

The audio that an import file names: relative to the file's folder, and never outside of it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from mondegreen.cases import writing
from mondegreen.cases.formats import (
    Format,
    Problems,
    Row,
    SentCase,
    SentCorrection,
    explained,
    format_of,
    read_csv,
    read_tasks,
    undecodable,
)
from mondegreen.cases.records import NewCase, NewCorrection
from mondegreen.cases.store import DataManager
from mondegreen.cases.writing import AudioCase
from mondegreen.config import Seconds
from mondegreen.db import plain, reading, transaction
from mondegreen.errors import AudioError, CaseError, UsageError
from mondegreen.files import sha256_file
from mondegreen.speech.audio import duration_of
from mondegreen.tables import CaseErrorRow, CaseRow, CorrectionRow, Table

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
    writing.store_cases(session, stored, now)
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


def _stored(case: SentCase, sha256: str, duration: Seconds) -> AudioCase:
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
    return AudioCase(new, sha256, duration)


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
    numbers = writing.store_corrections(session, new, now)
    rows = [{"key": number, "new_at": sent.at or now} for number, (_, sent) in zip(numbers, missing, strict=True)]
    _update(session, CorrectionRow, "id", rows)


def batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    """As many as one statement takes."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch


_OUTSIDE = re.compile(r"[/~]|[A-Za-z]:|.*\\", re.DOTALL)  # absolute, a home, a drive, another system's separators


class CaseProblem(Exception):
    """Why a case cannot be imported, for the list of problems."""


def locate(folder: Path, name: str) -> Path:
    """The file below `folder` that a case names. Raises CaseProblem."""
    shown = f"the audio {name!r}"
    if re.match("[a-z0-9+]+://", name):
        raise CaseProblem(f"{shown} is not on this machine; put the file beside the import file")
    if "\0" in name or _OUTSIDE.match(name) or ".." in name.split("/"):
        raise CaseProblem(f"{shown} must be a path relative to {folder}, with / between its parts and without ..")
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside:
            raise CaseProblem(f"{shown} leads out of {folder}")
        if not path.is_file():
            raise CaseProblem(f"there is no file {path}")
    except OSError as error:
        raise CaseProblem(f"{shown} cannot be used: {error.strerror}") from None
    return path


def take(data_manager: DataManager, folder: Path, audio: str, sha256: str, keep: bool) -> tuple[str, Seconds]:
    """The sha256 and the length of a new case's audio: a file of the folder, or what the blob store has already.

    Args:
        audio: "" for a recording that the store should have.
        sha256: "" when the file does not say.
        keep: put it into the blob store.

    Raises:
        CaseProblem: there is no such recording, it cannot be decoded, or it is another one.
        CaseError: the disk is full.
    """
    if not audio and not sha256:
        raise CaseProblem("a new case needs its audio; only cases that are in the store can do without")
    try:
        path = locate(folder, audio) if audio else data_manager.blobs.path(sha256)
    except CaseError:
        raise CaseProblem(f"the store has no recording {sha256}, and the field audio names no file") from None
    try:
        duration = duration_of(path)
        found = sha256_file(path)
    except AudioError as error:
        raise CaseProblem(error.problem) from None
    except OSError as error:
        raise CaseProblem(f"{path} cannot be read: {error.strerror}") from None
    if sha256 and found != sha256:
        raise CaseProblem(f"the bytes of {path} have the sha256 {found}, not {sha256}")
    if keep and audio and data_manager.blobs.put(path) != found:
        raise CaseProblem(f"{path} was changed while it was read")
    return found, duration


_LONGEST_LINE = 16 << 20


@dataclass
class _Checked:
    """What the first pass found: the audio of the new cases by id, and where each id stands."""

    audio: dict[str, Audio] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


def import_cases(
    data_manager: DataManager,
    path: Path,
    *,
    file_format: str | None = None,
    author: str = "",
    dry_run: bool = False,
    advance: Advance = lambda cases: None,
) -> ImportReport:
    """Adds the file's new cases, and to known cases the corrections that they lack. Nothing else is changed.

    A correction is known when the case has one with the same text, method and author (and time, when the file says
    it). The file is read twice: first everything is checked and the audio is stored, then one transaction writes.

    Args:
        path: CSV, JSON lines or Label Studio's JSON; audio is named relative to its folder.
        author: of the corrections that name none.
        dry_run: only check and count.
        advance: called with a number of cases that are done, in both passes.

    Raises:
        UsageError: the file is wrong; lists up to 20 problems with their lines or tasks. Nothing was imported.
        CaseError: the disk is full, or the database refuses. Nothing was imported.
    """
    kind = format_of(path, file_format)
    if not path.is_file():
        raise UsageError(f"{path} does not exist.", "Check the name of the file to import.")
    problems = Problems(path)
    for where, problem in islice(undecodable(path), 20):
        problems.add(where, problem)
    problems.refuse()
    with data_manager.blobs.writing():
        checked = _check(data_manager, path, kind, problems, not dry_run, advance)
        problems.refuse()
        opened = reading if dry_run else transaction
        with opened(data_manager.engine) as session:
            return apply(session, _identified(_cases(path, kind), checked), checked.audio, author, not dry_run, advance)


def _check(
    data_manager: DataManager, path: Path, kind: Format, problems: Problems, keep: bool, advance: Advance
) -> _Checked:
    checked = _Checked()
    for batch in batched(_read(path, kind)):
        ids = [row.case.id or _own_id(row.case) for row in batch if row.case]
        with reading(data_manager.engine) as session:
            stored = stored_audio(session, ids)
        for row in batch:
            try:
                _check_row(data_manager, path.parent, row, stored, checked, keep)
            except CaseProblem as error:
                problems.add(row.where, str(error))
            if problems.enough:
                return checked
        advance(len(batch))
    return checked


def _check_row(
    data_manager: DataManager, folder: Path, row: Row, stored: dict[str, str], checked: _Checked, keep: bool
) -> None:
    """Notes the case's id, and the audio of a new one. Raises CaseProblem for anything that is wrong."""
    if row.case is None:
        raise CaseProblem(row.problem)
    case, key = row.case, row.case.id or _own_id(row.case)
    if key not in stored:
        sha256, duration = _new_audio(data_manager, folder, case, keep)
        key = writing.case_id(sha256, case.model_version)
        checked.audio[key] = sha256, case.duration or duration
    elif case.sha256 and case.sha256 != stored[key]:
        raise CaseProblem(f"field sha256: the case {key} has the audio {stored[key]}, not this one")
    if any(item.method == "llm" and not item.transcript.strip() for item in case.corrections):
        raise CaseProblem("field corrections: a machine's correction is empty; only a person can say so")
    if key in checked.places:
        raise CaseProblem(f"the case {key} is in {checked.places[key]} already; a file names a case once")
    checked.places[key] = row.where


def _new_audio(data_manager: DataManager, folder: Path, case: SentCase, keep: bool) -> Audio:
    if case.original_transcript is None:
        raise CaseProblem("field original_transcript: a new case needs what the model heard")
    if PurePosixPath(case.audio_name).name != case.audio_name:
        raise CaseProblem(f"field audio_name: {case.audio_name!r} is not the name of a file")
    sha256, duration = take(data_manager, folder, case.audio, case.sha256, keep)
    own = writing.case_id(sha256, case.model_version)
    if case.id and case.id != own:
        raise CaseProblem(
            f"field id: {case.id} is not the id of this audio and model version, which is {own}; leave it empty"
        )
    return sha256, duration


def _identified(cases: Iterable[tuple[str, SentCase]], checked: _Checked) -> Iterator[tuple[str, SentCase]]:
    """Each case with the id that the first pass gave it. Raises UsageError when the file has changed since."""
    keys = {where: key for key, where in checked.places.items()}
    for where, case in cases:
        if where not in keys or (case.id and case.id != keys[where]):
            raise UsageError(f"The file was changed while it was read ({where}).", "Import it again.")
        yield keys[where], case


def _cases(path: Path, kind: Format) -> Iterator[tuple[str, SentCase]]:
    for row in _read(path, kind):
        if row.case is None:
            raise UsageError(f"{path} was changed while it was read ({row.where}).", "Import it again.")
        yield row.where, row.case


def _read(path: Path, kind: Format) -> Iterator[Row]:
    return {"csv": read_csv, "label-studio": read_tasks, "jsonl": _read_jsonl}[kind](path)


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), ""), 1):
            if not line.strip():
                continue
            try:
                yield Row(f"line {number}", SentCase.model_validate(json.loads(line)))
            except ValidationError as error:
                yield Row(f"line {number}", None, explained(error))
            except (ValueError, RecursionError) as error:
                yield Row(f"line {number}", None, f"this is not JSON: {error}")


def _own_id(case: SentCase) -> str:
    return writing.case_id(case.sha256, case.model_version) if case.sha256 else ""
