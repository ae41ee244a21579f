"""Evidence against "it lost no more than the margin" that may be looked at as often as one likes.

A gambler begins with 1 and bets on each observation, at odds that are fair at best while that is true, that the loss is
above the margin. What he owns is a nonnegative supermartingale then, which ever reaches 1/alpha with probability alpha
at most (Ville 1939): however often somebody looks, and whenever he stops. He spreads his money over fixed fractions of
his wealth, the "grid Kelly" of Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting",
Journal of the Royal Statistical Society B 86(1), 2024 (arXiv 2010.09686). Nothing but the bounds of an observation is
assumed, no distribution and no variance.

An observation is a caller, not a recording: what one caller says is alike. So that the game stays fair, a caller's mean
is taken at a moment that was fixed beforehand, when its s-th inference is there, and counts once. Which s is best
nobody knows before; so s = 1, 2, 4, … are followed side by side, the k-th of them (from 0) with the share
1/((k + 1)(k + 2)) of alpha. These shares add up to 1: by Bonferroni's inequality all of them together are wrong with
probability alpha at most.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mondegreen.monitoring.statistics import Values

Indices = npt.NDArray[np.int64]
FRACTIONS = np.array([0.015, 0.06, 0.24, 0.95])  # of the wealth, put on each bet: from many callers to few
_BISECTIONS = 16


class ComparedPairs(NamedTuple):
    """What is compared with what: (num_pairs,) each. Pairs of one block are one bet, in the order of the blocks."""

    block: Indices  # 0, 0, 1, 2, 2, 2, … : never falling
    after: Values
    before: Values


class Closing(NamedTuple):
    """Callers in the order in which their s-th inference came: (num_callers,) each."""

    at: Indices  # the row of it
    unit: Indices
    mean: Values  # of the first s


Gain = Callable[
    [ComparedPairs, float], Values
]  # pairs and a margin: of each block, -1 to 1, and 0 at most on average when true
Scales = list[ComparedPairs]  # for s = 1, 2, 4, …


def closings(units: Indices, values: Values, size: int) -> Closing:
    """The mean of each caller's first `size` inferences, for those that have as many.

    Args:
        units: caller of each inference, (num_inferences,), in the order in which they came.
        values: (num_inferences,).
    """
    order = np.argsort(units, kind="stable")
    grouped = units[order]
    first = np.flatnonzero(np.diff(grouped, prepend=-1))
    first = first[np.diff(first, append=len(grouped)) >= size]
    if not len(first):
        return Closing(first, first, np.zeros(0))
    # From the first to the s-th of each; the sums in between are of nobody.
    summed = np.add.reduceat(np.append(values[order], 0.0), np.stack([first, first + size], 1).ravel())[::2]
    at, mean = order[first + size - 1], summed / size
    turn = np.argsort(at)
    return Closing(at[turn], grouped[first][turn], mean[turn])


def sizes(units: Indices) -> list[int]:
    """1, 2, 4, … up to the number of inferences of the caller that has most."""
    most = int(np.bincount(units).max()) if len(units) else 0
    return [2**scale for scale in range(most.bit_length())]


def matched(units: Indices, after: Values, before: Values) -> Scales:
    """Each caller with itself: both values are of the same inference."""
    found = []
    for size in sizes(units):
        new, old = (closings(units, values, size) for values in (after, before))
        found.append(ComparedPairs(np.arange(len(new.at)), new.mean, old.mean))
    return found


def side_by_side(units: Indices, values: Values, is_after: npt.NDArray[np.bool_], share: float) -> Scales:
    """Callers of one side with those of the other who came at about the same time.

    A block has one caller of the smaller side and as many of the other as there are to one, in the order in which they
    came.

    Args:
        is_after: side of each inference, (num_inferences,); a caller is on one side only.
        share: of the callers, on the later side; between 0 and 1.
    """
    many = max(1, int(max(share, 1 - share) / min(share, 1 - share) + 1e-9))
    found = []
    for size in sizes(units):
        closed = closings(units, values, size)
        later = is_after[closed.at]
        few = later if share <= 0.5 else ~later
        one, others = closed.mean[few], closed.mean[~few]
        blocks = min(len(one), len(others) // many)
        one, others = np.repeat(one[:blocks], many), others[: blocks * many]
        after, before = (one, others) if share <= 0.5 else (others, one)
        found.append(ComparedPairs(np.repeat(np.arange(blocks), many), after, before))
    return found


def one_after_the_other(before: tuple[Indices, Values], after: tuple[Indices, Values]) -> Scales:
    """A caller now with the same caller before; who was not there before, with somebody who has not come again yet.

    Whoever was used for another one is not asked again, so that no caller is in two bets.

    Args:
        before: callers and values, in the order in which they are to be used.
        after: the same of now, in the order in which they came.
    """
    found = []
    for size in sizes(after[0]):
        old, new = closings(*before, size), closings(*after, size)
        left = dict(zip(old.unit.tolist(), old.mean.tolist(), strict=True))
        known = set(left)
        rows: list[tuple[float, float]] = []
        for unit, mean in zip(new.unit.tolist(), new.mean.tolist(), strict=True):
            partner = unit if unit in known else next(iter(left), None)
            if partner in left:
                rows.append((mean, left.pop(partner)))
        values = np.array(rows, np.float64).reshape(-1, 2)
        found.append(ComparedPairs(np.arange(len(values)), values[:, 0], values[:, 1]))
    return found


def loss(pairs: ComparedPairs, margin: float) -> Values:
    """Of a value from 0 to 1: its mean rose by no more than the margin."""
    return (_block_means(pairs, pairs.after - pairs.before) - margin) / (1 + margin)


def slowdown(pairs: ComparedPairs, margin: float) -> Values:
    """Of a positive value: it is no likelier than not that one of after is above (1 + margin) times one of before.

    The kernel of Mann and Whitney's U: it asks for no bound, and one slow recording weighs as much as any other.
    """
    allowed = (1 + margin) * pairs.before
    return _block_means(pairs, np.sign(pairs.after - allowed))


def _block_means(pairs: ComparedPairs, values: Values) -> Values:
    return np.bincount(pairs.block, values) / np.bincount(pairs.block) if len(values) else values


def log_wealth(gains: Values) -> Values:
    """The gambler's wealth after each bet, as a logarithm: (num_bets,)."""
    grown = np.log1p(np.multiply.outer(gains, FRACTIONS)).cumsum(axis=0)
    return np.logaddexp.reduce(grown, axis=1) - np.log(len(FRACTIONS)) if len(gains) else gains


def evidence(scales: Scales, gain: Gain, margin: float) -> float:
    """The most that the gambler ever had, of what may be compared with 1/alpha: over all times and all s."""
    best = 0.0
    for scale, pairs in enumerate(scales):
        if len(pairs.block):
            most = float(log_wealth(gain(pairs, margin)).max()) - np.log((scale + 1) * (scale + 2))
            best = max(best, float(np.exp(min(most, 700.0))))
    return best


def reach(scales: Scales) -> float:
    """The most that `evidence` could be with so many callers, had every one of them been the worst that can be."""
    return evidence(scales, lambda pairs, _: np.ones(len(np.unique(pairs.block))), 0.0)


def least_loss(scales: Scales, gain: Gain, needed: float, bounds: tuple[float, float]) -> float:
    """The lower confidence bound of the loss: the largest margin that the evidence still rules out, valid at any time.

    Args:
        needed: evidence that rules a margin out: 1/alpha.
        bounds: within which the loss lies; the lower one is returned when nothing is ruled out.
    """
    low, high = bounds
    if evidence(scales, gain, low) < needed:
        return low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if evidence(scales, gain, middle) >= needed else (low, middle)
    return low
