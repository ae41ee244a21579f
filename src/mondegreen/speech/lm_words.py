"""A text in the words of a language model: as a speech model writes them, so that both mean the same by a word."""

from collections.abc import Iterator, Sequence

from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.ngram import SPECIAL, UNKNOWN
from mondegreen.speech.text import Labeller


class Speller:
    """Texts in the words that a speech model can write.

    Raises:
        VocabularyError: its tokens are phonemes.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._labeller, self._vocabulary = Labeller(vocabulary), vocabulary
        self.delimiter = self._labeller.delimiter
        self._known: dict[str, list[tuple[int, ...]] | None] = {}

    def words(self, text: str) -> list[str]:
        """The words of a text, UNKNOWN for what has characters that the model lacks.

        Without a delimiter between words each token is one.
        """
        found = list[str]()
        for part in text.split():
            tokens = self.tokens(part)
            found += [UNKNOWN] if tokens is None else [self._vocabulary.text(word) for word in tokens]
        return found

    def tokens(self, part: str) -> list[tuple[int, ...]] | None:
        """The same of one word as people write it, each in the ids of its tokens; None: the model lacks a character."""
        if part not in self._known:
            written = self._labeller.write(part)
            words = list[tuple[int, ...]]()
            for token in written.labels:
                if self.delimiter is None or token == self.delimiter or not words:
                    words.append(())
                words[-1] += () if token == self.delimiter else (token,)
            self._known[part] = None if written.lacking else words
        return self._known[part]

    def spellings(self, words: Sequence[str]) -> dict[str, str]:
        """The words of a language model by how the speech model writes them, the first of those that it writes alike.

        A word that it cannot write, or writes as several, is not among them.
        """
        found: dict[str, str] = {}
        for index, tokens in self.single(words):
            found.setdefault(self._vocabulary.text(tokens), words[index])
        return found

    def single(self, words: Sequence[str]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The places of the words that are written, as one word, with the ids of their tokens."""
        for index, word in enumerate(words):
            tokens = None if word in SPECIAL else self.tokens(word)
            if tokens and len(tokens) == 1:
                yield index, tokens[0]
