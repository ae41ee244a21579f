"""Which word was heard as which: what the report shows of an error."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, cast

import jiwer

Operation = Literal["equal", "substitute", "delete", "insert"]
AlignedWord = tuple[Operation, str | None, str | None]


def align_words(reference: str, hypothesis: str) -> list[AlignedWord]:
    """The least-edits alignment of two normalised texts, a row a word.

    Returns:
        `(operation, reference word, heard word)`; None stands where one side has no word.
    """
    output = jiwer.process_words(reference, hypothesis)
    said, heard = output.references[0], output.hypotheses[0]
    rows: list[AlignedWord] = []
    for chunk in output.alignments[0]:
        left: list[str | None] = list(said[chunk.ref_start_idx : chunk.ref_end_idx])
        right: list[str | None] = list(heard[chunk.hyp_start_idx : chunk.hyp_end_idx])
        # A chunk is one operation over a run of words; an insertion has no left side, a deletion no right side.
        size = max(len(left), len(right))
        left += [None] * (size - len(left))
        right += [None] * (size - len(right))
        operation = cast(Operation, chunk.type)
        rows.extend((operation, word, misheard) for word, misheard in zip(left, right, strict=True))
    return rows


def confusions(pairs: Iterable[tuple[str, str]], limit: int = 20) -> list[tuple[str | None, str | None, int]]:
    """The most frequent errors over normalised (reference, hypothesis) pairs.

    Returns:
        `(reference word or None, heard word or None, count)`, most frequent first, ties in alphabetical order.
    """
    counted = Counter(
        (said, heard) for pair in pairs for operation, said, heard in align_words(*pair) if operation != "equal"
    )
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))
    return [(said, heard, count) for (said, heard), count in ranked[:limit]]
