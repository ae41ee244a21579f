"""Cases as CSV: one line a case, for spreadsheets.

The columns corrected_transcript, method, author and corrected_at repeat the correction that counts, and may be edited;
`corrections` holds the whole history as JSON.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from mondegreen.cases.exchange.records import Row, SentCase, SentCorrection, counting, explained

COLUMNS = (
    "id", "audio", "sha256", "audio_name", "model_version", "original_transcript", "corrected_transcript", "method",
    "author", "corrected_at", "error_types", "error_score", "duration", "source", "first_seen", "last_seen",
    "times_seen", "metadata", "corrections",
)  # fmt: skip
_REQUIRED = ("original_transcript", "corrected_transcript")
_PLAIN = ("id", "audio", "sha256", "audio_name", "model_version")
_MAYBE = ("source", "error_score", "duration", "first_seen", "last_seen", "times_seen")
_LONGEST_FIELD = 16 << 20
_CORRECTIONS = TypeAdapter(tuple[SentCorrection, ...])


def write_csv(stream: TextIO, cases: Iterable[SentCase]) -> int:
    """Writes a header and one row a case; says how many."""
    writer = csv.writer(stream, lineterminator="\r\n")  # RFC 4180; Python quotes only characters of the terminator
    writer.writerow(COLUMNS)
    number = 0
    for case in cases:
        number += 1  # what is returned when there are none
        fields = _fields(case)
        writer.writerow([fields[name] for name in COLUMNS])
    return number


def read_csv(path: Path) -> Iterator[Row]:
    """The file's cases, or what is wrong with them; the text is known to be UTF-8."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from _rows(csv.reader(stream, strict=True))
    finally:
        csv.field_size_limit(before)


def _rows(reader: Any) -> Iterator[Row]:
    where = "line 1"
    try:
        header = [name.strip() for name in next(reader, [])]
        if problem := _header_problem(header):
            yield Row(where, None, problem)
            return
        start = reader.line_num + 1
        for cells in reader:
            where, start = f"line {start}", reader.line_num + 1
            if any(cells):
                yield _row(where, header, cells)
    except csv.Error as error:
        yield Row(f"line {reader.line_num}", None, f"this is not CSV: {error}")


def _header_problem(header: list[str]) -> str:
    if not any(header):
        return f"the first line must name the columns: {','.join(COLUMNS)}"
    twice = sorted({name for name in header if header.count(name) > 1})
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in _REQUIRED if name not in header]
    if not {"id", "audio", "sha256"} & set(header):
        missing.append("id or audio")
    parts = [("unknown", unknown), ("missing", missing), ("there twice", twice)]
    found = "; ".join(f"{what}: {', '.join(map(repr, names))}" for what, names in parts if names)
    return f"columns {found}; the columns are {','.join(COLUMNS)}" if found else ""


def _row(where: str, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        return Row(where, None, f"{len(cells)} fields for {len(header)} columns; texts with commas need double quotes")
    fields = dict(zip(header, cells, strict=True))
    try:
        return Row(where, SentCase.model_validate(_case(fields)))
    except ValidationError as error:
        return Row(where, None, explained(error))
    except ValueError as error:
        return Row(where, None, str(error))


def _case(fields: dict[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {name: fields.get(name, "") for name in _PLAIN}
    tree |= {name: fields[name] for name in _MAYBE if fields.get(name)}
    tree["original_transcript"] = fields["original_transcript"]
    tree["error_types"] = _types(fields.get("error_types", ""))
    tree["metadata"] = _json(fields, "metadata", dict)
    tree["corrections"] = _corrections(fields)
    return tree


def _corrections(fields: dict[str, str]) -> tuple[SentCorrection, ...]:
    """The history, and behind it what the editable columns say when that is something else."""
    history = _CORRECTIONS.validate_python(_json(fields, "corrections", list))
    text, method, author = (fields.get(name, "") for name in ("corrected_transcript", "method", "author"))
    last = counting(history)
    if last is None:
        # Without a method an empty text is no correction; with one it says that nothing was said.
        if not text and not method:
            return ()
        at = fields.get("corrected_at") or None
        sent = {"transcript": text, "method": method or "import", "author": author, "at": at}
        return (SentCorrection.model_validate(sent),)
    if text == last.transcript:
        return history
    if not text:
        raise ValueError(
            f"field corrected_transcript: the text {last.transcript!r} was taken out; to say that nothing was said use "
            '`mondegreen cases correct ID ""`'
        )
    changed = author if author != last.author else ""
    return (*history, SentCorrection(transcript=text, method="import", author=changed))


def _fields(case: SentCase) -> dict[str, str]:
    last = counting(case.corrections)
    fields = {name: getattr(case, name) for name in (*_PLAIN, "source")}
    fields["original_transcript"] = case.original_transcript or ""
    fields["corrected_transcript"] = last.transcript if last else ""
    fields["method"] = last.method if last else ""
    fields["author"] = last.author if last else ""
    fields["corrected_at"] = _written(last.at if last else None)
    fields |= {name: _written(getattr(case, name)) for name in _MAYBE if name != "source"}
    fields["error_types"] = _joined(case.error_types)
    fields["metadata"] = json.dumps(case.metadata, ensure_ascii=False, allow_nan=False)
    history = _CORRECTIONS.dump_python(case.corrections, mode="json")
    fields["corrections"] = json.dumps(history, ensure_ascii=False) if history else ""
    return fields


def _written(value: datetime | float | None) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else repr(value)


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
        found = json.loads(fields[name])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"field {name}: this is not JSON: {error}") from None
    if not isinstance(found, kind):
        raise ValueError(f"field {name}: this must be a JSON {'object' if kind is dict else 'list'}")
    return found
