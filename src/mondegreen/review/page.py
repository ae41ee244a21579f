"""What the page of one case shows: the words with their doubts, the choices, the waveform. No HTML."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.orm import Session

from mondegreen.cases.records import Case, CaseSuggestion, Correction
from mondegreen.cases.store import DataManager
from mondegreen.config import Params
from mondegreen.db import reading
from mondegreen.errors import MondegreenError
from mondegreen.records import Alternative, Word
from mondegreen.review.decisions import Chosen, Standing, Verdict, basis, standing, verdicts
from mondegreen.review.figures import Drawing, draw
from mondegreen.scoring.wer import align_words

_MOST = 9  # choices, one a digit


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class HeardWord(_Record):
    """A word of the hypothesis; times in seconds, None where they are not known."""

    text: str
    start: float | None = None
    end: float | None = None
    confidence: float | None = None
    doubtful: bool = False


class Piece(NamedTuple):
    """Some words of a choice, and whether they differ from what was heard."""

    text: str
    differs: bool


class Choice(_Record):
    """A text that one key or click takes over."""

    text: str
    chosen: Chosen
    label: str  # where it comes from
    note: str = ""  # why the guards refused it
    pieces: tuple[Piece, ...]


class Page(_Record):
    """Everything about one case."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    case: Case
    words: tuple[HeardWord, ...]
    choices: tuple[Choice, ...]
    drawing: Drawing | None
    problem: str  # why there is no drawing
    duration: float
    standing: Standing
    decided: tuple[Verdict, ...]  # that stand; shown only when the case is disputed or settled
    corrections: tuple[Correction, ...]
    basis: int
    text: str  # what the field starts with

    @property
    def is_settled(self) -> bool:
        """A person corrected it, or somebody took it out."""
        return self.case.label_method in ("manual", "import") or self.standing.held in ("bad_audio", "not_speech")


def page_of(manager: DataManager, case_id: str, params: Params, reviewer: str) -> Page:
    """Reads a case for its page. Raises CaseError when there is none."""
    case = manager.get_case(case_id)
    with reading(manager.engine) as session:
        decided, number = _visible(session, case, params, reviewer)
        version = basis(session, case.id)
    drawing, problem = _drawing(manager, case)
    words = heard_words(case, params.review.doubtful_below)
    disputed = decided if number.held == "disputed" else ()
    choices = choices_of(case, manager.newest_suggestions([case.id]).get(case.id), disputed)
    return Page(
        case=case,
        words=words,
        choices=choices,
        drawing=drawing,
        problem=problem,
        duration=drawing.duration if drawing else case.duration or 0.0,
        standing=number,
        decided=decided,
        corrections=tuple(manager.corrections(case.id)) if number.held != "second" else (),
        basis=version,
        text=_start(case, choices),
    )


def shown(text: str) -> str:
    """A text for eyes: models that know capitals only would shout."""
    return text.lower() if text.isupper() else text


def heard_words(case: Case, doubtful_below: float) -> tuple[HeardWord, ...]:
    """The words of the hypothesis, with times and confidences where the case has them and they are of this text."""
    found = _records(case.metadata.get("words"), Word)
    if " ".join(word.text for word in found).split() != case.original_transcript.split():
        return tuple(HeardWord(text=shown(word)) for word in case.original_transcript.split())
    return tuple(
        HeardWord(
            text=shown(word.text) if case.original_transcript.isupper() else word.text,
            start=word.start,
            end=word.end,
            confidence=word.confidence,
            doubtful=word.confidence < doubtful_below,
        )
        for word in found
    )


def choices_of(case: Case, suggestion: CaseSuggestion | None, disputed: Sequence[Verdict] = ()) -> tuple[Choice, ...]:
    """Distinct texts, the likeliest first: of two people who disagree, the hypothesis, the LLM's, the N-best."""
    offered: list[tuple[str, Chosen, str, str]] = [
        (verdict.transcript, "reviewer", verdict.reviewer, "") for verdict in disputed if verdict.transcript
    ]
    offered.append((case.original_transcript, "heard", "heard", ""))
    if suggestion:
        note = "" if suggestion.accepted else f"{suggestion.guard}: {suggestion.reason}"
        offered.append((suggestion.text, "llm", suggestion.model, note))
    nbest = _records(case.metadata.get("nbest"), Alternative)
    offered += [(item.text, "nbest", f"N-best {rank}", "") for rank, item in enumerate(nbest, 1)]
    choices: dict[str, Choice] = {}
    for text, chosen, label, note in offered:
        key = " ".join(shown(text).split())
        if key and key not in choices and len(choices) < _MOST:
            pieces = _pieces(shown(case.original_transcript), key)
            choices[key] = Choice(text=key, chosen=chosen, label=label, note=note, pieces=pieces)
    return tuple(choices.values())


def _start(case: Case, choices: Sequence[Choice]) -> str:
    """What a person most likely needs to change the least: the correction there is, else what was heard."""
    if case.corrected_transcript is not None:
        return case.corrected_transcript
    return shown(case.original_transcript) or (choices[0].text if choices else "")


def _visible(session: Session, case: Case, params: Params, reviewer: str) -> tuple[tuple[Verdict, ...], Standing]:
    """Where the case stands. A second person does not see what the first one wrote."""
    decided = verdicts(session, case.id)
    number = standing(decided, params.score.normalizer)
    if number.held == "second" and number.by != reviewer:
        return (), number
    return tuple(decided), number


def _pieces(heard: str, text: str) -> tuple[Piece, ...]:
    """The words of a text, neighbours of a kind joined."""
    pieces: list[Piece] = []
    for operation, _, word in align_words(heard.lower(), text.lower()):
        if word is None:
            continue
        differs = operation != "equal"
        if pieces and pieces[-1].differs == differs:
            pieces[-1] = Piece(f"{pieces[-1].text} {word}", differs)
        else:
            pieces.append(Piece(word, differs))
    return _as_written(pieces, text)


def _as_written(pieces: Sequence[Piece], text: str) -> tuple[Piece, ...]:
    """The pieces with the text's own capitals."""
    words = iter(text.split())
    return tuple(Piece(" ".join(next(words) for _ in piece.text.split()), piece.differs) for piece in pieces)


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
