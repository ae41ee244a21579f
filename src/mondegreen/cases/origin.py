"""Whose voice a case is and what it is a piece of: speaker, source recording and channel, kept in its metadata.

They go with the case into data/failed_cases, where `prepare` keeps out of training what a model is judged on.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mondegreen.delimited import REFERENCE_COLUMNS, DelimitedRow, Notice, open_table, some, tell, wrong
from mondegreen.scoring.recording_names import RecordingNames
from mondegreen.scoring.references import source_recording, tell_respelt

FIELDS = ("speaker", "recording", "channel")
_COLUMNS = {**REFERENCE_COLUMNS, "channel": ("channel_id",)}  # those of references.csv may be there too
_NEXT = "The columns are path,speaker,recording,channel; path names a file of the command."


def origin_of(details: Mapping[str, Any]) -> dict[str, str]:
    """What a case's metadata says of its origin; "" where it says nothing."""
    return {name: _name(details.get(name)) or "" for name in FIELDS}


def named(details: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with whole numbers of its origin as texts, as all else compares them, and without what is `nameless`."""
    texts = {name: origin for name, origin in origin_of(details).items() if isinstance(details.get(name), int)}
    return {name: texts.get(name, value) for name, value in details.items() if name not in nameless(details)}


def nameless(details: Mapping[str, Any]) -> dict[str, Any]:
    """What stands where a speaker, recording or channel should, and is neither text nor whole number."""
    found = {name: details[name] for name in FIELDS if details.get(name) is not None}
    return {name: value for name, value in found.items() if _name(value) is None}


def _name(value: Any) -> str | None:
    """A name: many corpora number their speakers, and JSON then has a number; true and 1.5 name nobody."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


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
        notices: which paths were read as others, which may be several, and which files have no row is appended;
            logged when None.

    Raises:
        UsageError: it is no such table, or two rows differ about one file; names file, line and field.
    """
    table = open_table(table_path, _COLUMNS, notices)
    known = {name for name in ("source", *FIELDS) if name in table.columns}
    if "path" not in table.columns or not known:
        problem = "there must be a column path and one of speaker, recording, channel"
        raise wrong(table_path, 1, problem, _NEXT, "path" if "path" not in table.columns else "speaker")
    by_name = {Path(os.path.relpath(path, table_path.parent)).as_posix(): path for path in files}
    rows = [_row(table_path, record) for record in table]
    lines = {written: line for line, written, _ in rows}
    meant = RecordingNames(table_path.parent, by_name).meant(lines, (Path(), table_path.parent))
    found: dict[Path, dict[str, str]] = {}
    for line, written, origin in rows:
        path = by_name.get(meant.names.get(written, ""))
        if path is not None and found.setdefault(path, origin) != origin:
            raise wrong(table_path, line, f"another row says something else of {path}", _NEXT, "path")
    tell_respelt(table_path, {path: str(by_name[name]) for path, name in meant.respelt.items()}, lines, notices)
    if meant.contested:
        paths = [f"{path} (line {lines[path]}) may be {why}" for path, why in meant.contested.items()]
        message = f"{len(paths)} paths may each be a recording that another may be as well, and are not used: "
        tell(Notice("paths_contested", message + some(paths), str(table_path), count=len(paths)), notices)
    if missing := [path for path in by_name.values() if path not in found]:
        message = f"{len(missing)} of {len(by_name)} recordings have no row: {some(missing)}"
        tell(Notice("no_row", message, str(table_path), count=len(missing)), notices)
    return found


def _row(table: Path, record: DelimitedRow) -> tuple[int, str, dict[str, str]]:
    """Its line, the path as it is written, and what it says."""
    if record.problem:
        raise wrong(table, record.line, record.problem, _NEXT, "the whole line")
    cells = {name: record.cells.get(name, "") for name in FIELDS}
    cells["recording"] = source_recording(cells["recording"], record.cells.get("source", ""))
    origin = {name: cell.strip() for name, cell in cells.items() if cell.strip()}
    return record.line, record.cells["path"].strip(), origin
