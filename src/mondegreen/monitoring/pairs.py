"""Shadow pairs in the store: what two versions made of one recording, in numbers."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from mondegreen.config import Params
from mondegreen.db import transaction, upserting
from mondegreen.monitoring.records import MonitorRecord
from mondegreen.monitoring.tracker import inference_of
from mondegreen.scoring.wer import count_words, read_pair
from mondegreen.tables import ShadowPairRow

if TYPE_CHECKING:
    from mondegreen.detector.detector import ErrorDetector
    from mondegreen.speech.transcriber import Transcription


class ShadowPair(MonitorRecord):
    """A row of `shadow_pairs`; see there."""

    request_id: str
    at: datetime
    canary: int
    served: str
    shadow: str
    errors: int
    words: int
    served_score: float | None
    shadow_score: float | None
    comparable: bool


def pair_of(
    heard: "tuple[Transcription, Transcription]",
    detectors: "Sequence[ErrorDetector | None]",
    params: Params,
    **origin: object,
) -> ShadowPair:
    """Compares what the two heard.

    Args:
        heard: what was answered, and what the shadow heard, of the same recording, which is still there.
        detectors: of each of the two; None where there is none.
        origin: request_id, at, canary, and the versions' names: served, shadow.
    """
    counts = count_words(*read_pair(heard[0].text, heard[1].text, params.score.normalizer))
    both = [
        inference_of(one, detector, params.audio.max_duration) for one, detector in zip(heard, detectors, strict=True)
    ]
    return ShadowPair.model_validate(
        {
            "errors": counts.errors,
            "words": counts.reference_length,
            "served_score": both[0].error_score,
            "shadow_score": both[1].error_score,
            "comparable": both[0].calibrated == both[1].calibrated,
            **origin,
        }
    )


def log_pairs(engine: Engine, pairs: Sequence[ShadowPair]) -> None:
    """Writes pairs down, each once however often it is called with it. Raises CaseError."""
    if pairs:
        with transaction(engine) as session:
            adding = upserting(session, ShadowPairRow).on_conflict_do_nothing(index_elements=["request_id"])
            session.execute(adding, [pair.model_dump() for pair in pairs])
