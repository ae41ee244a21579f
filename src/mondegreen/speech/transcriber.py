"""From recordings to transcripts: `BaselineSTTModel`, the one way in for every stage, command and server.

A long recording is taken in overlapping windows, which are joined to one text (`joining`). A model that hears less in
one piece than that takes each of these in windows of its own (`windows`).
"""

import copy
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params, Runtime, Seconds
from mondegreen.errors import AudioError
from mondegreen.records import Alternative, Word
from mondegreen.scoring.phrases import PhraseList, digest_with
from mondegreen.speech.acoustic_model import EncoderFeatures
from mondegreen.speech.audio import (
    MAX_MISSING_SHARE,
    SAMPLE_RATE,
    Waveform,
    duration_of,
    load_audio,
    stream_windows,
)
from mondegreen.speech.boosting import Boost, boosted_search
from mondegreen.speech.channels import content_digest
from mondegreen.speech.decoding import Greedy, LogProbs, greedy, prefix_beam_search
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.fusion import Fusion
from mondegreen.speech.joining import WINDOW, merge_windows
from mondegreen.speech.ngram import NGramModel
from mondegreen.speech.runtime import open_model
from mondegreen.speech.windows import OVERLAP, batches

GROUP = 32  # recordings transcribed together, so that a long list shows its first transcripts early
_CHUNK: Seconds = 600.0  # audio held in memory at a time by transcribe_many


class Transcription(BaseModel):
    """What a model wrote down of one recording. Times in seconds."""

    model_config = ConfigDict(frozen=True)

    path: str
    text: str
    confidence: float
    duration: float
    words: list[Word]
    nbest: list[Alternative]  # best first; empty for a recording longer than max_duration
    real_time_factor: float  # seconds of work for a second of audio
    model: str  # digest
    warnings: tuple[str, ...] = ()  # of the audio: what is damaged or not there, channels that cancel each other


class Failure(BaseModel):
    """A recording that could not be transcribed, and why."""

    model_config = ConfigDict(frozen=True)

    path: str
    error: str
    reason: str


@dataclass(frozen=True)
class _Encoded:
    """A recording after the encoder."""

    path: str
    features: EncoderFeatures
    duration: Seconds
    warnings: tuple[str, ...] = ()


class BaselineSTTModel:
    """A CTC model that transcribes.

    Args:
        model_name: a local folder, a hub name, or `models:/name@champion`.
        batch_seconds: audio in one transformer batch. Speed and memory only; never changes a transcript.
        nbest: length of the N-best list; 0 saves the search for it.
        max_duration: longer recordings are taken in overlapping windows.
        max_missing_share: most of a recording, 0..1, that may be damaged or not there.
        cached: keep the encoder's features of files on disk, for the next run over the same files.
        phrases: what it shall hear (see `boosting`); the list in the model's folder, if there is one, when not given.
            An empty list is none.
        lm: language model of its search (see `fusion`); the one in the model's folder, if there is one, when not given.
        runtime: what computes it, see `runtime.open_model`. Never changes a text; a score at most in its last digits.
        export: see `runtime.open_model`.
    """

    def __init__(
        self,
        model_name: str,
        *,
        batch_seconds: Seconds = 15.0,
        beam_width: int = 16,
        nbest: int = 5,
        max_duration: Seconds = 30.0,
        max_missing_share: float = MAX_MISSING_SHARE,
        cached: bool = False,
        phrases: PhraseList | None = None,
        lm: NGramModel | None = None,
        runtime: Runtime = "auto",
        export: bool = True,
    ) -> None:
        self.model = open_model(model_name, runtime, export)
        self.phrases = self.model.phrases if phrases is None else phrases
        self.boost = self.boost_of(self.phrases)
        self.lm = self.model.lm if lm is None else lm
        self.fusion = Fusion(self.lm, self.model.vocabulary) if self.lm and self.lm.active else None
        self.batch_seconds, self.max_duration = batch_seconds, max_duration
        self.beam_width, self.nbest, self.max_missing_share = beam_width, nbest, max_missing_share
        self.cache = FeatureCache(self.model.encoder_digest) if cached else None
        self._known: dict[str, LogProbs] | None = None  # lattices by path, see `remembering`
        self._reached: Callable[[Seconds, Seconds], None] | None = None  # see `telling`

    @property
    def digest(self) -> str:
        """The identity of weights, phrases and language model in every record."""
        return digest_with(self.model.weights, self.phrases, self.lm.digest if self.lm else "")

    def boost_of(self, phrases: PhraseList | None) -> Boost | None:
        """The phrases in this model's tokens; None where none has a weight.

        Raises:
            VocabularyError: its tokens are phonemes, which no spelling tells.
        """
        return Boost(phrases, self.model.vocabulary) if phrases and phrases.active else None

    def with_phrases(self, phrases: PhraseList | None) -> "BaselineSTTModel":
        """The same weights with another list; nothing is loaded again."""
        other = copy.copy(self)
        other.phrases, other.boost = phrases, self.boost_of(phrases)
        return other

    def with_lm(self, lm: NGramModel | None) -> "BaselineSTTModel":
        """The same weights with another language model, or with none.

        Raises:
            VocabularyError: the tokens are phonemes.
        """
        other = copy.copy(self)
        same = self.fusion if self.fusion and lm and self.fusion.model.orders is lm.orders else None
        other.lm, other.fusion = lm, None
        if lm and lm.active:
            other.fusion = Fusion(lm, self.model.vocabulary, same.lexicon if same else None)
        return other

    def remembering(self) -> "BaselineSTTModel":
        """One that keeps each recording's lattice, as do those made of it: for one corpus in many searches."""
        other = copy.copy(self)
        other._known = {}
        return other

    def telling(self, reached: Callable[[Seconds, Seconds], None]) -> "BaselineSTTModel":
        """One that says before each window of a long recording where it begins, and how long the recording is.

        What `reached` raises ends it there.
        """
        other = copy.copy(self)
        other._reached = reached
        return other

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
        """Transcribes a short recording held in memory (the bytes of an audio file)."""
        said: list[str] = []
        waveform = load_audio(io.BytesIO(content), self.max_duration, **self._heard(said))
        return self.transcribe_waveforms([waveform])[0].model_copy(update={"warnings": tuple(said)})

    def transcribe_waveforms(self, waveforms: Sequence[Waveform]) -> list[Transcription]:
        """Transcribes recordings that are decoded already: each float32 (num_samples,), 16 kHz."""
        started = time.perf_counter()
        encoded = [_Encoded("", self.model.features(waveform), len(waveform) / SAMPLE_RATE) for waveform in waveforms]
        return list(self._decode(encoded, started))

    def transcribe_many(self, paths: Iterable[str | Path]) -> Iterator[Transcription | Failure]:
        """Transcribes recordings in the order given; a bad one gives a Failure and the rest go on.

        Short ones are heard together, so that the first waits for the others; a long one that no short one is before
        is given at once.
        """
        chunk: list[_Encoded | Transcription | Failure] = []
        seconds, started = 0.0, time.perf_counter()
        for path in map(str, paths):
            if not chunk:
                started = time.perf_counter()
            item = self._encoded(path)
            if not chunk and not isinstance(item, _Encoded):
                yield item
                continue
            chunk.append(item)
            seconds += item.duration if isinstance(item, _Encoded) else 0.0
            if seconds >= _CHUNK:
                yield from self._finish(chunk, started)
                chunk, seconds = [], 0.0
        yield from self._finish(chunk, started)

    def _encoded(self, path: str) -> _Encoded | Transcription | Failure:
        try:
            duration = duration_of(path, **self._heard([]))
            return self._long(path, duration) if duration > self.max_duration else self._short(path)
        except AudioError as error:
            return Failure(path=path, error=str(error), reason=error.reason)

    def _short(self, path: str) -> _Encoded:
        """The encoder's features, from the cache when they are there.

        It is decoded in any case, which takes little beside the encoder: how long it is, and what is missing of it and
        may be, only that shows.
        """
        said: list[str] = []
        waveform = load_audio(path, **self._heard(said))
        return _Encoded(path, self._features(path, waveform), len(waveform) / SAMPLE_RATE, tuple(said))

    def _features(self, path: str, waveform: Waveform) -> EncoderFeatures:
        if not self.cache:
            return self.model.features(waveform, path)
        from torch import from_numpy  # whoever transcribes a call need not wait for torch

        key = content_digest(path)
        return self.cache.get_or_compute(key, lambda: from_numpy(self.model.features(waveform, path))).numpy()

    def _heard(self, said: list[str]) -> dict[str, Any]:
        """How recordings are decoded; what is warned of is added to `said`."""
        return {"max_missing_share": self.max_missing_share, "warn": lambda code, message: said.append(message)}

    def _finish(
        self, chunk: list[_Encoded | Transcription | Failure], started: float
    ) -> Iterator[Transcription | Failure]:
        decoded = self._decode([item for item in chunk if isinstance(item, _Encoded)], started)
        if self.cache:
            self.cache.flush()
        for item in chunk:
            yield next(decoded) if isinstance(item, _Encoded) else item

    def _decode(self, encoded: list[_Encoded], started: float) -> Iterator[Transcription]:
        """The transformer over groups of like length, then one search an utterance; in the order given."""
        texts: dict[int, tuple[Greedy, list[Alternative]]] = {}
        budget = max(1, round(self.batch_seconds / self.model.frame_seconds))
        for group in batches([len(item.features) for item in encoded], budget):
            lattices = self._lattices([encoded[index] for index in group])
            found = [self._search(lattice, self.nbest) for lattice in lattices]
            texts.update(zip(group, found, strict=True))
        total = sum(item.duration for item in encoded)
        factor = (time.perf_counter() - started) / total if total else 0.0
        for index, item in enumerate(encoded):
            best, nbest = texts[index]
            yield Transcription(
                path=item.path,
                text=best.text,
                confidence=best.confidence,
                duration=item.duration,
                words=best.words,
                nbest=nbest,
                real_time_factor=factor,
                model=self.digest,
                warnings=item.warnings,
            )

    def _lattices(self, group: Sequence[_Encoded]) -> Sequence[LogProbs]:
        known, keys = self._known, [item.path for item in group]
        if known is None or not all(keys):
            return self.model.lattices([item.features for item in group])
        if new := [item for item in group if item.path not in known]:
            lattices = self.model.lattices([item.features for item in new])
            known.update({item.path: lattice for item, lattice in zip(new, lattices, strict=True)})
        return [known[key] for key in keys]

    @cached_property
    def _no_phrases(self) -> Boost:
        return Boost(PhraseList(), self.model.vocabulary)

    def _search(self, lattice: LogProbs, nbest: int) -> tuple[Greedy, list[Alternative]]:
        vocabulary, frame = self.model.vocabulary, self.model.frame_seconds
        if self.boost or self.fusion:
            boost = self.boost or self._no_phrases
            return boosted_search(lattice, vocabulary, frame, boost, self.beam_width, nbest, fusion=self.fusion)
        best = greedy(lattice, vocabulary, frame)
        if not nbest:
            return best, []
        return best, prefix_beam_search(lattice, vocabulary, self.beam_width, nbest)

    def _long(self, path: str, duration: Seconds) -> Transcription:
        """Window by window, in bounded memory; a long recording has no N-best."""
        started = time.perf_counter()
        windows: list[tuple[Seconds, Greedy]] = []
        said: list[str] = []
        for start, waveform in stream_windows(path, WINDOW, OVERLAP, **self._heard(said)):
            if self._reached:
                self._reached(start, duration)
            windows.append((start, self._window(waveform)))
        joined = merge_windows(windows, self.model.vocabulary, self.model.frame_seconds)
        confidences = [heard.confidence for _, heard in windows]
        confidence = math.exp(sum(map(math.log, confidences)) / len(confidences)) if all(confidences) else 0.0
        return Transcription(
            path=path,
            text=joined.text,
            confidence=confidence,
            duration=duration,
            words=joined.words,
            nbest=[],
            real_time_factor=(time.perf_counter() - started) / duration,
            model=self.digest,
            warnings=tuple(said),
        )

    def _window(self, waveform: Waveform) -> Greedy:
        return self._search(self.model.lattices([self.model.features(waveform)])[0], 0)[0]


def load_transcriber(model_name: str, params: Params, **other: Any) -> BaselineSTTModel:
    """The model with the pipeline's decoding parameters, and its features kept between stages.

    With these `auto` is torch: what is kept and what judges is then the same whether a machine can export or not.

    Args:
        other: parameters of `BaselineSTTModel` that are to differ.
    """
    given: dict[str, Any] = {
        "batch_seconds": params.transcribe.batch_seconds,
        "beam_width": params.transcribe.beam_width,
        "nbest": params.transcribe.nbest,
        "max_duration": params.audio.max_duration,
        "max_missing_share": params.audio.max_missing_share,
        "runtime": params.transcribe.runtime,
        "cached": True,
    } | other
    if given["cached"] and given["runtime"] == "auto":
        given["runtime"] = "torch"
    return BaselineSTTModel(model_name, **given)


def transcribe_in_groups(
    stt: BaselineSTTModel, paths: Sequence[Path], group: int = GROUP
) -> Iterator[Transcription | Failure]:
    """One result a path, in that order, a group at a time."""
    for start in range(0, len(paths), group):
        yield from stt.transcribe_many(paths[start : start + group])


def load(name: str) -> BaselineSTTModel:
    """A model ready to transcribe: `mondegreen.load("models:/fine-tuned-stt@champion").transcribe("call.wav").text`."""
    return BaselineSTTModel(name)
