"""Whose voice a case is and what it is a piece of: speaker, source recording and channel, kept in its metadata.

They go with the case into data/failed_cases, where `prepare` keeps out of training what a model is judged on.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mondegreen.delimited import REFERENCE_COLUMNS, Notice, open_table, some, tell, wrong
from mondegreen.scoring.recording_names import RecordingNames

FIELDS = ("speaker", "recording", "channel")
_COLUMNS = {**REFERENCE_COLUMNS, "channel": ("channel_id",)}  # those of references.csv may be there too
_NEXT = "The columns are path,speaker,recording,channel; path names a file of the command."


def origin_of(details: Mapping[str, Any]) -> dict[str, str]:
    """What a case's metadata says of its origin; "" where it says nothing."""
    return {name: value.strip() if isinstance(value := details.get(name), str) else "" for name in FIELDS}


def merged(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata that arrives later: it adds, and what it says anew counts; what it leaves empty takes nothing away."""
    return {**known, **{name: value for name, value in new.items() if value not in (None, "")}}


def read_origins(
    table_path: Path, files: Iterable[Path], notices: list[Notice] | None = None
) -> dict[Path, dict[str, str]]:
    """Speaker, recording and channel of files, from a table such as references.csv.

    Args:
        table_path: with a column path (relative to the table or as in `files`), and one or more of the others.
        files: those that are asked about; rows of others are passed over.
        notices: which files have no row is appended; logged when None.

    Raises:
        UsageError: it is no such table, or two rows differ about one file; names file, line and field.
    """
    table = open_table(table_path, _COLUMNS, notices)
    known = {name for name in ("source", *FIELDS) if name in table.columns}
    if "path" not in table.columns or not known:
        problem = "there must be a column path and one of speaker, recording, channel"
        raise wrong(table_path, 1, problem, _NEXT, "path" if "path" not in table.columns else "speaker")
    by_name = {Path(os.path.relpath(path, table_path.parent)).as_posix(): path for path in files}
    given = {path.as_posix(): path for path in by_name.values()}
    names = RecordingNames(table_path.parent, by_name)
    found: dict[Path, dict[str, str]] = {}
    for record in table:
        if record.problem:
            raise wrong(table_path, record.line, record.problem, _NEXT, "the whole line")
        written = record.cells["path"].strip()
        path = given.get(written) or by_name.get(names.find(written))
        if path is None:
            continue
        cells = {name: record.cells.get(name, "") for name in FIELDS}
        cells["recording"] = cells["recording"] or record.cells.get("source", "").split(";")[0]
        origin = {name: cell.strip() for name, cell in cells.items() if cell.strip()}
        if found.setdefault(path, origin) != origin:
            raise wrong(table_path, record.line, f"another row says something else of {path}", _NEXT, "path")
    if missing := [path for path in by_name.values() if path not in found]:
        message = f"{len(missing)} of {len(by_name)} recordings have no row: {some(missing)}"
        tell(Notice("no_row", message, str(table_path)), notices)
    return found
