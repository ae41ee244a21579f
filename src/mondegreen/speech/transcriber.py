"""From recordings to transcripts: `BaselineSTTModel`, the one way in for every stage, command and server.

Hypotheses for a corpus: a recording that this model has heard before is not transcribed again.

A model as the regression suites use it: a function over many recordings, and the digest of who hears.
"""

import hashlib
import io
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from mondegreen.config import Params, Seconds
from mondegreen.errors import AudioError
from mondegreen.files import lock, read_jsonl, sha256_file, write_jsonl
from mondegreen.records import Alternative, Hypothesis, Utterance, Word
from mondegreen.speech.audio import SAMPLE_RATE, Waveform, duration_of, load_audio, stream_windows
from mondegreen.speech.decoding import OVERLAP, Greedy, LogProbs, greedy, merge_windows, prefix_beam_search
from mondegreen.speech.model import FeatureCache, batches, encode, load_model, log_probabilities

WINDOW: Seconds = 24.0
_CHUNK: Seconds = 600.0  # audio held in memory at a time by transcribe_many


class Transcription(BaseModel):
    """What a model heard in one recording. Times in seconds."""

    model_config = ConfigDict(frozen=True)

    path: str
    text: str
    confidence: float
    duration: float
    words: list[Word]
    nbest: list[Alternative]  # best first; empty for a recording taken in windows
    real_time_factor: float  # seconds of work for a second of audio
    model: str  # digest


class Failure(BaseModel):
    """A recording that could not be transcribed, and why."""

    model_config = ConfigDict(frozen=True)

    path: str
    error: str
    reason: str


@dataclass(frozen=True)
class _Heard:
    """A recording after the encoder."""

    path: str
    features: Tensor  # float32 (num_frames, conv_dim)
    duration: Seconds


class BaselineSTTModel:
    """A CTC model that transcribes.

    Args:
        model_name: a local folder, a hub name, or `models:/name@champion`.
        batch_seconds: audio in one transformer batch. Speed and memory only; never changes a transcript.
        nbest: length of the N-best list; 0 saves the search for it.
        max_duration: longer recordings are taken in overlapping windows.
        cached: keep the encoder's features of files on disk, for the next run over the same files.
    """

    def __init__(
        self,
        model_name: str,
        *,
        batch_seconds: Seconds = 15.0,
        beam_width: int = 16,
        nbest: int = 5,
        max_duration: Seconds = 30.0,
        cached: bool = False,
    ) -> None:
        self.model = load_model(model_name)
        self.batch_seconds, self.max_duration = batch_seconds, max_duration
        self.beam_width, self.nbest = beam_width, nbest
        self.cache = FeatureCache(self.model.encoder_digest) if cached else None

    @property
    def digest(self) -> str:
        """The model's identity in every record."""
        return self.model.digest

    def transcribe(self, path: str | Path) -> Transcription:
        """Transcribes one recording of any length.

        Raises:
            AudioError: the file is missing, damaged, too short, or not audio.
        """
        result = next(self.transcribe_many([path]))
        if isinstance(result, Failure):
            raise AudioError(result.error, reason=result.reason)
        return result

    def transcribe_bytes(self, content: bytes) -> Transcription:
        """Transcribes a short recording held in memory (the bytes of a wav, flac, ogg or mp3 file)."""
        return self.transcribe_waveforms([load_audio(io.BytesIO(content), self.max_duration)])[0]

    def transcribe_waveforms(self, waveforms: Sequence[Waveform]) -> list[Transcription]:
        """Transcribes recordings that are decoded already: each float32 (num_samples,), 16 kHz."""
        started = time.perf_counter()
        heard = [_Heard("", encode(self.model, waveform), len(waveform) / SAMPLE_RATE) for waveform in waveforms]
        return list(self._decode(heard, started))

    def transcribe_many(self, paths: Iterable[str | Path]) -> Iterator[Transcription | Failure]:
        """Transcribes recordings in the order given; a bad one gives a Failure and the rest go on."""
        chunk: list[_Heard | Transcription | Failure] = []
        seconds, started = 0.0, time.perf_counter()
        for path in map(str, paths):
            chunk.append(self._hear(path))
            seconds += chunk[-1].duration if isinstance(chunk[-1], _Heard) else 0.0
            if seconds >= _CHUNK:
                yield from self._finish(chunk, started)
                chunk, seconds, started = [], 0.0, time.perf_counter()
        yield from self._finish(chunk, started)

    def _hear(self, path: str) -> _Heard | Transcription | Failure:
        try:
            duration = duration_of(path)
            if duration > self.max_duration:
                return self._long(path, duration)
            return _Heard(path, self._features(Path(path)), duration)
        except AudioError as error:
            return Failure(path=path, error=str(error), reason=error.reason)

    def _features(self, path: Path) -> Tensor:
        """The encoder's features of a recording, from the cache when they are there: float32 (num_frames, conv_dim)."""

        def compute() -> Tensor:
            return encode(self.model, load_audio(path))

        return self.cache.get_or_compute(sha256_file(path), compute) if self.cache else compute()

    def _finish(
        self, chunk: list[_Heard | Transcription | Failure], started: float
    ) -> Iterator[Transcription | Failure]:
        decoded = self._decode([item for item in chunk if isinstance(item, _Heard)], started)
        if self.cache:
            self.cache.flush()
        for item in chunk:
            yield next(decoded) if isinstance(item, _Heard) else item

    def _decode(self, heard: list[_Heard], started: float) -> Iterator[Transcription]:
        """The transformer over groups of like length, then one search an utterance; in the order given."""
        texts: dict[int, tuple[Greedy, list[Alternative]]] = {}
        budget = max(1, round(self.batch_seconds / self.model.frame_seconds))
        for group in batches([len(item.features) for item in heard], budget):
            lattices = log_probabilities(self.model, [heard[index].features for index in group])
            texts.update({index: self._search(lattice) for index, lattice in zip(group, lattices, strict=True)})
        total = sum(item.duration for item in heard)
        factor = (time.perf_counter() - started) / total if total else 0.0
        for index, item in enumerate(heard):
            best, nbest = texts[index]
            yield self._transcription(item.path, item.duration, best.text, best.confidence, best.words, nbest, factor)

    def _search(self, lattice: LogProbs) -> tuple[Greedy, list[Alternative]]:
        best = greedy(lattice, self.model.vocabulary, self.model.frame_seconds)
        if not self.nbest:
            return best, []
        return best, prefix_beam_search(lattice, self.model.vocabulary, self.beam_width, self.nbest)

    def _long(self, path: str, duration: Seconds) -> Transcription:
        """Window by window, in bounded memory; a long recording has no N-best."""
        started = time.perf_counter()
        windows: list[tuple[Seconds, list[Word]]] = []
        confidences: list[float] = []
        for start, waveform in stream_windows(path, WINDOW, OVERLAP):
            heard = self.transcribe_waveforms([waveform])[0]
            windows.append((start, heard.words))
            confidences.append(heard.confidence)
        words = merge_windows(windows, OVERLAP)
        confidence = math.exp(sum(map(math.log, confidences)) / len(confidences)) if all(confidences) else 0.0
        factor = (time.perf_counter() - started) / duration
        return self._transcription(path, duration, " ".join(word.text for word in words), confidence, words, [], factor)

    def _transcription(
        self,
        path: str,
        duration: Seconds,
        text: str,
        confidence: float,
        words: list[Word],
        nbest: list[Alternative],
        factor: float,
    ) -> Transcription:
        return Transcription(
            path=path,
            text=text,
            confidence=confidence,
            duration=duration,
            words=words,
            nbest=nbest,
            real_time_factor=factor,
            model=self.digest,
        )


def load(name: str) -> BaselineSTTModel:
    """A model ready to transcribe: `mondegreen.load("models:/fine-tuned-stt@champion").transcribe("call.wav").text`."""
    return BaselineSTTModel(name)


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


OnProgress = Callable[[int], None]
TranscribeFn = Callable[[str], Any]  # a path in; text, or a thing with a text, out

_DIGEST = 64  # characters of a sha256; what a stranger's attribute of that name holds is nobody's digest


@dataclass(frozen=True)
class Ear:
    """`hear` gives one hypothesis an utterance, in the order given, and tells how many are done."""

    hear: Callable[[Sequence[Utterance], OnProgress], list[Hypothesis]]
    digest: str = ""  # of the model, "" when nobody knows


def ear_of_model(model: Any) -> Ear:
    """A `BaselineSTTModel`: in batches, and what it has heard before is not transcribed again."""

    return Ear(lambda utterances, on_progress: hear(utterances, model, on_progress=on_progress), model.digest)


def ear_of_function(transcribe: TranscribeFn) -> Ear:
    """A function that transcribes one file; of a `BaselineSTTModel`'s own method, the model.

    A recording at which the function raises, or gives no text, has no transcript: it counts as fully wrong.
    """
    owner = getattr(transcribe, "__self__", None)
    if isinstance(owner, BaselineSTTModel) and getattr(transcribe, "__name__", "") == "transcribe":
        return ear_of_model(owner)
    known = getattr(owner, "digest", "")
    digest = known if isinstance(known, str) and len(known) <= _DIGEST else ""

    def hear(utterances: Sequence[Utterance], on_progress: OnProgress) -> list[Hypothesis]:
        found = []
        for done, utterance in enumerate(utterances, 1):
            found.append(_heard(transcribe, utterance, digest))
            on_progress(done)
        return found

    return Ear(hear, digest)


def _heard(transcribe: TranscribeFn, utterance: Utterance, digest: str) -> Hypothesis:
    text, error = "", ""
    try:
        text = _text_of(transcribe(utterance.path))
    except Exception as raised:  # whatever a user's model raises, the other recordings are still heard
        error = f"{type(raised).__name__}: {raised}".encode("utf-8", "replace").decode()
    return Hypothesis(
        id=utterance.id,
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
