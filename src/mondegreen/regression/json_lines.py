"""A suite's data as JSON lines, as evaluation sets are often kept: made into the table that a suite has."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mondegreen.errors import AudioError, UsageError
from mondegreen.intake.entries import Entry, EntryRow, Left, SourceCorpus
from mondegreen.intake.importing import take
from mondegreen.intake.tables import read_json_lines
from mondegreen.speech.audio import load_audio

SUFFIXES = (".jsonl", ".json")
_NAMED = 10  # rows that an error names
_log = logging.getLogger(__name__)


def table_of(source: Path, folder: Path) -> Path:
    """Makes references.csv with its recordings in `folder`; every row is in it, or there is an error.

    Args:
        source: an object a line. Path and text have any name that `mondegreen.delimited` knows (audio_path, reference);
            speaker, condition, source, start and end are optional. A path is relative to the file, or to where we are.
        folder: takes links to whole recordings, and segments that were cut.

    Raises:
        UsageError: a row has no recording, no text, or one that a machine wrote; names file and line of the first ones.
    """
    if not source.is_file():
        raise UsageError(f"{source} does not exist.", "Correct its name.")
    corpus = SourceCorpus(source)
    rows = list(read_json_lines(corpus))
    for notice in corpus.notices:
        _log.warning("%s", notice)
    for written, found in corpus.moved.items():
        _log.warning("%s: %s was found as %s", source, written, found)
    _refuse(source, rows, [problem for row in rows if (problem := _problem(row))])
    left = take(rows, folder, "all", link=True).left
    _refuse(source, rows, [f"{row.where}: {row.message}" for row in left])
    return folder / "references.csv"


def _problem(row: EntryRow) -> str:
    """Why a row cannot judge a model, "" when it can."""
    if isinstance(row, Left):
        return f"{row.where}: {row.message}"
    if not row.text.strip():
        return f"{row.where}: field text: it is empty or missing"
    if row.written_by:
        return f"{row.where}: field text: a machine wrote it, and only what a person wrote judges a model"
    return _damage(row)


def _damage(row: Entry) -> str:
    try:
        load_audio(row.audio)
    except AudioError as error:
        return f"{row.where}: {error.problem}"
    return ""


def _refuse(source: Path, rows: Sequence[EntryRow], problems: Sequence[str]) -> None:
    if not rows:
        raise UsageError(f"{source} has no rows.", 'Write one object a line: {"audio_path": …, "reference": …}.')
    if problems:
        more = f"\n  and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        named = "\n  ".join(problems[:_NAMED])
        raise UsageError(
            f"{len(problems)} of {len(rows)} rows cannot be used, so nothing was imported:\n  {named}{more}",
            'Correct or remove them; a row is {"audio_path": …, "reference": …}.',
        )
