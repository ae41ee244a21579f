"""Whether the interval of the WER in production holds the truth: traffic made at random, of which a few are heard.

Called by benchmarks.statistics. Callers differ in how much and how clearly they speak; the detector's score follows the
errors (good), follows nothing (useless), or follows them upside down (wrong), and decides with which probability an
inference is drawn, as audit.bounds and audit.factors have it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from mondegreen.config import AuditParams
from mondegreen.monitoring.sampling import AuditSampling
from mondegreen.scoring.production import EstimatedRate, HeardSample, ProductionEstimate, estimate_wer

DETECTORS = ("good", "useless", "wrong")
HEARD = (30, 100, 300)
COLUMNS = {  # of the table: what trials measures, and its title
    "best holds": "chosen",
    "plain holds": "plain",
    "log t, clusters - 1": "log t, clusters - 1",
    "t, clusters - 1": "t, clusters - 1",
    "bootstrap": "bootstrap",
    "best holds the window's": "the window's own",
    "best half width": "half width",
    "plain half width": "half width, plain",
}
_ERROR_RATE, _ERROR_SPREAD = 0.23, 0.08  # of the callers: mean and standard deviation
_INSERTED = 0.02  # words that nobody said, for each that somebody did
_TRUTH = _ERROR_RATE + _INSERTED  # callers' rates do not depend on how much they speak
_CALLS, _CALLS_SPREAD = 8, 0.7  # of a caller: median, and standard deviation of the logarithm
_EVENNESS = 3.0  # how much alike the utterances of a caller are: beta's two parameters add up to it
_DRAWS = 400  # of a bootstrap of clusters
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """All inferences of a window; arrays run over them."""

    caller: Counts
    words: Counts  # that were said
    errors: Counts
    heard: Counts  # words of the transcript
    score: Floats

    def features(self) -> Floats:
        """As monitoring.production has them: (num_inferences, 3)."""
        return np.column_stack([np.ones(len(self.heard)), self.heard, self.heard * self.score])


def made_traffic(generator: np.random.Generator, callers: int, detector: str) -> Traffic:
    """Some 10 inferences a caller."""
    calls = np.clip(generator.lognormal(np.log(_CALLS), _CALLS_SPREAD, callers), 1, 80).astype(np.int64)
    caller = np.repeat(np.arange(callers), calls)
    words = generator.integers(2, 16, len(caller))
    share = _ERROR_RATE * (1 - _ERROR_RATE) / _ERROR_SPREAD**2 - 1
    rate = generator.beta(_ERROR_RATE * share, (1 - _ERROR_RATE) * share, callers)[caller]
    own = generator.beta(np.maximum(rate * _EVENNESS, 1e-3), np.maximum((1 - rate) * _EVENNESS, 1e-3))
    errors = generator.binomial(words, own) + generator.poisson(_INSERTED * words)
    score = 1 / (1 + np.exp(-(6 * (errors / words - 0.3) + generator.normal(0, 1, len(words)))))
    score = {"good": score, "useless": generator.random(len(words)), "wrong": 1 - score}[detector]
    heard = np.maximum(0, words + generator.integers(-1, 2, len(words)))
    return Traffic(caller, words, errors, heard, score)


def audited(generator: np.random.Generator, traffic: Traffic, number: int) -> ProductionEstimate:
    """What about `number` of them say when people have heard them."""
    rule = AuditSampling(AuditParams(rate=0.01), 0)
    inclusion = np.array([rule.probability(score) for score in traffic.score])
    inclusion = np.minimum(1, inclusion * number / inclusion.sum())
    drawn = generator.random(len(inclusion)) < inclusion
    features = traffic.features()
    sample = HeardSample(
        traffic.caller[drawn], inclusion[drawn], traffic.errors[drawn], traffic.words[drawn], features[drawn]
    )
    callers = int(traffic.caller.max()) + 1
    sums = np.column_stack([np.bincount(traffic.caller, column, callers).astype(float) for column in features.T])
    return estimate_wer(sample, sums)


def others(rate: EstimatedRate, clusters: int, generator: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Other intervals of 95 % around the same estimate, for comparison.

    Args:
        clusters: of which somebody was heard.
    """
    far = stats.t.ppf(0.975, clusters - 1) * rate.standard_error
    number = len(rate.influence)
    counts = generator.multinomial(number, np.full(number, 1 / number), _DRAWS)
    low, high = np.quantile(rate.value + counts @ rate.influence, [0.025, 0.975])
    return {
        "t, clusters - 1": (rate.value - far, rate.value + far),
        "log t, clusters - 1": (rate.value * np.exp(-far / rate.value), rate.value * np.exp(far / rate.value)),
        "bootstrap": (low, high),
    }


def trials(detector: str, number: int, count: int, callers: int = 300) -> dict[str, float]:
    """Shares of `count` windows in which each interval holds the truth, and their median half widths, absolute WER.

    The truth is the WER with callers like these; beside it that of the very window.
    """
    generator = np.random.default_rng([number, DETECTORS.index(detector), callers])
    rows = []
    for _ in range(count):
        traffic = made_traffic(generator, callers, detector)
        found = audited(generator, traffic, number)
        low, high = found.best.interval()
        own = traffic.errors.sum() / traffic.words.sum()
        row = {"helped": float(found.predictions_help), "best holds the window's": float(low <= own <= high)}
        for name, rate in (("plain", found.plain), ("best", found.best)):
            low, high = rate.interval()
            row |= {f"{name} holds": float(low <= _TRUTH <= high), f"{name} half width": (high - low) / 2}
        clusters = int(np.count_nonzero(found.plain.influence))
        for name, (low, high) in others(found.best, clusters, generator).items():
            row[name] = float(low <= _TRUTH <= high)
        rows.append(row)
    middle = {True: np.median, False: np.mean}
    return {name: float(middle[name.endswith("width")]([row[name] for row in rows])) for name in rows[0]}
