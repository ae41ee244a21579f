"""Cases out of a file into the store: all of it or nothing, and a second time changes nothing."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from mondegreen.cases import storing
from mondegreen.cases.database import reading, transaction
from mondegreen.cases.exchange.applying import Advance, Audio, ImportReport, apply, batched, stored_audio
from mondegreen.cases.exchange.audio import CaseProblem, take
from mondegreen.cases.exchange.csv_table import read_csv
from mondegreen.cases.exchange.label_studio import read_tasks
from mondegreen.cases.exchange.records import (
    Format,
    Problems,
    Row,
    SentCase,
    explained,
    format_of,
    undecodable,
)
from mondegreen.cases.manager import DataManager
from mondegreen.errors import UsageError

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
        key = storing.case_id(sha256, case.model_version)
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
    own = storing.case_id(sha256, case.model_version)
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
    return storing.case_id(case.sha256, case.model_version) if case.sha256 else ""
