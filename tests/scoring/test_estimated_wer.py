"""The WER of all traffic from a random part of it: what it equals, and how often its interval is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.production_wer import audited, made_traffic, trials
from mondegreen.scoring.production import (
    EstimatedRate,
    HeardSample,
    difference_of,
    estimate_wer,
    expected_half_width,
    references_needed,
)


def window(seed: int, callers: int = 60) -> tuple[HeardSample, np.ndarray]:  # type: ignore[type-arg]
    """Everything is heard, each inference surely."""
    traffic = made_traffic(np.random.default_rng(seed), callers, "good")
    features = traffic.features()
    everything = np.ones(len(traffic.caller))
    sums = np.column_stack([np.bincount(traffic.caller, column, callers) for column in features.T])
    return HeardSample(traffic.caller, everything, traffic.errors, traffic.words, features), sums


@given(st.integers(0, 50), st.floats(0.01, 1))
@settings(max_examples=20, deadline=None)
def test_what_is_heard_whole_is_its_own_corpus_wer(seed: int, inclusion: float) -> None:
    sample, sums = window(seed)
    thinned = HeardSample(sample.cluster, inclusion * sample.inclusion, sample.errors, sample.words, sample.features)
    found = estimate_wer(thinned, sums)
    truth = sample.errors.sum() / sample.words.sum()
    assert found.plain.value == pytest.approx(truth) and found.difference.value == pytest.approx(truth, rel=0.02)
    for rate in (found.plain, found.difference):
        low, high = rate.interval()
        assert 0 < low < rate.value < high and rate.influence.sum() == pytest.approx(0, abs=1e-9)


def test_the_order_of_callers_changes_no_plain_estimate() -> None:
    sample, sums = window(3)
    turned = np.random.default_rng(0).permutation(len(sums))
    moved = HeardSample(turned[sample.cluster], sample.inclusion, sample.errors, sample.words, sample.features)
    one, other = estimate_wer(sample, sums).plain, estimate_wer(moved, sums[np.argsort(turned)]).plain
    assert other.value == pytest.approx(one.value) and other.standard_error == pytest.approx(one.standard_error)


@pytest.mark.parametrize("detector", ["good", "useless", "wrong"])
def test_the_interval_holds_the_truth_whatever_the_detector_is_worth(detector: str) -> None:
    found = trials(detector, 100, 150)
    assert found["best holds"] >= 0.91 and found["plain holds"] >= 0.9  # 0.95 less more than two standard errors
    if detector == "useless":
        assert found["helped"] < 0.3 and found["best half width"] < 1.1 * found["plain half width"]
    else:  # upside down it predicts as much
        assert found["helped"] > 0.9 and found["best half width"] < 0.8 * found["plain half width"]


def test_a_sample_that_is_not_weighed_would_be_wrong() -> None:
    generator = np.random.default_rng(0)
    means = dict.fromkeys(("weighed", "truth", "counted"), 0.0)
    for _ in range(30):
        traffic = made_traffic(generator, 300, "good")
        means["truth"] += traffic.errors.sum() / traffic.words.sum() / 30
        means["weighed"] += audited(generator, traffic, 300).plain.value / 30
        drawn = generator.random(len(traffic.score)) < np.where(traffic.score > 0.8, 0.3, 0.1)
        means["counted"] += traffic.errors[drawn].sum() / traffic.words[drawn].sum() / 30
    assert abs(means["weighed"] - means["truth"]) < 0.01 < 0.05 < means["counted"] - means["truth"]


def test_a_caller_of_both_versions_is_one_caller() -> None:
    spread = np.random.default_rng(0).normal(0, 0.01, 50)
    spread -= spread.mean()
    before, after = EstimatedRate(0.25, spread), EstimatedRate(0.22, 0.9 * spread)
    value, low, high = difference_of(before, after)
    assert value == pytest.approx(-0.03) and low < value < high
    apart = EstimatedRate(0.22, 0.9 * spread[::-1])
    assert high - low < (difference_of(before, apart)[2] - difference_of(before, apart)[1]) / 2


@given(st.floats(0.01, 0.2), st.integers(2, 60), st.floats(0.005, 0.2))
def test_as_many_references_as_needed_and_not_one_more(error: float, freedom: int, half_width: float) -> None:
    needed = references_needed(error, freedom, 100, half_width)
    assert needed is not None and expected_half_width(error, freedom, 100, needed) <= half_width
    assert needed == 1 or expected_half_width(error, freedom, 100, needed - 1) > half_width
