"""Hypotheses for a corpus: a recording that this model has heard before is not transcribed again."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mondegreen.config import Params
from mondegreen.files import lock, read_jsonl, write_jsonl
from mondegreen.records import Alternative, Hypothesis, Utterance, Word
from mondegreen.speech.transcriber import BaselineSTTModel, Failure, Transcription

logger = logging.getLogger(__name__)

MEMORY_FOLDER = Path("var/hypotheses")
_BETWEEN_SAVES = 64  # recordings lost at most to a crash


def transcriber(model_name: str, params: Params) -> BaselineSTTModel:
    """The model with the pipeline's decoding parameters, and its features kept between stages."""
    return BaselineSTTModel(
        model_name,
        batch_seconds=params.transcribe.batch_seconds,
        beam_width=params.transcribe.beam_width,
        nbest=params.transcribe.nbest,
        max_duration=params.audio.max_duration,
        cached=True,
    )


def hear(
    utterances: Sequence[Utterance],
    model: BaselineSTTModel,
    folder: Path = MEMORY_FOLDER,
    on_progress: Callable[[int], None] = lambda count: None,
) -> list[Hypothesis]:
    """One hypothesis an utterance, in the order given.

    What this model has heard before with these decoding parameters is taken from `folder`, so that adding one file to
    a corpus costs one transcription, and a killed run goes on where it was.

    Args:
        on_progress: called with the number of utterances that are done.
    """
    memory = folder / f"{_memory_key(model)}.jsonl"
    known = {row.id: row for row in read_jsonl(memory, Hypothesis)} if memory.exists() else {}
    fresh = [utterance for utterance in utterances if utterance.sha256 not in known]
    logger.info("%d of %d recordings are new to this model.", len(fresh), len(utterances))
    done = len(utterances) - len(fresh)
    on_progress(done)
    for start in range(0, len(fresh), _BETWEEN_SAVES):
        part = fresh[start : start + _BETWEEN_SAVES]
        results = model.transcribe_many([utterance.path for utterance in part])
        heard = {u.sha256: _hypothesis(u, result, model.digest) for u, result in zip(part, results, strict=True)}
        known.update(heard)
        _remember(memory, list(heard.values()))
        done += len(part)
        on_progress(done)
    return [known[u.sha256].model_copy(update={"id": u.id, "path": u.path}) for u in utterances]


def _memory_key(model: BaselineSTTModel) -> str:
    """Everything that a hypothesis depends on besides the recording."""
    parts = (model.digest, model.beam_width, model.nbest, model.max_duration)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _remember(memory: Path, rows: list[Hypothesis]) -> None:
    """Adds rows (their `id` is the recording's sha256) to what other processes added; failures are not kept."""
    with lock(memory.with_suffix(".lock")):
        before = read_jsonl(memory, Hypothesis) if memory.exists() else []
        merged = {row.id: row for row in [*before, *rows] if not row.error}
        write_jsonl(memory, merged.values())


def _hypothesis(utterance: Utterance, result: Transcription | Failure, digest: str) -> Hypothesis:
    """Rounded, so that last bits of a float never count as a change."""
    if isinstance(result, Failure):
        return Hypothesis(
            id=utterance.sha256,
            path=utterance.path,
            text="",
            confidence=0.0,
            duration=utterance.duration,
            words=[],
            nbest=[],
            model=digest,
            error=result.error,
        )
    return Hypothesis(
        id=utterance.sha256,
        path=utterance.path,
        text=result.text,
        confidence=round(result.confidence, 4),
        duration=round(result.duration, 3),
        words=[_rounded(word) for word in result.words],
        nbest=[Alternative(text=item.text, score=round(item.score, 2)) for item in result.nbest],
        model=digest,
    )


def _rounded(word: Word) -> Word:
    return Word(
        text=word.text, start=round(word.start, 2), end=round(word.end, 2), confidence=round(word.confidence, 4)
    )
