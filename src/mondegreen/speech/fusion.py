"""A language model of words beside the search (shallow fusion), with an open vocabulary.

What a prefix earns is alpha times the log probability of its words, and beta for each; a function of the prefix alone,
so that what a text scores does not depend on how the search came by it. A word that has only begun is as probable as
all words together that begin so. A word that the model does not know is as probable as <unk> and its letters, by an
n-gram model of the letters of the words that it knows.

Texts come in the words that a speech model writes, so that both mean the same by a word.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.kneser_ney import estimate
from mondegreen.speech.ngram import END_ID, SPECIAL, UNKNOWN, UNKNOWN_ID, History, NGramModel
from mondegreen.speech.text import Labeller

_LETTERS = 4  # of the longest n-grams of letters
_KNOWN = 1 << 16  # scores that are kept, which most searches ask for again
_BEGINNINGS = 1 << 15  # beginnings of words likewise; with more a search begins anew


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


class Lexicon:
    """The words of a language model in the tokens of a vocabulary, and how unknown words are spelt.

    A word that the vocabulary cannot write, or writes as several words, is never heard; of words that it writes alike
    the first is.

    Raises:
        VocabularyError: its tokens are phonemes.
    """

    def __init__(self, model: NGramModel, vocabulary: Vocabulary) -> None:
        speller = Speller(vocabulary)
        spelt: dict[str, int] = {}
        for index, tokens in speller.single(model.words):
            spelt.setdefault("".join(map(chr, tokens)), index)
        self.delimiter = speller.delimiter
        self.spellings = sorted(spelt)  # a character a token
        self.words = [spelt[spelling] for spelling in self.spellings]
        probs = np.exp(model.orders[0].log_probs.astype(np.float64))
        self.mass = np.concatenate([[0.0], np.cumsum(probs[self.words])]).tolist()
        self.unknown = float(probs[UNKNOWN_ID])
        size = len(SPECIAL) + len(vocabulary.tokens)
        letters = [[len(SPECIAL) + ord(token) for token in spelling] for spelling in self.spellings]
        # Without a word every token is as probable as any.
        orders, _ = estimate(letters or [range(len(SPECIAL), size)], size, _LETTERS)
        self.letters = NGramModel(tuple(map(str, range(size))), orders)

    def begins(self, spelling: str, low: int, high: int) -> tuple[int, int]:
        """The words between two that begin so; all of these begin as the spelling without its last token."""
        after = spelling[:-1] + chr(ord(spelling[-1]) + 1)
        low = bisect_left(self.spellings, spelling, low, high)
        return low, bisect_left(self.spellings, after, low, high)


class _Beginning:
    """What is the same of all words that begin so, whatever stands before them; kept for the next that does.

    Attributes:
        low, high: the words that begin so.
        letters: the same as the letters of an unknown word, and `log_prob` of these.
        worth: what the beginning earns.
        most: by which factor one more token may raise it.
        further: the beginnings of one more token that were asked for.
    """

    __slots__ = ("further", "high", "letters", "log_prob", "low", "most", "spelling", "worth")

    def __init__(
        self, spelling: str, low: int, high: int, letters: History, log_prob: float, worth: float, most: float
    ) -> None:
        self.spelling, self.low, self.high, self.letters = spelling, low, high, letters
        self.log_prob, self.worth, self.most = log_prob, worth, most
        self.further = dict[int, _Beginning]()


class Spot(NamedTuple):
    """Where a prefix stands in the language model."""

    history: History
    earned: float  # by the words that are complete
    begun: _Beginning  # the word that has begun
    credit: float  # of the whole prefix

    @property
    def most(self) -> float:
        return self.begun.most


class Fusion:
    """A language model as the search asks it."""

    def __init__(self, model: NGramModel, vocabulary: Vocabulary, lexicon: Lexicon | None = None) -> None:
        self.model = model
        self.lexicon = lexicon or Lexicon(model, vocabulary)
        delimiter = self.lexicon.delimiter
        # A word's end may earn more than its beginning did; a token within a word never does.
        ends = range(len(vocabulary.tokens)) if delimiter is None else [delimiter]
        self.ends = frozenset(ends)
        self._score = lru_cache(_KNOWN)(model.score)
        self._letter = lru_cache(_KNOWN)(self.lexicon.letters.score)
        self._fresh()

    def _fresh(self) -> None:
        most = math.exp(max(self.model.beta, 0.0)) if self.lexicon.delimiter is None else 1.0
        words, letters = len(self.lexicon.words), self.lexicon.letters.begin
        self._none, self._kept = _Beginning("", 0, words, letters, 0.0, 0.0, most), 0

    @property
    def active(self) -> bool:
        return self.model.active

    @property
    def start(self) -> Spot:
        """Before the first word."""
        if self._kept > _BEGINNINGS:
            self._fresh()
        return self._behind(self.model.begin, 0.0)

    def next(self, spot: Spot, token: int) -> Spot:
        """Behind one more token."""
        history, earned, begun, _ = spot
        if token == self.lexicon.delimiter:
            return self._ended(history, earned, begun)
        longer = begun.further.get(token) or self._longer(begun, token)
        if self.lexicon.delimiter is None:  # each token is a word
            return self._ended(history, earned, longer)
        return Spot(history, earned, longer, earned + longer.worth)

    def _longer(self, begun: _Beginning, token: int) -> _Beginning:
        spelling = begun.spelling + chr(token)
        low, high = self.lexicon.begins(spelling, begun.low, begun.high)
        score, letters = self._letter(begun.letters, len(SPECIAL) + token)
        log_prob = begun.log_prob + score
        known, unknown = self.lexicon.mass[high] - self.lexicon.mass[low], self.lexicon.unknown
        together = math.log(known + unknown * math.exp(log_prob)) if known else math.log(unknown) + log_prob
        worth = self.model.alpha * together
        most = max(math.exp(min(self.model.beta - worth, 700.0)), 1.0)
        longer = _Beginning(spelling, low, high, letters, log_prob, worth, most)
        begun.further[token] = longer
        self._kept += 1
        return longer

    def whole(self, spot: Spot) -> float:
        """What a text earns that ends here."""
        last = self._ended(spot.history, spot.earned, spot.begun) if spot.begun.spelling else spot
        return last.earned + self.model.alpha * self._score(last.history, END_ID)[0]

    def _ended(self, history: History, earned: float, begun: _Beginning) -> Spot:
        lexicon, low = self.lexicon, begun.low
        if low < begun.high and lexicon.spellings[low] == begun.spelling:
            score, history = self._score(history, lexicon.words[low])
        else:
            score, history = self._score(history, UNKNOWN_ID)
            score += begun.log_prob + self._letter(begun.letters, END_ID)[0]
        return self._behind(history, earned + self.model.alpha * score + self.model.beta)

    def _behind(self, history: History, earned: float) -> Spot:
        return Spot(history, earned, self._none, earned)
