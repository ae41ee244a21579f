"""MAPSSWE over NIST's sentence segments, which come from an alignment as sclite and sc_stats make it.

sclite weighs a substitution 4, an insertion and a deletion 3 each; `count_words` weighs each 1, as most tools do. The
sum of errors is nearly always the same, but which words count as right is not, and MAPSSWE depends on it.
Equal to SCTK 2.4.10 (tests/scoring/test_sctk.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from mondegreen.scoring.clusters import Counts
from mondegreen.scoring.evidence import MatchedPairs
from mondegreen.scoring.wer import ErrorCounts, as_numbers

_SUBSTITUTION, _GAP = 4, 3  # sclite's wwd_WORD
_GOOD_WORDS = 2  # that both models must get right, one after the other, to end a segment: sc_stats' default
_CHUNK_CELLS = 4_000_000  # of the matrices held at once: 16 MB

_CORRECT, _SUBSTITUTED, _DELETED = 0, 1, 2
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class NistAlignment:
    """What became of each word of a reference, and how many words were inserted before each and after the last."""

    words: tuple[int, ...]  # 0 correct, 1 substituted, 2 deleted
    inserted: tuple[int, ...]  # one longer

    @property
    def counts(self) -> ErrorCounts:
        """sclite's counts; never fewer errors than `count_words`."""
        return ErrorCounts(
            substitutions=self.words.count(_SUBSTITUTED),
            deletions=self.words.count(_DELETED),
            insertions=sum(self.inserted),
            reference_length=len(self.words),
        )


def align(pairs: Sequence[tuple[str, str]]) -> list[NistAlignment]:
    """sclite's alignments of normalised (reference, hypothesis) pairs, many at a time."""
    numbers = [as_numbers(reference.split(), hypothesis.split()) for reference, hypothesis in pairs]
    found: list[NistAlignment | None] = [None] * len(pairs)
    open_pairs = []
    for index, (reference, hypothesis) in enumerate(numbers):
        if reference == hypothesis:
            found[index] = NistAlignment((_CORRECT,) * len(reference), (0,) * (len(reference) + 1))
        else:
            open_pairs.append(index)
    for chunk in _chunks(sorted(open_pairs, key=lambda index: tuple(map(len, numbers[index]))), numbers):
        for index, alignment in zip(chunk, _align_chunk([numbers[index] for index in chunk]), strict=True):
            found[index] = alignment
    return [alignment for alignment in found if alignment is not None]


def segment_differences(first: NistAlignment, second: NistAlignment) -> list[int]:
    """Errors of the first model minus those of the second in each segment of one utterance that has an error.

    A segment ends where both models get two words in a row right, and inserts nothing between them: there the language
    model's memory of an error is taken to be gone, and the next errors to be independent of it.
    Source: Gillick & Cox, ICASSP 1989; Pallett, Fisher & Fiscus, "Tools for the analysis of benchmark speech
    recognition tests", ICASSP 1990; sc_stats' test_comp_sents.
    """
    differences: list[int] = []
    errors = [0, 0]
    good = 0
    words, last = zip(first.words, second.words, strict=True), len(first.words)
    for place, inserted in enumerate(zip(first.inserted, second.inserted, strict=True)):
        wrong = next(words, (_CORRECT, _CORRECT))
        errors = [count + more + bool(mark) for count, more, mark in zip(errors, inserted, wrong, strict=True)]
        good = 0 if any(wrong) else 1 if any(inserted) else good + 1
        if (good == _GOOD_WORDS or place == last) and any(errors):
            differences.append(errors[0] - errors[1])
            errors = [0, 0]
    return differences


def mapsswe(differences: Counts) -> MatchedPairs:
    """Matched Pairs Sentence-Segment Word Error test, one-sided.

    Over the differences of `segment_differences` it is the test of sc_stats, the field's reference. It treats
    segments of one speaker as independent, so it is reported beside the clustered test and never decides.
    Source: Gillick & Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989.

    Args:
        differences: int64 (num_segments,).
    """
    segments = len(differences)
    mean = float(differences.mean()) if segments else 0.0
    deviation = float(differences.std(ddof=1)) if segments > 1 else 0.0
    if deviation == 0:
        return MatchedPairs(segments, mean, None, None)
    z = mean / (deviation / segments**0.5)
    return MatchedPairs(segments, mean, z, float(norm.sf(z)))


def _chunks(order: list[int], numbers: list[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
    """Pairs of like length together, as many as fit."""
    chunk: list[int] = []
    rows = columns = 0
    for index in order:
        reference, hypothesis = numbers[index]
        rows, columns = max(rows, len(reference) + 1), max(columns, len(hypothesis) + 1)
        if chunk and (len(chunk) + 1) * rows * columns > _CHUNK_CELLS:
            yield chunk
            chunk, rows, columns = [], len(reference) + 1, len(hypothesis) + 1
        chunk.append(index)
    if chunk:
        yield chunk


def _padded(sequences: list[list[int]], filling: int) -> Integers:
    """int32 (num_pairs, longest)."""
    rows = np.full((len(sequences), max(map(len, sequences))), filling, dtype=np.int32)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


def _align_chunk(pairs: list[tuple[list[int], list[int]]]) -> list[NistAlignment]:
    reference, hypothesis = _padded([pair[0] for pair in pairs], -1), _padded([pair[1] for pair in pairs], -2)
    costs = _SUBSTITUTION * (reference[:, :, None] != hypothesis[:, None, :]).astype(np.int32)
    totals = _totals(costs)
    words = np.full(reference.shape, _CORRECT, dtype=np.int32)
    inserted = np.zeros((len(pairs), reference.shape[1] + 1), dtype=np.int32)
    # From the last words to the first, in every pair at once. Ties as sclite breaks them: substitution, insertion,
    # deletion.
    row = np.array([len(pair[0]) for pair in pairs])
    column = np.array([len(pair[1]) for pair in pairs])
    while len(pair := np.flatnonzero((row > 0) | (column > 0))):
        i, j = row[pair], column[pair]
        far = np.int32(2**30)
        cost = costs[pair, i - 1, j - 1] if costs.shape[1] and costs.shape[2] else np.full(len(pair), far)
        diagonal = np.where((i > 0) & (j > 0), totals[pair, i - 1, j - 1] + cost, far)
        up = np.where(i > 0, totals[pair, i - 1, j] + _GAP, far)
        left = np.where(j > 0, totals[pair, i, j - 1] + _GAP, far)
        match = (diagonal <= up) & (diagonal <= left)
        delete = ~match & (up < left)
        insert = ~match & ~delete
        words[pair[match], i[match] - 1] = np.where(cost[match] > 0, _SUBSTITUTED, _CORRECT)
        words[pair[delete], i[delete] - 1] = _DELETED
        inserted[pair[insert], i[insert]] += 1
        row[pair] -= match | delete
        column[pair] -= match | insert
    lengths = [len(pair[0]) for pair in pairs]
    return [
        NistAlignment(tuple(words[number, :length].tolist()), tuple(inserted[number, : length + 1].tolist()))
        for number, length in enumerate(lengths)
    ]


def _totals(costs: Integers) -> Integers:
    """Least weights of aligning the first words of both texts: int32 (num_pairs, reference + 1, hypothesis + 1)."""
    pairs, rows, columns = costs.shape
    ramp = _GAP * np.arange(columns + 1, dtype=np.int32)
    totals = np.empty((pairs, rows + 1, columns + 1), dtype=np.int32)
    totals[:, 0] = ramp
    for i in range(1, rows + 1):
        best = totals[:, i - 1] + _GAP
        np.minimum(best[:, 1:], totals[:, i - 1, :-1] + costs[:, i - 1], out=best[:, 1:])
        # Insertions run along the row: a running minimum, once the ramp is taken off.
        totals[:, i] = np.minimum.accumulate(best - ramp, axis=1) + ramp
    return totals
