"""The file formats of cases on their way between stores: CSV for spreadsheets, JSON lines, tasks of Label Studio.

CSV has one line a case. The columns corrected_transcript, method, author and corrected_at repeat the current
correction, and may be edited; `corrections` holds the whole history as JSON.

In a task of Label Studio the model's transcript is a prediction, what a person wrote an annotation. The format:
https://labelstud.io/guide/task_format. The labelling configuration that it fits:
<View><Audio name="audio" value="$audio"/><TextArea name="transcription" toName="audio"/></View>
Label Studio keeps `data` and `meta` as they are, so that what only we know comes back from it.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TextIO
from urllib.parse import unquote

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from mondegreen.cases.records import CaseRecord, ErrorType, Metadata, Text, preferred
from mondegreen.config import Seconds
from mondegreen.errors import UsageError
from mondegreen.records import CorrectionMethod

Format = Literal["csv", "jsonl", "label-studio"]
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".json": "label-studio"}
COLUMNS = (
    "id", "audio", "sha256", "audio_name", "model_version", "original_transcript", "corrected_transcript", "method",
    "author", "corrected_at", "error_types", "error_score", "duration", "source", "first_seen", "last_seen",
    "times_seen", "metadata", "corrections",
)  # fmt: skip
_REQUIRED = ("original_transcript", "corrected_transcript")
_PLAIN = ("id", "audio", "sha256", "audio_name", "model_version")
_MAYBE = ("source", "error_score", "duration", "first_seen", "last_seen", "times_seen")
_LONGEST = 16 << 20  # characters of a line of JSON, of a field of CSV
_OURS = "mondegreen"  # the key of what Label Studio keeps for us
_LOCAL = "/data/local-files/?d="  # how Label Studio names files of its own disk
_LARGEST = 512 << 20  # bytes of a file of tasks, which is held in memory


class SentCorrection(CaseRecord):
    """One correction. `at` None: nobody wrote down when."""

    transcript: Text
    method: CorrectionMethod = "import"
    author: Text = ""
    at: AwareDatetime | None = None
    metadata: Metadata = Field(default_factory=dict)


class SentCase(CaseRecord):
    """A case with all its corrections, oldest first. What is None or "" was not said.

    The dataset version is not sent: it is a fact of a project, not of a case.
    """

    id: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = ""
    audio: str = ""  # relative to the file's folder
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    audio_name: Text = ""
    model_version: Text = ""
    original_transcript: Text | None = None
    error_types: tuple[ErrorType, ...] = ()
    error_score: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    duration: Seconds | None = Field(None, gt=0, allow_inf_nan=False)
    source: Text = Field("import", min_length=1)
    metadata: Metadata = Field(default_factory=dict)
    first_seen: AwareDatetime | None = None
    last_seen: AwareDatetime | None = None
    times_seen: int | None = Field(None, ge=1, lt=2**31)
    corrections: tuple[SentCorrection, ...] = ()


_CORRECTIONS = TypeAdapter(tuple[SentCorrection, ...])


class CaseInFile(NamedTuple):
    """A case of a file, or what is wrong with it. `where` is its line, or its task."""

    where: str
    case: SentCase | None
    problem: str = ""


def format_of(path: Path, given: str | None) -> Format:
    """The format as given, else by the file's name. Raises UsageError."""
    found = next((kind for kind in _SUFFIXES.values() if kind == given), None)
    if given is None:
        found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise UsageError(
            f"{given or path.name} is no format of ours.", "Use csv (.csv), jsonl (.jsonl) or label-studio (.json)."
        )
    return found


def write_cases(stream: TextIO, kind: Format, cases: Iterable[SentCase], prefix: str = "") -> int:
    """Writes cases; says how many.

    Args:
        prefix: for Label Studio, goes before the audio's relative path, so that it is found there:
            /data/local-files/?d=project/
    """
    number = 0
    if kind == "csv":
        # RFC 4180's end of line: Python quotes only characters of the terminator.
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\r\n")
        table.writeheader()
    for number, case in enumerate(cases, 1):
        if kind == "csv":
            table.writerow(_fields(case))
        elif kind == "jsonl":
            stream.write(case.model_dump_json() + "\n")
        else:
            stream.write("[\n" if number == 1 else ",\n")
            stream.write(json.dumps(_task(case, prefix), ensure_ascii=False, allow_nan=False))
    if kind == "label-studio":
        stream.write("\n]\n" if number else "[]\n")
    return number


def read_cases(path: Path, kind: Format) -> Iterator[CaseInFile]:
    """The file's cases, or what is wrong with them; the text is known to be UTF-8.

    Raises:
        UsageError: a file of tasks is too large, or no JSON list.
    """
    return {"csv": _read_csv, "label-studio": _read_tasks, "jsonl": _read_jsonl}[kind](path)


def undecodable(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not UTF-8, with what is wrong."""
    with path.open("rb") as stream:
        head = stream.read(4)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(head) > 1 and 0 in head[:2]):
            yield "line 1", "this is UTF-16 or UTF-32, not UTF-8: save the file as UTF-8"
            return
        stream.seek(0)
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                yield f"line {number}", f"byte {error.start + 1} is not UTF-8: save the file as UTF-8"


def _parsed(where: str, fields: Callable[[], Any], problem: str = "") -> CaseInFile:
    """The case of these fields, or what is wrong with them: `problem` goes before what is wrong with all of them."""
    try:
        return CaseInFile(where, SentCase.model_validate(fields()))
    except ValidationError as error:
        wrong = ((".".join(map(str, item["loc"])) or "the whole entry", item["msg"]) for item in error.errors())
        return CaseInFile(where, None, "; ".join(f"field {name}: {message}" for name, message in wrong))
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        return CaseInFile(where, None, f"{problem}{error}")


def _read_jsonl(path: Path) -> Iterator[CaseInFile]:
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST), ""), 1):
            if line.strip():
                yield _parsed(f"line {number}", partial(json.loads, line), "this is not JSON: ")


def _read_csv(path: Path) -> Iterator[CaseInFile]:
    before = csv.field_size_limit(_LONGEST)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from _rows(csv.reader(stream, strict=True))
    finally:
        csv.field_size_limit(before)


def _rows(reader: Any) -> Iterator[CaseInFile]:
    try:
        header = [name.strip() for name in next(reader, [])]
        if problem := _header_problem(header):
            yield CaseInFile("line 1", None, problem)
            return
        start = reader.line_num + 1
        for cells in reader:
            where, start = f"line {start}", reader.line_num + 1
            if len(cells) != len(header) and any(cells):
                counts = f"{len(cells)} fields for {len(header)} columns"
                yield CaseInFile(where, None, f"{counts}; texts with commas need double quotes")
            elif any(cells):
                yield _parsed(where, partial(_case, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        yield CaseInFile(f"line {reader.line_num}", None, f"this is not CSV: {error}")


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


def _case(fields: dict[str, str]) -> dict[str, Any]:
    """The fields of a case from those of a line of CSV."""
    given = {name: fields.get(name, "") for name in _PLAIN} | {
        name: fields[name] for name in _MAYBE if fields.get(name)
    }
    return given | {
        "original_transcript": fields["original_transcript"],
        "error_types": _types(fields.get("error_types", "")),
        "metadata": _json(fields, "metadata", dict),
        "corrections": _corrections(fields),
    }


def _corrections(fields: dict[str, str]) -> tuple[SentCorrection, ...]:
    """The history, and behind it what the editable columns say when that is something else."""
    history = _CORRECTIONS.validate_python(_json(fields, "corrections", list))
    text, method, author = (fields.get(name, "") for name in ("corrected_transcript", "method", "author"))
    last = preferred(history)
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
        found = json.loads(fields[name])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"field {name}: this is not JSON: {error}") from None
    if not isinstance(found, kind):
        raise ValueError(f"field {name}: this must be a JSON {'object' if kind is dict else 'list'}")
    return found


def _read_tasks(path: Path) -> Iterator[CaseInFile]:
    if path.stat().st_size > _LARGEST:
        raise UsageError(
            f"{path} has more than {_LARGEST >> 20} MiB.", "Export less from Label Studio at once, or use jsonl."
        )
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}.", "Export it from Label Studio as JSON.") from None
    if not isinstance(tasks, list):
        raise UsageError(f"{path} holds no list of tasks.", "Export it from Label Studio as JSON, not as JSON-MIN.")
    for number, task in enumerate(tasks, 1):
        yield _parsed(f"task {number}", partial(_case_of_task, task), "this is not a task of Label Studio: ")


def _task(case: SentCase, prefix: str) -> dict[str, Any]:
    first = {"model_version": case.model_version, "result": [_result(case.original_transcript or "", {})]}
    predictions, annotations = [first], list[dict[str, Any]]()
    for order, item in enumerate(case.corrections):
        result = _result(item.transcript, {"order": order, "correction": item.model_dump(mode="json")})
        if item.method == "llm":
            predictions.append({"model_version": item.author or "llm", "result": [result]})
        else:
            annotations.append({"result": [result]})
    facts = case.model_dump(mode="json", exclude={"corrections"})
    return {
        "data": {"audio": prefix + (case.audio or case.audio_name), _OURS: facts},
        "predictions": predictions,
        "annotations": annotations,
    }


def _result(text: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    result = {"from_name": "transcription", "to_name": "audio", "type": "textarea", "value": {"text": [text]}}
    return result | ({"meta": {_OURS: meta}} if meta else {})


def _case_of_task(task: dict[str, Any]) -> dict[str, Any]:
    """The fields of a case from a task: ours, else what Label Studio's own fields say."""
    data, predictions = task["data"], task.get("predictions") or []
    facts = data.get(_OURS)
    if facts is None:
        audio = str(data["audio"])  # a file of Label Studio's own disk has its path there
        facts = {"audio": unquote(audio.removeprefix(_LOCAL)) if audio.startswith(_LOCAL) else audio}
        if predictions:
            version = predictions[0].get("model_version")
            facts |= {"original_transcript": _text(predictions[0]), "model_version": str(version or "")}
            predictions = predictions[1:]
    annotations = task.get("annotations") or []
    kept = {id(item): found for item in [*predictions, *annotations] if (found := _kept(item))}
    theirs = sorted(
        (item for item in annotations if id(item) not in kept), key=lambda item: str(item.get("created_at") or "")
    )
    ours = [sent for _, sent in sorted(kept.values(), key=lambda pair: pair[0])]
    return {**facts, "corrections": [*ours, *filter(None, map(_written_there, theirs))]}


def _kept(item: dict[str, Any]) -> tuple[int, SentCorrection] | None:
    """The place in the history of a correction of ours that nobody has changed in Label Studio since, and itself."""
    for result in item.get("result") or []:
        if meta := (result.get("meta") or {}).get(_OURS):
            sent = SentCorrection.model_validate(meta["correction"])
            return (int(meta["order"]), sent) if sent.transcript == _text(item) else None
    return None


def _written_there(item: dict[str, Any]) -> SentCorrection | None:
    """What somebody wrote in Label Studio; None when it was skipped or left empty."""
    text = _text(item)
    if item.get("was_cancelled") or not text:
        return None
    by = item.get("completed_by")
    author = by.get("email") or by.get("id", "") if isinstance(by, dict) else by
    name = f"label-studio user {author}" if isinstance(author, int) else str(author or "")
    return SentCorrection(transcript=text, method="import", author=name, at=item.get("updated_at") or None)


def _text(item: dict[str, Any]) -> str | None:
    """The text areas in the order of the time that they stand for."""
    areas = [result["value"] for result in item.get("result") or [] if result.get("type") == "textarea"]
    areas.sort(key=lambda value: float(value.get("start") or 0))
    texts = [str(part) for value in areas for part in _listed(value.get("text"))]
    return " ".join(texts) if texts else None


def _listed(text: Any) -> list[Any]:
    return text if isinstance(text, list) else [text] if text else []
