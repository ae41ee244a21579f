"""Modified Kneser-Ney smoothing, interpolated (Chen & Goodman, 1999), as KenLM's lmplz estimates it (Heafield et al.,
2013): lower orders count in how many contexts an n-gram stands, and rare n-grams are cut off by their counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt

from mondegreen.errors import UsageError
from mondegreen.speech.ngram import BEGIN_ID, END_ID, SPECIAL, NGramModel, Order

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_FALLBACK = (0.5, 1.0, 1.5)  # lmplz's, where too few n-grams of an order are there to estimate discounts


@dataclass(frozen=True)
class Discounts:
    """What n-grams of one order lose that count 1, 2, and 3 or more. `fallback`: too few were there to estimate it."""

    values: tuple[float, float, float]
    fallback: bool


@dataclass(frozen=True)
class _Counted:
    """The n-grams of one order of a text."""

    keys: Ints  # ascending, see `ngram`
    raw: Ints
    contexts: Ints  # places of their first n-1 words in the order below
    suffixes: Ints  # places of their last n-1 words there
    begins: npt.NDArray[np.bool_]  # whether it begins a sentence


def language_model(
    sentences: Sequence[Sequence[str]], order: int = 3, prune: Sequence[int] = (0, 0, 1)
) -> tuple[NGramModel, list[Discounts]]:
    """A model of sentences, each of words; words that are SPECIAL's <unk> are contexts and no word.

    Args:
        order: of the longest n-grams; fewer where no sentence is so long.
        prune: n-grams that are counted so often or less are left out, by order; the last one holds for longer ones.

    Raises:
        UsageError: no sentence holds a word, or the thresholds fall.
    """
    words = (*SPECIAL, *sorted({word for sentence in sentences for word in sentence} - {*SPECIAL}))
    ids = {word: index for index, word in enumerate(words)}
    orders, discounts = estimate([[ids[word] for word in line] for line in sentences], len(words), order, prune)
    return NGramModel(words, orders), discounts


def estimate(
    sentences: Iterable[Sequence[int]], size: int, order: int, prune: Sequence[int] = (0,)
) -> tuple[tuple[Order, ...], list[Discounts]]:
    """The same over ids.

    Args:
        sentences: ids of words from 3 on, and 0 for an unknown one.
        size: number of ids, those of SPECIAL included; every id has a probability, also one that nobody says.
    """
    limits = [*prune, *[prune[-1]] * (order - len(prune))][:order]
    if limits[0] or any(first > second for first, second in pairwise(limits)):
        raise UsageError(
            f"The thresholds {' '.join(map(str, limits))} fall, or begin above 0.",
            "Words are not pruned, and longer n-grams at least as much as shorter ones: --prune 0,0,1.",
        )
    lines = [(BEGIN_ID, *line, END_ID) for line in sentences if len(line)]
    if not lines:
        raise UsageError("There is no sentence to learn from.", "Name a text file, or correct some cases.")
    counted = _counts(lines, size, order)
    adjusted = [_contexts(level, above) for level, above in pairwise(counted)] + [counted[-1].raw]
    adjusted[0] = np.where(counted[0].begins, 0, adjusted[0])  # no sentence holds it but before its first word
    discounts = [_discounts(values) for values in adjusted]
    return _interpolated(counted, adjusted, discounts, limits, size), discounts


def _counts(lines: Sequence[Sequence[int]], size: int, order: int) -> list[_Counted]:
    tokens = np.fromiter(chain.from_iterable(lines), np.int64)
    place_in_line = np.concatenate([np.arange(len(line)) for line in lines])
    words, begin = np.arange(size), np.arange(size) == BEGIN_ID
    nothing = np.zeros(size, dtype=np.int64)
    found = [_Counted(words, np.bincount(tokens, minlength=size), nothing, nothing, begin)]
    places = tokens  # of the n-gram that ends at each token, in the order below
    for length in range(2, order + 1):
        ends = np.flatnonzero(place_in_line >= length - 1)
        if not len(ends):
            break
        below = places
        keys, firsts, inverse, raw = np.unique(
            below[ends - 1] * size + tokens[ends], return_index=True, return_inverse=True, return_counts=True
        )
        contexts = keys // size
        found.append(_Counted(keys, raw, contexts, below[ends][firsts], found[-1].begins[contexts]))
        places = np.full(len(tokens), -1)
        places[ends] = inverse
    return found


def _contexts(level: _Counted, above: _Counted) -> Ints:
    """Behind how many different words each n-gram stands; one that begins a sentence stands behind none."""
    behind: Ints = np.where(level.begins, level.raw, np.bincount(above.suffixes, minlength=len(level.raw)))
    return behind


def _discounts(counts: Ints) -> Discounts:
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) > 0:
        share = n1 / (n1 + 2 * n2)
        values = (1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3)
        if all(0 < value <= count for count, value in enumerate(values, 1)):
            return Discounts(values, False)
    return Discounts(_FALLBACK, True)


def _interpolated(
    counted: Sequence[_Counted],
    adjusted: Sequence[Ints],
    discounts: Sequence[Discounts],
    limits: Sequence[int],
    size: int,
) -> tuple[Order, ...]:
    """The n-grams that are kept, with what each leaves to the order below: its back-off weight."""
    # A word that nobody says has its share of what the others leave: so an unknown one has a probability.
    below: Floats = np.full(1, 1.0 / (size - 1))
    probs, kept, backoffs = list[Floats](), list[npt.NDArray[np.bool_]](), list[Floats]()
    for level, counts, discount, limit in zip(counted, adjusted, discounts, limits, strict=False):
        values = np.array([0.0, *discount.values])[np.minimum(counts, 3)]
        totals = np.bincount(level.contexts, counts, minlength=len(below))
        stays = level.raw > limit if probs else np.ones(size, dtype=bool)  # words all stay
        left = np.bincount(level.contexts, np.where(stays, values, counts), minlength=len(below))
        weights = np.divide(left, totals, where=totals > 0, out=np.ones(len(below)))
        own = np.where(stays, counts - values, 0.0) / totals[level.contexts]
        below = own + weights[level.contexts] * below[level.suffixes]
        probs.append(below)
        kept.append(stays)
        backoffs.append(weights)
    backoffs = [*backoffs[1:], np.ones(len(below))]
    orders = list[Order]()
    places: Ints = np.zeros(1, dtype=np.int64)  # among those that are kept, of the order below
    for level, values, stays, weights in zip(counted, probs, kept, backoffs, strict=True):
        keys = places[level.contexts] * size + level.keys % size
        orders.append(Order(keys[stays], _logs(values[stays]), _logs(weights[stays])))
        places = np.cumsum(stays) - 1
    return tuple(orders)


def _logs(values: Floats) -> npt.NDArray[np.float32]:
    return np.log(values).astype(np.float32)
