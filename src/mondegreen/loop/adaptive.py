"""How many error cases the next round needs, learnt from what the rounds before it gained.

The threshold has no state of its own: it is folded from the gains of the completed rounds, so nothing can disagree.
"""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from mondegreen.config import TriggerParams


class Step(BaseModel):
    """What one completed round did to the threshold."""

    model_config = ConfigDict(frozen=True)

    job: int
    gain: float | None  # WER before minus after, absolute; None when nothing was measured
    before: int  # error cases
    after: int
    text: str


def adapt(config: TriggerParams, gains: Iterable[tuple[int, float | None]]) -> list[Step]:
    """The history of the threshold.

    Args:
        gains: job and gain of every completed round, oldest first.

    Returns:
        One step a round; none when the threshold is not adaptive.
    """
    if not config.adaptive:
        return []
    exact = float(config.min_error_cases)  # rounded only to be shown: a small factor must not get stuck
    steps = []
    for job, gain in gains:
        moved, text = _moved(config, exact, gain)
        steps.append(Step(job=job, gain=gain, before=round(exact), after=round(moved), text=text))
        exact = moved
    return steps


def needed_cases(config: TriggerParams, steps: list[Step]) -> int:
    """The threshold of the next round."""
    return steps[-1].after if steps else config.min_error_cases


def _moved(config: TriggerParams, exact: float, gain: float | None) -> tuple[float, str]:
    low, high = config.adaptive_bounds
    small, large = config.adaptive_small_gain, config.adaptive_large_gain
    if gain is None:
        return exact, "no gain was measured: as before"
    shown = f"gain {100 * gain:+.2f} points"
    if gain < small:
        return min(exact * config.adaptive_factor, high), f"{shown}, under {100 * small:g}: more cases"
    if gain > large:
        return max(exact / config.adaptive_factor, low), f"{shown}, over {100 * large:g}: fewer cases"
    return exact, f"{shown}, from {100 * small:g} to {100 * large:g}: as before"
