"""What the page of one case shows: the words with their doubts, the choices, the waveform. No HTML."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.orm import Session

from mondegreen.cases.records import AUDIT, Case, CaseSuggestion, Correction
from mondegreen.cases.store import DataManager
from mondegreen.config import Params, Seconds
from mondegreen.db import reading
from mondegreen.errors import MondegreenError
from mondegreen.records import Alternative, Word
from mondegreen.review.decisions import Adjudication, Chosen, ReviewDecision, adjudicate, basis, decisions_of
from mondegreen.scoring.normalizer import NormalizerName, normalize, words_of
from mondegreen.scoring.wer import align_words
from mondegreen.speech.audio import SAMPLE_RATE, stream_windows

_MOST = 9  # choices, one a digit
WIDTH, HEIGHT = 600, 100  # of the drawing's own units
_SLICE = SAMPLE_RATE // 200  # samples of one measurement, 5 ms
_WINDOW: Seconds = 30.0
_LOUD = 0.05  # quieter recordings are not drawn larger than as if this were their peak


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class HypothesisWord(_Record):
    """A word of the hypothesis; times in seconds, None where they are not known."""

    text: str
    start: float | None = None
    end: float | None = None
    confidence: float | None = None
    doubtful: bool = False


class TextPiece(NamedTuple):
    """Some words of a choice, and whether they differ from the hypothesis."""

    text: str
    differs: bool


class OfferedText(_Record):
    """A text that one key or click takes over."""

    text: str
    chosen: Chosen
    label: str  # where it comes from
    note: str = ""  # why the guards refused it
    pieces: tuple[TextPiece, ...]


class Drawing(NamedTuple):
    """A waveform; `path` fits WIDTH x HEIGHT."""

    path: str
    duration: Seconds


class Page(_Record):
    """Everything about one case."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    case: Case
    words: tuple[HypothesisWord, ...]
    choices: tuple[OfferedText, ...]
    drawing: Drawing | None
    problem: str  # why there is no drawing
    duration: float
    adjudication: Adjudication
    decided: tuple[ReviewDecision, ...]  # that stand; shown only when the case is disputed or settled
    corrections: tuple[Correction, ...]
    basis: int
    text: str  # what the field starts with

    @property
    def blind(self) -> bool:
        """Whether nothing is shown of what machines make of the hypothesis, so that the person judges by ear alone."""
        return self.case.source == AUDIT

    @property
    def is_settled(self) -> bool:
        """A person corrected it, or somebody took it out."""
        return self.case.label_method in ("manual", "import") or self.adjudication.held in ("bad_audio", "not_speech")


def page_of(manager: DataManager, case_id: str, params: Params, reviewer: str) -> Page:
    """Reads a case for its page. Raises CaseError when there is none."""
    case = manager.get_case(case_id)
    with reading(manager.engine) as session:
        decided, adjudication = _visible(session, case, params, reviewer)
        version = basis(session, case.id)
    drawing, problem = _drawing(manager, case)
    blind = case.source == AUDIT
    words = hypothesis_words(case, 0.0 if blind else params.review.doubtful_below)
    disputed = decided if adjudication.held == "disputed" else ()
    suggestion = None if blind else manager.newest_suggestions([case.id]).get(case.id)
    choices = choices_of(case, suggestion, disputed)
    return Page(
        case=case,
        words=words,
        choices=choices,
        drawing=drawing,
        problem=problem,
        duration=drawing.duration if drawing else case.duration or 0.0,
        adjudication=adjudication,
        decided=decided,
        corrections=tuple(manager.corrections(case.id)) if adjudication.held != "second" else (),
        basis=version,
        text=_start(case, choices),
    )


def unheard(page: Page, text: str, normalizer: NormalizerName, *, heard: bool, rightly: bool) -> str:
    """Why a text is not taken as what somebody heard, "" when it is.

    What a machine wrote is gold only once a person listened. A text that was taken over needs a clip that was played,
    and the one that the page began with needs their word on top: Enter alone, pressed too often, is no such word. What
    a person typed is their own.

    Args:
        heard: the clip was played to its end.
        rightly: the person said that the text as it stands is what was said.
    """
    written = normalize(text, normalizer)
    same = written == normalize(page.text, normalizer)
    if not same and written not in {normalize(choice.text, normalizer) for choice in page.choices}:
        return ""
    if not heard:
        return "Nobody has heard this clip to its end yet. Play it; then accept the text, or correct it."
    return (
        "" if rightly or not same else "Nothing was changed. If the clip was heard rightly, say so: Heard rightly (H)."
    )


def shown(text: str) -> str:
    """A text for eyes: models that know capitals only would shout."""
    return text.lower() if text.isupper() else text


def hypothesis_words(case: Case, doubtful_below: float) -> tuple[HypothesisWord, ...]:
    """The words of the hypothesis, with times and confidences where the case has them and they are of this text."""
    found = _records(case.metadata.get("words"), Word)
    if " ".join(word.text for word in found).split() != case.original_transcript.split():
        return tuple(HypothesisWord(text=shown(word)) for word in case.original_transcript.split())
    return tuple(
        HypothesisWord(
            text=shown(word.text) if case.original_transcript.isupper() else word.text,
            start=word.start,
            end=word.end,
            confidence=word.confidence,
            doubtful=word.confidence < doubtful_below,
        )
        for word in found
    )


def choices_of(
    case: Case, suggestion: CaseSuggestion | None, disputed: Sequence[ReviewDecision] = ()
) -> tuple[OfferedText, ...]:
    """Distinct texts, the likeliest first: of two people who disagree, the hypothesis, the LLM's, the N-best."""
    offered: list[tuple[str, Chosen, str, str]] = [
        (decision.transcript, "reviewer", decision.reviewer, "") for decision in disputed if decision.transcript
    ]
    offered.append((case.original_transcript, "heard", "heard", ""))
    if suggestion:
        note = "" if suggestion.accepted else f"{suggestion.guard}: {suggestion.reason}"
        offered.append((suggestion.text, "llm", suggestion.model, note))
    nbest = _records(case.metadata.get("nbest"), Alternative)
    offered += [(item.text, "nbest", f"N-best {rank}", "") for rank, item in enumerate(nbest, 1)]
    choices: dict[str, OfferedText] = {}
    for text, chosen, label, note in offered:
        key = " ".join(shown(text).split())
        if key and key not in choices and len(choices) < _MOST:
            pieces = _pieces(shown(case.original_transcript), key)
            choices[key] = OfferedText(text=key, chosen=chosen, label=label, note=note, pieces=pieces)
    return tuple(choices.values())


def _start(case: Case, choices: Sequence[OfferedText]) -> str:
    """What a person most likely needs to change the least: the correction there is, else the hypothesis."""
    if case.corrected_transcript is not None:
        return case.corrected_transcript
    return shown(case.original_transcript) or (choices[0].text if choices else "")


def _visible(
    session: Session, case: Case, params: Params, reviewer: str
) -> tuple[tuple[ReviewDecision, ...], Adjudication]:
    """What was decided, and what follows. A second person does not see what the first one wrote."""
    decided = decisions_of(session, case.id)
    adjudication = adjudicate(decided, params.score.normalizer)
    if adjudication.held == "second" and adjudication.by != reviewer:
        return (), adjudication
    return tuple(decided), adjudication


def _pieces(hypothesis: str, text: str) -> tuple[TextPiece, ...]:
    """The words of a text, neighbours of a kind joined."""
    pieces: list[TextPiece] = []
    for operation, _, word in align_words(hypothesis.lower(), text.lower()):
        if word is None:
            continue
        differs = operation != "equal"
        if pieces and pieces[-1].differs == differs:
            pieces[-1] = TextPiece(f"{pieces[-1].text} {word}", differs)
        else:
            pieces.append(TextPiece(word, differs))
    return _as_written(pieces, text)


def _as_written(pieces: Sequence[TextPiece], text: str) -> tuple[TextPiece, ...]:
    """The pieces with the text's own capitals."""
    words = iter(words_of(text))
    return tuple(TextPiece(" ".join(next(words) for _ in piece.text.split()), piece.differs) for piece in pieces)


def _drawing(manager: DataManager, case: Case) -> tuple[Drawing | None, str]:
    try:
        return draw(manager.audio_path(case)), ""
    except MondegreenError as error:
        return None, error.problem


def _records(found: object, kind: type[Any]) -> list[Any]:
    """Metadata is anybody's: what is no such record is no record."""
    if not isinstance(found, list):
        return []
    try:
        return [kind.model_validate(item) for item in found if isinstance(item, Mapping)]
    except ValidationError:
        return []


@lru_cache(maxsize=256)
def draw(recording: Path) -> Drawing:
    """Reads a recording window by window. Raises AudioError.

    Args:
        recording: named after its content, so that what was drawn once need not be read again.
    """
    peaks: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
    samples = 0
    for _, window in stream_windows(recording, _WINDOW, 0.0, max_missing_share=1):
        padded = np.pad(np.abs(window), (0, -len(window) % _SLICE))
        peaks.append(padded.reshape(-1, _SLICE).max(axis=1))  # (num_slices,)
        samples += len(window)
    return Drawing(_path(np.concatenate(peaks)), samples / SAMPLE_RATE)


def _path(levels: np.ndarray[tuple[int], np.dtype[np.float32]]) -> str:
    """One upright bar for every second unit of the width, mirrored about the middle."""
    columns = min(WIDTH // 2, len(levels))
    edges = np.linspace(0, len(levels), columns + 1).astype(int)
    highest = np.maximum.reduceat(levels, edges[:-1]) / max(_LOUD, float(levels.max(initial=0.0)))
    step = WIDTH / columns
    bars = []
    for column, level in enumerate(np.nan_to_num(highest)):
        half = max(1.0, float(level) * (HEIGHT / 2 - 2))
        bars.append(f"M{(column + 0.5) * step:.1f} {HEIGHT / 2 - half:.1f}v{2 * half:.1f}")
    return "".join(bars)
