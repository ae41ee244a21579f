"""Tables of references, and who wrote their texts.

The one reader of tables with the columns path,text,speaker,…: references.csv of a data folder, suites, evaluation sets,
and what `mondegreen compare` takes.
"""

import csv
import io
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mondegreen.errors import UsageError
from mondegreen.records import ReferenceSource

# Columns in which tables say where a text comes from, those of `mondegreen cases export` among them.
SOURCE_COLUMNS = ("source", "reference_source", "label_source", "method", "correction_method", "written_by")
_MACHINES = frozenset({"llm", "asr", "stt", "machine", "pseudo"})
_HEADER = "The first line names the columns: path,text,speaker,condition,source,licence; the last four are optional."
_QUOTE = 'Put texts that hold commas in double quotes: a.wav,"Yes, please."'


@dataclass(frozen=True)
class Row:
    """A row of a table; every field is stripped, "" where the table has none."""

    line: int  # where it stands, for messages
    key: str  # its id, or its path
    text: str
    path: str = ""  # of the recording, as the table writes it, with forward slashes
    speaker: str = ""
    condition: str = ""
    source: str = ""  # the source recording, then a semicolon and whatever else is known of it
    reference_source: ReferenceSource = "human"
    fields: Mapping[str, str] = field(default_factory=dict)  # all columns

    @property
    def recording(self) -> str:
        """The source recording, without what stands behind the semicolon."""
        return self.source.split(";")[0].strip()


def read_table(path: Path, keys: Sequence[str] = ("path",)) -> Iterator[Row]:
    """Reads a CSV with a header, or a .tsv with tabs; columns may stand in any order.

    Args:
        path: the table, in UTF-8 with or without a byte order mark.
        keys: columns that can name a row; the first one that the header has does.

    Raises:
        UsageError: it is no such table, a row lacks its key or text or has too many fields, or two rows have one key;
            names file, line and field.
    """
    tabs = path.suffix.lower() == ".tsv"
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True, delimiter="\t" if tabs else ",")
    lines: dict[str, int] = {}
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        key = next((name for name in keys if name in header), " or ".join(keys))
        for column in (key, "text"):
            if header.count(column) != 1:
                problem = f"there must be one such column, not {header.count(column)}"
                raise wrong(path, 1, problem, _HEADER, column)
        for cells in reader:
            row = _row(path, reader.line_num, cells, header, key)
            if row.key in lines:
                problem = f"{row.key} stands in line {lines[row.key]} already"
                raise wrong(path, row.line, problem, "Keep one of the rows.", key)
            lines[row.key] = row.line
            yield row
    except csv.Error as error:
        raise wrong(path, reader.line_num, str(error), _QUOTE, "the whole line") from None


def read_recordings(path: Path, known: Container[str]) -> dict[str, Row]:
    """The rows of a table by path.

    Args:
        path: the table.
        known: the recordings that a row may name, relative to the table's folder.

    Raises:
        UsageError: see `read_table`; or a row names no known recording.
    """
    rows = {}
    for row in read_table(path):
        if row.path not in known:
            problem = f"there is no recording {path.parent / row.path}"
            raise wrong(path, row.line, problem, "Correct the path, or add the file.", "path")
        rows[row.path] = row
    return rows


def wrong(path: Path, line: int, problem: str, next_step: str, column: str = "") -> UsageError:
    """An error that names file, line and, where it is in one, the column."""
    place = f"field {column}: " if column else ""
    return UsageError(f"{path}:{line}: {place}{problem}.", next_step)


def who_wrote(row: Mapping[str, Any]) -> ReferenceSource:
    """Who wrote the text of a row, by its first word in any of SOURCE_COLUMNS; a person when nobody says.

    "llm", "LLM; llama3.2:3b" and "asr:whisper" are machines; "manual", "import" and "core-sounds 1.6.1" are not.
    """
    for column in SOURCE_COLUMNS:
        words = str(row.get(column) or "").lower().replace(":", " ").replace(";", " ").replace("-", " ").split()
        if words and words[0] in _MACHINES:
            return "llm"
    return "human"


def _row(path: Path, line: int, cells: dict[str, str], header: list[str], key: str) -> Row:
    if None in cells:
        raise wrong(path, line, "there are more fields than columns", _QUOTE, header[-1])
    missing = [name for name in (key, "text") if cells[name] is None]
    if missing or not cells[key].strip():
        raise wrong(path, line, "it is empty or missing", _QUOTE, (missing or [key])[0])
    fields = {name: (cells[name] or "").strip() for name in header}
    name = PurePosixPath(fields["path"]).as_posix() if fields.get("path") else ""
    return Row(
        line=line,
        key=name if key == "path" else fields[key],
        path=name,
        reference_source=who_wrote(fields),
        fields=fields,
        **{column: fields.get(column, "") for column in ("text", "speaker", "condition", "source")},
    )


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise wrong(path, line, "it is not UTF-8", "Save the file as UTF-8.", "the whole line") from None
