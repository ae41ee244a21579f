"""Writing inferences down: what is recorded of each, in one transaction a batch."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Engine, insert

from mondegreen.cases.database import transaction
from mondegreen.cases.records import NewCase, checked
from mondegreen.cases.tables import InferenceRow
from mondegreen.errors import CaseError, MondegreenError
from mondegreen.files import sha256_file
from mondegreen.records import Alternative, Word

if TYPE_CHECKING:
    from mondegreen.cases.manager import DataManager

_WORDS = 500  # of a case that are kept; nobody corrects an hour of speech in one field
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Inference(BaseModel):
    """One transcription in production.

    Args:
        audio_path: the recording; its bytes are hashed unless `audio_sha256` is given, and kept when it was misheard.
        transcript: what the model heard.
        model_version: the model's digest.
        duration: seconds of audio.
        latency: seconds of work for this recording; its share of the work where several were taken together.
        confidence: the model's, 0 to 1.
        error_score: the detector's, 0 to 1.
        error_types: the detector's.
        is_error: the detector's decision; None when no detector looked.
        audio_sha256: hex digest of the file's bytes.
        at: when it was transcribed; now when not given.
        words: with their times and confidences, kept with a failed case for the person who corrects it.
        nbest: what else may have been said, kept likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    audio_path: Path
    transcript: str
    model_version: str = Field(min_length=1)
    duration: _Amount
    latency: _Amount
    confidence: _Share | None = None
    error_score: _Share | None = None
    error_types: tuple[str, ...] = ()
    is_error: bool | None = None
    audio_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    at: AwareDatetime | None = None
    words: tuple[Word, ...] = ()
    nbest: tuple[Alternative, ...] = ()


def write_inferences(engine: Engine, cases: "DataManager | None", inferences: Sequence[Inference]) -> list[str | None]:
    """Stores failed cases in one transaction, then all inferences in another.

    A case that cannot be stored does not take the rest with it: they are written, then the error is raised. The cases
    come first, so that after a crash in between no inference points nowhere; the same recording finds its case again.

    Returns:
        The id of the failed case of each inference, None where it was not misheard.

    Raises:
        CaseError: the database refuses (nothing is written), or some recordings are gone or cannot be kept (the rest
            is written).
    """
    now = datetime.now(UTC)
    problems: list[str] = []
    case_ids = _store_cases(cases, inferences, problems)
    rows = []
    for inference, case_id in zip(inferences, case_ids, strict=True):
        try:
            rows.append(_row(inference, case_id, now))
        except OSError as error:
            problems.append(f"{inference.audio_path}: {error.strerror}.")
    if rows:
        with transaction(engine) as session:
            session.execute(insert(InferenceRow), rows)
    if problems:
        raise CaseError(
            f"{len(problems)} of {len(inferences)} inferences were not logged in full: {problems[0]}",
            "The transcripts are right. Mend the cause and log these recordings again.",
        )
    return case_ids


def _store_cases(cases: "DataManager | None", inferences: Sequence[Inference], problems: list[str]) -> list[str | None]:
    """All misheard ones at once; one by one when that fails, so that one bad recording stands alone."""
    misheard = [index for index, inference in enumerate(inferences) if inference.is_error]
    stored: list[str | None] = [None] * len(inferences)
    if cases is None or not misheard:
        return stored
    try:
        ids = cases.store_failed_cases([_case(inferences[index]) for index in misheard])
        for index, case_id in zip(misheard, ids, strict=True):
            stored[index] = case_id
        return stored
    except (MondegreenError, OSError):
        for index in misheard:
            try:
                stored[index] = cases.store_failed_cases([_case(inferences[index])])[0]
            except (MondegreenError, OSError) as error:
                reason = error.problem if isinstance(error, MondegreenError) else error.strerror
                problems.append(f"{inferences[index].audio_path}: {reason}")
    return stored


def _case(inference: Inference) -> NewCase:
    return checked(
        NewCase,
        audio_path=inference.audio_path,
        original_transcript=inference.transcript,
        error_types=inference.error_types,
        error_score=inference.error_score,
        metadata={
            "confidence": inference.confidence,
            "words": [word.model_dump() for word in inference.words[:_WORDS]],
            "nbest": [alternative.model_dump() for alternative in inference.nbest],
        },
        model_version=inference.model_version,
        duration=inference.duration,
        source="production",
    )


def _row(inference: Inference, case_id: str | None, now: datetime) -> dict[str, object]:
    """The columns of an inference; OSError when its recording is gone and nobody knows its hash."""
    return {
        "at": inference.at or now,
        "model_version": inference.model_version,
        "audio_sha256": inference.audio_sha256 or sha256_file(inference.audio_path),
        "duration": inference.duration,
        "latency": inference.latency,
        "confidence": inference.confidence,
        "error_score": inference.error_score,
        "is_error": inference.is_error,
        "case_id": case_id,
    }
