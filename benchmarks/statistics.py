"""How often tests call a difference significant that is none, how often they find one that is, and how fast ours are.

python -m benchmarks --only statistics [--trials 1000] [--verdicts 200]
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, get_args

import jiwer
import numpy as np
from scipy import stats

from benchmarks import guarding, production_wer
from benchmarks.common import table
from benchmarks.simulated_speakers import TestSet, as_records, draw
from mondegreen.config import Params
from mondegreen.records import Hypothesis, Utterance
from mondegreen.scoring.comparison import compare, gather
from mondegreen.scoring.decision import decide
from mondegreen.scoring.paired_sets import pair_test_sets
from mondegreen.scoring.significance import (
    block_bootstrap,
    cluster_t_test,
    mapsswe,
    sign_flip_test,
    signed_rank_test,
)
from mondegreen.scoring.verdict import IntervalMethod

Answers = Callable[[TestSet, int], dict[str, bool]]
SPEAKERS = (5, 10, 20, 40)
ALPHA, IMPROVEMENT = 0.05, 0.02
DRAWS, PERMUTATIONS = 1_000, 10_000  # of one trial: fewer than a verdict's, whose rates they do not change
RULE = Params.model_validate({"validate": {"bootstrap_samples": DRAWS, "permutations": PERMUTATIONS}})


def significant(test: TestSet, seed: int) -> dict[str, bool]:
    """What each test says of the claim that the candidate is better, one-sided at ALPHA."""
    utterances, words = test.differences(), test.by_speaker(test.words)
    clusters, nothing = test.by_speaker(utterances), np.zeros_like(words)
    blocks = block_bootstrap(clusters, nothing, words, DRAWS, seed)
    single = block_bootstrap(utterances, np.zeros_like(utterances), test.words, DRAWS, seed)
    p_values = {
        "sign-flip over speakers": sign_flip_test(clusters, PERMUTATIONS, seed),
        "cluster-robust t over speakers": cluster_t_test(clusters, words).p_value,
        "Wilcoxon over speakers": signed_rank_test(clusters, words).p_value,
        "t over utterances": stats.ttest_1samp(utterances, 0, alternative="greater").pvalue,
        "MAPSSWE (NIST's segments)": mapsswe(test.segments()).p_value,
    }
    return {
        **{name: p is not None and p <= ALPHA for name, p in p_values.items()},
        "bootstrap of utterances (i.i.d.)": single.loss_bounds(ALPHA, "percentile")[1] < 0,
        "bootstrap of speakers, expanded percentile bound": blocks.loss_bounds(ALPHA, "expanded percentile")[1] < 0,
        "bootstrap of speakers, percentile bound": blocks.loss_bounds(ALPHA, "percentile")[1] < 0,
        "bootstrap of speakers, BCa bound": blocks.loss_bounds(ALPHA, "bca")[1] < 0,
    }


def covered(test: TestSet, seed: int) -> dict[str, bool]:
    """Whether the two-sided interval of 95 % holds an improvement of zero."""
    words = test.by_speaker(test.words)
    clusters = test.by_speaker(test.differences())
    blocks = block_bootstrap(clusters, np.zeros_like(words), words, DRAWS, seed)
    by_t = cluster_t_test(clusters, words)
    far = stats.t.ppf(0.975, by_t.degrees_of_freedom)
    found = {method: blocks.interval(0.95, method) for method in get_args(IntervalMethod)}
    return {
        **{method: low <= 0 <= high for method, (low, high) in found.items()},
        "improvement ± t · standard error": by_t.t is None or abs(by_t.t) <= far,
    }


def passes(test: TestSet, seed: int) -> dict[str, bool]:
    """The whole rule: `scoring.decision.decide` on transcripts, with a retention set that has nothing against it."""
    utterances, baseline, candidate, rule = *as_records(test), RULE.model_copy(update={"seed": seed})
    return {"the verdict": decide(pair_test_sets(utterances, baseline, candidate, rule), rule).passed}


def rates(
    ask: Callable[[TestSet, int], dict[str, bool]],
    speakers: int,
    trials: int,
    improvement: float,
    centred: bool = False,
) -> dict[str, float]:
    """The share of `trials` test sets in which each answer is yes; the same seed draws the same sets."""
    generator = np.random.default_rng([speakers, round(1e4 * improvement), centred])
    answers = [ask(draw(generator, speakers, improvement, centred), seed) for seed in range(trials)]
    return {name: float(np.mean([answer[name] for answer in answers])) for name in answers[0]}


def report(trials: int, verdicts: int) -> Iterator[str]:
    """The tables of docs/statistics.md, each when it is there."""
    error = 100 * (ALPHA * (1 - ALPHA) / trials) ** 0.5
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        null, power = _by_size(pool, significant, trials, 0.0), _by_size(pool, significant, trials, IMPROVEMENT)
        coverage = _by_size(pool, covered, trials, 0.0)
        judged = [
            (label, *(_by_size(pool, passes, verdicts, gain, centred) for gain in (0.0, IMPROVEMENT)))
            for centred, label in (
                (False, "the speakers' population gains nothing"),
                (True, "these speakers gain nothing"),
            )
        ]
        produced = [
            (detector, heard, pool.submit(production_wer.trials, detector, heard, trials))
            for detector in production_wer.DETECTORS
            for heard in production_wer.HEARD
        ]
        yield (
            f"False passes at alpha {ALPHA:g}, in per cent of {trials} test sets without an improvement (standard "
            f"error at alpha: {error:.1f}); in brackets power, for an improvement of {100 * IMPROVEMENT:g} points:\n\n"
            + table(_rows(null(), power()))
        )
        yield (
            f"Coverage of two-sided 95 % intervals, in per cent of {trials} test sets:\n\n" + table(_rows(coverage()))
        )
        rows = [row for label, quiet, gaining in judged for row in _rows(quiet(label), gaining(label))]
        yield (
            f"The whole rule, in per cent of {verdicts} test sets (power in brackets). Below 12 speakers its unit is "
            f"the recording and its claim is about these speakers only: the second line:\n\n{table(rows)}"
        )
        yield (
            f"The WER in production: coverage of 95 % intervals, in per cent of {trials} windows of some 3,000 "
            f"inferences of 300 callers, and median half widths in points of WER:\n\n{table(_produced(produced))}"
        )
        yield guarding.report(pool, trials, verdicts)
    yield speed()


def _produced(begun: list[tuple[str, int, Future[dict[str, float]]]]) -> list[dict[str, Any]]:
    """One row a detector and a number of references."""
    rows = []
    for detector, heard, future in begun:
        found = {name: 100 * value for name, value in future.result().items()}
        row: dict[str, Any] = {"detector": detector, "heard": heard}
        for name, title in production_wer.COLUMNS.items():
            row[title] = f"{found[name]:.1f}"
        rows.append(row | {"predictions used": f"{found['helped']:.0f} %"})
    return rows


def _by_size(
    pool: Executor, ask: Answers, trials: int, improvement: float, centred: bool = False
) -> Callable[..., dict[int, dict[str, float]]]:
    """Starts the trials of every number of speakers; the function that waits for them can rename the one answer."""
    begun = {size: pool.submit(rates, ask, size, trials, improvement, centred) for size in SPEAKERS}

    def wait(label: str = "") -> dict[int, dict[str, float]]:
        found = {size: future.result() for size, future in begun.items()}
        return {size: {label: min(shares.values())} if label else shares for size, shares in found.items()}

    return wait


def _rows(
    shares: dict[int, dict[str, float]], power: dict[int, dict[str, float]] | None = None
) -> list[dict[str, Any]]:
    """One row an answer, one column a number of speakers, in per cent."""
    rows = []
    for name in shares[SPEAKERS[0]]:
        row = {"": name}
        for size in SPEAKERS:
            found = f" ({100 * power[size][name]:.0f})" if power else ""
            row[f"{size} speakers"] = f"{100 * shares[size][name]:.1f}{found}"
        rows.append(row)
    return rows


def speed(utterances: int = 10_000, speakers: int = 40) -> str:
    """Seconds of one core for counts, all tests and 10,000 draws of a verdict, beside loops over utterances."""
    sides = _corpus(utterances, speakers)
    params = Params()
    started = time.process_time()
    comparison = compare(*sides, params.validate_)
    counted = time.process_time()
    gather(comparison, params)
    ours = {"count words and characters": counted - started, "tests and intervals": time.process_time() - counted}
    loops = {
        "count words and characters": _naive_counts(sides),
        "tests and intervals": _naive_tests(comparison, params),
    }
    rows = [
        {
            "": name,
            "seconds": f"{ours[name]:.2f}",
            "loops": f"{loops[name]:.1f}",
            "ratio": f"{loops[name] / ours[name]:.0f}",
        }
        for name in ours
    ]
    total, naive = sum(ours.values()), sum(loops.values())
    rows.append({"": "all", "seconds": f"{total:.2f}", "loops": f"{naive:.1f}", "ratio": f"{naive / total:.0f}"})
    words = int(comparison.words.sum())
    return (
        f"Seconds of one core for {utterances:,} utterances ({words:,} words) of {speakers} speakers, "
        f"{params.validate_.bootstrap_samples:,} draws and {params.validate_.permutations:,} flips each way. Beside "
        "it: jiwer for each utterance, then draws and flips in Python loops, a hundredth of them "
        f"measured:\n\n{table(rows)}"
    )


def _corpus(count: int, speakers: int) -> tuple[list[Utterance], list[Hypothesis], list[Hypothesis]]:
    """Texts of about ten words from a vocabulary of 220, and two models that mishear a fifth of them."""
    generator = np.random.default_rng(0)
    test = draw(generator, speakers, 0.02)
    utterances, old, new = as_records(test, retention=0)
    vocabulary = np.array([f"{a}{b}{c}" for a in "bdfglmnprst" for b in "aeiou" for c in ("n", "ster", "l", "ty")])
    made: tuple[list[Utterance], list[Hypothesis], list[Hypothesis]] = ([], [], [])
    for number in range(count):
        words = generator.choice(vocabulary, size=generator.integers(4, 17))
        key = f"u{number:05}"
        update = {"id": key, "recording": key, "speaker": f"s{number % speakers:02}", "reference": " ".join(words)}
        made[0].append(utterances[0].model_copy(update=update))
        for side, template in ((1, old[0]), (2, new[0])):
            heard = np.where(generator.random(len(words)) < 0.2, generator.choice(vocabulary, size=len(words)), words)
            kept = heard[generator.random(len(words)) > 0.03]
            made[side].append(template.model_copy(update={"id": key, "text": " ".join(kept)}))  # type: ignore[arg-type]
    return made


def _naive_counts(sides: tuple[list[Utterance], list[Hypothesis], list[Hypothesis]]) -> float:
    started = time.process_time()
    for hypotheses in sides[1:]:
        for utterance, hypothesis in zip(sides[0], hypotheses, strict=True):
            jiwer.process_words(utterance.reference, hypothesis.text)
            jiwer.process_characters(utterance.reference, hypothesis.text)
    return time.process_time() - started


def _naive_tests(comparison: Any, params: Params) -> float:
    import random

    pairs = list(zip(comparison.baseline, comparison.candidate, strict=True))
    gains = [(old.words.errors - new.words.errors, old.words.reference_length) for old, new in pairs]
    clusters = comparison.differences.tolist()
    luck = random.Random(0)
    started = time.process_time()
    for _ in range(params.validate_.bootstrap_samples // 100):
        drawn = luck.choices(gains, k=len(gains))
        _ = sum(gain for gain, _ in drawn) / sum(words for _, words in drawn)
    for _ in range(2 * params.validate_.permutations // 100):
        _ = sum(value if luck.random() < 0.5 else -value for value in clusters) >= sum(clusters)
    return 100 * (time.process_time() - started)
