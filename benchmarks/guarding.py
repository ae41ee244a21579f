"""How often the guard calls a challenger worse that is not, looked at all the time, and how soon it finds one that is.

Part of `python -m benchmarks --only statistics`. Each trial is a canary with a shadow: callers of very different
diligence, alike in themselves, some of whom the challenger hears better and some worse.
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import table
from mondegreen.monitoring.evidence import Scales, evidence, loss, matched, side_by_side, slowdown
from mondegreen.monitoring.statistics import Values

CALLERS = (50, 200, 1000)
INFERENCES, LOOKS, ALPHA, TESTS = 4_000, 1_000, 0.05, 4
SHARE, SHADOW = 0.2, 0.2
_Z = 1.645  # one-sided 5 %


class Traffic(NamedTuple):
    """What a canary gathers: (num_inferences,) each; `shadow` is of those who are neither."""

    callers: Any
    is_canary: Any
    is_shadow: Any
    score: Values
    beside: Values  # the other version's, of the same recording
    work: Values


def draw(generator: np.random.Generator, callers: int, lost: float, slower: float) -> Traffic:
    """Scores in which callers differ more than recordings do, and a challenger that loses `lost` on average.

    Args:
        slower: work of the challenger over the champion's.
    """
    diligence = generator.pareto(1.2, callers) + 0.1
    who = generator.choice(callers, INFERENCES, p=diligence / diligence.sum())
    place = generator.random(callers)[who]
    hard = generator.beta(2, 6, callers)[who]
    taste = generator.normal(0, 0.1, callers)  # of a caller, what the challenger loses on him beyond the average
    taste -= taste.mean()

    def heard(mean: Values) -> Values:
        mean = np.clip(mean, 0.02, 0.98)
        return generator.beta(6 * mean, 6 * (1 - mean))

    champion, challenger = heard(hard), heard(hard + lost + taste[who])
    canary = place < SHARE
    pace = generator.gamma(20, 0.01, callers)[who] * generator.gamma(9, 1 / 9, INFERENCES)
    return Traffic(
        who, canary, place >= 1 - SHADOW, np.where(canary, challenger, champion), challenger,
        pace * np.where(canary, slower, 1.0),
    )  # fmt: skip


def comparisons(traffic: Traffic) -> dict[str, tuple[Scales, Any]]:
    """As the guard makes them."""
    shadow, ratio = traffic.is_shadow, SHARE
    return {
        "error score": (side_by_side(traffic.callers, traffic.score, traffic.is_canary, ratio), loss),
        "latency": (side_by_side(traffic.callers, traffic.work, traffic.is_canary, ratio), slowdown),
        "shadow error score": (matched(traffic.callers[shadow], traffic.score[shadow], traffic.beside[shadow]), loss),
    }


def alarms(callers: int, trials: int, lost: float = 0.0, slower: float = 1.0) -> dict[str, float]:
    """The share of `trials` canaries that are called worse at any of the looks; margins of nothing."""
    generator = np.random.default_rng([callers, round(1000 * lost), round(100 * slower)])
    found: dict[str, list[bool]] = {}
    for _ in range(trials):
        traffic = draw(generator, callers, lost, slower)
        # The evidence is the largest that there was after any inference: no look could find more.
        said = {name: evidence(*compared, 0.0) >= TESTS / ALPHA for name, compared in comparisons(traffic).items()}
        said["guard, any of them"] = any(said.values())
        said[f"Welch's t over recordings, {LOOKS:,} looks"] = _looked_at(traffic, LOOKS)
        said["Welch's t over recordings, one look"] = _looked_at(traffic, 1)
        for name, alarm in said.items():
            found.setdefault(name, []).append(alarm)
    return {name: float(np.mean(answers)) for name, answers in found.items()}


def _looked_at(traffic: Traffic, looks: int) -> bool:
    """A test of a fixed number of recordings, at each of the looks."""
    seen = np.linspace(INFERENCES / looks, INFERENCES, looks).astype(int) - 1
    means, errors = [], []
    for side in (traffic.is_canary, ~traffic.is_canary):
        count = np.maximum(np.cumsum(side)[seen], 1)
        mean = np.cumsum(traffic.score * side)[seen] / count
        square = np.cumsum(traffic.score**2 * side)[seen] / count
        means.append(mean)
        errors.append(np.where(count > 10, (square - mean**2) / count, np.inf))
    return bool(((means[0] - means[1]) > _Z * np.sqrt(errors[0] + errors[1])).any())


def report(pool: Executor, trials: int, real: int) -> str:
    """Two tables: false alarms among `trials` canaries, and what is found of a real loss among `real`."""
    settings: dict[str, Mapping[str, float]] = {
        "nothing lost": {},
        "10 points of the error score lost": {"lost": 0.1},
        "20 points lost": {"lost": 0.2},
        "40 points lost": {"lost": 0.4},
        "half as slow again": {"slower": 1.5},
    }
    begun = {
        name: {callers: pool.submit(alarms, callers, real if how else trials, **how) for callers in CALLERS}
        for name, how in settings.items()
    }
    shares = {name: {size: future.result() for size, future in by.items()} for name, by in begun.items()}
    columns = {size: f"{size} callers" for size in CALLERS}
    quiet = shares.pop("nothing lost")
    false = [
        {"": name, **{column: f"{100 * quiet[size][name]:.1f}" for size, column in columns.items()}}
        for name in quiet[CALLERS[0]]
    ]
    true = [
        {"": name, **{column: f"{100 * by[size]['guard, any of them']:.0f}" for size, column in columns.items()}}
        for name, by in shares.items()
    ]
    error = 100 * (ALPHA * (1 - ALPHA) / trials) ** 0.5
    return (
        f"Guard: false alarms at alpha {ALPHA:g}, in per cent of {trials} canaries of {INFERENCES:,} inferences that "
        f"lose nothing (standard error at alpha: {error:.1f}), looked at after every one:\n\n{table(false)}\n\n"
        f"Proven within the {INFERENCES:,} inferences, in per cent of {real}, margins of nothing, {SHARE:.0%} canary "
        f"and {SHADOW:.0%} shadow:\n\n{table(true)}"
    )
