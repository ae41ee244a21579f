"""Transcripts are written in the tokenizer's own alphabet, or the file is named."""

import pytest

from mondegreen.errors import VocabularyError
from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.text import Labeller, min_frames

UPPER = Vocabulary(
    ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"), 0, "|", frozenset({0, 1, 2, 3})
)
LOWER = Vocabulary(("[PAD]", "|", *"abcdefghijklmnopqrstuvwxyzé"), 0, "|", frozenset({0}))


def written(vocabulary: Vocabulary, text: str) -> str:
    labels = Labeller(vocabulary).encode(text, "x.wav")
    return "".join(vocabulary.tokens[label] for label in labels)


@pytest.mark.parametrize(
    ("vocabulary", "text", "expected"),
    [
        (UPPER, "Hello there", "HELLO|THERE"),
        (LOWER, "HELLO there", "hello|there"),
        (UPPER, "Don’t, “really” … stop!", "DON'T|REALLY|STOP"),
        (LOWER, "Don’t", "dont"),
        (UPPER, "twenty-one\n—  and/or", "TWENTY|ONE|AND|OR"),
        (LOWER, "cafe\u0301", "café"),
        (UPPER, "soft\u00adhyphen", "SOFTHYPHEN"),
        (UPPER, " … ", ""),
    ],
)
def test_labels_follow_the_tokenizer(vocabulary: Vocabulary, text: str, expected: str) -> None:
    assert written(vocabulary, text) == expected


def test_a_tokenizer_with_both_cases_keeps_the_case() -> None:
    both = Vocabulary(("_", "|", *"abAB"), 0, "|", frozenset({0}))
    assert written(both, "Ab bA") == "Ab|bA"


@pytest.mark.parametrize(
    ("text", "character"), [("call 911", "'9'"), ("café", "'É'"), ("rock & roll", "'&'"), ("$", "$")]
)
def test_what_cannot_be_written_is_an_error_that_names_file_and_character(text: str, character: str) -> None:
    with pytest.raises(VocabularyError, match=r"clean/a\.wav.*") as caught:
        Labeller(UPPER).encode(text, "clean/a.wav")
    assert character in str(caught.value)
    assert "What now" in str(caught.value)


def test_special_tokens_are_never_labels() -> None:
    with pytest.raises(VocabularyError, match="<"):
        Labeller(UPPER).encode("<s>", "x.wav")


@pytest.mark.parametrize(("labels", "frames"), [([], 0), ([5], 1), ([5, 6, 5], 3), ([5, 5, 5], 5), ([5, 5, 6, 6], 6)])
def test_equal_neighbours_need_a_blank_between_them(labels: list[int], frames: int) -> None:
    assert min_frames(labels) == frames
