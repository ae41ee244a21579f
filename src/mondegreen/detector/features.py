"""What the detector looks at: quantities of a transcript that need no reference, noise and clipping of its waveform."""

import itertools
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.records import Alternative, Hypothesis, Word
from mondegreen.scoring.normalizer import normalize, words_of
from mondegreen.scoring.wer import count_words
from mondegreen.speech.audio import SAMPLE_RATE, SILENCE_PEAK, Waveform

if TYPE_CHECKING:
    from mondegreen.speech.transcriber import Transcription

    Transcript = Hypothesis | Transcription

Decibel = float
DetectedType = Literal[
    "low_confidence", "empty_output", "rate_anomaly", "repeats", "out_of_lexicon", "noise", "clipped_audio"
]
UNKNOWN = float("nan")
FULL_SCALE = 0.999  # |sample| from which a sample counts as clipped
HIGHEST_SNR: Decibel = 60.0  # digital silence between words would give an infinite one
_FRAME = SAMPLE_RATE // 50  # 20 ms
_FEWEST_FRAMES = 10
_QUANTISATION = (1 / 32768) ** 2 / 12  # power of the rounding to 16 bit, the least noise there is
_LONGEST_LOOP = 4  # words that are repeated as one
_LETTER_LOOP = re.compile(r"(\S{1,4}?)\1{3,}")
_LARGEST_MARGIN = 20.0  # natural log; far beyond any doubt


class SpeechRate(BaseModel):
    """How fast references are spoken: natural log of letters for each second of the recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Before any calibration: 12 letters a second, two thirds of the recordings between 9 and 15. Read English has about
    # 14 (150 words a minute), and recordings begin and end with a pause.
    centre: float = math.log(12)
    spread: float = 0.25


class Acoustics(NamedTuple):
    """NaN where a quantity was not, or cannot be, measured."""

    snr: Decibel
    clipped: float  # share of the samples at full scale


UNKNOWN_ACOUSTICS = Acoustics(snr=UNKNOWN, clipped=UNKNOWN)


@dataclass(frozen=True)
class Features:
    """One transcript in numbers. NaN where something was not measured: no N-best, no waveform, no lexicon."""

    confidence: float  # geometric mean of the tokens' posteriors, 0..1
    worst_word: float  # confidence of the least certain word, 0..1
    word_errors: float  # probability of more than `error_wer` wrong words, see `probability_of_errors`
    nbest_margin: float  # log probability of the best alternative minus that of the second
    nbest_disagreement: float  # word edits from the transcript, for each word, expected over the N-best list
    too_slow: float  # standard deviations of the log rate below what references show, else 0
    too_fast: float  # above
    repeats: float  # share of the words, or letters, that stand in a loop
    out_of_lexicon: float  # share of the words that the lexicon lacks
    burst: float  # the most words in a row that the lexicon lacks
    snr: float  # dB
    clipped: float  # share of the samples at full scale


# Which error type a feature speaks for.
TYPE_OF: dict[str, DetectedType] = {
    **dict.fromkeys(("confidence", "worst_word", "word_errors"), "low_confidence"),
    **dict.fromkeys(("nbest_margin", "nbest_disagreement"), "low_confidence"),
    **dict.fromkeys(("too_slow", "too_fast"), "rate_anomaly"),
    "repeats": "repeats",
    **dict.fromkeys(("out_of_lexicon", "burst"), "out_of_lexicon"),
    "snr": "noise",
    "clipped": "clipped_audio",
}


def transcript_words(text: str) -> list[str]:
    """The words of a transcript or a reference, spelt as the lexicon spells them."""
    return words_of(normalize(text))


def features(
    transcript: "Transcript", acoustics: Acoustics, rate: SpeechRate, lexicon: Collection[str], error_wer: float
) -> Features:
    """The transcript in numbers.

    Args:
        transcript: not an empty one.
        acoustics: of its waveform.
        rate: of the references.
        lexicon: known words, normalised; empty when there is none.
        error_wer: a transcript counts as misheard above this WER.
    """
    words = transcript_words(transcript.text)
    confidences = [_certainty(word.confidence) for word in transcript.words]
    deviation = (log_letter_rate(words, transcript.duration) - rate.centre) / rate.spread
    known = [word in lexicon for word in words] if lexicon else []
    return Features(
        confidence=_certainty(transcript.confidence),
        worst_word=min(confidences, default=UNKNOWN),
        word_errors=probability_of_errors(transcript.words, error_wer),
        nbest_margin=_margin(transcript.nbest),
        nbest_disagreement=_disagreement(words, transcript.nbest),
        too_slow=-min(deviation, 0.0) if math.isfinite(deviation) else UNKNOWN,
        too_fast=max(deviation, 0.0) if math.isfinite(deviation) else UNKNOWN,
        repeats=repeated_share(words),
        out_of_lexicon=known.count(False) / len(known) if known else UNKNOWN,
        burst=float(longest_run(known, False)) if known else UNKNOWN,
        snr=acoustics.snr,
        clipped=acoustics.clipped,
    )


def measure(waveform: Waveform | None) -> Acoustics:
    """Both quantities of a recording.

    Args:
        waveform: float32 (num_samples,), 16 kHz, full scale 1; None when it is not at hand. Samples that are not
            numbers are passed over.
    """
    if waveform is None:
        return UNKNOWN_ACOUSTICS
    samples = waveform[np.isfinite(waveform)].astype(np.float64)
    if not len(samples):
        return UNKNOWN_ACOUSTICS
    return Acoustics(snr=_snr(samples), clipped=float(np.mean(np.abs(samples) >= FULL_SCALE)))


def _snr(samples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Decibel:
    """Ratio of the loud frames' power to that of the quiet ones: the 95th and the 15th percentile over 20 ms frames.

    An estimate by energy percentiles, with the percentiles that ISIP names as usual (J. Picone, "Signal to Noise Ratio
    Estimation", isip.piconepress.com) and the frames of NIST's `stnr`, whose quick method reads the same histogram.
    It is one scale for all recordings, not the true ratio: speech is loudest well above its mean power, so steady
    noise 10 dB below the speech is measured as about 15 dB, and noise without speech as about 1 dB.

    Returns:
        Decibel, 0 to 60; NaN for less than 0.2 s and for silence.
    """
    count = len(samples) // _FRAME
    if count < _FEWEST_FRAMES or np.abs(samples).max() < SILENCE_PEAK:
        return UNKNOWN
    powers = samples[: count * _FRAME].reshape(count, _FRAME).var(axis=1)  # (num_frames,)
    quiet, loud = np.maximum(np.percentile(powers, [15, 95]), _QUANTISATION)
    return round(float(min(HIGHEST_SNR, 10 * np.log10(loud / quiet))), 2)


def log_letter_rate(words: Sequence[str], duration: float) -> float:
    """Natural log of letters for each second; NaN without letters or without a duration."""
    letters = sum(map(len, words))
    return math.log(letters / duration) if letters and math.isfinite(duration) and duration > 0 else UNKNOWN


def probability_of_errors(words: Sequence[Word], error_wer: float) -> float:
    """Probability that more than `error_wer` of the words are wrong, were each wrong by 1 - confidence on its own.

    The tail of a Poisson binomial distribution (Wang, "On the number of successes in independent trials", Statistica
    Sinica 1993), by adding one word after the other. With `error_wer` 0 it is 1 - the product of the confidences.
    Words that a model left out have no confidence and are not seen.
    """
    if not words:
        return UNKNOWN
    allowed = math.floor(error_wer * len(words) + 1e-9)
    counts = np.zeros(allowed + 1)  # probability of 0, 1, … `allowed` wrong words so far
    counts[0] = 1.0
    for word in words:
        right = _certainty(word.confidence)
        counts[1:] = counts[1:] * right + counts[:-1] * (1 - right)
        counts[0] *= right
    return float(np.clip(1 - counts.sum(), 0.0, 1.0))


def repeated_share(words: Sequence[str]) -> float:
    """The larger of two shares: words in a loop of three or more equal n-grams, letters in one of four or more."""
    if not words:
        return 0.0
    by_word = max(_looped(words, size) for size in range(1, _LONGEST_LOOP + 1)) / len(words)
    by_letter = sum(len(match[0]) for word in words for match in _LETTER_LOOP.finditer(word)) / sum(map(len, words))
    return max(by_word, by_letter)


def _looped(words: Sequence[str], size: int) -> int:
    """Words that stand in three or more equal n-grams of `size` words in a row.

    Each word of such a run but the first `size` ones is equal to the word `size` before it.
    """
    same = [word == before for before, word in zip(words, words[size:], strict=False)]
    runs = [len(list(run)) for equal, run in itertools.groupby(same) if equal]
    return sum(run + size for run in runs if run >= 2 * size)


def longest_run(values: Sequence[bool], wanted: bool) -> int:
    """Length of the longest run of `wanted`."""
    return max((len(list(run)) for value, run in itertools.groupby(values) if value == wanted), default=0)


def _certainty(value: float) -> float:
    """A model whose posterior is no number knows nothing."""
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


def _margin(nbest: Sequence[Alternative]) -> float:
    scores = sorted((item.score for item in nbest if math.isfinite(item.score)), reverse=True)
    return min(scores[0] - scores[1], _LARGEST_MARGIN) if len(scores) > 1 else UNKNOWN


def _disagreement(words: Sequence[str], nbest: Sequence[Alternative]) -> float:
    """Alternatives weigh as much as their share of the list's probability."""
    usable = [item for item in nbest if math.isfinite(item.score)]
    if not usable or not words:
        return UNKNOWN
    weights = np.exp(np.array([item.score for item in usable]) - max(item.score for item in usable))
    text = " ".join(words)
    edits = [count_words(text, " ".join(transcript_words(item.text))).errors for item in usable]
    return float(weights @ np.array(edits) / weights.sum()) / len(words)
