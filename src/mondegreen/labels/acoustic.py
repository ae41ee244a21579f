"""Does a text fit the audio? Its CTC log likelihood under the recogniser, against that of the hypothesis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import ctc_loss

from mondegreen.config import Params, Seconds
from mondegreen.errors import UsageError, VocabularyError
from mondegreen.speech.acoustic_model import AcousticModel, EncoderFeatures
from mondegreen.speech.audio import load_audio
from mondegreen.speech.channels import content_digest
from mondegreen.speech.decoding import LogProbs
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.model import load_base
from mondegreen.speech.text import Labeller
from mondegreen.speech.windows import batches

MIN_REFERENCES = 20  # misheard utterances with a human reference, for a margin


@dataclass(frozen=True)
class ScoringRequest:
    """A recording, the hypothesis for it, and texts that claim to be what was said."""

    path: Path
    hypothesis: str
    texts: tuple[str, ...]


class AcousticScorer:
    """Scores texts on recordings with one model. Features come from the cache that transcribe filled.

    Args:
        model: the one that wrote the hypotheses.
        batch_seconds: audio in one transformer batch. Speed and memory only; never changes a score.
        cache: of the model's features; the usual one when not given.
    """

    def __init__(self, model: AcousticModel, batch_seconds: Seconds = 15.0, cache: FeatureCache | None = None) -> None:
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
        """How much worse each text fits than the hypothesis: log probability for each frame, for each request.

        Returns:
            0 for the hypothesis itself, inf where the frames cannot hold a text, None where it cannot be written.

        Raises:
            AudioError: a recording cannot be read.
        """
        found: list[list[float | None]] = [[] for _ in requests]
        wanted = [index for index, request in enumerate(requests) if request.texts]
        for place, lattice in self._lattices([requests[index].path for index in wanted]):
            request = requests[wanted[place]]
            best = self._log_likelihood(lattice, request.hypothesis)
            found[wanted[place]] = [self._fall(lattice, best, text) for text in request.texts]
        return found

    def _lattices(self, paths: Sequence[Path]) -> Iterator[tuple[int, LogProbs]]:
        """Batch by batch, so that only one batch of lattices is held."""
        features = [self._features(path) for path in paths]
        self._cache.flush()
        budget = max(1, round(self._batch_seconds / self.model.frame_seconds))
        for group in batches([len(item) for item in features], budget):
            lattices = self.model.lattices([features[index] for index in group])
            yield from zip(group, lattices, strict=True)

    def _features(self, path: Path) -> EncoderFeatures:
        return self._cache.get_or_compute(
            content_digest(path), lambda: torch.from_numpy(self.model.features(load_audio(path, max_missing_share=1)))
        ).numpy()

    def _log_likelihood(self, lattice: LogProbs, text: str) -> float | None:
        try:
            labels = self._labeller.encode(text, "the text")
        except VocabularyError:
            return None
        return ctc_log_likelihood(lattice, labels, self.model.vocabulary.blank) if len(lattice) else None

    def _fall(self, lattice: LogProbs, best: float | None, text: str) -> float | None:
        score = self._log_likelihood(lattice, text)
        if best is None or score is None:
            return None
        # Rounded, so that last bits of a float never decide.
        return round((best - score) / len(lattice), 5) if np.isfinite(score) else float("inf")


def ctc_log_likelihood(log_probs: LogProbs, token_ids: Sequence[int], blank: int) -> float:
    """Log probability that the lattice spells `token_ids`: the CTC forward algorithm (Graves et al., 2006).

    Args:
        log_probs: float32 (num_frames, vocab_size), of one frame at least.
        token_ids: the label, without blanks; it may be empty.

    Returns:
        Natural log; -inf when the frames cannot hold the label.
    """
    frames = torch.tensor(log_probs, dtype=torch.float64)  # sums over many frames lose too much in float32
    labels = torch.tensor(token_ids, dtype=torch.long)
    lengths = torch.tensor(len(frames)), torch.tensor(len(labels))
    return -float(ctc_loss(frames, labels, *lengths, blank=blank, reduction="none", zero_infinity=False))


def quantile_margin(falls: Sequence[float | None], keep: float) -> float | None:
    """The fall that a share `keep` of the human references does not exceed; None with fewer than MIN_REFERENCES.

    A true transcript of a misheard recording scores below the hypothesis, by construction: how far is what the
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
    model = load_base(params)
    check_model(params, model.digest, digest)
    return AcousticScorer(model, params.transcribe.batch_seconds)


def check_model(params: Params, now: str, digest: str) -> None:
    """Raises UsageError when the hypotheses carry another digest than the model has now."""
    if digest and now != digest:
        raise UsageError(
            f"The hypotheses are of model {digest[:12]}, {params.model.base} is {now[:12]}.",
            "The weights changed since then: run `dvc repro --force transcribe`, then `dvc repro`.",
        )
