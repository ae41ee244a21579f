"""From a gold transcript to CTC labels, in the tokenizer's own alphabet and case."""

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from mondegreen.errors import VocabularyError
from mondegreen.speech.decoding import Vocabulary

_APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʻ′´`＇", "'"))
# Unicode calls these punctuation, but people say them: to drop them would teach the model to skip a word.
_SPOKEN = frozenset("%‰&@#§")


class Labeller:
    """Writes transcripts with the characters that a tokenizer has.

    Models of the 960 h family know upper case only: "Hello" as written would become one letter and four unknowns.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = {
            token: index for index, token in enumerate(vocabulary.tokens) if _is_character(index, token, vocabulary)
        }
        self._delimiter = vocabulary.delimiter_id
        letters = "".join(token for token in self._ids if token.isalpha())
        cased = letters.lower() != letters.upper()
        self._upper = cased and letters == letters.upper()
        self._lower = cased and letters == letters.lower()

    def encode(self, text: str, where: str) -> list[int]:
        """The labels of a transcript; [] when it holds no word.

        Args:
            text: as a person or an LLM wrote it.
            where: the file or utterance, for the message.

        Raises:
            VocabularyError: a character that is neither in the vocabulary nor plain punctuation.
        """
        words = self._prepared(text).split()
        labels: list[int] = []
        for number, word in enumerate(words):
            if number and self._delimiter is not None:
                labels.append(self._delimiter)
            labels.extend(self._label(character, where) for character in word)
        return labels

    def _prepared(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text.translate(_APOSTROPHES))
        text = text.upper() if self._upper else text.lower() if self._lower else text
        return "".join(self._kept(character) for character in text)

    def _kept(self, character: str) -> str:
        """The character, or what stands for punctuation that the vocabulary lacks: a space, as the scorer does it."""
        if character in self._ids or character in _SPOKEN:
            return character
        if character == "'" or unicodedata.category(character) == "Cf":
            return ""
        return " " if unicodedata.category(character).startswith("P") or character.isspace() else character

    def _label(self, character: str, where: str) -> int:
        if character not in self._ids:
            raise VocabularyError(
                f"{where}: the tokenizer has no {character!r} ({unicodedata.name(character, 'unnamed')}).",
                "Write the transcript as it is spoken: no digits or symbols, and only letters that the model knows.",
            )
        return self._ids[character]


def _is_character(index: int, token: str, vocabulary: Vocabulary) -> bool:
    special = index == vocabulary.blank or index in vocabulary.special or token == vocabulary.delimiter
    return len(token) == 1 and not special


def min_frames(labels: Sequence[int]) -> int:
    """The fewest frames that can hold the labels: CTC needs a blank between two equal neighbours."""
    return len(labels) + sum(left == right for left, right in pairwise(labels))
