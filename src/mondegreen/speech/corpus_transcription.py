"""A model that hears many recordings, here or as copies on the workers of a cluster; a corpus: a hypothesis each.

What a model transcribed before is not transcribed again: hypotheses are kept by model, decoding and recording.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mondegreen.compute import FailedShard, in_order, in_parts, map_shards, seen_here
from mondegreen.config import Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.files import lock, read_jsonl
from mondegreen.progress import Advance
from mondegreen.records import Alternative, Hypothesis, Utterance, Word
from mondegreen.scoring.phrases import PhraseList, pipeline_phrases
from mondegreen.speech.audio import DECODING
from mondegreen.speech.foreign import installed
from mondegreen.speech.model_folder import tokenizer_digests
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.ngram_files import pipeline_lm
from mondegreen.speech.transcriber import BaselineSTTModel, Failure, Transcription, load_transcriber

Transcribed = Transcription | Failure
PART = 64  # recordings of a shard
TranscribeFn = Callable[[str], Any]  # a path in; text, or a thing with a text, out

MEMORY_FOLDER = Path("var/hypotheses")
_BETWEEN_SAVES = 64  # recordings lost at most to a crash
ROUNDING = 2  # goes up when `heard` keeps other digits
_DIGEST = 64  # characters of a sha256; what a stranger's attribute of that name holds is nobody's digest
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelCopy:
    """How a worker comes to the model that was loaded here; travels to other machines."""

    params: Params
    name: str  # as messages have it, wherever the copy lies
    digest: str
    phrases: PhraseList | None
    settings: tuple[tuple[str, Any], ...]  # for `load_transcriber`
    lm: NGramModel | None = None

    def load(self, folder: Path | None) -> BaselineSTTModel:
        """The model in a folder; raises UsageError when it is another one."""
        stt = load_transcriber(str(folder), self.params, lm=self.lm, **dict(self.settings))
        stt = stt.with_phrases(self.phrases).with_lm(self.lm)
        if stt.digest != self.digest:
            raise UsageError(f"{self.name} is another model than when the run began.", "Begin again.")
        named = copy(stt.model)  # a frozen dataclass, with what it has loaded
        vars(named)["name"] = self.name
        stt.model = named
        return stt

    def __call__(self, folder: Path | None) -> Callable[[Sequence[str]], list[Transcribed]]:
        stt = self.load(folder)
        return lambda paths: list(stt.transcribe_many(paths))


class ClusterModel(BaselineSTTModel):
    """A model whose `transcribe_many` is the workers' of `compute`; all else of it is done here."""

    def __init__(self, model_name: str, params: Params, **settings: Any) -> None:
        vars(self).update(vars(load_transcriber(model_name, params, **settings)))
        self._params = params
        self._settings = {key: item for key, item in settings.items() if key not in ("phrases", "lm")}

    def transcribe_many(self, paths: Iterable[str | Path]) -> Iterator[Transcribed]:
        """In the order given. Raises MondegreenError when workers fail or do not see the recordings."""
        names = [str(path) for path in paths]
        parts = in_parts(names, PART)
        for results in in_order(self.parts(parts)):
            yield from results

    def parts(self, parts: Sequence[Sequence[str]]) -> Iterator[tuple[int, list[Transcribed]]]:
        """The place of each part with its results, as they come; raises MondegreenError like `transcribe_many`."""
        settings = self._settings | {"runtime": self.model.runtime}  # as it is here, whatever `auto` is there
        described = ModelCopy(
            self._params, self.model.name, self.digest, self.phrases, tuple(settings.items()), self.lm
        )
        seen = seen_here(path for part in parts for path in part)
        for number, results in map_shards(described, parts, self._params.compute, self.model.folder, shared=seen):
            if isinstance(results, FailedShard):
                raise MondegreenError(
                    f"{len(parts[number])} recordings from {parts[number][0]} on were not transcribed: {results.why}",
                    "Run it again: what was transcribed is kept.",
                )
            yield number, results


def load_for_many(model_name: str, params: Params, **settings: Any) -> BaselineSTTModel:
    """The model as `load_transcriber` gives it, or on the cluster of `compute.engine`."""
    if params.compute.engine == "local":
        return load_transcriber(model_name, params, **settings)
    return ClusterModel(model_name, params, **settings)


def pipeline_transcriber(model_name: str, params: Params) -> BaselineSTTModel:
    """The same with what every model of the pipeline hears by: transcribe.phrases and transcribe.lm."""
    return load_for_many(model_name, params, phrases=pipeline_phrases(params), lm=pipeline_lm(params))


def hear_parts(model: BaselineSTTModel, parts: Sequence[Sequence[str]]) -> Iterator[tuple[int, list[Transcribed]]]:
    """The place of each part with one result a recording: in the order of the parts here, in any order on a cluster."""
    if isinstance(model, ClusterModel):
        return model.parts(parts)
    return ((number, list(model.transcribe_many(part))) for number, part in enumerate(parts))


@dataclass(frozen=True)
class CorpusTranscriber:
    """Any model as suites and validations use it.

    `transcribe` gives one hypothesis an utterance, in the order given, and tells how many are done.
    """

    transcribe: Callable[[Sequence[Utterance], Advance], list[Hypothesis]]
    digest: str = ""  # of the model, "" when nobody knows


def corpus_transcriber(model: BaselineSTTModel | TranscribeFn) -> CorpusTranscriber:
    """A model, or a function that transcribes one file; of a `BaselineSTTModel`'s own method, the model.

    A recording at which the function raises, or gives no text, has no transcript: it counts as fully wrong.
    """
    owner = getattr(model, "__self__", None)
    whole = owner if getattr(model, "__name__", "") == "transcribe" else model
    if isinstance(whole, BaselineSTTModel):
        return CorpusTranscriber(
            lambda rows, advance: transcribe_corpus(rows, whole, on_progress=advance), whole.digest
        )
    function = cast(TranscribeFn, model)
    known = getattr(owner, "digest", "")
    digest = known if isinstance(known, str) and len(known) <= _DIGEST else ""

    def transcribe(utterances: Sequence[Utterance], on_progress: Advance) -> list[Hypothesis]:
        found = []
        for done, utterance in enumerate(utterances, 1):
            found.append(_by_function(function, utterance, digest))
            on_progress(done)
        return found

    return CorpusTranscriber(transcribe, digest)


def transcribe_corpus(
    utterances: Sequence[Utterance],
    model: BaselineSTTModel,
    folder: Path = MEMORY_FOLDER,
    on_progress: Advance = lambda count: None,
) -> list[Hypothesis]:
    """One hypothesis an utterance, in the order given.

    What this model transcribed before with these decoding parameters is taken from `folder`, so that adding one file to
    a corpus costs one transcription, and a killed run goes on where it was.

    Args:
        on_progress: called with the number of utterances that are done.
    """

    memory = folder / f"{_memory_key(model)}.jsonl"
    known = _remembered(memory)
    fresh = [utterance for utterance in utterances if utterance.sha256 not in known]
    logger.info("%d of %d recordings are new to this model.", len(fresh), len(utterances))
    done = len(utterances) - len(fresh)
    on_progress(done)
    parts = in_parts(fresh, _BETWEEN_SAVES)
    for number, results in hear_parts(model, [[utterance.path for utterance in part] for part in parts]):
        part = parts[number]
        written = {u.sha256: _hypothesis(u, result, model.digest) for u, result in zip(part, results, strict=True)}
        known.update(written)
        _remember(memory, list(written.values()))
        done += len(part)
        on_progress(done)
    return [known[u.sha256].model_copy(update={"id": u.id, "path": u.path}) for u in utterances]


def merge_memory(came: Path, folder: Path = MEMORY_FOLDER) -> None:
    """Adds what was transcribed elsewhere to what was transcribed here, of which nothing is lost.

    Args:
        came: another project's `folder`.
    """
    for source in sorted(came.glob("*.jsonl")):
        known = _remembered(folder / source.name)
        _remember(folder / source.name, [row for row in read_jsonl(source, Hypothesis) if row.id not in known])


def _memory_key(model: BaselineSTTModel) -> str:
    """Everything that a hypothesis depends on besides the recording (and its channel, which is in its sha256)."""
    parts = (model.digest, model.beam_width, model.nbest, model.max_duration, model.max_missing_share)
    runtime = () if model.model.runtime == "torch" else (model.model.runtime,)
    tokenizer = tokenizer_digests(model.model.folder)
    pyav = ("PyAV",) if installed() else ()  # of some recordings more is heard with it
    return hashlib.sha256(repr((*parts, DECODING, ROUNDING, *runtime, *tokenizer, *pyav)).encode()).hexdigest()[:16]


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


def _hypothesis(utterance: Utterance, result: Transcribed, digest: str) -> Hypothesis:
    if isinstance(result, Failure):
        return _text_alone(utterance.sha256, utterance, digest, error=result.error)
    return Hypothesis(id=utterance.sha256, path=utterance.path, model=digest, **heard(result))


def heard(result: Transcription) -> dict[str, Any]:
    """What a row keeps of a transcription: no digits that differ between the kernels of two processors.

    A value on the edge of two roundings still falls to either side: the fewer digits, the rarer (docs/project.md).
    """
    return {
        "text": result.text,
        "confidence": _sure(result.confidence),
        "duration": round(result.duration, 3),
        "words": [_rounded(word) for word in result.words],
        "nbest": [Alternative(text=item.text, score=round(item.score, 1)) for item in result.nbest],
    }


def _rounded(word: Word) -> Word:
    return Word(text=word.text, start=round(word.start, 2), end=round(word.end, 2), confidence=_sure(word.confidence))


def _sure(confidence: float) -> float:
    """In hundredths; near 1, where kernels agree better and good models have nearly all of theirs, in thousandths."""
    return round(confidence, 2 if confidence < 0.99 else 3)


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
