"""Cases out of the store into a file that spreadsheets, Label Studio or another store can read."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from mondegreen.cases.formats import Format, SentCase, SentCorrection, format_of, write_csv, write_tasks
from mondegreen.cases.queries import active_corrections
from mondegreen.cases.records import Case, CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.db import reading
from mondegreen.errors import CaseError
from mondegreen.files import write_bytes

AUDIO = "audio"
_PAGE = 500
Advance = Callable[[int], None]


def export_cases(
    data_manager: DataManager,
    path: Path,
    *,
    where: CaseFilter | None = None,
    file_format: str | None = None,
    with_audio: bool = False,
    prefix: str = "",
    advance: Advance = lambda cases: None,
) -> int:
    """Writes cases with all their corrections, newest case first; the file is whole or not there.

    Args:
        path: .csv, .jsonl or .json (Label Studio) unless `file_format` says otherwise.
        with_audio: copy the recordings into audio/ beside the file, so that another machine can import it.
        prefix: for Label Studio, what goes before a recording's relative path.
        advance: called with a number of cases that are done.

    Returns:
        How many cases were written.

    Raises:
        UsageError: no such format.
        CaseError: audio is missing or damaged; the disk is full.
    """
    kind = format_of(path, file_format)
    cases = _each(data_manager, where or CaseFilter(), path.parent / AUDIO if with_audio else None, advance)
    try:
        with _whole(path) as stream:
            return _write(kind, stream, cases, prefix)
    except OSError as error:
        raise CaseError(
            f"{path} cannot be written: {error.strerror}.", "Make room, or check the folder and its permissions."
        ) from error


def _write(kind: Format, stream: TextIO, cases: Iterable[SentCase], prefix: str) -> int:
    if kind == "csv":
        return write_csv(stream, cases)
    if kind == "label-studio":
        return write_tasks(stream, cases, prefix)
    number = 0
    for case in cases:
        number += 1  # what is returned when there are none
        stream.write(case.model_dump_json() + "\n")
    return number


def _each(data_manager: DataManager, where: CaseFilter, audio: Path | None, advance: Advance) -> Iterator[SentCase]:
    after: str | None = None
    while True:
        page = data_manager.find_cases(where, limit=_PAGE, after=after)
        history = _histories(data_manager, [case.id for case in page.cases])
        for case in page.cases:
            name = _copied(data_manager, case.audio_sha256, audio) if audio else ""
            yield _sent(case, history.get(case.id, ()), name)
        advance(len(page.cases))
        if (after := page.next) is None:
            return


def _histories(data_manager: DataManager, ids: list[str]) -> dict[str, tuple[SentCorrection, ...]]:
    with reading(data_manager.engine) as session:
        written = active_corrections(session, ids)  # what was taken back would count again elsewhere
    return {
        key: tuple(
            SentCorrection(
                transcript=row.transcript,
                method=row.method,
                author=row.author,
                at=row.at,
                metadata=row.details,
            )
            for row in found
        )
        for key, found in written.items()
    }


def _sent(case: Case, history: tuple[SentCorrection, ...], audio: str) -> SentCase:
    return SentCase(
        id=case.id,
        audio=audio,
        sha256=case.audio_sha256,
        audio_name=case.audio_name,
        model_version=case.model_version,
        original_transcript=case.original_transcript,
        error_types=case.error_types,
        error_score=case.error_score,
        duration=case.duration,
        source=case.source,
        metadata=case.metadata,
        first_seen=case.first_seen,
        last_seen=case.last_seen,
        times_seen=case.times_seen,
        corrections=history,
    )


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


class _whole:
    """A text file that takes its name when all of it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> TextIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        self._temporary = Path(name)
        self._stream = os.fdopen(handle, "w", encoding="utf-8", newline="")
        return self._stream

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._temporary.chmod(0o644)
                self._temporary.replace(self._path)
        finally:
            self._stream.close()
            self._temporary.unlink(missing_ok=True)
