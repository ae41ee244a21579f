"""From recordings to transcripts: `BaselineSTTModel`, the one way in for every stage, command and server."""

import io
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from mondegreen.config import Seconds
from mondegreen.errors import AudioError
from mondegreen.files import sha256_file
from mondegreen.records import Alternative, Word
from mondegreen.speech.audio import SAMPLE_RATE, Waveform, duration_of, load_audio, stream_windows
from mondegreen.speech.cache import FeatureCache
from mondegreen.speech.decoding import Greedy, LogProbs, greedy, prefix_beam_search
from mondegreen.speech.features import batches, encode, log_probabilities
from mondegreen.speech.longform import OVERLAP, merge_windows
from mondegreen.speech.model import load_model

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
