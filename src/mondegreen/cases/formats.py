"""A case on its way between stores: what every file format holds, and the problems of a file with their places.

Cases as CSV: one line a case, for spreadsheets.

The columns corrected_transcript, method, author and corrected_at repeat the correction that counts, and may be edited;
`corrections` holds the whole history as JSON.

Cases as Label Studio tasks: what the model heard is a prediction, what a person wrote an annotation.

The format: https://labelstud.io/guide/task_format. The labelling configuration that it fits:
<View><Audio name="audio" value="$audio"/><TextArea name="transcription" toName="audio"/></View>
Label Studio keeps `data` and `meta` as they are, so that what only we know comes back from it.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TextIO
from urllib.parse import unquote

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mondegreen.cases.records import PEOPLE, ErrorType, Metadata, Text
from mondegreen.config import Seconds
from mondegreen.errors import UsageError
from mondegreen.records import CorrectionMethod

Format = Literal["csv", "jsonl", "label-studio"]
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".json": "label-studio"}
SHOWN = 20  # problems of one error


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class SentCorrection(_Record):
    """One correction. `at` None: nobody wrote down when."""

    transcript: Text
    method: CorrectionMethod = "import"
    author: Text = ""
    at: AwareDatetime | None = None
    metadata: Metadata = Field(default_factory=dict)


class SentCase(_Record):
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


class Row(NamedTuple):
    """One entry of a file: a case, or what is wrong with it. `where` is its line, or its task."""

    where: str
    case: SentCase | None
    problem: str = ""


class Problems:
    """What is wrong with a file, place by place."""

    def __init__(self, path: Path) -> None:
        self._path, self._found = path, list[str]()

    def add(self, where: str, problem: str) -> None:
        self._found.append(f"{where}: {problem.rstrip('.')}.")

    @property
    def enough(self) -> bool:
        """No more would be shown."""
        return len(self._found) >= SHOWN

    def refuse(self) -> None:
        """Raises UsageError when there are any."""
        if self._found:
            more = "There may be more. " if self.enough else ""
            listed = "\n  ".join(self._found[:SHOWN])
            raise UsageError(
                f"{self._path} cannot be imported:\n  {listed}", f"{more}Correct the file; nothing was imported."
            )


def format_of(path: Path, given: str | None) -> Format:
    """The format as given, else by the file's name. Raises UsageError."""
    found = next((kind for kind in _SUFFIXES.values() if kind == given), None) if given else None
    found = found or (None if given else _SUFFIXES.get(path.suffix.lower()))
    if found is None:
        raise UsageError(
            f"{given or path.name} is no format of ours.", "Use csv (.csv), jsonl (.jsonl) or label-studio (.json)."
        )
    return found


def explained(error: ValidationError) -> str:
    """Field and problem, of every field that is wrong."""
    return "; ".join(
        f"field {'.'.join(str(part) for part in item['loc']) or 'the whole entry'}: {item['msg']}"
        for item in error.errors()
    )


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


def counting(corrections: Sequence[SentCorrection]) -> SentCorrection | None:
    """The correction that counts: a person's newest, else a machine's."""
    people = [item for item in corrections if item.method in PEOPLE]
    return (people or corrections)[-1] if corrections else None


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


_OURS = "mondegreen"
_LOCAL = "/data/local-files/?d="  # how Label Studio names files of its own disk
_LARGEST = 512 << 20  # bytes; the whole file is held in memory


def write_tasks(stream: TextIO, cases: Iterable[SentCase], prefix: str = "") -> int:
    """Writes a JSON list of tasks; says how many.

    Args:
        prefix: goes before the audio's relative path, so that Label Studio finds it: /data/local-files/?d=project/
    """
    number = 0
    for number, case in enumerate(cases, 1):
        stream.write("[\n" if number == 1 else ",\n")
        stream.write(json.dumps(_task(case, prefix), ensure_ascii=False, allow_nan=False))
    stream.write("\n]\n" if number else "[]\n")
    return number


def read_tasks(path: Path) -> Iterator[Row]:
    """The file's tasks as cases, or what is wrong with them.

    Raises:
        UsageError: the file is too large, or no JSON list.
    """
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
        try:
            yield Row(f"task {number}", SentCase.model_validate(_label_studio_case(task)))
        except ValidationError as error:
            yield Row(f"task {number}", None, explained(error))
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            yield Row(f"task {number}", None, f"this is not a task of Label Studio: {error}")


def _task(case: SentCase, prefix: str) -> dict[str, Any]:
    facts = case.model_dump(mode="json", exclude={"corrections"})
    heard = {"model_version": case.model_version, "result": [_result(case.original_transcript or "", {})]}
    annotations: list[dict[str, Any]] = []
    machine: list[dict[str, Any]] = []
    for order, item in enumerate(case.corrections):
        result = _result(item.transcript, {"order": order, "correction": item.model_dump(mode="json")})
        if item.method == "llm":
            machine.append({"model_version": item.author or "llm", "result": [result]})
        else:
            annotations.append({"result": [result]})
    return {
        "data": {"audio": prefix + (case.audio or case.audio_name), _OURS: facts},
        "predictions": [heard, *machine],
        "annotations": annotations,
    }


def _result(text: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "from_name": "transcription",
        "to_name": "audio",
        "type": "textarea",
        "value": {"text": [text]},
    }
    return result | ({"meta": {_OURS: meta}} if meta else {})


def _label_studio_case(task: dict[str, Any]) -> dict[str, Any]:
    data = task["data"]
    predictions = task.get("predictions") or []
    facts = data.get(_OURS)
    if facts is None:
        facts = {"audio": _relative(str(data["audio"]))}
        if predictions:
            version = predictions[0].get("model_version")
            facts |= {"original_transcript": _text(predictions[0]), "model_version": str(version or "")}
            predictions = predictions[1:]
    annotations = task.get("annotations") or []
    kept = {id(item): (order, sent) for item in [*predictions, *annotations] for order, sent in _kept(item)}
    theirs = sorted(
        (item for item in annotations if id(item) not in kept), key=lambda item: str(item.get("created_at") or "")
    )
    written = [correction for item in theirs if (correction := _label_studio_written(item))]
    ours = [sent for _, sent in sorted(kept.values(), key=lambda pair: pair[0])]
    return {**facts, "corrections": [*ours, *written]}


def _kept(item: dict[str, Any]) -> Iterator[tuple[int, SentCorrection]]:
    """A correction of ours that nobody has changed in Label Studio since, and its place in the history."""
    for result in item.get("result") or []:
        meta = (result.get("meta") or {}).get(_OURS)
        if meta:
            sent = SentCorrection.model_validate(meta["correction"])
            if sent.transcript == _text(item):
                yield int(meta["order"]), sent
            return


def _label_studio_written(item: dict[str, Any]) -> SentCorrection | None:
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
    texts = [text for value in areas for text in _listed(value.get("text"))]
    return " ".join(texts) if texts else None


def _listed(text: Any) -> list[str]:
    return [str(part) for part in text] if isinstance(text, list) else [str(text)] if text else []


def _relative(audio: str) -> str:
    """The path that a file of Label Studio's own disk has there."""
    return unquote(audio.removeprefix(_LOCAL)) if audio.startswith(_LOCAL) else audio
