"""A new suite from its fields and its recordings: checked first, then copied, then entered in the index."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mondegreen.config import Params
from mondegreen.errors import AudioError, UsageError
from mondegreen.loop.regression.baselines import provenance
from mondegreen.loop.regression.data import SuiteData, read_suite_data
from mondegreen.loop.regression.importing import TABLE, import_suite
from mondegreen.loop.regression.index import Suite, load_index, suite_of
from mondegreen.loop.regression.plans import Plan, Track
from mondegreen.loop.regression.writing import put_suite
from mondegreen.speech.audio import load_audio

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SOME = 10


def register_suite(
    fields: Mapping[str, Any],
    source: Path | None,
    params: Params,
    lock_file: Path,
    *,
    replace: bool,
    track: Track,
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
        known = provenance(Plan(suite, data), suite.baseline_version, params)
        suite = suite_of(suite.model_dump() | known)
    _check_free(suite, index, replace)
    if table is not None and not here:
        import_suite(name, table, data, index, lock_file)
    put_suite(index, suite, lock_file, replace)
    return suite


def _table(source: Path) -> Path:
    table = source / TABLE if source.is_dir() else source
    if not table.is_file():
        raise UsageError(f"{table} does not exist.", f"Give a folder with a {TABLE} (path,text), or such a file.")
    return table


def _check_recordings(data: SuiteData, track: Track) -> None:
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
        several = " ".join(problem.problem for problem in problems[:_SOME])
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
