"""What pages and cards are made of: templates with the one way in which numbers look, recordings, trees as lines."""

import base64
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined

from mondegreen.detector.features import measure
from mondegreen.errors import AudioError
from mondegreen.records import RegressionResults, RunInfo, Utterance
from mondegreen.scoring.verdict import Verdict, slice_label
from mondegreen.scoring.wording import confidence, counted, percent, points, probability, span
from mondegreen.speech.audio import SAMPLE_RATE, load_audio
from mondegreen.speech.channels import channel_of, content_digest

MOST_BYTES = 3_000_000  # of all clips in a page, as they stand there
MOST_MEASURED = 500  # recordings that are decoded for their noise
_MOST_VALUES = 10  # values in one line
_COUNTS = (("errors", "reference_length"), ("count", "total"))  # what stands beside a rate: some of many
_MOST_ITEMS = 12  # of a list


def templates(*, escape: bool) -> Environment:
    """The environment of this package's templates.

    Args:
        escape: for HTML: transcripts and file names are other people's text. Markdown escapes what it must itself.
    """
    environment = Environment(
        loader=PackageLoader("mondegreen.reports"),
        autoescape=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=not escape,
    )
    environment.filters.update(
        percent=percent,
        points=points,
        probability=probability,
        confidence=confidence,
        counted=counted,
        label=slice_label,
    )
    environment.globals["span"] = span
    return environment


def render_card(run: RunInfo, verdict: Verdict, results: RegressionResults, model_name: str = "fine-tuned-stt") -> str:
    """The card as Markdown.

    Args:
        run: build/train/run.json.
        verdict: build/validate/verdict.json.
        results: build/regress/results.json.
        model_name: the registered model's.
    """
    # Numbers, names and our own sentences; no transcript stands in it.
    return (
        templates(escape=False)
        .get_template("model_card.md.j2")
        .render(name=model_name, run=run, verdict=verdict, results=results)
    )


@dataclass(frozen=True)
class EmbeddedClip:
    """A recording as a page has it: played from `data`, else found at `link`, else `problem` says why not."""

    data: str = ""  # a data URI
    link: str = ""  # relative to the page
    problem: str = ""


def embed(
    utterances: Sequence[Utterance], project: Path, folder: Path, limit: int, most_bytes: int = MOST_BYTES
) -> dict[str, EmbeddedClip]:
    """The recordings of some utterances by ID: the first ones play in the page, the rest are links.

    A recording that changed since it was judged is neither played nor linked.

    Args:
        utterances: the most telling ones first.
        project: what their paths are relative to.
        folder: where the page will stand.
        limit: most recordings that play in the page; 0 embeds none.
        most_bytes: most bytes of all of them together.
    """
    clips: dict[str, EmbeddedClip] = {}
    left = most_bytes
    for utterance in utterances:
        if utterance.id in clips:
            continue
        path = project / utterance.path
        if problem := _problem(path, utterance):
            clips[utterance.id] = EmbeddedClip(problem=problem)
            continue
        clip = EmbeddedClip(link=quote(Path(os.path.relpath(channel_of(path)[0], folder)).as_posix()))
        if limit > 0:
            try:
                data = _data_uri(path)
            except AudioError as error:
                clips[utterance.id] = EmbeddedClip(problem=error.problem)
                continue
            if len(data) <= left:
                limit, left, clip = limit - 1, left - len(data), EmbeddedClip(data=data)
        clips[utterance.id] = clip
    return clips


def _problem(path: Path, utterance: Utterance) -> str:
    if not channel_of(path)[0].is_file():
        return "the recording is not there any more"
    if content_digest(path) != utterance.sha256:
        return "the recording changed since it was judged"
    return ""


def _told(code: str, message: str) -> None:
    """What a recording lacks was said when it was examined."""


def _data_uri(path: Path) -> str:
    """16 kHz and one channel, as the model gets it, in MP3: every phone plays it, and its bytes are always the same."""
    stream = io.BytesIO()
    waveform = load_audio(path, max_missing_share=1, warn=_told)
    soundfile.write(stream, waveform, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III")
    return f"data:audio/mpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def noise(utterances: Sequence[Utterance], project: Path) -> dict[str, float]:
    """Signal-to-noise ratio in dB by ID, of recordings that are there and hold speech; none of more than MOST_MEASURED.

    The manifest does not hold it, and decoding thousands of recordings for one table would take longer than all else.
    """
    found: dict[str, float] = {}
    for utterance in utterances if len(utterances) <= MOST_MEASURED else ():
        try:
            ratio = measure(load_audio(project / utterance.path, max_missing_share=1, warn=_told)).snr
        except AudioError:
            continue
        if not math.isnan(ratio):
            found[utterance.id] = ratio
    return found


def facts(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, value) of every part, in order: "labels · target", "human 80; llm 20".

    A rate with its counts is one value, a small part one line, a large one several; the rest of a long list is counted.
    """
    return [line for key, value in tree.items() for line in _lines(_name(key), value)]


def _lines(label: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and not _is_rate(value):
        leaves = list(_leaves("", value))
        if len(leaves) > _MOST_VALUES:
            for key, inner in value.items():
                yield from _lines(f"{label} · {_name(key)}", inner)
        else:
            yield label, "; ".join(f"{name} {text}".strip() for name, text in leaves)
    elif _is_list(value) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value[:_MOST_ITEMS], 1):
            yield from _lines(f"{label} · {number}", item)
        if len(value) > _MOST_ITEMS:
            yield label, f"and {len(value) - _MOST_ITEMS} more"
    else:
        yield label, _text(value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value and not _is_rate(value):
        for key, inner in value.items():
            yield from _leaves(f"{name} {_name(key)}".strip(), inner)
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return _rate(value) if _is_rate(value) else "; ".join(f"{k} {t}".strip() for k, t in _leaves("", value))
    if _is_list(value):
        more = f", and {len(value) - _MOST_ITEMS} more" if len(value) > _MOST_ITEMS else ""
        return ", ".join(map(_text, value[:_MOST_ITEMS])) + more or "none"
    if value is None or value == {}:
        return "–" if value is None else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_rate(value: Mapping[str, Any]) -> bool:
    rate = value.get("rate", "")
    return (rate is None or isinstance(rate, float)) and any(value.keys() >= set(names) for names in _COUNTS)


def _rate(value: Mapping[str, Any]) -> str:
    part, whole = next(names for names in _COUNTS if value.keys() >= set(names))
    bounds = value.get("interval")
    span = f", interval {percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""
    return f"{percent(value['rate'])} ({value[part]} of {value[whole]}{span})"


def _name(key: Any) -> str:
    return str(key).replace("_", " ")
