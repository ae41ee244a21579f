"""A small, seeded version of `make bench-stats`: what is called significant when speakers differ and models do not."""

import math

import numpy as np
import pytest

from benchmarks.simulated_speakers import as_records, draw
from benchmarks.statistics import ALPHA, passes, rates, significant
from mondegreen.config import ValidateParams
from mondegreen.scoring.comparison import compare

TRIALS = 120


def most(trials: int) -> float:
    """A rate above it would be chance in one of a hundred tests that hold alpha."""
    return ALPHA + 2.33 * math.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_tests_over_speakers_hold_alpha_and_tests_over_utterances_do_not() -> None:
    sizes = (5, 10, 20)
    found = {size: rates(significant, size, TRIALS, 0.0) for size in sizes}
    for name in (
        "sign-flip over speakers",
        "cluster-robust t over speakers",
        "Wilcoxon over speakers",
        "bootstrap of speakers, expanded percentile bound",
    ):
        assert all(found[size][name] <= most(TRIALS) for size in sizes), name
    for name in ("t over utterances", "bootstrap of utterances (i.i.d.)", "MAPSSWE (NIST's segments)"):
        assert all(found[size][name] > found[size]["sign-flip over speakers"] for size in sizes), name
        assert np.mean([found[size][name] for size in sizes]) > most(TRIALS * len(sizes)), name


def test_the_whole_rule_holds_alpha_and_finds_what_is_there() -> None:
    trials = 40
    assert rates(passes, 20, trials, 0.0)["the verdict"] <= most(trials)
    assert rates(passes, 20, 12, 0.05)["the verdict"] > 0.8


def test_a_simulated_set_is_the_same_as_counts_and_as_transcripts() -> None:
    test = draw(np.random.default_rng(0), 12, 0.02)
    comparison = compare(*as_records(test, retention=0), ValidateParams())
    assert comparison.unit == "speaker"
    assert comparison.differences.tolist() == test.by_speaker(test.differences()).tolist()
    assert comparison.words.tolist() == test.by_speaker(test.words).tolist()
    assert sorted(comparison.segment_differences().tolist()) == sorted(test.segments().tolist())


def test_a_centred_set_has_the_improvement_that_was_asked_for() -> None:
    gains = []
    for seed in range(200):
        test = draw(np.random.default_rng(seed), 5, 0.03, centred=True)
        gains.append(test.differences().sum() / test.words.sum())
    assert np.mean(gains) == pytest.approx(0.03, abs=0.003)
