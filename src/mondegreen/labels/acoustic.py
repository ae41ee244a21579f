"""Does a text fit the audio? Its CTC forward score under the recogniser, against that of what it heard."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from mondegreen.config import Params, Seconds
from mondegreen.errors import UsageError, VocabularyError
from mondegreen.files import sha256_file
from mondegreen.speech.audio import load_audio
from mondegreen.speech.decoding import LogProbs, ctc_log_likelihood
from mondegreen.speech.model import FeatureCache, SpeechModel, batches, encode, load_model, log_probabilities
from mondegreen.speech.text import Labeller

MIN_REFERENCES = 20  # misheard utterances with a human reference, for a margin


@dataclass(frozen=True)
class ScoringRequest:
    """A recording, what was heard in it, and the texts that claim to be what was said."""

    path: Path
    heard: str
    texts: tuple[str, ...]


class AcousticScorer:
    """Scores texts on recordings with one model. Features come from the cache that transcribe filled.

    Args:
        model: the one that wrote the hypotheses.
        batch_seconds: audio in one transformer batch. Speed and memory only; never changes a score.
        cache: of the model's features; the usual one when not given.
    """

    def __init__(self, model: SpeechModel, batch_seconds: Seconds = 15.0, cache: FeatureCache | None = None) -> None:
        self.model, self._batch_seconds = model, batch_seconds
        self._labeller = Labeller(model.vocabulary)
        self._cache = cache or FeatureCache(model.encoder_digest)

    def unwritable(self, text: str) -> str:
        """Why the tokenizer cannot write a text; "" when it can."""
        try:
            self._labeller.encode(text, "the suggestion")
        except VocabularyError as error:
            return error.problem
        return ""

    def falls(self, requests: Sequence[ScoringRequest]) -> list[list[float | None]]:
        """How much worse each text fits than what was heard: log probability for each frame, for each request.

        Returns:
            0 for the heard text itself, inf where the frames cannot hold a text, None where it cannot be written.

        Raises:
            AudioError: a recording cannot be read.
        """
        found: dict[int, list[float | None]] = {}
        wanted = [index for index, request in enumerate(requests) if request.texts]
        for index, lattice in self._lattices([requests[index].path for index in wanted]):
            request = requests[wanted[index]]
            heard = self._score(lattice, request.heard)
            found[wanted[index]] = [self._fall(lattice, heard, text) for text in request.texts]
        return [found.get(index, []) for index in range(len(requests))]

    def _lattices(self, paths: Sequence[Path]) -> Iterator[tuple[int, LogProbs]]:
        """Batch by batch, so that only one batch of lattices is held."""
        features = [self._features(path) for path in paths]
        self._cache.flush()
        budget = max(1, round(self._batch_seconds / self.model.frame_seconds))
        for group in batches([len(item) for item in features], budget):
            lattices = log_probabilities(self.model, [features[index] for index in group])
            yield from zip(group, lattices, strict=True)

    def _features(self, path: Path) -> Tensor:
        return self._cache.get_or_compute(sha256_file(path), lambda: encode(self.model, load_audio(path)))

    def _score(self, lattice: LogProbs, text: str) -> float | None:
        try:
            labels = self._labeller.encode(text, "the text")
        except VocabularyError:
            return None
        return ctc_log_likelihood(lattice, labels, self.model.vocabulary.blank)

    def _fall(self, lattice: LogProbs, heard: float | None, text: str) -> float | None:
        score = self._score(lattice, text)
        if heard is None or score is None or not len(lattice):
            return None
        # Rounded, so that last bits of a float never decide.
        return round((heard - score) / len(lattice), 5) if np.isfinite(score) else float("inf")


def quantile_margin(falls: Sequence[float | None], keep: float) -> float | None:
    """The fall that a share `keep` of the human references does not exceed; None with fewer than MIN_REFERENCES.

    A true transcript of a misheard recording scores below what the model heard, by construction: how far is what the
    references of train and dev tell. Nothing of the test set is asked.
    """
    known = sorted(fall for fall in falls if fall is not None and np.isfinite(fall))
    if len(known) < MIN_REFERENCES:
        return None
    return max(0.0, round(float(np.quantile(known, keep)), 5))


def load_scorer(params: Params, digest: str) -> AcousticScorer:
    """The base model, which must be the one that wrote the hypotheses.

    Args:
        digest: that the hypotheses carry; "" when there are none.

    Raises:
        UsageError: it has other weights by now.
    """
    model = load_model(params.model.base)
    check_model(params, model.digest, digest)
    return AcousticScorer(model, params.transcribe.batch_seconds)


def check_model(params: Params, now: str, digest: str) -> None:
    """Raises UsageError when the hypotheses carry another digest than the model has now."""
    if digest and now != digest:
        raise UsageError(
            f"The hypotheses are of model {digest[:12]}, {params.model.base} is {now[:12]}.",
            "The weights changed since then: run `dvc repro --force transcribe`, then `dvc repro`.",
        )
