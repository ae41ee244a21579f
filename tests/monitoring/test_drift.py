"""Drift: known answers, and how often it cries wolf."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mondegreen.config import MonitorParams
from mondegreen.monitoring.alerts import check_thresholds
from mondegreen.monitoring.drift import (
    confidence_drift,
    decile_edges,
    error_rate_drift,
    population_stability_index,
    shares,
)
from mondegreen.monitoring.records import Drift, InferenceStatistics
from mondegreen.monitoring.statistics import wilson
from tests.monitoring.inferences import NOW, empty_statistics

CONFIDENCES = arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 1, width=32))


def fires(reference: np.ndarray, window: np.ndarray) -> bool:
    """Whether the monitor would give the drift alert at its default thresholds."""
    drift = Drift(
        model_version="m",
        reference=(NOW, NOW),
        confidence=confidence_drift(reference, window),
        error_rate=None,
    )
    found: InferenceStatistics = empty_statistics()
    checks = {check.metric: check for check in check_thresholds(found, drift, MonitorParams(), "24h")}
    return checks["drift"].status == "alert"


def test_psi_is_what_a_person_computes_by_hand() -> None:
    # Ten values a decile before; after, half of the lowest decile's values lie in the highest one: 5 % and 15 %.
    before = np.repeat(np.arange(10) + 0.5, 10)
    after = np.concatenate([before[5:], np.full(5, 9.5)])
    by_hand = (0.05 - 0.10) * math.log(0.05 / 0.10) + (0.15 - 0.10) * math.log(0.15 / 0.10)
    assert population_stability_index(before, after) == pytest.approx(by_hand, abs=1e-12)
    assert by_hand == pytest.approx(0.0549, abs=5e-5)


def test_an_empty_bin_counts_as_half_a_value() -> None:
    before = np.repeat(np.arange(10) + 0.5, 10)
    after = np.concatenate([before[10:], np.full(10, 9.5)])
    by_hand = (0.005 - 0.1) * math.log(0.005 / 0.1) + (0.2 - 0.1) * math.log(0.2 / 0.1)
    assert population_stability_index(before, after) == pytest.approx(by_hand, abs=1e-12)


@given(CONFIDENCES)
def test_equal_samples_have_no_drift_whatever_repeats_in_them(values: np.ndarray) -> None:
    found = confidence_drift(values, values[::-1])
    assert found.psi == 0 and found.ks_statistic == 0 and found.ks_p_value == pytest.approx(1)


@given(CONFIDENCES, CONFIDENCES)
def test_psi_is_finite_and_every_value_has_one_bin(reference: np.ndarray, window: np.ndarray) -> None:
    edges = decile_edges(reference)
    assert (np.diff(edges) > 0).all() and len(edges) <= 11
    assert 0 <= population_stability_index(reference, window) < math.inf
    counts = np.histogram(window, np.nextafter(edges, np.inf))[0]  # numpy's bins are [low, high)
    assert counts.sum() == len(window)
    assert shares(window, edges) == pytest.approx(np.maximum(counts, 0.5) / len(window))


@settings(deadline=None)
@given(CONFIDENCES, CONFIDENCES)
def test_ks_is_scipys(reference: np.ndarray, window: np.ndarray) -> None:
    found, expected = confidence_drift(reference, window), stats.ks_2samp(reference, window)
    assert (found.ks_statistic, found.ks_p_value) == (expected.statistic, expected.pvalue)
    # D itself: the largest distance of the two empirical distribution functions.
    every = np.concatenate([reference, window])
    heights = [np.searchsorted(np.sort(sample), every, side="right") / len(sample) for sample in (reference, window)]
    assert found.ks_statistic == pytest.approx(np.max(np.abs(heights[0] - heights[1])))


def test_the_p_value_of_large_samples_is_close_to_the_exact_one() -> None:
    draw = np.random.default_rng(5)
    for shift in np.linspace(0, 0.15, 6):
        reference, window = draw.normal(0, 1, 501), draw.normal(shift, 1, 600)
        exact = stats.ks_2samp(reference, window, method="exact").pvalue
        assert confidence_drift(reference, window).ks_p_value == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("size", [100, 300, 3000])
def test_without_drift_hardly_any_alert(size: int) -> None:
    draw = np.random.default_rng(size)
    alarms = sum(fires(draw.beta(8, 2, size), draw.beta(8, 2, size)) for _ in range(400))
    assert alarms <= 4  # 1 %
    # The index alone would cry wolf when there is little data: that is why a test stands beside it.
    if size == 100:
        alone = [population_stability_index(draw.beta(8, 2, 100), draw.beta(8, 2, 100)) > 0.25 for _ in range(400)]
        assert sum(alone) > 20


@pytest.mark.parametrize("size", [300, 3000])
def test_a_real_shift_is_found(size: int) -> None:
    draw = np.random.default_rng(size)
    assert sum(fires(draw.beta(8, 2, size), draw.beta(6, 3, size)) for _ in range(100)) >= 95


def test_a_shift_without_size_is_no_alert_however_sure_it_is() -> None:
    draw = np.random.default_rng(0)
    reference, window = draw.normal(0.80, 0.05, 100_000), draw.normal(0.805, 0.05, 100_000)
    found = confidence_drift(reference, window)
    assert found.ks_p_value < 1e-6 and found.psi < 0.05 and not fires(reference, window)


def test_wilson_is_the_published_example() -> None:
    # Newcombe 1998, InferenceStatistics in Medicine 17: 857-872, table I: 81/263, 15/148 and 0/20.
    for hits, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = wilson(hits, count)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(0, 5).low == 0 and wilson(5, 5).high == 1
    for hits, count in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="no proportion"):
            wilson(hits, count)


@given(st.integers(1, 10**6), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.9994]))
def test_wilson_is_the_closed_form(count: int, share: float, level: float) -> None:
    hits = round(share * count)
    z = float(stats.norm.ppf(0.5 + level / 2))
    middle = (hits / count + z * z / (2 * count)) / (1 + z * z / count)
    spread = hits * (count - hits) / count**3 + z * z / (4 * count * count)
    half = z / (1 + z * z / count) * math.sqrt(spread)
    found = wilson(hits, count, level)
    assert (found.low, found.high) == (pytest.approx(middle - half, abs=1e-12), pytest.approx(middle + half, abs=1e-12))
    assert 0 <= found.low <= hits / count <= found.high <= 1


def test_newcombe_is_the_published_example() -> None:
    # Newcombe 1998, InferenceStatistics in Medicine 17: 873-890, table II, method 10: 56/70 - 48/80.
    found = error_rate_drift((48, 80), (56, 70))
    assert found.difference == pytest.approx(0.2)
    assert (found.interval.low, found.interval.high) == (
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_the_interval_holds_the_difference_and_turns_with_it(n: int, m: int, data: st.DataObject) -> None:
    before = (data.draw(st.integers(0, n)), n)
    after = (data.draw(st.integers(0, m)), m)
    there, back = error_rate_drift(before, after), error_rate_drift(after, before)
    assert -1 - 1e-9 <= there.interval.low <= there.difference <= there.interval.high <= 1 + 1e-9
    assert (back.interval.low, back.interval.high) == (
        pytest.approx(-there.interval.high),
        pytest.approx(-there.interval.low),
    )


def test_the_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    draw = np.random.default_rng(1)
    before, after = draw.binomial(150, 0.1, 2000), draw.binomial(200, 0.1, 2000)
    inside = 0
    for old, new in zip(before, after, strict=True):
        interval = error_rate_drift((int(old), 150), (int(new), 200)).interval
        inside += interval.low <= 0 <= interval.high
    assert 0.93 <= inside / 2000 <= 0.98
