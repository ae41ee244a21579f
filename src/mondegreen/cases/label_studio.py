"""Cases as tasks of Label Studio (https://labelstud.io/guide/task_format), and the exports that come back.

The model's transcript is a prediction there, what a person wrote an annotation. The labelling configuration that fits:
<View><Audio name="audio" value="$audio"/>
<TextArea name="transcription" toName="audio" editable="true" maxSubmissions="1"/></View>
Label Studio keeps `data` and `meta` as they are, so that what only we know comes back from it.

Projects of others have other configurations: `_Names` says which TextArea is the transcript; all else that an annotator
chose or wrote becomes metadata of the correction.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO
from urllib.parse import unquote
from xml.etree import ElementTree

from mondegreen.cases.origin import FIELDS, origin_of
from mondegreen.cases.sent_cases import OURS, CaseInFile, Remark, SentCase, SentCorrection, origin_remarks, parsed, told
from mondegreen.delimited import Notice, decoded, tell
from mondegreen.errors import UsageError
from mondegreen.json_text import parse_json

TRANSCRIPTION = "transcription"  # the TextArea of what we export
_LOCAL = "/data/local-files/?d="  # how Label Studio names files of its own disk
_UPLOAD = re.compile(r"/data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?(.+)")  # and what it renamed when it was uploaded
_AUDIO = re.compile(r"\.(wav|flac|ogg|opus|mp3|m4a|aac|webm|aiff?|wma|amr)(\?.*)?$", re.IGNORECASE)
_LARGEST = 512 << 20  # bytes of a file of tasks, which is held in memory
_PLAIN_NAMES = (TRANSCRIPTION, "transcript", "text", "sentence")
# What JSON-MIN has beside the task's data and the answers.
_ABOUT = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", OURS})
_ARRAYS = ("annotations", "predictions", "drafts")


class _Names(NamedTuple):
    """Which answer of a project is the transcript, and which field of its tasks the audio."""

    text_area: str
    audio: str = ""  # "": the field `audio`, or the only one that names a recording


def write_tasks(stream: TextIO, cases: Iterable[SentCase], prefix: str) -> None:
    """Writes cases. `prefix` goes before the audio's relative path."""
    before = "[\n"
    for case in cases:
        stream.write(before + json.dumps(_task(case, prefix), ensure_ascii=False, allow_nan=False))
        before = ",\n"
    stream.write("\n]\n" if before == ",\n" else "[]\n")


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
        "data": {"audio": prefix + (case.audio or case.audio_name), OURS: facts},
        "predictions": predictions,
        "annotations": annotations,
    }


def _result(text: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    result = {"from_name": TRANSCRIPTION, "to_name": "audio", "type": "textarea", "value": {"text": [text]}}
    return result | ({"meta": {OURS: meta}} if meta else {})


def read_tasks(
    path: Path, notices: list[Notice] | None, *, text_area: str = "", silence: bool = False
) -> Iterator[CaseInFile]:
    """The tasks of an export: JSON or JSON-MIN, a list, a single task, or an object with `tasks` and `label_config`.

    Args:
        text_area: the TextArea that holds the transcript; "": the one that the configuration in the file says, else
            the one in which the model's transcript was shown, else the commonest.
        silence: an annotation without a transcript says that nothing was said; else it is left out, and counted.

    Raises:
        UsageError: the file is too large, no JSON, holds no tasks, or two TextAreas may be the transcript.
    """
    if path.stat().st_size > _LARGEST:
        raise UsageError(
            f"{path} has more than {_LARGEST >> 20} MiB.", "Export less from Label Studio at once, or use jsonl."
        )
    try:
        content = parse_json(decoded(path, notices))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}.", "Export it from Label Studio as JSON.") from None
    config = content.get("label_config") if isinstance(content, dict) else None
    tasks = content.get("tasks", [content]) if isinstance(content, dict) and content else content
    if not isinstance(tasks, list):
        raise UsageError(f"{path} holds no list of tasks.", "Export it from Label Studio as JSON or JSON-MIN.")
    tasks = [_from_min(task, text_area) for task in tasks]
    names = _names(path, tasks, str(config or _config_of(tasks)), text_area, notices)
    untouched: list[tuple[str, Remark]] = []
    for number, task in enumerate(tasks, 1):
        fields = partial(_case_of_task, task, names, silence)
        row = parsed(f"task {number}", fields, "this is not a task of Label Studio: ")
        if row.case and OURS not in task["data"] and row.case.original_transcript is None and not row.case.corrections:
            message = "tasks without a prediction and without a submitted transcript are left out"
            untouched.append((row.where, Remark("nothing_written", message)))
            continue
        yield row
    for notice in told(path, untouched):
        tell(notice, notices)


def _from_min(task: Any, text_area: str) -> Any:
    """A task as Label Studio's JSON has it from one of JSON-MIN, where data and answers stand side by side."""
    if not isinstance(task, dict) or "data" in task or not task:
        return task
    # Nothing in JSON-MIN tells data from answers; what says whose voice it is, is taken for data.
    about = _ABOUT | {"audio", *FIELDS} - {text_area}
    answers = {name: value for name, value in task.items() if name not in about and not _is_audio(value)}
    result: list[dict[str, Any]] = []
    for name, value in answers.items():
        if isinstance(value, dict) and "choices" in value:
            result.append({"from_name": name, "type": "choices", "value": value})
            continue
        for part in value if isinstance(value, list) and any(isinstance(part, dict) for part in value) else [value]:
            cell = part if isinstance(part, dict) else {"text": part}
            result.append({"from_name": name, "type": "textarea", "value": cell})
    annotation = {"result": result, "completed_by": task.get("annotator")}
    annotation |= {name: task[name] for name in ("created_at", "updated_at", "lead_time") if name in task}
    data = {name: value for name, value in task.items() if name not in answers}
    return {"data": data, "annotations": [annotation]}


def _is_audio(value: Any) -> bool:
    return isinstance(value, str) and bool(value.startswith(_LOCAL) or _AUDIO.search(value))


def _config_of(tasks: list[Any]) -> str:
    """The labelling configuration that a task brings with its project."""
    projects = [task.get("project") for task in tasks if isinstance(task, dict)]
    return next((str(p["label_config"]) for p in projects if isinstance(p, dict) and p.get("label_config")), "")


def _names(path: Path, tasks: list[Any], config: str, given: str, notices: list[Notice] | None) -> _Names:
    text_areas, audio = _of_config(config)
    shown, written = (Counter(_areas(tasks, kind)) for kind in ("predictions", "annotations"))
    found = [given] if given else _chosen(text_areas, shown, written)
    if len(found) > 1:
        raise UsageError(
            f"{path}: {' and '.join(map(repr, found))} may each be the transcript.", "Say which: --text-area NAME."
        )
    others = [name for name in written if name not in found]
    if found and others:
        message = f"the transcript is the TextArea {found[0]!r}; kept as metadata: {', '.join(map(repr, others))}"
        tell(Notice("text_area", message, str(path)), notices)
    return _Names(found[0] if found else TRANSCRIPTION, audio)


def _of_config(config: str) -> tuple[list[str], str]:
    """The names of the TextAreas of an audio's, and the field of the data that the audio is in."""
    try:
        tags = list(ElementTree.fromstring(config).iter())
    except (ElementTree.ParseError, ValueError):
        return [], ""
    audio = {tag.get("name"): str(tag.get("value")).removeprefix("$") for tag in tags if tag.tag.startswith("Audio")}
    areas = [str(tag.get("name")) for tag in tags if tag.tag == "TextArea" and tag.get("toName") in audio]
    return areas, next(iter(audio.values()), "")


def _chosen(of_config: list[str], shown: Mapping[str, int], written: Mapping[str, int]) -> list[str]:
    """The TextArea that is the transcript; several when nothing tells them apart."""
    names = of_config or list(written) or list(shown)
    commonest = {name for name, count in written.items() if count == max(written.values())}
    for likely in (shown, _PLAIN_NAMES[:2], commonest, _PLAIN_NAMES):
        names = [name for name in names if name in likely] or names
    return names


def _areas(tasks: list[Any], kind: str) -> Iterator[str]:
    """The name of each TextArea of each annotation, or prediction, that has a text."""
    for task in tasks:
        items = task.get(kind) if isinstance(task, dict) else None
        for item in items if isinstance(items, list) else []:
            results = item.get("result") if isinstance(item, dict) else None
            found = [r for r in results if isinstance(r, dict)] if isinstance(results, list) else []
            yield from dict.fromkeys(str(r.get("from_name") or "") for r in found if r.get("type") == "textarea")


def _case_of_task(task: Any, names: _Names, silence: bool, remarks: list[Remark]) -> dict[str, Any]:
    """The fields of a case from a task: ours, else what Label Studio's own fields say."""
    lists = {kind: task.get(kind) or [] for kind in _ARRAYS}
    for kind, items in lists.items():
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise TypeError(f"field {kind}: this must be a list of objects")
    data, annotations, predictions = task["data"], lists["annotations"], lists["predictions"]
    facts = data.get(OURS)
    if facts is None:
        facts = {"audio": _audio(data, names, remarks)}
        if predictions:
            version = predictions[0].get("model_version")
            facts |= {"original_transcript": _text(predictions[0], names), "model_version": str(version or "")}
            predictions = predictions[1:]
    if lists["drafts"] and not annotations:
        remarks.append(Remark("draft", "drafts that nobody submitted are left out"))
    kept = _all_kept(predictions, annotations)
    theirs = sorted((item for item in annotations if id(item) not in kept), key=_when)
    before = _shown_before(lists["predictions"], annotations, facts, names)
    theirs = [_without_shown(item, names, before, remarks) for item in theirs]
    shown = {_words(_text(item, names)) for item in lists["predictions"]}
    if unheard := [item for item in theirs if _words(_text(item, names)) in shown and _too_quick(item, facts)]:
        message = "annotations that repeat the model's text, sent in less time than the recording lasts, are left out"
        remarks.append(Remark("unheard", message))
        theirs = [item for item in theirs if item not in unheard]
    ours = [sent for _, sent in sorted(kept.values(), key=lambda pair: pair[0])]
    sent = [item for item in (_written_there(item, names, silence, remarks) for item in theirs) if item]
    if len(sent) > 1 and len({item.transcript for item in sent}) > 1:
        remarks.append(Remark("several_annotations", "annotations differ; all are kept, the one updated last counts"))
    remarks += origin_remarks(data)
    origin = {name: value for name, value in origin_of(data).items() if value and not _is_audio(data[name])}
    return {**facts, "metadata": {**(facts.get("metadata") or {}), **origin}, "corrections": [*ours, *sent]}


def _shown_before(
    predictions: list[dict[str, Any]], annotations: list[dict[str, Any]], facts: Mapping[str, Any], names: _Names
) -> frozenset[str]:
    """The texts that stood in the TextArea before anybody typed: a model's, and those of ours that came along."""
    texts = [" ".join(_parts(result)) for item in predictions for result in _transcripts(item, names)]
    metas = [(result.get("meta") or {}).get(OURS) for item in annotations for result in _transcripts(item, names)]
    texts += [str(meta["correction"]["transcript"]) for meta in metas if meta]
    return frozenset(map(_words, [*texts, str(facts.get("original_transcript") or "")]))


def _without_shown(item: dict[str, Any], names: _Names, shown: frozenset[str], remarks: list[Remark]) -> dict[str, Any]:
    """An annotation without the text that was shown, where another was typed beside it.

    A TextArea without maxSubmissions="1" has an empty box below the text that it shows, and hands in both.
    """
    results = _results(item)
    for result in _transcripts(item, names) if not item.get("was_cancelled") else ():
        full = [part for part in _parts(result) if part.strip()]
        typed = [part for part in full if _words(part) not in shown] or full[-1:]  # the last is the newest
        if len(full) < 2:
            continue
        message = "annotations have several texts in one TextArea, and they were joined"
        if len(typed) < len(full):
            message = "annotations have a text beside the one that was shown, and only what was typed is taken"
        remarks.append(Remark("several_texts", f'{message}; maxSubmissions="1" in its configuration asks for one'))
        taken = {**result, "value": {**result["value"], "text": typed}}
        results = [taken if other is result else other for other in results]
    return {**item, "result": results}


def _words(text: str | None) -> str:
    return " ".join((text or "").casefold().split())


def _too_quick(item: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether Label Studio counted fewer seconds for an annotation than its recording lasts."""
    spent, lasts = item.get("lead_time"), facts.get("duration")
    return isinstance(spent, int | float) and isinstance(lasts, int | float) and spent < lasts


def _audio(data: dict[str, Any], names: _Names, remarks: list[Remark]) -> str:
    """The path of the recording, as far as it is one of another disk."""
    field = names.audio if names.audio in data else "audio"
    if field not in data:
        fields = [name for name, value in data.items() if _is_audio(value)]
        if len(fields) != 1:
            raise ValueError(f"field data: it names no audio; its fields are {', '.join(map(repr, data)) or 'none'}")
        field = fields[0]
        remarks.append(Remark("audio_field", f"field {field}: read as the audio"))
    others = [name for name, value in data.items() if name != field and _is_audio(value)]
    remarks += [Remark("another_audio", f"field {name}: another recording, which is not used") for name in others]
    audio = str(data[field])
    return unquote(audio.removeprefix(_LOCAL)) if audio.startswith(_LOCAL) else audio


def upload_name(audio: str) -> str:
    """What a file that Label Studio was given is called, without what its server put before it; "" for another file."""
    found = _UPLOAD.fullmatch(unquote(audio))
    return PurePosixPath(found[1]).name if found else ""


def server_name(name: str) -> str:
    """A file name as Label Studio's server (Django's `get_valid_filename`) changes it."""
    return re.sub(r"(?u)[^-\w.]", "", name.strip().replace(" ", "_"))


def _when(item: Mapping[str, Any]) -> datetime:
    try:
        found = datetime.fromisoformat(str(item.get("updated_at") or item.get("created_at") or ""))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _all_kept(
    predictions: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[int, tuple[int, SentCorrection]]:
    """What `_kept` finds, by the `id()` of the item.

    Label Studio copies `meta` from a prediction into the annotation that is made of it, and from an annotation into its
    copy: somebody accepted the text there, and that is a correction of theirs.
    """
    kept: dict[int, tuple[int, SentCorrection]] = {}
    for item in predictions:
        if found := _kept(item):
            kept[id(item)] = found
    orders = {order for order, _ in kept.values()}
    for item in sorted(annotations, key=_when):
        if (found := _kept(item)) and found[1].method != "llm" and found[0] not in orders:
            orders.add(found[0])
            kept[id(item)] = found
    return kept


def _kept(item: dict[str, Any]) -> tuple[int, SentCorrection] | None:
    """The place in the history of a correction of ours that nobody has changed in Label Studio since, and itself."""
    for result in _results(item):
        if meta := (result.get("meta") or {}).get(OURS):
            sent = SentCorrection.model_validate(meta["correction"])
            text = _text(item, _Names(str(result.get("from_name") or "")))
            return (int(meta["order"]), sent) if sent.transcript == text else None
    return None


def _written_there(item: dict[str, Any], names: _Names, silence: bool, remarks: list[Remark]) -> SentCorrection | None:
    """What somebody wrote in Label Studio; None when it was skipped, or says nothing of the transcript."""
    if item.get("was_cancelled"):
        remarks.append(Remark("skipped", "annotations that were skipped are left out"))
        return None
    text = _text(item, names)
    if text is None and not silence:
        message = "annotations without a transcript are left out; --empty-is-silence: nothing was said"
        remarks.append(Remark("no_transcript", message))
        return None
    if not (text or "").strip():
        text = ""
        remarks.append(Remark("emptied", "annotations with an empty transcript say that nothing was said"))
    by = item.get("completed_by")
    author = by.get("email") or by.get("id", "") if isinstance(by, dict) else by
    name = f"label-studio user {author}" if isinstance(author, int) else str(author or "")
    at = item.get("updated_at") or item.get("created_at") or None
    return SentCorrection(transcript=text, method="import", author=name, at=at, metadata=_others(item, names))


def _text(item: dict[str, Any], names: _Names) -> str | None:
    """The transcript's text areas in the order of the time that they stand for; None without one."""
    areas = sorted(_transcripts(item, names), key=lambda result: float(result["value"].get("start") or 0))
    texts = [part for result in areas for part in _parts(result)]
    return " ".join(texts) if texts else None


def _transcripts(item: dict[str, Any], names: _Names) -> list[dict[str, Any]]:
    """The results of the transcript's TextArea; its value is null where an annotator took the text away."""
    return [
        result
        for result in _results(item)
        if result.get("type") == "textarea"
        and str(result.get("from_name") or "") == names.text_area
        and isinstance(result.get("value"), dict)
    ]


def _parts(result: Mapping[str, Any]) -> list[str]:
    return [str(part) for part in _listed(result["value"].get("text")) if part is not None]


def _others(item: dict[str, Any], names: _Names) -> dict[str, Any]:
    """What was chosen or written beside the transcript, by the name of its control."""
    found: dict[str, Any] = {}
    for result in _results(item):
        name, value = str(result.get("from_name") or ""), result.get("value")
        if name != names.text_area and isinstance(value, dict):
            kind = {"textarea": "text"}.get(str(result.get("type")), str(result.get("type")))
            found[name] = [*found.get(name, []), *_listed(value.get(kind))]
    return {name: answers[0] if len(answers) == 1 else answers for name, answers in found.items() if answers}


def _results(item: dict[str, Any]) -> list[dict[str, Any]]:
    results = item.get("result") or []
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        raise TypeError("field result: this must be a list of objects")
    return results


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
