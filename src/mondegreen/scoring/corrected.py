"""What a round does to what production misheard: both models on the corrected cases that are held out of training.

It decides nothing. The base model misheard all of them, that is why they are there; so any other model looks better on
them than it is, and one that gains nothing here has missed what the round was for.
"""

from mondegreen.config import Params
from mondegreen.scoring.comparison import Comparison, resample
from mondegreen.scoring.metrics import score
from mondegreen.scoring.normalizer import Measure
from mondegreen.scoring.verdict import Corrected, Interval
from mondegreen.scoring.wording import confidence, percent, points, span


def measure_corrected(cases: Comparison, seen_texts: int, params: Params) -> Corrected | None:
    """Both rates and the interval of their difference; None without held-out cases.

    Args:
        cases: both models on them.
        seen_texts: how many of them say a text that train holds too.
        params: validate and seed are read.
    """
    if not cases.clusters:
        return None
    level, interval = 1 - params.validate_.alpha, None
    if cases.clusters > 1:  # one cluster has no scatter
        low, high = resample(cases, params).interval(level)
        interval = Interval(low=low, high=high, level=level)
    return Corrected(
        utterances=len(cases.baseline),
        unit=cases.unit,
        clusters=cases.clusters,
        baseline_wer=score(cases.baseline).wer.rate,
        candidate_wer=score(cases.candidate).wer.rate,
        wer_improvement=cases.improvement,
        interval=interval,
        seen_texts=seen_texts,
    )


def describe(cases: Corrected | None, measure: Measure) -> list[str]:
    """A line for the verdict's notes; `measure` is what the rates are, WER or CER."""
    if cases is None:
        return []
    bounds = cases.interval
    shown = f"{confidence(bounds.level)} interval {span(bounds.low, bounds.high)}" if bounds else "no interval"
    seen = f"; {cases.seen_texts} say what training holds too" if cases.seen_texts else ""
    return [
        f"what production misheard, {cases.utterances} corrected cases held out of training: {measure} "
        f"{percent(cases.baseline_wer)} -> {percent(cases.candidate_wer)}, improvement {points(cases.wer_improvement)} "
        f"({shown}, {cases.clusters} {cases.unit}s{seen})"
    ]
