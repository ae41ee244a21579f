"""Cases between stores: out into a file that spreadsheets, Label Studio or another store can read, and in from one."""

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from mondegreen.cases import writing
from mondegreen.cases.arriving import compared, dated, superseded_texts
from mondegreen.cases.file_audio import Audio, AudioFolder, CaseProblem, known_recording, new_audio
from mondegreen.cases.formats import WHOLE_TIME, format_of, read_cases, write_cases
from mondegreen.cases.queries import active_corrections, current_correction, record_of, review_holds
from mondegreen.cases.records import LATE, PEOPLE, Case, CaseFilter, NewCase, NewCorrection
from mondegreen.cases.sent_cases import CaseInFile, Remark, SentCase, SentCorrection, told
from mondegreen.cases.store import DataManager
from mondegreen.db import batched, reading, transaction
from mondegreen.delimited import Notice, some, tell
from mondegreen.errors import CaseError, UsageError
from mondegreen.files import is_there, write_bytes
from mondegreen.progress import Advance
from mondegreen.scoring.wording import many
from mondegreen.tables import CaseErrorRow, CaseRow, CorrectionRow

AUDIO = "audio"  # the folder of the recordings beside an exported file
_PROBLEMS = 20  # of one error
_LATE = (
    "corrections are older than the one that counts, or than a review that lets none count: they are kept in the "
    "history, and change no text"
)
_SUPERSEDED = (
    "corrections without a time are in the store already, and a newer one counts there, or a review lets none count: "
    "nothing was changed; to go back to such a text use `mondegreen cases correct`, or where a newer one counts write "
    "it into a new export, which has the history"
)
_UNCHANGED = Case.model_fields.keys() & SentCase.model_fields.keys()
LackingCharacters = Callable[[str], Iterable[str]]


def export_cases(
    data_manager: DataManager,
    path: Path,
    *,
    where: CaseFilter | None = None,
    file_format: str | None = None,
    with_audio: bool = False,
    prefix: str = "",
    advance: Advance = lambda cases: None,
    notices: list[Notice] | None = None,
) -> int:
    """Writes cases with all their corrections, newest case first; the file is whole or not there.

    Where a review keeps all that was written from counting, none of it is written: elsewhere nobody knows of the
    review, and it would count.

    Args:
        path: .csv, .tsv (with tabs), .jsonl or .json (Label Studio) unless `file_format` says otherwise.
        with_audio: copy the recordings into audio/ beside the file, so that another machine can import it.
        prefix: for Label Studio, what goes before a recording's relative path.
        advance: called with a number of cases that are done.
        notices: which cases are written without their corrections is appended; logged when None.

    Returns:
        How many cases were written.

    Raises:
        UsageError: no such format.
        CaseError: audio is missing or damaged; the disk is full.
    """
    kind = format_of(path, file_format)
    held: list[str] = []
    cases = _sent(data_manager, where, path.parent / AUDIO if with_audio else None, advance, held)
    try:
        with _whole(path) as stream:
            number = write_cases(stream, kind, cases, prefix, "\t" if path.suffix.lower() == ".tsv" else ",")
    except OSError as error:
        raise CaseError(
            f"{path} cannot be written: {error.strerror}.", "Make room, or check the folder and its permissions."
        ) from error
    if held:
        message = f"corrections that a review keeps from counting are left out, of {many(len(held), 'case')}"
        tell(Notice("held", f"{message}: {some(held)}", str(path), count=len(held)), notices)
    return number


def _sent(
    data_manager: DataManager, where: CaseFilter | None, audio: Path | None, advance: Advance, held: list[str]
) -> Iterator[SentCase]:
    """The cases of a file; to `held` goes which of them leave their corrections here."""
    for batch in batched(data_manager.each_case(where)):
        ids = [case.id for case in batch]
        with reading(data_manager.engine) as session:  # what was taken back, or is held, would be current elsewhere
            written, holds = active_corrections(session, ids), review_holds(session, ids)
        for case in batch:
            history = written.get(case.id, [])
            if history and current_correction(history, holds.get(case.id)) is None:
                held.append(case.id)
                history = []
            yield SentCase(
                audio=_copied(data_manager, case.audio_sha256, audio) if audio else "",
                sha256=case.audio_sha256,
                corrections=tuple(record_of(SentCorrection, row) for row in history),
                **case.model_dump(include=_UNCHANGED),
            )
        advance(len(batch))


def _copied(data_manager: DataManager, sha256: str, folder: Path) -> str:
    """Copies a recording and returns its path beside the file. Raises CaseError when it is missing or damaged."""
    source = data_manager.blobs.path(sha256)
    content = source.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CaseError(
            f"The recording {source} is damaged: its bytes are not those that were stored.",
            "`mondegreen cases verify` names all of them; bring them back from a backup, or export without audio.",
        )
    name = f"{sha256}{source.suffix}"
    write_bytes(folder / name, content)
    return f"{AUDIO}/{name}"


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """A text file that takes its name when all of it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class CaseImportReport(BaseModel):
    """What an import did, or with `dry_run` would do."""

    model_config = ConfigDict(frozen=True)
    cases: int  # in the file
    new_cases: int
    new_corrections: int
    known_corrections: int  # there already
    new_metadata: int = 0  # known cases of which the file says something new
    dry_run: bool
    notices: tuple[Notice, ...] = ()  # what was understood, assumed or left out


def import_cases(
    data_manager: DataManager,
    path: Path,
    *,
    file_format: str | None = None,
    author: str = "",
    dry_run: bool = False,
    text_area: str = "",
    silence: bool = False,
    lacking: LackingCharacters = lambda text: (),
    advance: Advance = lambda cases: None,
) -> CaseImportReport:
    """Adds the file's new cases, and to known cases the corrections that they lack. Nothing else is changed.

    A correction is known when the case has one with the same text, method and author (and time, when the file says
    it); one without a time is not compared with those that the file names with their times, since it stands beside
    them. The file is read twice: first everything is checked and the audio is stored, then one transaction writes.

    Args:
        path: CSV, JSON lines or Label Studio's JSON; audio is named relative to its folder.
        author: of the corrections that name none.
        dry_run: only check and count.
        text_area, silence: of Label Studio, see `label_studio.read_tasks`.
        lacking: the characters of a text that the model which is trained cannot write; such corrections are noted.
        advance: called with a number of cases that are done, in both passes.

    Raises:
        UsageError: the file is wrong; lists up to 20 problems with their lines or tasks. Nothing was imported.
        CaseError: the disk is full, or the database refuses. Nothing was imported.
    """
    kind = format_of(path, file_format)
    if not (is_there(path) and path.is_file()):
        raise UsageError(f"{path} does not exist.", "Check the name of the file to import.")
    notices: list[Notice] = []
    folder = AudioFolder(path.parent, of_another_disk=kind == "label-studio")

    def rows(said: list[Notice]) -> Iterator[CaseInFile]:
        return read_cases(path, kind, said, text_area=text_area, silence=silence)

    with data_manager.blobs.writing():
        checked = _check(data_manager, path, _spelt(rows(notices), lacking), folder, not dry_run, advance)
        with (reading if dry_run else transaction)(data_manager.engine) as session:
            report = _write(session, _read_again(path, rows([]), checked), checked, author, not dry_run, advance)
    return report.model_copy(update={"notices": (*notices, *told(path, checked.remarks))})


def _spelt(rows: Iterable[CaseInFile], lacking: LackingCharacters) -> Iterator[CaseInFile]:
    """Notes the corrections that cannot be trained on."""
    message = "corrections with characters that model.base cannot write are kept, and not trained on"
    for row in rows:
        texts = (item.transcript for item in row.case.corrections) if row.case else ()
        if odd := dict.fromkeys(character for text in texts for character in lacking(text)):
            row = row._replace(remarks=(*row.remarks, Remark("unwritable", message, " ".join(map(repr, odd)))))
        yield row


def _refuse(path: Path, problems: Sequence[str]) -> None:
    """Raises UsageError when there are any."""
    if problems:
        more = "There may be more. " if len(problems) >= _PROBLEMS else ""
        listed = "\n  ".join(problems)
        raise UsageError(f"{path} cannot be imported:\n  {listed}", f"{more}Correct the file; nothing was imported.")


@dataclass
class _Checked:
    """What the first pass found: the audio of the new cases by id, and where each id stands in the file."""

    audio: dict[str, Audio] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    remarks: list[tuple[str, Remark]] = field(default_factory=list)


def _check(
    data_manager: DataManager, path: Path, rows: Iterable[CaseInFile], folder: AudioFolder, keep: bool, advance: Advance
) -> _Checked:
    """The first pass: checks every case, and with `keep` stores the audio of the new ones. Raises UsageError."""
    checked, problems = _Checked(), list[str]()
    for batch in batched(rows):
        with reading(data_manager.engine) as session:
            stored = _stored_audio(session, [_id_of(row.case) for row in batch if row.case])
        for row in batch:
            try:
                _check_row(data_manager, folder, row, stored, checked, keep)
            except CaseProblem as error:
                problems.append(f"{row.where}: {str(error).rstrip('.')}.")
            if len(problems) >= _PROBLEMS:
                _refuse(path, problems)
        advance(len(batch))
    _refuse(path, problems)
    return checked


def _check_row(
    data_manager: DataManager,
    folder: AudioFolder,
    row: CaseInFile,
    stored: dict[str, str],
    checked: _Checked,
    keep: bool,
) -> None:
    """Notes the case's id, and the audio of a new one. Raises CaseProblem for anything that is wrong."""
    if row.case is None:
        raise CaseProblem(row.problem)
    case, key, remarks = row.case, _id_of(row.case), list(row.remarks)
    if key not in stored:
        try:
            audio = new_audio(data_manager, folder, case, keep, remarks)
        except CaseProblem:
            key = known_recording(data_manager, folder, case, remarks)
            if not key:
                raise
        else:
            key = _new_key(case, audio, remarks)
            checked.audio[key] = audio._replace(duration=case.duration or audio.duration)
    elif case.sha256 and case.sha256 != stored[key]:
        raise CaseProblem(f"field sha256: the case {key} has the audio {stored[key]}, not this one")
    if any(item.method == "llm" and not item.transcript.strip() for item in case.corrections):
        raise CaseProblem("field corrections: a machine's correction is empty; only a person can say so")
    if any(_repeats(item, case.original_transcript) for item in case.corrections):
        message = (
            "corrections repeat what the model heard, and nothing says that anybody listened; they count all the same"
        )
        remarks.append(Remark("unchanged", message))
    if key in checked.places:
        raise CaseProblem(f"the case {key} is in {checked.places[key]} already; a file names a case once")
    checked.places[key] = row.where
    checked.remarks += [(row.where, remark) for remark in remarks]


def _repeats(item: SentCorrection, heard: str | None) -> bool:
    """Whether a person's correction is the model's text, and not from a review that notes that the clip was played."""
    same = heard is not None and item.transcript.casefold().split() == heard.casefold().split()
    return same and item.method in PEOPLE and not item.metadata.get("heard")


def _new_key(case: SentCase, audio: Audio, remarks: Iterable[Remark]) -> str:
    """The id of a new case. Raises CaseProblem when it is another one, or a cell that it needs cannot be read."""
    key = writing.case_id(audio.sha256, case.model_version, case.source)
    if case.id and case.id != key:
        raise CaseProblem(
            f"field id: {case.id} is not the id of this audio and model version, which is {key}; leave it empty"
        )
    for remark in remarks:
        if remark.known_only:
            raise CaseProblem(f"{remark.message}: {remark.example}; {WHOLE_TIME}")
    return key


def _id_of(case: SentCase) -> str:
    """As the file says it, or by audio and model version; "" for a case that names neither."""
    return case.id or (writing.case_id(case.sha256, case.model_version, case.source) if case.sha256 else "")


def _read_again(path: Path, rows: Iterable[CaseInFile], checked: _Checked) -> Iterator[tuple[str, SentCase]]:
    """Each case with the id that the first pass gave it. Raises UsageError when the file has changed since."""
    keys = {where: key for key, where in checked.places.items()}
    for row in rows:
        key = keys.get(row.where)
        if key is None or row.case is None or row.case.id not in ("", key):
            raise UsageError(f"{path} was changed while it was read ({row.where}).", "Import it again.")
        yield key, row.case


def _write(
    session: Session,
    cases: Iterable[tuple[str, SentCase]],
    checked: _Checked,
    author: str,
    write: bool,
    advance: Advance,
) -> CaseImportReport:
    """The second pass: adds new cases, and to known ones what they lack of it; without `write` only counts.

    Args:
        cases: with their ids.
        author: of the corrections that name none.
    """
    now = datetime.now(UTC)
    counts = Counter(cases=0, new_cases=0, new_corrections=0, known_corrections=0, new_metadata=0)
    for batch in batched(cases):
        stored = _stored_audio(session, [key for key, _ in batch])
        new = {key: case for key, case in batch if key not in stored}
        lacking, repeated = compared(session, batch, author)
        missing = dated(session, lacking)
        late = [key for key, sent in missing if sent.metadata.get(LATE)]
        checked.remarks += [(checked.places[key], Remark("older_correction", _LATE)) for key in late]
        superseded = [(key, Remark("superseded", _SUPERSEDED)) for key in superseded_texts(session, repeated)]
        checked.remarks += [(checked.places[key], remark) for key, remark in superseded]
        if write:
            _add_cases(session, new, checked.audio, now)
            _add_corrections(session, missing, now)
        known = sum(len(case.corrections) for _, case in batch) - len(missing)
        told = {key: case.metadata for key, case in batch if key in stored}
        learnt = writing.merge_metadata(session, told, write=write)
        counts.update(cases=len(batch), new_cases=len(new), new_corrections=len(missing), known_corrections=known)
        counts.update(new_metadata=learnt)
        advance(len(batch))
    return CaseImportReport(dry_run=not write, **counts)


def _stored_audio(session: Session, ids: Sequence[str]) -> dict[str, str]:
    """The sha256 of the audio of those cases that the store has, by id."""
    rows = session.execute(select(CaseRow.id, CaseRow.audio_sha256).where(CaseRow.id.in_(ids)))
    return {row.id: row.audio_sha256 for row in rows}


def _add_cases(session: Session, cases: Mapping[str, SentCase], audio: Mapping[str, Audio], now: datetime) -> None:
    same = {"error_types", "error_score", "metadata", "model_version", "source"}
    new = [
        NewCase(
            audio_path=Path(case.audio_name or audio[key].name),
            original_transcript=case.original_transcript or "",
            duration=audio[key].duration,
            **case.model_dump(include=same),
        )
        for key, case in cases.items()
    ]
    stored = [writing.AudioCase(case, *audio[key][:2]) for key, case in zip(cases, new, strict=True)]
    writing.store_cases(session, stored, now)
    first = {key: case.first_seen or now for key, case in cases.items()}
    seen = {
        key: {
            "first_seen": first[key],
            "last_seen": case.last_seen or first[key],
            "times_seen": case.times_seen or 1,
        }
        for key, case in cases.items()
    }
    writing.update_rows(session, CaseRow, "id", seen)
    # An error type carries its case's time.
    types = {key: {"first_seen": first[key]} for key, case in cases.items() if case.error_types}
    writing.update_rows(session, CaseErrorRow, "case_id", types)


def _add_corrections(session: Session, missing: Sequence[tuple[str, SentCorrection]], now: datetime) -> None:
    new = [NewCorrection(case_id=key, **sent.model_dump(exclude={"at"})) for key, sent in missing]
    numbers = writing.store_corrections(session, new, now)
    times = {number: {"at": sent.at or now} for number, (_, sent) in zip(numbers, missing, strict=True)}
    writing.update_rows(session, CorrectionRow, "id", times)
