"""A transcription in the shapes of OpenAI's audio API: json, text, verbose_json, srt, vtt.

Source of the shapes: OpenAI's API reference, "Create transcription". What a CTC model does not have (tokens, the
temperature, a compression ratio) is left out rather than invented.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from mondegreen.config import Seconds
from mondegreen.records import Word

if TYPE_CHECKING:
    from mondegreen.speech.transcriber import Transcription

ResponseFormat = Literal["json", "text", "verbose_json", "srt", "vtt"]
FORMATS = get_args(ResponseFormat)
Granularity = Literal["word", "segment"]
_PAUSE: Seconds = 0.6  # a longer silence ends a subtitle
_LONGEST: Seconds = 7.0  # of a subtitle, and
_WIDEST = 84  # characters, two lines of 42: Netflix' and the BBC's guides to subtitles agree on about that


@dataclass(frozen=True)
class Segment:
    """Words that are shown together."""

    start: Seconds
    end: Seconds
    text: str


def segments_of(words: Sequence[Word]) -> list[Segment]:
    """Words grouped at pauses, none longer than a subtitle may be."""
    groups: list[list[Word]] = []
    for word in words:
        last = groups[-1] if groups else []
        width = sum(len(item.text) + 1 for item in last) + len(word.text)
        if last and word.start - last[-1].end <= _PAUSE and word.end - last[0].start <= _LONGEST and width <= _WIDEST:
            last.append(word)
        else:
            groups.append([word])
    return [Segment(group[0].start, group[-1].end, " ".join(word.text for word in group)) for group in groups]


def render(
    result: "Transcription", form: ResponseFormat, language: str, granularities: Sequence[Granularity] = ("segment",)
) -> tuple[str | dict[str, Any], str]:
    """The body and its media type; a dict is JSON."""
    if form == "json":
        return {"text": result.text}, "application/json"
    if form == "text":
        return f"{result.text}\n", "text/plain"
    segments = segments_of(result.words)
    if form == "srt":
        cues = (
            f"{number}\n{_clock(item.start, ',')} --> {_clock(item.end, ',')}\n{item.text}\n"
            for number, item in enumerate(segments, 1)
        )
        return "\n".join(cues), "application/x-subrip"
    if form == "vtt":
        cues = (f"{_clock(item.start, '.')} --> {_clock(item.end, '.')}\n{item.text}\n" for item in segments)
        return "WEBVTT\n\n" + "\n".join(cues), "text/vtt"
    return _verbose(result, segments, language, granularities), "application/json"


def _verbose(
    result: "Transcription", segments: Sequence[Segment], language: str, granularities: Sequence[Granularity]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": "transcribe",
        "language": language,
        "duration": round(result.duration, 3),
        "text": result.text,
        "confidence": round(result.confidence, 4),  # ours; other clients skip fields that they do not know
    }
    if "word" in granularities:
        found["words"] = [
            {
                "word": word.text,
                "start": round(word.start, 2),
                "end": round(word.end, 2),
                "confidence": round(word.confidence, 4),
            }
            for word in result.words
        ]
    if "segment" in granularities:
        found["segments"] = [
            {"id": number, "start": round(item.start, 2), "end": round(item.end, 2), "text": item.text}
            for number, item in enumerate(segments)
        ]
    return found


def _clock(seconds: Seconds, point: str) -> str:
    """hh:mm:ss.mmm."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
