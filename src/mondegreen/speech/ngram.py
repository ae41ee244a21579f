"""A back-off n-gram model of words, as sorted arrays: what KenLM's trie is, in numpy.

An n-gram is known by its place in the sorted array of its order; its key is the place of its first n-1 words in the
array below, times the number of words, plus its last word. So a lookup is a binary search an order.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, BEGIN, END)  # the first words of every model
UNKNOWN_ID, BEGIN_ID, END_ID = range(3)
_VERSION = "1"  # changes whenever the same model makes another transcript

History = tuple[int, ...]  # places of the n-grams that a text ends with, of one word, of two, …; -1: it is not known


@dataclass(frozen=True)
class Order:
    """The n-grams of one order. Natural logarithms; `keys` of the first order are its words' ids."""

    keys: npt.NDArray[np.int64]  # (num_ngrams,), ascending
    log_probs: npt.NDArray[np.float32]  # (num_ngrams,), given the words before
    backoffs: npt.NDArray[np.float32]  # (num_ngrams,), of what an unknown word behind it costs; zeros in the last order

    def place(self, key: int) -> int:
        """Where an n-gram stands; -1: nowhere."""
        found = int(np.searchsorted(self.keys, key))
        return found if found < len(self.keys) and self.keys[found] == key else -1


@dataclass(frozen=True)
class NGramModel:
    """Words, n-grams, and how much the model counts in a search.

    `alpha` is the factor of its log probabilities, `beta` what every word is given: a search without them would write
    few and short words. With both 0 it does nothing.
    """

    words: tuple[str, ...]  # by id; the first are SPECIAL
    orders: tuple[Order, ...]
    alpha: float = 0.5
    beta: float = 1.0
    facts: str = ""  # JSON of what it was made of; changes no transcript

    @property
    def active(self) -> bool:
        return bool(self.alpha or self.beta)

    @property
    def order(self) -> int:
        return len(self.orders)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    @cached_property
    def content(self) -> str:
        """sha256 over words and numbers, whatever file they came from."""
        total = hashlib.sha256("\n".join(self.words).encode())
        for order in self.orders:
            for array in (order.keys, order.log_probs, order.backoffs):
                total.update(array.tobytes())
        return total.hexdigest()

    @property
    def digest(self) -> str:
        """Of all that changes a transcript; "" where nothing does."""
        numbers = f"{_VERSION} {self.content} {self.alpha!r} {self.beta!r}"
        return hashlib.sha256(numbers.encode()).hexdigest() if self.active else ""

    def at(self, alpha: float, beta: float) -> "NGramModel":
        """The same model with other numbers."""
        return replace(self, alpha=alpha, beta=beta)

    @property
    def begin(self) -> History:
        """The history of a sentence's first word."""
        return (BEGIN_ID,)[: self.order - 1]

    def score(self, history: History, word: int) -> tuple[float, History]:
        """Natural log probability of a word behind others, and the history of the next.

        Args:
            word: id; UNKNOWN_ID for one that the model does not have.
        """
        size, places = len(self.words), [word]
        for order, place in zip(self.orders[1:], history, strict=False):
            places.append(order.place(place * size + word) if place >= 0 else -1)
        longest = max(length for length, place in enumerate(places, 1) if place >= 0)
        found = float(self.orders[longest - 1].log_probs[places[longest - 1]])
        for length in range(longest, len(history) + 1):
            if history[length - 1] >= 0:
                found += float(self.orders[length - 1].backoffs[history[length - 1]])
        return found, tuple(places[: self.order - 1])

    def sentence(self, words: Iterable[str]) -> list[tuple[float, bool]]:
        """Natural log probability of each word of a sentence and of its end, and whether the model has the word."""
        history, scores = self.begin, list[tuple[float, bool]]()
        for word in (*words, END):
            index = self.ids.get(word, UNKNOWN_ID)
            score, history = self.score(history, index)
            scores.append((score, index != UNKNOWN_ID))
        return scores


def keyed(ids: npt.NDArray[np.int64], orders: Sequence[Order], size: int) -> tuple[npt.NDArray[np.int64], int | None]:
    """The keys of n-grams, and the first whose beginning is not known.

    Args:
        ids: int64 (num_ngrams, n), the words of each.
        orders: those of fewer words.
    """
    place = ids[:, 0]
    for order, column in zip(orders[1:], ids[:, 1:-1].T, strict=True):
        key = place * size + column
        place = np.minimum(np.searchsorted(order.keys, key), len(order.keys) - 1)
        unknown = np.flatnonzero(order.keys[place] != key) if len(order.keys) else np.arange(len(key))
        if len(unknown):
            return key, int(unknown[0])
    return place * size + ids[:, -1], None


def ngrams(model: NGramModel, length: int) -> list[tuple[int, ...]]:
    """The words' ids of all n-grams of a length, in the order of their keys."""
    rows: list[tuple[int, ...]] = [(index,) for index in range(len(model.words))]
    for order in model.orders[1:length]:
        contexts, lasts = np.divmod(order.keys, len(model.words))
        rows = [(*rows[context], last) for context, last in zip(contexts.tolist(), lasts.tolist(), strict=True)]
    return rows


def fault_of(model: NGramModel) -> str:
    """What is wrong with the arrays of a model that comes from a file; "" when nothing is."""
    size = len(model.words)
    if model.words[:3] != SPECIAL or not model.orders or len(model.ids) != size:
        return "its words are not in order"
    above = size
    for number, order in enumerate(model.orders, 1):
        lengths = {len(order.keys), len(order.log_probs), len(order.backoffs)}
        if len(lengths) != 1 or (number == 1 and lengths != {size}):
            return f"its {number}-grams have columns of {sorted(lengths)} rows"
        limit = size if number == 1 else above * size
        if len(order.keys) and not (order.keys[0] >= 0 and order.keys[-1] < limit and np.all(np.diff(order.keys) > 0)):
            return f"its {number}-grams are not in order"
        if not (np.all(np.isfinite(order.log_probs)) and np.all(np.isfinite(order.backoffs))):
            return f"its {number}-grams hold numbers that are none"
        above = len(order.keys)
    return ""


def perplexity(log_probs: Sequence[float]) -> float | None:
    """Of words, from their natural log probabilities; None of none."""
    return float(np.exp(-np.mean(log_probs))) if log_probs else None
