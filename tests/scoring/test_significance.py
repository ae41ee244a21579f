import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mondegreen.scoring.significance import holm, mapsswe, minimum_detectable_effect, sign_flip_test, two_sided


def brute_force(differences: list[int]) -> float:
    flips = itertools.product((-1, 1), repeat=len(differences))
    sums = [sum(sign * value for sign, value in zip(signs, differences, strict=True)) for signs in flips]
    return sum(value >= sum(differences) for value in sums) / len(sums)


def exact_by_convolution(differences: np.ndarray) -> float:
    """The exact p for any number of clusters: the distribution of a sum of independent +-|d|."""
    half = int(np.abs(differences).sum())
    distribution = np.zeros(2 * half + 1)
    distribution[half] = 1
    for value in differences:
        distribution = (np.roll(distribution, value) + np.roll(distribution, -value)) / 2
    return float(distribution[half + differences.sum() :].sum())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-9, 9), max_size=9))
def test_sign_flip_is_exact_for_few_clusters(differences: list[int]) -> None:
    p = sign_flip_test(np.array(differences, dtype=np.int64), permutations=1, seed=0)
    assert p == pytest.approx(brute_force(differences))


def test_sign_flip_known_answer() -> None:
    assert sign_flip_test(np.full(12, 3), permutations=1, seed=0) == 1 / 2**12


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_monte_carlo_agrees_with_the_exact_distribution(shift: int) -> None:
    differences = np.random.default_rng(shift).integers(-6, 7, size=40) + shift
    p = sign_flip_test(differences, permutations=20_000, seed=1)
    exact = exact_by_convolution(differences)
    assert p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000) + 1e-4)
    assert p == sign_flip_test(differences, permutations=20_000, seed=1)


def test_p_is_never_zero_and_nothing_moved_is_one() -> None:
    assert sign_flip_test(np.full(100, 5), permutations=999, seed=0) == 1 / 1000
    assert sign_flip_test(np.zeros(100, dtype=np.int64), permutations=999, seed=0) == 1.0
    assert sign_flip_test(np.zeros(0, dtype=np.int64), permutations=999, seed=0) == 1.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_the_exact_p_is_uniform_over_the_sign_patterns(magnitudes: list[int]) -> None:
    """Under the null each pattern is as likely: p is at or below its own value in exactly that share."""
    patterns = np.array(list(itertools.product((-1, 1), repeat=len(magnitudes)))) * np.array(magnitudes)
    p_values = np.array([sign_flip_test(pattern, permutations=1, seed=0) for pattern in patterns])
    for alpha in p_values:
        share = np.mean(p_values <= alpha + 1e-12)
        # As large as it can be: p is the share itself, and no test of this size rejects more.
        assert share == pytest.approx(alpha)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30))
def test_two_sided_p_is_the_same_whichever_model_comes_first(values: list[int]) -> None:
    differences = np.array(values, dtype=np.int64)
    there = two_sided(differences, permutations=1000, seed=3)
    assert there == two_sided(-differences, permutations=1000, seed=3) and 0 < there <= 1


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_lies_between_p_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [adjusted[index] for index in order] == sorted(adjusted)
    for p, found in zip(p_values, adjusted, strict=True):
        assert p <= found <= min(1.0, len(p_values) * p)


def test_holm_known_answer() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_under_the_null_with_cluster_effects_false_passes_stay_below_alpha() -> None:
    generator = np.random.default_rng(7)
    passes, trials = 0, 400
    for trial in range(trials):
        # Ten utterances of a speaker share that speaker's luck, which utterance-level tests would take for evidence.
        luck = generator.normal(0, 2, size=(20, 1))
        utterances = np.rint(luck + generator.normal(0, 1, size=(20, 10)))
        differences = utterances.sum(axis=1).astype(np.int64)
        passes += sign_flip_test(differences, permutations=1000, seed=trial) <= 0.05
    assert passes / trials <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / trials)


def test_mapsswe_by_hand() -> None:
    # Mean 1, squared deviations 1+1+0+0+4+4 = 10 over 5 -> variance 2; z = 1 / sqrt(2 / 6).
    result = mapsswe(np.array([0, 2, 1, 1, 3, -1]))
    assert result.segments == 6 and result.mean_difference == 1
    assert result.z == pytest.approx(math.sqrt(3)) and result.p_value == pytest.approx(0.0416, abs=1e-4)


@pytest.mark.parametrize("differences", [[], [3], [2, 2, 2]])
def test_mapsswe_of_segments_that_do_not_vary_says_nothing(differences: list[int]) -> None:
    result = mapsswe(np.array(differences, dtype=np.int64))
    assert result.z is None and result.p_value is None


def test_minimum_detectable_effect_with_equal_clusters_is_the_textbook_formula() -> None:
    differences, words = np.array([3, -1, 2, 0, 1, 1]), np.full(6, 50)
    standard_error = (differences / 50).std(ddof=1) / math.sqrt(6)
    expected = (norm.ppf(0.95) + norm.ppf(0.8)) * standard_error
    assert minimum_detectable_effect(differences, words, alpha=0.05) == pytest.approx(expected)


def test_minimum_detectable_effect_shrinks_with_clusters_and_needs_two_that_differ() -> None:
    few = minimum_detectable_effect(np.array([3, -1, 2]), np.full(3, 50), alpha=0.05)
    many = minimum_detectable_effect(np.tile([3, -1, 2], 30), np.full(90, 50), alpha=0.05)
    assert few is not None and many is not None and many < few / 4
    assert minimum_detectable_effect(np.array([3]), np.array([50]), alpha=0.05) is None
    assert minimum_detectable_effect(np.zeros(9, dtype=np.int64), np.full(9, 50), alpha=0.05) is None
