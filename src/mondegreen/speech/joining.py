"""The windows of a long recording as one text: no word twice, none cut.

A word that a window's edge cuts comes out wrong, but the neighbour holds it whole: away from the edges both agree, and
there they are joined. Where no gap is written between words, as in Chinese or Thai, all that a window says is one
"word": what is so long is joined token by token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mondegreen.config import Seconds
from mondegreen.records import Word
from mondegreen.speech.decoding import Greedy, SpelledWord, Vocabulary, geometric_mean
from mondegreen.speech.windows import OVERLAP

WINDOW: Seconds = 24.0
_AROUND: Seconds = 0.1  # a token has a frame or two, which differ between windows


@dataclass(frozen=True)
class JoinedText:
    """What a recording says, timed from its start."""

    text: str
    words: list[Word]


def merge_windows(
    windows: Iterable[tuple[Seconds, Greedy]],
    vocabulary: Vocabulary,
    frame_seconds: Seconds,
    overlap: Seconds = OVERLAP,
) -> JoinedText:
    """What the whole recording says.

    Neighbours are joined at a word that both have at the same time, the one nearest to the middle of what they
    share; without such a word, in the middle, beside the words there.

    Args:
        windows: start of each window in the recording and what it holds, timed from the window's start; in order.
        overlap: what two neighbours share.
    """
    taken: list[list[SpelledWord]] = []  # of each window
    before: list[SpelledWord] = []
    for start, heard in windows:
        window = [replace(item, word=_shifted(item.word, start)) for item in heard.spelled]
        if not taken:
            taken.append(window)
        elif any(_length([item]) > overlap / 2 and _touches(item, start, overlap) for item in [*before, *window]):
            # Perhaps no cut beside it is within the overlap.
            left, right = (_tokens(words, start, overlap, vocabulary, frame_seconds) for words in (taken[-1], window))
            taken[-1:] = _joined(left, right, start, overlap, vocabulary, around=_AROUND)
        else:
            taken[-1:] = _joined(taken[-1], window, start, overlap, vocabulary)
        before = window
    parts = _parts(taken)
    text = vocabulary.sentence(_text(run, vocabulary) for run in _runs(piece for part in parts for piece in part))
    return JoinedText(text, [_word(part, vocabulary) for part in parts])


def _touches(item: SpelledWord, start: Seconds, overlap: Seconds) -> bool:
    return item.word.end > start and item.word.start < start + overlap


def _tokens(
    words: Sequence[SpelledWord], start: Seconds, overlap: Seconds, vocabulary: Vocabulary, frame: Seconds
) -> list[SpelledWord]:
    """The words, but the tokens of those that are heard in the overlap, which begins at `start`."""
    pieces: list[SpelledWord] = []
    for item in words:
        if len(item.tokens) < 2 or not _touches(item, start, overlap):
            pieces.append(item)
            continue
        origin = item.word.start - item.tokens[0].start * frame  # of the window's frames
        for place, token in enumerate(item.tokens):
            word = Word(
                text=vocabulary.text([token.id]),
                start=origin + token.start * frame,
                end=origin + token.end * frame,
                confidence=geometric_mean([token]),
            )
            pieces.append(SpelledWord(word, (token,), goes_on=place > 0 or item.goes_on))
    return pieces


def _joined(
    left: list[SpelledWord],
    right: list[SpelledWord],
    start: Seconds,
    overlap: Seconds,
    vocabulary: Vocabulary,
    around: Seconds = 0.0,
) -> tuple[list[SpelledWord], list[SpelledWord]]:
    """What is taken of two neighbours, of which the later one begins at `start`."""
    first = sum(item.word.end <= start for item in left)
    ours = _wider([item.word for item in left[first:]], around)
    theirs = _wider([item.word for item in right if item.word.start < start + overlap], around)
    keep, drop = _seam(ours, theirs, start + overlap / 2)
    keep += first
    later = right[drop:]
    if later and not drop:  # it begins its window: whether a gap stands before it, the other one may have heard
        goes_on = left[keep].goes_on if keep < len(left) else vocabulary.gapless
        later[0] = replace(later[0], goes_on=goes_on)
    return left[:keep], later


def _wider(words: Sequence[Word], around: Seconds) -> list[Word]:
    """Each with as much around it, at most halfway to its neighbours."""
    if not around:
        return list(words)
    starts = [word.start - around for word in words]
    ends = [word.end + around for word in words]
    for place, (one, other) in enumerate(pairwise(words)):
        halfway = (one.end + other.start) / 2
        ends[place], starts[place + 1] = min(ends[place], halfway), max(starts[place + 1], halfway)
    times = zip(words, starts, ends, strict=True)
    return [word.model_copy(update={"start": start, "end": end}) for word, start, end in times]


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


def _parts(windows: Sequence[Sequence[SpelledWord]]) -> list[list[SpelledWord]]:
    """The pieces of each word. One without a gap that is longer than a window stays in parts, one a window: it would be
    the recording, and say nothing of when what is said.
    """
    parts: list[list[SpelledWord]] = []
    for taken in windows:
        own: list[list[SpelledWord]] = []
        for piece in taken:
            if own and _one_word(own[-1][-1], piece):
                own[-1].append(piece)
            else:
                own.append([piece])
        if parts and own and _one_word(parts[-1][-1], own[0][0]) and _length(parts[-1] + own[0]) <= WINDOW:
            parts[-1] += own.pop(0)
        parts += own
    return parts


def _one_word(before: SpelledWord, piece: SpelledWord) -> bool:
    return piece.goes_on and bool(before.tokens and piece.tokens)


def _length(part: Sequence[SpelledWord]) -> Seconds:
    return part[-1].word.end - part[0].word.start


def _runs(pieces: Iterable[SpelledWord]) -> list[list[SpelledWord]]:
    """What stands between two gaps."""
    runs: list[list[SpelledWord]] = []
    for piece in pieces:
        if runs and piece.goes_on:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _text(run: Sequence[SpelledWord], vocabulary: Vocabulary) -> str:
    """Tokens are written together, since what one is may depend on its neighbours."""
    if len(run) == 1:
        return run[0].word.text
    text, ids = "", list[int]()
    for item in run:
        if item.tokens:
            ids += [token.id for token in item.tokens]
        else:
            text, ids = text + vocabulary.text(ids) + item.word.text, []
    return text + vocabulary.text(ids)


def _word(part: Sequence[SpelledWord], vocabulary: Vocabulary) -> Word:
    if len(part) == 1:
        return part[0].word
    confidence = geometric_mean([token for item in part for token in item.tokens])
    start, end = part[0].word.start, part[-1].word.end
    return Word(text=_text(part, vocabulary), start=start, end=end, confidence=confidence)


def _midpoint(word: Word) -> Seconds:
    return (word.start + word.end) / 2


def _at_once(a: Word, b: Word) -> bool:
    """Do both sound for more than half of the shorter one? Less may be the neighbour in "no no"."""
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared > min(a.end - a.start, b.end - b.start) / 2


def _shifted(word: Word, by: Seconds) -> Word:
    return word.model_copy(update={"start": word.start + by, "end": word.end + by})
