"""Closeness in sound, over spans of words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.labels.guards import phonetic_distance

WORDS = st.lists(st.text("abcdefghijklmnopqrstuvwxyz'", min_size=1, max_size=8), max_size=4).map(" ".join)


@pytest.mark.parametrize(
    ("heard", "written", "other"),
    [
        ("nite", "night", "noon"),
        ("fone", "phone", "bone"),
        ("tesage", "message", "mailbox"),
        ("theank yo oer golings", "thank you for calling", "that agent is already"),
        ("for", "four", "five"),
    ],
)
def test_what_was_misheard_is_closer_than_another_phrase(heard: str, written: str, other: str) -> None:
    assert phonetic_distance(heard, written) < phonetic_distance(heard, other)


def test_equal_sounds_are_at_half_the_distance_of_their_spelling() -> None:
    assert phonetic_distance("nite", "knight") == pytest.approx(4 / 6 / 2)  # Metaphone writes both as NT


def test_word_boundaries_do_not_count() -> None:
    assert phonetic_distance("pleasewait", "please wait") == 0


def test_what_has_no_counterpart_is_as_far_as_can_be() -> None:
    assert phonetic_distance("", "operator") == 1
    assert phonetic_distance("", "") == 0


@given(heard=WORDS, written=WORDS)
def test_it_is_a_symmetric_number_between_0_and_1(heard: str, written: str) -> None:
    distance = phonetic_distance(heard, written)
    assert 0 <= distance <= 1 and distance == phonetic_distance(written, heard)
    assert phonetic_distance(heard, heard) == 0
