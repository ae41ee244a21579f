"""OpenAI's audio API: the fields of "create transcription", and ours, and the shapes of an answer.

What we cannot do is refused. The shapes are json, text, verbose_json, srt and vtt of OpenAI's API reference; what a CTC
model does not have (tokens, the temperature, a compression ratio) is left out rather than invented. Of channels that
were heard one by one the texts stand below each other, and what has a time says its channel.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from starlette.datastructures import FormData

from mondegreen.cases.origin import FIELDS
from mondegreen.config import Channel, Seconds
from mondegreen.errors import UsageError
from mondegreen.records import Word
from mondegreen.scoring.phrases import LONGEST, PhraseList, list_of

if TYPE_CHECKING:
    from mondegreen.speech.transcriber import Transcription

_KNOWN = {
    *("file", "model", "language", "prompt", "response_format", "temperature", "stream", "timestamp_granularities[]"),
    *(*FIELDS, "user", "phrases"),
}
_MOST = 200  # characters of an id
_MOST_SPELT = 10_000  # characters of phrases and what they sound like, besides those of the longest phrases
CALLER = "x-caller-id"
ResponseFormat = Literal["json", "text", "verbose_json", "srt", "vtt"]
FORMATS = get_args(ResponseFormat)
Granularity = Literal["word", "segment"]
_PAUSE: Seconds = 0.6  # a longer silence ends a subtitle
_LONGEST: Seconds = 7.0  # of a subtitle, and
_WIDEST = 84  # characters, two lines of 42: Netflix' and the BBC's guides to subtitles agree on about that


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
    model, form_name = text.get("model", ""), text.get("response_format") or "json"
    _check_model(model, text.get("language") or language, names, language)
    _refuse_what_is_not_done(text)
    if form_name not in FORMATS:
        raise RefusedError(400, f"response_format {form_name!r} is not one of {', '.join(FORMATS)}.", "response_format")
    granularities = [str(value) for value in form.getlist("timestamp_granularities[]")] or ["segment"]
    if wrong := [value for value in granularities if value not in ("word", "segment")]:
        raise RefusedError(
            400, f"timestamp_granularities {wrong[0]!r} is neither word nor segment.", "timestamp_granularities[]"
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


def _check_model(model: str, given: str, names: Sequence[str], language: str) -> None:
    """The model must be one of `names`, and the language `given` the one that it hears."""
    if not model:
        raise RefusedError(400, f"The field model is missing; models: {', '.join(names)}.", "model")
    if model not in names:
        raise RefusedError(404, f"There is no model {model!r} here. Ask for {names[0]} (GET /v1/models).", "model")
    if given.lower() != language.lower():
        raise RefusedError(400, f"language {given!r}: this model hears {language!r} (serve.language).", "language")


def _refuse_what_is_not_done(text: Mapping[str, str]) -> None:
    """Fields of OpenAI's whose meaning this service does not have."""
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
    if text.get("channel", "").lower() in get_args(Channel):
        raise RefusedError(
            400,
            "channel is your own name of the channel that you send, and chooses none: send one a request.",
            "channel",
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
    except RecursionError:
        raise RefusedError(400, "phrases: it is nested too deeply. Send a list of phrases.", "phrases") from None
    except UsageError as error:
        raise RefusedError(400, f"{error.problem} {error.next_step}", "phrases") from None
    if len(found.phrases) > most:
        raise RefusedError(400, f"phrases: {len(found.phrases)}; {most} are taken (serve.max_phrases).", "phrases")
    spellings = [text for item in found.phrases for text in (item.phrase, *item.sounds_like)]
    if (long := sum(map(len, spellings))) > (longest := _MOST_SPELT + LONGEST * most):
        said = f"phrases: {long:,} characters with what they sound like; {longest:,} are taken (serve.max_phrases)."
        raise RefusedError(400, said, "phrases")
    return found


def _id(given: str | None, name: str) -> str | None:
    if given and (len(given) > _MOST or not given.isprintable()):
        raise RefusedError(400, f"{name} has more than {_MOST} characters, or odd ones.", name)
    return given or None


@dataclass(frozen=True)
class Segment:
    """Words that are shown together. `channel`: where several were heard, 1 is the first."""

    start: Seconds
    end: Seconds
    text: str
    channel: int | None = None


def segments_of(words: Sequence[Word], channel: int | None = None) -> list[Segment]:
    """Words grouped at pauses, none longer than a subtitle may be."""
    groups: list[list[Word]] = []
    for word in words:
        last = groups[-1] if groups else []
        width = sum(len(item.text) + 1 for item in last) + len(word.text)
        if last and word.start - last[-1].end <= _PAUSE and word.end - last[0].start <= _LONGEST and width <= _WIDEST:
            last.append(word)
        else:
            groups.append([word])
    return [Segment(group[0].start, group[-1].end, " ".join(word.text for word in group), channel) for group in groups]


def render(
    results: "Sequence[Transcription]",
    form: ResponseFormat,
    language: str,
    granularities: Sequence[Granularity] = ("segment",),
) -> tuple[str | dict[str, Any], str]:
    """The body and its media type; a dict is JSON.

    Args:
        results: one, or one of each channel.
    """
    text = "\n".join(result.text for result in results)
    if form == "json":
        return {"text": text}, "application/json"
    if form == "text":
        return f"{text}\n", "text/plain"
    numbers = [None] if len(results) == 1 else list(range(1, len(results) + 1))
    heard = list(zip(numbers, results, strict=True))
    segments = [segment for number, result in heard for segment in segments_of(result.words, number)]
    segments.sort(key=lambda segment: segment.start)
    if form == "srt":
        cues = (
            f"{number}\n{_clock(item.start, ',')} --> {_clock(item.end, ',')}\n{_said(item)}\n"
            for number, item in enumerate(segments, 1)
        )
        return "\n".join(cues), "application/x-subrip"
    if form == "vtt":
        cues = (
            f"{_clock(item.start, '.')} --> {_clock(item.end, '.')}\n{html.escape(_said(item), quote=False)}\n"
            for item in segments
        )  # a cue of WebVTT may hold tags
        return "WEBVTT\n\n" + "\n".join(cues), "text/vtt"
    return _verbose(heard, text, segments, language, granularities), "application/json"


def _said(segment: Segment) -> str:
    return segment.text if segment.channel is None else f"[{segment.channel}] {segment.text}"


def _verbose(
    heard: "Sequence[tuple[int | None, Transcription]]",
    text: str,
    segments: Sequence[Segment],
    language: str,
    granularities: Sequence[Granularity],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": "transcribe",
        "language": language,
        "duration": round(max(result.duration for _, result in heard), 3),
        "text": text,
    }
    confidences = [round(result.confidence, 4) for _, result in heard]  # ours; other clients skip what they do not know
    if len(heard) == 1:
        found["confidence"] = confidences[0]
    else:
        found["channels"] = [
            {"channel": number, "text": result.text, "confidence": confidence}
            for (number, result), confidence in zip(heard, confidences, strict=True)
        ]
    if "word" in granularities:
        words = [(word, number) for number, result in heard for word in result.words]
        found["words"] = [_timed(word, number) for word, number in sorted(words, key=lambda item: item[0].start)]
    if "segment" in granularities:
        found["segments"] = [
            {
                "id": number,
                "start": round(item.start, 2),
                "end": round(item.end, 2),
                "text": item.text,
                **_channel(item.channel),
            }
            for number, item in enumerate(segments)
        ]
    return found


def _timed(word: Word, channel: int | None) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": round(word.start, 2),
        "end": round(word.end, 2),
        "confidence": round(word.confidence, 4),
        **_channel(channel),
    }


def _channel(number: int | None) -> dict[str, int]:
    return {} if number is None else {"channel": number}


def _clock(seconds: Seconds, point: str) -> str:
    """hh:mm:ss.mmm."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
