"""What a request asks for: the fields of OpenAI's "create transcription", and ours. What we cannot do is refused."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

from starlette.datastructures import FormData

from mondegreen.cases.origin import FIELDS
from mondegreen.config import Channel
from mondegreen.errors import UsageError
from mondegreen.scoring.phrases import PhraseList, list_of
from mondegreen.serving.formats import FORMATS, Granularity, ResponseFormat

_KNOWN = {
    *("file", "model", "language", "prompt", "response_format", "temperature", "stream", "timestamp_granularities[]"),
    *(*FIELDS, "user", "phrases"),
}
_MOST = 200  # characters of an id
CALLER = "x-caller-id"


class RefusedError(Exception):
    """Becomes an answer in OpenAI's shape of an error.

    Args:
        status: of HTTP.
        message: what is wrong and what to do.
        param: the field that is to blame.
        headers: of the answer.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.headers = status, message, param, headers


@dataclass(frozen=True)
class Asked:
    """A request's fields, checked. `caller`: an opaque id of the client's own."""

    model: str
    response_format: ResponseFormat
    language: str
    granularities: tuple[Granularity, ...]
    phrases: PhraseList | None
    caller: str | None
    speaker: str | None
    recording: str | None
    channel: str | None


def served_names(model: str, current: str) -> list[str]:
    """The names under which the model that serves may be asked for: fine-tuned-stt, fine-tuned-stt@champion, …/3."""
    name = model.removeprefix("models:/")
    return list(dict.fromkeys([name.split("@")[0], name, current]))


def read_fields(
    form: FormData, language: str, names: Sequence[str], headers: Mapping[str, str], most_phrases: int
) -> Asked:
    """Raises RefusedError naming the field."""
    if unknown := sorted(set(form) - _KNOWN):
        raise RefusedError(400, f"{unknown[0]} is not a field that is understood.", unknown[0])
    text = {key: str(value).strip() for key, value in form.items() if key != "file"}
    if not (model := text.get("model", "")):
        raise RefusedError(400, f"The field model is missing; models: {', '.join(names)}.", "model")
    if model not in names:
        raise RefusedError(404, f"There is no model {model!r} here. Ask for {names[0]} (GET /v1/models).", "model")
    if (given := text.get("language") or language).lower() != language.lower():
        raise RefusedError(400, f"language {given!r}: this model hears {language!r} (serve.language).", "language")
    if text.get("prompt"):
        raise RefusedError(
            400,
            "prompt: a CTC model takes none. Leave it out, and send names in phrases.",
            "prompt",
        )
    if text.get("temperature", "0") not in ("", "0", "0.0"):
        raise RefusedError(400, "temperature: nothing is drawn here. Leave it out, or send 0.", "temperature")
    if text.get("stream", "false").lower() not in ("", "false"):
        raise RefusedError(400, "stream: the transcript comes in one piece. Leave it out.", "stream")
    form_name = text.get("response_format") or "json"
    if form_name not in FORMATS:
        raise RefusedError(400, f"response_format {form_name!r} is not one of {', '.join(FORMATS)}.", "response_format")
    granularities = [str(value) for value in form.getlist("timestamp_granularities[]")] or ["segment"]
    if wrong := [value for value in granularities if value not in ("word", "segment")]:
        raise RefusedError(
            400, f"timestamp_granularities {wrong[0]!r} is neither word nor segment.", "timestamp_granularities[]"
        )
    if text.get("channel", "").lower() in get_args(Channel):
        raise RefusedError(
            400,
            "channel is your own name of the channel that you send, and chooses none: send one a request.",
            "channel",
        )
    return Asked(
        model,
        cast(ResponseFormat, form_name),
        language,
        tuple(cast(list[Granularity], granularities)),
        _phrases(text.get("phrases", ""), most_phrases),
        _id(headers.get(CALLER) or text.get("user"), CALLER),
        *(_id(text.get(name), name) for name in FIELDS),
    )


def _phrases(given: str, most: int) -> PhraseList | None:
    """One phrase a line, or a JSON list of what phrases.yaml lists."""
    if not given:
        return None
    try:
        rows = json.loads(given) if given.startswith("[") else [line for line in given.splitlines() if line.strip()]
        found = list_of(rows, "phrases")
    except ValueError as error:
        raise RefusedError(400, f"phrases: it begins as a JSON list and is none: {error}.", "phrases") from None
    except UsageError as error:
        raise RefusedError(400, f"{error.problem} {error.next_step}", "phrases") from None
    if len(found.phrases) > most:
        raise RefusedError(400, f"phrases: {len(found.phrases)}; {most} are taken (serve.max_phrases).", "phrases")
    return found


def _id(given: str | None, name: str) -> str | None:
    if given and (len(given) > _MOST or not given.isprintable()):
        raise RefusedError(400, f"{name} has more than {_MOST} characters, or odd ones.", name)
    return given or None
