"""The file formats of cases on their way between stores: CSV for spreadsheets, JSON lines, tasks of Label Studio.

A case is a line of the CSV. The columns corrected_transcript, method, author and corrected_at repeat the current
correction. The text may be edited; and the method of a machine's text, into that of the person who confirms it.
`corrections` holds the whole history as JSON. A cell that a spreadsheet would run as a
formula has an apostrophe before it, which comes off again (https://owasp.org/www-community/attacks/CSV_Injection).
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from mondegreen.cases.label_studio import read_tasks, write_tasks
from mondegreen.cases.origin import FIELDS
from mondegreen.cases.records import PEOPLE, preferred
from mondegreen.cases.sent_cases import CaseInFile, Remark, SentCase, SentCorrection, parsed
from mondegreen.delimited import REFERENCE_COLUMNS, DelimitedRow, Notice, Table, open_table, tell_short
from mondegreen.errors import UsageError
from mondegreen.json_text import parse_json

CaseFormat = Literal["csv", "jsonl", "label-studio"]
_SUFFIXES: dict[str, CaseFormat] = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".json": "label-studio"}
_LONGEST = 16 << 20  # characters of a line
# The last is never blank: some spreadsheets leave out the blank cells at a row's end.
COLUMNS = (
    "id", "audio", "sha256", "audio_name", "model_version", "original_transcript", "corrected_transcript", "method",
    "author", "corrected_at", "error_types", "error_score", "duration", "source", "first_seen", "last_seen",
    "times_seen", "corrections", "metadata",
)  # fmt: skip
# Others may call them as tables of references do, and the model's text as NeMo does.
_KNOWN = dict.fromkeys(COLUMNS, ()) | {
    "audio": ("path", *REFERENCE_COLUMNS["path"]),
    "original_transcript": ("hypothesis", "pred_text", "prediction"),
    "corrected_transcript": ("text", "correction", *REFERENCE_COLUMNS["text"]),
    **{name: REFERENCE_COLUMNS.get(name, ()) for name in FIELDS},
}
_REQUIRED = ("original_transcript", "corrected_transcript")
_PLAIN = ("id", "audio", "sha256", "audio_name", "model_version")
_MAYBE = ("source", "error_score", "duration", "first_seen", "last_seen", "times_seen")
_NUMBERS = ("error_score", "duration")
_TIMES = ("first_seen", "last_seen")
_CORRECTIONS = TypeAdapter(tuple[SentCorrection, ...])
WHOLE_TIME = "leave it empty, or write it as 2026-11-28T19:46:39+00:00"
_TIME = TypeAdapter(AwareDatetime)
_RUN = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")  # a formula, or one behind apostrophes


def format_of(path: Path, given: str | None) -> CaseFormat:
    """The format as given, else by the file's name. Raises UsageError."""
    found = next((kind for kind in _SUFFIXES.values() if kind == given), None)
    if given is None:
        found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise UsageError(
            f"{given or path.name} is no format of ours.", "Use csv (.csv), jsonl (.jsonl) or label-studio (.json)."
        )
    return found


def write_cases(
    stream: TextIO, kind: CaseFormat, cases: Iterable[SentCase], prefix: str = "", separator: str = ","
) -> int:
    """Writes cases; says how many.

    Args:
        prefix: for Label Studio, goes before the audio's relative path, so that it is found there:
            /data/local-files/?d=project/
        separator: of the cells of a table.
    """
    number = 0

    def counted() -> Iterator[SentCase]:
        nonlocal number
        for case in cases:
            number += 1
            yield case

    if kind == "csv":
        write_csv(stream, counted(), separator)
    elif kind == "label-studio":
        write_tasks(stream, counted(), prefix)
    else:
        stream.writelines(case.model_dump_json() + "\n" for case in counted())
    return number


def read_cases(
    path: Path, kind: CaseFormat, notices: list[Notice] | None, *, text_area: str = "", silence: bool = False
) -> Iterator[CaseInFile]:
    """The file's cases, or what is wrong with them.

    Args:
        notices: what a reader says of the file as a whole is appended.
        text_area, silence: see `label_studio.read_tasks`.

    Raises:
        UsageError: the file cannot be decoded, has no header that can be understood, is too large, or holds no tasks.
    """
    if kind == "csv":
        return read_csv(path, notices)
    if kind == "label-studio":
        return read_tasks(path, notices, text_area=text_area, silence=silence)
    return _read_jsonl(path)


def _read_jsonl(path: Path) -> Iterator[CaseInFile]:
    try:
        stream = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Check its name and permissions.") from None
    with stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST), ""), 1):
            if line.strip():
                yield parsed(f"line {number}", partial(_loaded, line), "this is not JSON: ")


def _loaded(line: str, _: list[Remark]) -> Any:
    if bad := [character for character in line if "\udc80" <= character <= "\udcff"]:
        raise ValueError(f"character {line.index(bad[0]) + 1} is not UTF-8; save the file as UTF-8")
    return parse_json(line)


def write_csv(stream: TextIO, cases: Iterable[SentCase], separator: str = ",") -> None:
    """Writes cases."""
    # RFC 4180's end of line: Python quotes only characters of the terminator.
    table = csv.DictWriter(stream, COLUMNS, delimiter=separator, lineterminator="\r\n")
    table.writeheader()
    table.writerows({name: escaped(cell) for name, cell in _fields(case).items()} for case in cases)


def escaped(cell: str) -> str:
    """With an apostrophe before what a spreadsheet would run, and before what looks escaped already."""
    return f"'{cell}" if _RUN.match(cell) else cell


def unescaped(cell: str) -> str:
    """Takes back what `escaped` did: `unescaped(escaped(cell)) == cell` for every cell."""
    return cell[1:] if cell.startswith("'") and _RUN.match(cell) else cell


def read_csv(path: Path, notices: list[Notice] | None) -> Iterator[CaseInFile]:
    """The table's cases. Raises UsageError when its header cannot be understood."""
    table = open_table(path, _KNOWN, notices)
    missing = [name for name in _REQUIRED if name not in table.columns]
    if not {"id", "audio", "sha256"} & set(table.columns):
        missing.append("id or audio")
    if missing:
        problem = f"columns missing: {', '.join(map(repr, missing))}; the columns are {','.join(COLUMNS)}"
        yield CaseInFile("line 1", None, problem)
        return
    short: list[DelimitedRow] = []
    for record in table:
        where = f"line {record.line}"
        lacking = [name for name in record.missing if name in _KNOWN and name != "corrections"]
        if record.problem:
            yield CaseInFile(where, None, f"{record.problem}; texts with commas need double quotes")
        elif lacking:
            number = len(table.columns)
            counts = f"{number - len(record.missing)} fields for {number} columns"
            yield CaseInFile(where, None, f"{counts}, the field {lacking[0]} is missing")
        else:
            short += [record] if record.missing else []
            yield parsed(where, partial(_case, table, record))
    tell_short(path, short, notices)


def _case(table: Table, record: DelimitedRow, remarks: list[Remark]) -> dict[str, Any]:
    """The fields of a case from those of a line."""
    cells = {name: unescaped(cell) for name, cell in record.cells.items()}
    given = {name: cells.get(name, "") for name in _PLAIN}
    given |= {"id": _id(cells, remarks), "sha256": given["sha256"].strip().lower()}
    given |= {name: cells[name] for name in _MAYBE if cells.get(name)}
    for name in _NUMBERS:
        if name in given and (read := table.decimal(given[name])) != given[name]:
            remarks.append(Remark("decimal_comma", f"field {name}: decimal commas", f"{given[name]} read as {read}"))
            given[name] = read
    for name in [name for name in _TIMES if name in given and not _is_time(given[name])]:
        remarks += [
            Remark(
                "time", f"field {name}: not a time with its zone, and not used", repr(given.pop(name)), known_only=True
            )
        ]
    return given | {
        "original_transcript": cells["original_transcript"],
        "error_types": _types(cells.get("error_types", "")),
        "metadata": _json(cells, "metadata", dict)
        | {name: cells[name].strip() for name in FIELDS if cells.get(name, "").strip()},
        "corrections": _corrections(cells, remarks),
    }


def _id(cells: dict[str, str], remarks: list[Remark]) -> str:
    """A spreadsheet makes 1.2E+15 of some ids; the audio and the model version say which case it is."""
    written = cells.get("id", "").strip()
    if not written or re.fullmatch("[0-9a-fA-F]{16}", written):
        return written.lower()
    if cells.get("sha256", "").strip():
        remarks.append(Remark("id", "field id: no id; the case is told by sha256 and model_version", repr(written)))
        return ""
    raise ValueError(
        f"field id: {written!r} is no id, but perhaps what a spreadsheet made of one; copy it from the export"
    )


def _is_time(cell: str) -> bool:
    """Whether it says date, time and zone; a bare number is a spreadsheet's day, not a time."""
    try:
        return bool(_TIME.validate_python(cell)) and not re.fullmatch(r"\s*[-+\d.,]+\s*", cell)
    except ValidationError:
        return False


def _corrections(cells: dict[str, str], remarks: list[Remark]) -> tuple[SentCorrection, ...]:
    """The history, and behind it what the editable columns say when that is something else."""
    history = _CORRECTIONS.validate_python(_json(cells, "corrections", list))
    text, method, author = (cells.get(name, "") for name in ("corrected_transcript", "method", "author"))
    last = preferred(history)
    if last is not None and text.strip() == last.transcript.strip():
        return (*history, *_confirmed(cells, last, remarks))
    if text != text.strip():
        remarks.append(Remark("blanks", "field corrected_transcript: blanks around the text were taken off"))
    text = text.strip()
    if last is None:
        # Without a method an empty text is no correction; with one it says that nothing was said.
        if not text and not method:
            return ()
        at = cells.get("corrected_at") or None
        if at and not _is_time(at):
            raise ValueError(f"field corrected_at: {at!r} is not a time with its zone; {WHOLE_TIME}")
        sent = {"transcript": text, "method": method or "import", "author": author, "at": at}
        return (SentCorrection.model_validate(sent),)
    if not text:
        raise ValueError(
            f"field corrected_transcript: the text {last.transcript!r} was taken out; to say that nothing was said use "
            '`mondegreen cases correct ID ""`'
        )
    return (*history, _by_import(text, author, last))


def _confirmed(cells: dict[str, str], last: SentCorrection, remarks: list[Remark]) -> tuple[SentCorrection, ...]:
    """The correction of a person whose method stands beside a machine's text: they heard the same."""
    method = cells.get("method", "").strip()
    if last.method not in PEOPLE and method in PEOPLE:
        return (_by_import(last.transcript, cells.get("author", ""), last),)
    if changed := [
        name for name in ("method", "author") if name in cells and cells[name].strip() != getattr(last, name).strip()
    ]:
        message = f"columns changed beside an unchanged text are not used: {' and '.join(changed)}"
        remarks.append(Remark("not_used", f"{message}; to confirm a machine's text write manual into method"))
    return ()


def _by_import(text: str, author: str, last: SentCorrection) -> SentCorrection:
    """A new correction; whose the last one was, it is not without more."""
    return SentCorrection(transcript=text, method="import", author=author if author != last.author else "")


def _fields(case: SentCase) -> dict[str, str]:
    """A line of CSV."""
    last = preferred(case.corrections)
    history = _CORRECTIONS.dump_python(case.corrections, mode="json")
    return {name: _written(getattr(case, name)) for name in (*_PLAIN, *_MAYBE, "original_transcript")} | {
        "corrected_transcript": last.transcript if last else "",
        "method": last.method if last else "",
        "author": last.author if last else "",
        "corrected_at": _written(last.at if last else None),
        "error_types": _joined(case.error_types),
        "metadata": json.dumps(case.metadata, ensure_ascii=False, allow_nan=False),
        "corrections": json.dumps(history, ensure_ascii=False) if history else "",
    }


def _written(value: datetime | float | str | None) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str) else "" if value is None else repr(value)


def _joined(types: tuple[str, ...]) -> str:
    plain = all(name == name.strip() and ";" not in name and name[:1] != "[" for name in types)
    return ";".join(types) if plain else json.dumps(types, ensure_ascii=False)


def _types(text: str) -> list[Any]:
    if text.startswith("["):
        return list(_json({"error_types": text}, "error_types", list))
    return [name.strip() for name in text.split(";") if name.strip()]


def _json(fields: dict[str, str], name: str, kind: type) -> Any:
    if not fields.get(name, "").strip():
        return kind()
    try:
        found = parse_json(fields[name])
    except ValueError as error:
        quotes = ", but has a spreadsheet's quotes “ ”" if re.search("[“”„]", fields[name]) else ""
        raise ValueError(f"field {name}: this is not JSON{quotes}: {error}") from None
    if not isinstance(found, kind):
        raise ValueError(f"field {name}: this must be a JSON {'object' if kind is dict else 'list'}")
    return found
