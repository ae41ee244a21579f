import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.scoring import significance
from mondegreen.scoring.significance import NistAlignment, align, segment_differences
from mondegreen.scoring.wer import count_words
from tests.scoring.examples import random_comparison, random_sides

sentence = st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join)


def one_by_one(said: list[str], heard: list[str]) -> NistAlignment:
    """The textbook's recursion, cell by cell, with sclite's order of ties."""
    totals = [[3 * (i + j) if not (i and j) else 0 for j in range(len(heard) + 1)] for i in range(len(said) + 1)]
    for i, word in enumerate(said, 1):
        for j, other in enumerate(heard, 1):
            diagonal = totals[i - 1][j - 1] + 4 * (word != other)
            totals[i][j] = min(diagonal, totals[i - 1][j] + 3, totals[i][j - 1] + 3)
    i, j, words, inserted = len(said), len(heard), [0] * len(said), [0] * (len(said) + 1)
    while i or j:
        cost = 4 * (said[i - 1] != heard[j - 1]) if i and j else 0
        if i and j and totals[i][j] == totals[i - 1][j - 1] + cost:
            words[i - 1], i, j = int(cost > 0), i - 1, j - 1
        elif j and totals[i][j] == totals[i][j - 1] + 3:
            inserted[i], j = inserted[i] + 1, j - 1
        else:
            words[i - 1], i = 2, i - 1
    return NistAlignment(tuple(words), tuple(inserted))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(sentence, sentence), max_size=12))
def test_many_at_a_time_are_aligned_as_one_by_one(pairs: list[tuple[str, str]]) -> None:
    assert align(pairs) == [one_by_one(said.split(), heard.split()) for said, heard in pairs]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(pair.reference, pair.text) for pair in random_comparison(5).baseline]
    whole = align(pairs)
    monkeypatch.setattr(significance, "_CHUNK_CELLS", 300)
    assert align(pairs) == whole


@given(sentence, sentence)
def test_never_fewer_errors_than_the_fewest(said: str, heard: str) -> None:
    (alignment,) = align([(said, heard)])
    fewest = count_words(said, heard)
    assert fewest.errors <= alignment.counts.errors <= fewest.errors + fewest.errors // 5
    assert alignment.counts.hits >= fewest.hits


def test_five_substitutions_weigh_more_than_three_deletions_and_three_insertions() -> None:
    said, heard = "a b c x y z p q", "x y z p q r s t"
    (alignment,) = align([(said, heard)])
    assert (count_words(said, heard).errors, alignment.counts.errors) == (6, 6)
    said, heard = "a b c d e", "d e f g h"
    (alignment,) = align([(said, heard)])
    assert (count_words(said, heard).errors, alignment.counts.errors) == (5, 6)


def test_segments_by_hand() -> None:
    said = "a b c d e f g"
    first, second, right = align([(said, "x b c d e f"), (said, "a b c q q e f g"), (said, said)])
    # The errors of the first and those of the second lie two good words apart; so does the lost last word.
    assert segment_differences(first, second) == [1, -2, 1]
    assert segment_differences(second, first) == [-1, 2, -1]
    assert segment_differences(first, right) == [1, 1]
    assert segment_differences(right, right) == []


@given(st.lists(sentence, min_size=3, max_size=3))
def test_segments_hold_every_error_once(texts: list[str]) -> None:
    first, second = align([(texts[0], texts[1]), (texts[0], texts[2])])
    differences = segment_differences(first, second)
    assert sum(differences) == first.counts.errors - second.counts.errors
    assert [-value for value in differences] == segment_differences(second, first)


def test_a_comparison_has_the_segments_of_all_its_utterances() -> None:
    comparison = random_comparison(6)
    differences = comparison.segment_differences()
    assert differences.dtype == np.int64
    utterances, _, _ = random_sides(6)
    assert len(differences) > len(utterances) / 2
