"""Joins the words of overlapping windows, so that the text of a long recording shows no seams.

A word that a window's edge cuts is heard wrong, but the neighbour holds it whole: away from the edges both agree.
"""

from collections.abc import Iterable, Sequence

from mondegreen.config import Seconds
from mondegreen.records import Word

OVERLAP: Seconds = 4.0


def merge_windows(windows: Iterable[tuple[Seconds, Sequence[Word]]], overlap: Seconds = OVERLAP) -> list[Word]:
    """Words of the whole recording: none twice, none cut.

    Neighbours are joined at a word that both heard at the same time, the one nearest to the middle of what they
    share; without such a word, in the middle, beside the words there.

    Args:
        windows: start of each window in the recording and its words, timed from the window's start; in order.
        overlap: what two neighbours share.

    Returns:
        Words timed from the start of the recording.
    """
    merged: list[Word] = []
    for start, words in windows:
        later = [_shifted(word, start) for word in words]
        first_shared = len(merged)
        while first_shared and merged[first_shared - 1].end > start:
            first_shared -= 1
        # The first window has no seam.
        keep, drop = _seam(merged[first_shared:], later, start + overlap / 2) if start else (0, 0)
        del merged[first_shared + keep :]
        merged.extend(later[drop:])
    return merged


def _seam(left: list[Word], right: list[Word], middle: Seconds) -> tuple[int, int]:
    """How many words of `left` to keep and how many of `right` to drop."""
    anchors = [
        (abs(_midpoint(a) + _midpoint(b) - 2 * middle), i, j, _midpoint(a) + _midpoint(b) > 2 * middle)
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if _at_once(a, b) and a.text.casefold() == b.text.casefold()
    ]
    if anchors:
        # The word itself comes from the window in which it is farther from the edge.
        _, i, j, late = min(anchors)
        return (i, j) if late else (i + 1, j + 1)
    cut = middle
    for word in [*left, *right]:
        if word.start < middle < word.end:  # beside a word rather than through it
            cut = word.start if middle - word.start < word.end - middle else word.end
            break
    return sum(_midpoint(word) < cut for word in left), sum(_midpoint(word) < cut for word in right)


def _midpoint(word: Word) -> Seconds:
    return (word.start + word.end) / 2


def _at_once(a: Word, b: Word) -> bool:
    """Do both sound for more than half of the shorter one? Less may be the neighbour in "no no"."""
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared > min(a.end - a.start, b.end - b.start) / 2


def _shifted(word: Word, by: Seconds) -> Word:
    return word.model_copy(update={"start": word.start + by, "end": word.end + by})
