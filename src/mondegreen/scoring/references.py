"""Tables of references, and who wrote their texts.

The one reader of tables with the columns path,text,speaker,…: references.csv of a data folder, suites, evaluation sets,
and what `mondegreen compare` takes.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any
from unicodedata import normalize

from mondegreen.delimited import (
    QUOTE,
    REFERENCE_COLUMNS,
    DelimitedRow,
    Notice,
    Table,
    open_table,
    some,
    tell,
    tell_short,
    wrong,
)
from mondegreen.records import ReferenceSource
from mondegreen.scoring.recording_names import Meant, RecordingNames, near_file

# Columns in which tables say where a text comes from, those of `mondegreen cases export` among them.
SOURCE_COLUMNS = ("source", "reference_source", "label_source", "method", "correction_method", "written_by")
# What begins with the word, whatever stands behind it but a letter: "asr_whisper", "LLM+human", '"pseudo-label"'.
_MACHINE = re.compile(r"[\W_]*(?:llm|asr|stt|machine|pseudo)(?![^\W\d_])", re.IGNORECASE)
_HEADER = "The first line names the columns: path,text,speaker,condition,source,licence; the last four are optional."
_REWRITTEN = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)  # a long number, after a spreadsheet had it
_NUMBERS = ("duration", "confidence")
# What people and programs write for a speaker whom they do not know.
_NOBODY = frozenset({"unknown", "unk", "<unk>", "n/a", "none", "null", "nan", "anonymous", "-", "--", "?", "??", "???"})


@dataclass(frozen=True)
class ReferenceRow:
    """A row of a table; every field is stripped, "" where the table has none."""

    line: int  # where it stands, for messages
    key: str  # its id, or its path
    text: str
    path: str = ""  # of the recording, as the table writes it, with forward slashes
    speaker: str = ""
    condition: str = ""
    source: str = ""  # the source recording, where no column names it; after a semicolon whatever else is known of it
    reference_source: ReferenceSource = "human"
    fields: Mapping[str, str] = field(default_factory=dict)  # all columns

    @property
    def recording(self) -> str:
        """The source recording: the column of that name, else the source without what stands behind the semicolon."""
        return source_recording(self.fields.get("recording", ""), self.source)

    @property
    def has_two_recordings(self) -> bool:
        """Whether the columns recording and source name different ones."""
        return source_recording("", self.source) not in ("", self.recording)


def source_recording(recording: str, source: str) -> str:
    """The recording of which a row is a part, by its cells of these names: a source names it before a semicolon."""
    return recording.strip() or source.split(";")[0].strip()


def read_table(
    path: Path,
    keys: Sequence[str] = ("path",),
    notices: list[Notice] | None = None,
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[ReferenceRow]:
    """Reads a table with a header (`mondegreen.delimited` says which); columns may stand in any order.

    Args:
        path: the table.
        keys: columns that can name a row; the first one that the header has does.
        notices: what was understood, assumed or not used is appended; logged when None.
        more: columns that are known besides, with their synonyms.

    Raises:
        UsageError: it is no such table, a row lacks its key or text or has too many fields, or two rows have one key;
            names file, line and field of the first, and how many more there are.
    """
    table = open_table(path, {**REFERENCE_COLUMNS, **more}, notices)
    key = next((name for name in keys if name in table.columns), " or ".join(keys))
    for column in (key, "text"):
        if column not in table.columns:
            problem = f"there is no such column but {some(table.columns)}"
            raise wrong(path, 1, problem, _HEADER, column)
    rows, bad, lines, short = list[ReferenceRow](), list[tuple[int, str, str]](), dict[str, int](), list[DelimitedRow]()
    for record in table:
        name, problem = _problem(record, key, table)
        row = None if problem else _row(record, table, key)
        if row and row.key in lines:
            name, problem = key, f"{row.key} stands in line {lines[row.key]} already"
        if row is None or problem:
            bad.append((record.line, name, problem))
            continue
        lines[row.key] = row.line
        rows.append(row)
        if record.missing:
            short.append(record)
    if bad:
        line, name, problem = bad[0]
        others = f" (and {len(bad) - 1} more rows like that: lines {some([n for n, _, _ in bad[1:]])})"
        raise wrong(path, line, problem + (others if len(bad) > 1 else ""), QUOTE, name)
    tell_short(path, short, notices)
    _doubts(path, table, key, rows, notices)
    return rows


def _problem(record: DelimitedRow, key: str, table: Table) -> tuple[str, str]:
    """The field that makes a row useless, and why; two empty texts when none does."""
    if record.problem:
        last = record.problem.startswith("there are more fields")
        return table.columns[-1] if last else "the whole line", record.problem
    missing = [name for name in (key, "text") if name in record.missing]
    if missing or not record.cells[key].strip():
        return (missing or [key])[0], "it is empty or missing"
    return "", ""


def _doubts(path: Path, table: Table, key: str, rows: Sequence[ReferenceRow], notices: list[Notice] | None) -> None:
    """Says what may be wrong with rows that are taken."""
    if rewritten := [row for row in rows if _REWRITTEN.fullmatch(row.key)]:
        message = (
            f"{len(rewritten)} look like numbers that a spreadsheet rewrote: {some([row.key for row in rewritten])}"
        )
        tell(Notice("id_rewritten", f"field {key}: {message}", str(path), rewritten[0].line, len(rewritten)), notices)
    blank = [row.line for row in rows if not row.speaker]
    if "speaker" in table.columns and blank:
        message = f"field speaker: it is empty in {len(blank)} of {len(rows)} rows: lines {some(blank)}; "
        message += "what they say may judge a model that has learnt from the same person"
        tell(Notice("no_speaker", message, str(path), blank[0], len(blank)), notices)
    if "recording" in table.columns:
        for code, message, lines in _odd_recordings(rows):
            tell(Notice(code, message, str(path), lines[0], len(lines)), notices)
    for code, message, names in odd_speakers(row.speaker for row in rows):
        line = next(row.line for row in rows if row.speaker == names[0])
        tell(Notice(code, f"field speaker: {message}", str(path), line, len(names)), notices)


def _odd_recordings(rows: Sequence[ReferenceRow]) -> Iterator[tuple[str, str, list[int]]]:
    """What the column recording leaves open: a code, a message and the lines; nothing goes by it in silence."""
    if unnamed := [row.line for row in rows if not row.recording]:
        message = f"field recording: it is empty in {len(unnamed)} of {len(rows)} rows: lines {some(unnamed)}; "
        message += "each counts as a recording of its own, whatever it is a piece of"
        yield "recording_not_named", message, unnamed
    if both := [row.line for row in rows if row.has_two_recordings]:
        message = f"field source: in {len(both)} of {len(rows)} rows it names another recording than the column "
        yield "source_overruled", f"{message}recording, which counts: lines {some(both)}", both


def odd_speakers(speakers: Iterable[str]) -> Iterator[tuple[str, str, list[str]]]:
    """What may be one person, or several: a code, a message and the names; nobody may stand on two sides."""
    spellings: dict[str, dict[str, None]] = {}
    for speaker in speakers:
        spellings.setdefault(" ".join(normalize("NFC", speaker).casefold().split()), {}).setdefault(speaker)
    if nobody := [name for key in spellings if key in _NOBODY for name in spellings[key]]:
        message = f"each of these counts as one person: {some(nobody)}; leave the speaker empty where nobody knows it"
        yield "speaker_placeholder", message, nobody
    if twins := [list(found) for key, found in spellings.items() if len(found) > 1 and key not in _NOBODY]:
        message = f"each spelling counts as a person: {some([' and '.join(found) for found in twins])}; "
        yield (
            "speaker_twins",
            message + "write one person's name in one way",
            [name for found in twins for name in found],
        )


def read_recordings(path: Path, known: Container[str], notices: list[Notice] | None = None) -> dict[str, ReferenceRow]:
    """The rows of a table by path; every row has its recording.

    Args:
        path: the table.
        known: the recordings that a row may name, relative to the table's folder.
        notices: see `read_table`.

    Raises:
        UsageError: see `read_table`; or a row names no known recording.
    """
    rows = {}
    for row in read_table(path, notices=notices):
        if row.path not in known:
            problem = f"there is no recording {path.parent / row.path}{near_file(path.parent / row.path)}"
            raise wrong(path, row.line, problem, "Correct the path, or add the file.", "path")
        rows[row.path] = row
    return rows


def match_recordings(path: Path, names: RecordingNames, notices: list[Notice] | None = None) -> dict[str, ReferenceRow]:
    """The rows of a table by the recordings that they mean, as `names` has them.

    What is left over on either side is counted and named: rows without a recording, recordings without a row.

    Raises:
        UsageError: see `read_table`; two rows mean one recording, or no row means any.
    """
    rows = read_table(path, ("path", "id"), notices)
    meant, lines = names.meant([row.key for row in rows], (path.parent,)), {row.key: row.line for row in rows}
    found, lost = dict[str, ReferenceRow](), list[str]()
    for row in rows:
        if not (name := meant.names.get(row.key, "")):
            lost.append(row.key)
            continue
        if name in found:
            problem = f"{row.key} means the recording {name}, which line {found[name].line} has already"
            raise wrong(path, row.line, problem, "Keep one of the rows.", "path")
        found[name] = row
    if lost and not found:
        problem = f"there is no recording {_hint(names, meant, lost[0])}, nor one of the other {len(lost) - 1} rows"
        raise wrong(path, lines[lost[0]], problem, f"Write paths relative to {names.folder}.", "path")
    tell_respelt(path, meant.respelt, lines, notices)
    if lost:
        examples = [f"line {lines[key]}: {_hint(names, meant, key) if n < 5 else key}" for n, key in enumerate(lost)]
        message = f"{len(lost)} of {len(rows)} rows name no recording and are not used: {some(examples)}"
        tell(Notice("row_without_recording", message, str(path), lines[lost[0]], len(lost)), notices)
    if bare := sorted(set(names.names) - found.keys()):
        message = f"{len(bare)} of {len(names.names)} recordings in {names.folder} have no row: {some(bare)}"
        tell(Notice("recording_without_row", message, str(path), count=len(bare)), notices)
    return found


def _hint(names: RecordingNames, meant: Meant, path: str) -> str:
    return f"{path} (it may be {meant.contested[path]})" if path in meant.contested else names.hint(path)


def tell_respelt(
    table: Path, respelt: Mapping[str, str], lines: Mapping[str, int], notices: list[Notice] | None
) -> None:
    """Says which paths of a table are called otherwise here.

    Args:
        respelt: the recording by the path that is written.
        lines: where the paths stand.
    """
    if respelt:
        read = [f"{path} (line {lines[path]}) read as {name}" for path, name in respelt.items()]
        tell(Notice("paths_read_as", f"{len(read)} paths: {some(read)}", str(table), count=len(read)), notices)


def who_wrote(row: Mapping[str, Any]) -> ReferenceSource:
    """Who wrote the text of a row, by how any of SOURCE_COLUMNS begins; a person when nobody says.

    "llm", "LLM; llama3.2:3b", "asr_whisper" and "pseudo/labels" are machines; "manual", "import" and
    "core-sounds 1.6.1" are not.
    """
    return "llm" if any(_MACHINE.match(str(row.get(column) or "")) for column in SOURCE_COLUMNS) else "human"


def _row(record: DelimitedRow, table: Table, key: str) -> ReferenceRow:
    fields = {name: cell.strip() for name, cell in record.cells.items()}
    fields |= {name: table.decimal(fields[name]) for name in _NUMBERS if name in fields}
    if "speaker" in fields:  # a Mac and a keyboard write the same letter in different ways
        fields["speaker"] = normalize("NFC", fields["speaker"])
    name = PurePosixPath(fields["path"]).as_posix() if fields.get("path") else ""
    return ReferenceRow(
        line=record.line,
        key=name if key == "path" else fields[key],
        path=name,
        reference_source=who_wrote(fields),
        fields=fields,
        **{column: fields.get(column, "") for column in ("text", "speaker", "condition", "source")},
    )
