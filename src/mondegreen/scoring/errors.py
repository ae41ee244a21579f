"""The one type that counts errors. It adds; it has no mean, so a mean of utterance WERs cannot be written."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from mondegreen.records import Rate


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
        return ErrorCounts(
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
            reference_length=self.reference_length + other.reference_length,
        )

    @property
    def hits(self) -> int:
        """Reference tokens that were heard."""
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
        return Rate(
            errors=self.errors,
            reference_length=self.reference_length,
            rate=self.rate,
            substitutions=self.substitutions,
            deletions=self.deletions,
            insertions=self.insertions,
        )


def count_words(reference: str, hypothesis: str) -> ErrorCounts:
    """Word errors of the least-edits alignment of two normalised texts; either may be empty.

    rapidfuzz does the work, as it does for jiwer, which gives the same counts.
    """
    return _counts(*as_numbers(reference.split(), hypothesis.split()))


def count_characters(reference: str, hypothesis: str) -> ErrorCounts:
    """Character errors, spaces included, of two normalised texts; either may be empty."""
    return _counts(reference, hypothesis)


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
