"""One hypothesis an utterance for a whole corpus.

What a model transcribed before is not transcribed again: hypotheses are kept by model, decoding and recording.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mondegreen.files import lock, read_jsonl
from mondegreen.records import Alternative, Hypothesis, Utterance, Word

if TYPE_CHECKING:
    from mondegreen.speech.transcriber import BaselineSTTModel, Failure, Transcription

OnProgress = Callable[[int], None]
TranscribeFn = Callable[[str], Any]  # a path in; text, or a thing with a text, out

MEMORY_FOLDER = Path("var/hypotheses")
_BETWEEN_SAVES = 64  # recordings lost at most to a crash
_DIGEST = 64  # characters of a sha256; what a stranger's attribute of that name holds is nobody's digest
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusTranscriber:
    """Any model as suites and validations use it.

    `transcribe` gives one hypothesis an utterance, in the order given, and tells how many are done.
    """

    transcribe: Callable[[Sequence[Utterance], OnProgress], list[Hypothesis]]
    digest: str = ""  # of the model, "" when nobody knows


def corpus_transcriber(model: "BaselineSTTModel | TranscribeFn") -> CorpusTranscriber:
    """A model, or a function that transcribes one file; of a `BaselineSTTModel`'s own method, the model.

    A recording at which the function raises, or gives no text, has no transcript: it counts as fully wrong.
    """
    owner = getattr(model, "__self__", None)
    whole = owner if getattr(model, "__name__", "") == "transcribe" else model
    if hasattr(whole, "transcribe_many"):  # a plain function need not wait for torch
        from mondegreen.speech.transcriber import BaselineSTTModel

        if isinstance(whole, BaselineSTTModel):
            return CorpusTranscriber(
                lambda rows, advance: transcribe_corpus(rows, whole, on_progress=advance), whole.digest
            )
    function = cast(TranscribeFn, model)
    known = getattr(owner, "digest", "")
    digest = known if isinstance(known, str) and len(known) <= _DIGEST else ""

    def transcribe(utterances: Sequence[Utterance], on_progress: OnProgress) -> list[Hypothesis]:
        found = []
        for done, utterance in enumerate(utterances, 1):
            found.append(_by_function(function, utterance, digest))
            on_progress(done)
        return found

    return CorpusTranscriber(transcribe, digest)


def transcribe_corpus(
    utterances: Sequence[Utterance],
    model: "BaselineSTTModel",
    folder: Path = MEMORY_FOLDER,
    on_progress: OnProgress = lambda count: None,
) -> list[Hypothesis]:
    """One hypothesis an utterance, in the order given.

    What this model transcribed before with these decoding parameters is taken from `folder`, so that adding one file to
    a corpus costs one transcription, and a killed run goes on where it was.

    Args:
        on_progress: called with the number of utterances that are done.
    """
    from mondegreen.speech.hearing import hear_parts

    memory = folder / f"{_memory_key(model)}.jsonl"
    known = _remembered(memory)
    fresh = [utterance for utterance in utterances if utterance.sha256 not in known]
    logger.info("%d of %d recordings are new to this model.", len(fresh), len(utterances))
    done = len(utterances) - len(fresh)
    on_progress(done)
    parts = [fresh[start : start + _BETWEEN_SAVES] for start in range(0, len(fresh), _BETWEEN_SAVES)]
    for number, results in hear_parts(model, [[utterance.path for utterance in part] for part in parts]):
        part = parts[number]
        written = {u.sha256: _hypothesis(u, result, model.digest) for u, result in zip(part, results, strict=True)}
        known.update(written)
        _remember(memory, list(written.values()))
        done += len(part)
        on_progress(done)
    return [known[u.sha256].model_copy(update={"id": u.id, "path": u.path}) for u in utterances]


def _memory_key(model: "BaselineSTTModel") -> str:
    """Everything that a hypothesis depends on besides the recording (and its channel, which is in its sha256)."""
    from mondegreen.speech.audio import DECODING

    parts = (model.digest, model.beam_width, model.nbest, model.max_duration, model.max_missing_share, DECODING)
    runtime = () if model.model.runtime == "torch" else (model.model.runtime,)
    return hashlib.sha256(repr(parts + runtime).encode()).hexdigest()[:16]


def _remembered(memory: Path) -> dict[str, Hypothesis]:
    if not memory.exists():
        return {}
    with lock(memory.with_suffix(".lock")):
        _take_off_what_a_crash_cut(memory)
        return {row.id: row for row in read_jsonl(memory, Hypothesis)}


def _remember(memory: Path, rows: list[Hypothesis]) -> None:
    """Adds rows (their `id` is the recording's sha256) behind those of other processes; failures are not kept.

    They are appended: to write the whole file for each part would take a square of the corpus.
    """
    lines = "".join(row.model_dump_json() + "\n" for row in rows if not row.error)
    with lock(memory.with_suffix(".lock")):
        _take_off_what_a_crash_cut(memory)
        with memory.open("ab") as stream:
            stream.write(lines.encode())
            stream.flush()
            os.fsync(stream.fileno())


def _take_off_what_a_crash_cut(memory: Path) -> None:
    """The start of a line that was not written to its end."""
    if not memory.exists() or not memory.stat().st_size:
        return
    with memory.open("rb+") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)


def _hypothesis(utterance: Utterance, result: "Transcription | Failure", digest: str) -> Hypothesis:
    from mondegreen.speech.transcriber import Failure

    if isinstance(result, Failure):
        return _text_alone(utterance.sha256, utterance, digest, error=result.error)
    return Hypothesis(id=utterance.sha256, path=utterance.path, model=digest, **heard(result))


def heard(result: "Transcription") -> dict[str, Any]:
    """What a row keeps of a transcription, rounded, so that last bits of a float never count as a change."""
    return {
        "text": result.text,
        "confidence": round(result.confidence, 4),
        "duration": round(result.duration, 3),
        "words": [_rounded(word) for word in result.words],
        "nbest": [Alternative(text=item.text, score=round(item.score, 2)) for item in result.nbest],
    }


def _rounded(word: Word) -> Word:
    return Word(
        text=word.text, start=round(word.start, 2), end=round(word.end, 2), confidence=round(word.confidence, 4)
    )


def _by_function(transcribe: TranscribeFn, utterance: Utterance, digest: str) -> Hypothesis:
    try:
        text = _text_of(transcribe(utterance.path))
    except Exception as raised:  # whatever a user's model raises, the other recordings are still transcribed
        error = f"{type(raised).__name__}: {raised}".encode("utf-8", "replace").decode()
        return _text_alone(utterance.id, utterance, digest, error=error)
    return _text_alone(utterance.id, utterance, digest, text=text)


def _text_alone(key: str, utterance: Utterance, digest: str, text: str = "", error: str = "") -> Hypothesis:
    """A hypothesis without words, alternatives and confidence."""
    return Hypothesis(
        id=key,
        path=utterance.path,
        text=text,
        confidence=0.0,
        duration=utterance.duration,
        words=[],
        nbest=[],
        model=digest,
        error=error,
    )


def _text_of(result: Any) -> str:
    text = result.get("text") if isinstance(result, dict) else getattr(result, "text", result)
    if not isinstance(text, str):
        raise TypeError(f"the model gave {type(result).__name__} instead of a text")
    text.encode()  # half a surrogate pair is no text: it can be written nowhere
    return text
