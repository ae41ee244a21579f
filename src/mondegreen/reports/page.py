"""The templates of all pages, with the one way in which numbers look.

Recordings inside a page: MP3, which every phone plays and which is encoded to the same bytes each time.

The model card: what the registry's users read before they trust a version.
"""

import base64
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined

from mondegreen.detector.features import measure
from mondegreen.errors import AudioError
from mondegreen.files import sha256_file
from mondegreen.records import RegressionResults, RunInfo, Utterance
from mondegreen.scoring.verdict import Verdict, slice_label
from mondegreen.scoring.wording import percent, points, probability, span
from mondegreen.speech.audio import SAMPLE_RATE, load_audio


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
    environment.filters.update(percent=percent, points=points, probability=probability, label=slice_label)
    environment.globals["span"] = span
    return environment


MOST_BYTES = 3_000_000  # of all clips in a page, as they stand there
MOST_HEARD = 500  # recordings that are decoded for their noise


@dataclass(frozen=True)
class Clip:
    """A recording as a page has it: played from `data`, else found at `link`, else `problem` says why not."""

    data: str = ""  # a data URI
    link: str = ""  # relative to the page
    problem: str = ""


def embed(
    utterances: Sequence[Utterance], project: Path, folder: Path, limit: int, most_bytes: int = MOST_BYTES
) -> dict[str, Clip]:
    """The recordings of some utterances by ID: the first ones play in the page, the rest are links.

    A recording that changed since it was judged is neither played nor linked.

    Args:
        utterances: the most telling ones first.
        project: what their paths are relative to.
        folder: where the page will stand.
        limit: most recordings that play in the page; 0 embeds none.
        most_bytes: most bytes of all of them together.
    """
    clips: dict[str, Clip] = {}
    left = most_bytes
    for utterance in utterances:
        if utterance.id in clips:
            continue
        path = project / utterance.path
        if problem := _problem(path, utterance):
            clips[utterance.id] = Clip(problem=problem)
            continue
        clip = Clip(link=quote(Path(os.path.relpath(path, folder)).as_posix()))
        if limit > 0:
            try:
                data = _data_uri(path)
            except AudioError as error:
                clips[utterance.id] = Clip(problem=error.problem)
                continue
            if len(data) <= left:
                limit, left, clip = limit - 1, left - len(data), Clip(data=data)
        clips[utterance.id] = clip
    return clips


def _problem(path: Path, utterance: Utterance) -> str:
    if not path.is_file():
        return "the recording is not there any more"
    if sha256_file(path) != utterance.sha256:
        return "the recording changed since it was judged"
    return ""


def _data_uri(path: Path) -> str:
    """As the model hears it: 16 kHz, one channel."""
    stream = io.BytesIO()
    soundfile.write(stream, load_audio(path), SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III")
    return f"data:audio/mpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def noise(utterances: Sequence[Utterance], project: Path) -> dict[str, float]:
    """Signal-to-noise ratio in dB by ID, of recordings that are there and hold speech; none of more than MOST_HEARD.

    The manifest does not hold it, and decoding thousands of recordings for one table would take longer than all else.
    """
    found: dict[str, float] = {}
    for utterance in utterances if len(utterances) <= MOST_HEARD else ():
        try:
            ratio = measure(load_audio(project / utterance.path)).snr
        except AudioError:
            continue
        if not math.isnan(ratio):
            found[utterance.id] = ratio
    return found


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
