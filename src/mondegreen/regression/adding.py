"""How a suite comes into the index: of a folder, a CSV or JSON lines; its data are checked, and copied beside it.

Evaluation sets are often kept as JSON lines: of those the table is made that a suite has.
"""

import logging
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mondegreen.config import Params
from mondegreen.errors import AudioError, UsageError
from mondegreen.files import lock, sha256_file, sha256_tree, sync
from mondegreen.intake.entries import Entry, EntryRow, Left, SourceCorpus
from mondegreen.intake.importing import take
from mondegreen.intake.tables import read_json_lines
from mondegreen.regression.judging import PreparedSuite, paired_limit
from mondegreen.regression.runner import ProgressBar, provenance
from mondegreen.regression.suites import Suite, SuiteData, load_index, put_suite, read_suite_data, suite_of
from mondegreen.speech.audio import load_audio

_TABLE = "references.csv"
_JSON_LINES = (".jsonl", ".json")
_STAGING = ".adding-"  # a folder that a killed import left; the next one removes it
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-])?")
_NAMED = 10  # rows, or damaged recordings, that an error names
_log = logging.getLogger(__name__)


def register_suite(
    fields: Mapping[str, Any],
    source: Path | None,
    params: Params,
    lock_file: Path,
    *,
    replace: bool,
    track: ProgressBar,
) -> Suite:
    """Adds a suite; see `RegressionTester.register_test`.

    Args:
        fields: of its entry, without references.
        source: a folder with references.csv, such a file, or JSON lines. None for silence.
    """
    if not _NAME.fullmatch(fields["name"]):
        raise UsageError(
            f"{fields['name']!r} is no name for a suite.",
            "Use letters, digits, dots, dashes, underscores, and blanks between them; at most 64.",
        )
    if source is None or source.suffix.lower() not in _JSON_LINES:
        table = _table(source) if source is not None else None
        return _register_table(fields, table, params, lock_file, replace, track)
    with tempfile.TemporaryDirectory() as scratch:
        table = _table_of_lines(source, Path(scratch), params.audio.max_missing_share)
        return _register_table(fields, table, params, lock_file, replace, track)


def _table(source: Path) -> Path:
    table = source / _TABLE if source.is_dir() else source
    if not table.is_file():
        raise UsageError(
            f"{table} does not exist.",
            f"Give a folder with a {_TABLE} (path,text), such a file, or JSON lines (.jsonl).",
        )
    return table


def _table_of_lines(source: Path, folder: Path, max_missing_share: float) -> Path:
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
    corpus = SourceCorpus(source, max_missing_share=max_missing_share)
    rows = list(read_json_lines(corpus))
    for notice in corpus.notices:
        _log.warning("%s", notice)
    for written, found in corpus.moved.items():
        _log.warning("%s: %s was found as %s", source, written, found)
    _refuse(source, rows, [problem for row in rows if (problem := _problem(row, max_missing_share))])
    left = take(rows, folder, "all", link=True, max_missing_share=max_missing_share).left
    _refuse(source, rows, [f"{row.where}: {row.message}" for row in left])
    return folder / _TABLE


def _problem(row: EntryRow, max_missing_share: float) -> str:
    """Why a row cannot judge a model, "" when it can."""
    if isinstance(row, Left):
        return f"{row.where}: {row.message}"
    if not row.text.strip():
        return f"{row.where}: field text: it is empty or missing"
    if row.written_by:
        return f"{row.where}: field text: a machine wrote it, and only what a person wrote judges a model"
    return _damage(row, max_missing_share)


def _damage(row: Entry, max_missing_share: float) -> str:
    try:
        load_audio(row.audio, max_missing_share=max_missing_share)
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


def _register_table(
    fields: Mapping[str, Any], table: Path | None, params: Params, lock_file: Path, replace: bool, track: ProgressBar
) -> Suite:
    name, index = fields["name"], params.regress.suites
    here = table is None or table.resolve().is_relative_to(index.parent.resolve())
    references = None
    if table is not None:
        references = table.resolve().relative_to(index.parent.resolve()) if here else Path(name) / _TABLE
    suite = suite_of({**fields, "references": references})
    data = SuiteData()
    if table is not None:
        share = params.audio.max_missing_share
        data = read_suite_data(name, table, params.score.normalizer, share)
        _check_recordings(data, share, track)
    if suite.has_baseline:
        known = provenance(PreparedSuite(suite, data), suite.baseline_version, params)
        suite = suite_of(suite.model_dump() | known)
    _check_free(suite, index, replace)
    if table is not None and not here:
        _import_suite(name, table, data, index, lock_file)
    put_suite(index, suite, lock_file, replace)
    if limit := paired_limit(PreparedSuite(suite, data), params):
        _log.warning("%s: %s", name, limit)
    return suite


def _check_recordings(data: SuiteData, max_missing_share: float, track: ProgressBar) -> None:
    """Decodes every recording to its end; raises AudioError naming those that are damaged."""
    problems = []
    with track("checking recordings", len(data.utterances)) as on_progress:
        for done, row in enumerate(data.utterances, 1):
            try:
                load_audio(Path(row.path), max_missing_share=max_missing_share)
            except AudioError as error:
                problems.append(error)
            on_progress(done)
    if problems:
        several = " ".join(problem.problem for problem in problems[:_NAMED])
        raise AudioError(
            f"{len(problems)} of {len(data.utterances)} recordings cannot be used: {several}",
            "Nothing was imported. Repair them, or remove their rows.",
            problems[0].reason,
        )


def _check_free(suite: Suite, index: Path, replace: bool) -> None:
    """Said before anything is copied; `put_suite` asks again under its lock."""
    entries = load_index(index) if index.exists() else []
    if not replace and any(entry.name == suite.name and entry != suite for entry in entries):
        raise UsageError(
            f"{index} has another suite {suite.name} already.", "Choose another name, or add it with --replace."
        )


def _import_suite(name: str, table: Path, data: SuiteData, index: Path, lock_file: Path) -> None:
    """Copies the CSV and what it names to a folder of its own beside the index.

    The copy is made under a hidden name and renamed when it is complete. After a crash in between, the same call
    finds the folder that was renamed already, or makes it anew.

    Args:
        table: the CSV.
        data: what it names, checked.
        lock_file: held meanwhile.

    Raises:
        UsageError: there is a folder of that name with something else in it.
    """
    folder = index.parent / name
    with lock(lock_file):
        for leftover in index.parent.glob(f"{_STAGING}*"):
            shutil.rmtree(leftover)
        staging = index.parent / f"{_STAGING}{name}"
        try:
            _copy(data, table, staging)
            if not folder.exists():
                _sync(staging)
                staging.replace(folder)
            elif sha256_tree(folder) != sha256_tree(staging):
                raise UsageError(
                    f"{folder} exists already, with other contents.", "Choose another name, or remove the folder."
                )
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _copy(data: SuiteData, table: Path, staging: Path) -> None:
    staging.mkdir(parents=True)
    shutil.copyfile(table, staging / _TABLE)
    for row in data.utterances:
        target = staging / Path(row.path).relative_to(table.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row.path, target)
        if sha256_file(target) != row.sha256:
            raise UsageError(f"{row.path} changed while it was copied.", "Nothing was imported; run it again.")


def _sync(folder: Path) -> None:
    """Everything in it on the disk, so that the name which it then gets holds nothing half, also after a power cut."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)
