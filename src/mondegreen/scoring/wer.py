"""Word and character errors: counted, summed and aligned.

Errors have one type, `ErrorCounts`. It adds and has no mean, so a mean of utterance WERs cannot be written."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from mondegreen.records import Rate
from mondegreen.scoring.normalizer import NormalizerName, characters_of, normalize, readings, words_of

Operation = Literal["equal", "substitute", "delete", "insert"]
AlignedWord = tuple[Operation, str | None, str | None]
_OPERATIONS: dict[str, Operation] = {
    "equal": "equal", "replace": "substitute", "delete": "delete", "insert": "insert",
}  # fmt: skip
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of one alignment, or of the sum of many; words or characters, never both in one sum.

    The corpus rate is `sum(counts, ErrorCounts.zero()).rate`: the sum of errors over the sum of reference lengths.
    After meeteval's ErrorRate (https://github.com/fgnt/meeteval).
    """

    substitutions: int
    deletions: int
    insertions: int
    reference_length: int

    def __post_init__(self) -> None:
        if min(self.substitutions, self.deletions, self.insertions, self.reference_length) < 0:
            raise ValueError(f"Counts cannot be negative: {self}.")
        if self.substitutions + self.deletions > self.reference_length:
            raise ValueError(f"More substitutions and deletions than the reference is long: {self}.")

    @classmethod
    def zero(cls) -> "ErrorCounts":
        """The neutral element of `+`."""
        return cls(substitutions=0, deletions=0, insertions=0, reference_length=0)

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        if not isinstance(other, ErrorCounts):
            return NotImplemented
        return ErrorCounts(**{name: count + vars(other)[name] for name, count in vars(self).items()})

    @property
    def hits(self) -> int:
        """Reference tokens that were recognised."""
        return self.reference_length - self.substitutions - self.deletions

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors for each reference token; above 1 when much was inserted.

        Raises:
            ValueError: nothing was said, so there is nothing to divide by.
        """
        if self.reference_length == 0:
            raise ValueError("An error rate needs a reference with at least one token; this one is empty.")
        return self.errors / self.reference_length

    def to_rate(self) -> Rate:
        """The record for metrics files; raises ValueError like `rate`."""
        return Rate(errors=self.errors, rate=self.rate, **vars(self))


def read_pair(reference: str, hypothesis: str, normalizer: NormalizerName = "spoken") -> tuple[str, str]:
    """Two texts normalised for counting; a capital I is read in the way that makes fewer errors (`readings`)."""
    pairs = [
        (normalize(said, normalizer), normalize(heard, normalizer))
        for said, heard in readings(reference, hypothesis, normalizer)
    ]
    return min(pairs, key=lambda pair: (count_words(*pair).errors, count_characters(*pair).errors))


def count_words(reference: str, hypothesis: str) -> ErrorCounts:
    """Word errors of the least-edits alignment of two normalised texts; either may be empty.

    rapidfuzz does the work, as it does for jiwer, which gives the same counts.
    """
    return _counts(*as_numbers(words_of(reference), words_of(hypothesis)))


def count_characters(reference: str, hypothesis: str) -> ErrorCounts:
    """Character errors, spaces included where the script has them, of two normalised texts; either may be empty."""
    return _counts(characters_of(reference), characters_of(hypothesis))


def as_numbers(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[list[int], list[int]]:
    """Both texts with a number in the place of each word; equal words have equal numbers."""
    numbers: dict[str, int] = {}
    first = [numbers.setdefault(word, len(numbers)) for word in reference]
    return first, [numbers.setdefault(word, len(numbers)) for word in hypothesis]


def _counts(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> ErrorCounts:
    tags = [edit.tag for edit in Levenshtein.editops(reference, hypothesis)]
    return ErrorCounts(
        substitutions=tags.count("replace"),
        deletions=tags.count("delete"),
        insertions=tags.count("insert"),
        reference_length=len(reference),
    )


def align_words(reference: str, hypothesis: str) -> list[AlignedWord]:
    """The least-edits alignment of two normalised texts, a row a word.

    Returns:
        `(operation, reference word, hypothesis word)`; None stands where one side has no word.
    """
    said, found = words_of(reference), words_of(hypothesis)
    rows: list[AlignedWord] = []
    for run in Levenshtein.opcodes(*as_numbers(said, found)):
        # One operation over a run of words; an insertion has no left side, a deletion no right side.
        pairs = zip_longest(said[run.src_start : run.src_end], found[run.dest_start : run.dest_end])
        rows.extend((_OPERATIONS[run.tag], *pair) for pair in pairs)
    return rows


def confusions(pairs: Iterable[tuple[str, str]]) -> Counter[tuple[str | None, str | None]]:
    """How often which reference word became which hypothesis word, over normalised (reference, hypothesis) pairs."""
    rows = (row for pair in pairs for row in align_words(*pair))
    return Counter((said, found) for operation, said, found in rows if operation != "equal")


def loss_upper_bound(losses: Counts, reference_words: Counts, confidence: float) -> float:
    """One-sided upper bound of sum(losses) / sum(words), absolute WER, by t with clusters - 1 degrees of freedom.

    Args:
        losses: candidate errors - baseline errors, int64 (num_clusters,).
        reference_words: int64 (num_clusters,); more than 0 in all.
        confidence: that the bound is not too low, 0.5..1.

    Returns:
        The loss itself where nothing varies between clusters or there is one cluster.
    """
    from scipy.stats import t

    loss = int(losses.sum()) / int(reference_words.sum())
    error = ratio_standard_error(losses, reference_words)
    return loss if error is None else loss + float(t.ppf(confidence, len(losses) - 1)) * error


def ratio_standard_error(differences: Counts, reference_words: Counts) -> float | None:
    """Standard error of sum(differences) / sum(words) over clusters, by linearisation of the ratio.

    Source: Cochran, "Sampling Techniques", 1977, section 6.3.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).

    Returns:
        Absolute WER, or None when fewer than two clusters or no variance leave nothing to estimate.
    """
    clusters, words = len(differences), int(reference_words.sum())
    if clusters < 2 or words == 0:
        return None
    # In integers, so that equal gains a word leave exactly nothing: (d - D/W * w) = (d * W - D * w) / W.
    residuals = differences * words - int(differences.sum()) * reference_words
    if not residuals.any():
        return None
    squares = float(np.square(residuals / words).sum())
    return float((clusters / (clusters - 1) * squares) ** 0.5 / words)
