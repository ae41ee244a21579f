"""Cases as Label Studio tasks: what the model heard is a prediction, what a person wrote an annotation.

The format: https://labelstud.io/guide/task_format. The labelling configuration that it fits:
<View><Audio name="audio" value="$audio"/><TextArea name="transcription" toName="audio"/></View>
Label Studio keeps `data` and `meta` as they are, so that what only we know comes back from it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote

from pydantic import ValidationError

from mondegreen.cases.exchange.records import Row, SentCase, SentCorrection, explained
from mondegreen.errors import UsageError

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
            yield Row(f"task {number}", SentCase.model_validate(_case(task)))
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


def _case(task: dict[str, Any]) -> dict[str, Any]:
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
    written = [correction for item in theirs if (correction := _written(item))]
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


def _written(item: dict[str, Any]) -> SentCorrection | None:
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
