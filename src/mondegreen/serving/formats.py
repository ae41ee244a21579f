"""A transcription in the shapes of OpenAI's audio API: json, text, verbose_json, srt, vtt.

Source of the shapes: OpenAI's API reference, "Create transcription". What a CTC model does not have (tokens, the
temperature, a compression ratio) is left out rather than invented. Of channels that were heard one by one the texts
stand below each other, and what has a time says its channel.
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
        cues = (f"{_clock(item.start, '.')} --> {_clock(item.end, '.')}\n{_said(item)}\n" for item in segments)
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
        found["words"] = [
            {
                "word": word.text,
                "start": round(word.start, 2),
                "end": round(word.end, 2),
                "confidence": round(word.confidence, 4),
                **_channel(number),
            }
            for word, number in sorted(words, key=lambda item: item[0].start)
        ]
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


def _channel(number: int | None) -> dict[str, int]:
    return {} if number is None else {"channel": number}


def _clock(seconds: Seconds, point: str) -> str:
    """hh:mm:ss.mmm."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
