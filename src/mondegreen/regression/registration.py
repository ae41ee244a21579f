"""A new suite from its fields and its recordings: checked first, then copied, then entered in the index.

Recordings that lie elsewhere are brought below data/regression whole or not at all.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mondegreen.config import Params
from mondegreen.errors import AudioError, UsageError
from mondegreen.files import lock, sha256_file, sha256_tree
from mondegreen.regression.judging import PreparedSuite
from mondegreen.regression.runner import ProgressBar, provenance
from mondegreen.regression.suites import Suite, SuiteData, load_index, put_suite, read_suite_data, suite_of
from mondegreen.speech.audio import load_audio

TABLE = "references.csv"
_STAGING = ".adding-"  # a folder that a killed import left; the next one removes it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAMED = 10  # damaged recordings that an error names


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
        source: a folder with references.csv, or such a file. None for silence.
    """
    name, index = fields["name"], params.regress.suites
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a suite.", "Use letters, digits, dots, dashes and underscores, at most 64."
        )
    table = _table(source) if source is not None else None
    here = table is None or table.resolve().is_relative_to(index.parent.resolve())
    references = None
    if table is not None:
        references = table.resolve().relative_to(index.parent.resolve()) if here else Path(name) / TABLE
    suite = suite_of({**fields, "references": references})
    data = SuiteData()
    if table is not None:
        data = read_suite_data(name, table, params.score.normalizer)
        _check_recordings(data, track)
    if suite.has_baseline:
        known = provenance(PreparedSuite(suite, data), suite.baseline_version, params)
        suite = suite_of(suite.model_dump() | known)
    _check_free(suite, index, replace)
    if table is not None and not here:
        import_suite(name, table, data, index, lock_file)
    put_suite(index, suite, lock_file, replace)
    return suite


def import_suite(name: str, table: Path, data: SuiteData, index: Path, lock_file: Path) -> None:
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
    shutil.copyfile(table, staging / TABLE)
    for row in data.utterances:
        target = staging / row.recording
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row.path, target)
        if sha256_file(target) != row.sha256:
            raise UsageError(f"{row.path} changed while it was copied.", "Nothing was imported; run it again.")


def _sync(folder: Path) -> None:
    """Everything in it on the disk, so that the name which it then gets holds nothing half, also after a power cut."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _table(source: Path) -> Path:
    table = source / TABLE if source.is_dir() else source
    if not table.is_file():
        raise UsageError(f"{table} does not exist.", f"Give a folder with a {TABLE} (path,text), or such a file.")
    return table


def _check_recordings(data: SuiteData, track: ProgressBar) -> None:
    """Decodes every recording to its end; raises AudioError naming those that are damaged."""
    problems = []
    with track("checking recordings", len(data.utterances)) as on_progress:
        for done, row in enumerate(data.utterances, 1):
            try:
                load_audio(Path(row.path))
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
        raise UsageError(f"{index} has another suite {suite.name} already.", "Choose another name, or replace it.")
