"""Which word was heard as which: what the report shows of an error."""

from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from typing import Literal

from rapidfuzz.distance import Levenshtein

from mondegreen.scoring.errors import as_numbers

Operation = Literal["equal", "substitute", "delete", "insert"]
AlignedWord = tuple[Operation, str | None, str | None]
_OPERATIONS: dict[str, Operation] = {
    "equal": "equal",
    "replace": "substitute",
    "delete": "delete",
    "insert": "insert",
}


def align_words(reference: str, hypothesis: str) -> list[AlignedWord]:
    """The least-edits alignment of two normalised texts, a row a word.

    Returns:
        `(operation, reference word, heard word)`; None stands where one side has no word.
    """
    said, heard = reference.split(), hypothesis.split()
    rows: list[AlignedWord] = []
    for run in Levenshtein.opcodes(*as_numbers(said, heard)):
        # One operation over a run of words; an insertion has no left side, a deletion no right side.
        pairs = zip_longest(said[run.src_start : run.src_end], heard[run.dest_start : run.dest_end])
        rows.extend((_OPERATIONS[run.tag], word, misheard) for word, misheard in pairs)
    return rows


def confusions(pairs: Iterable[tuple[str, str]], limit: int | None = 20) -> list[tuple[str | None, str | None, int]]:
    """The most frequent errors over normalised (reference, hypothesis) pairs; all of them without a limit.

    Returns:
        `(reference word or None, heard word or None, count)`, most frequent first, ties in alphabetical order.
    """
    counted = Counter(
        (said, heard) for pair in pairs for operation, said, heard in align_words(*pair) if operation != "equal"
    )
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))
    return [(said, heard, count) for (said, heard), count in ranked[:limit]]
