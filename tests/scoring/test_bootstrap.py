from typing import get_args

import numpy as np
import pytest
from scipy import stats

from mondegreen.scoring import significance
from mondegreen.scoring.significance import block_bootstrap
from mondegreen.scoring.verdict import IntervalMethod


def clusters(seed: int, size: int, improvement: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of clusters of different length whose own improvements scatter around a true one."""
    generator = np.random.default_rng(seed)
    words = generator.integers(40, 160, size=size)
    own = np.clip(generator.normal(improvement, 0.05, size=size), -0.2, 0.3)
    return generator.binomial(words, 0.4), generator.binomial(words, 0.4 - own), words


def test_interval_covers_the_true_improvement_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        low, high = block_bootstrap(*clusters(seed, size=40, improvement=0.05), samples=1000, seed=seed).interval(0.9)
        covered += low <= 0.05 <= high
    assert 0.83 <= covered / 200 <= 0.96


def test_it_is_a_ratio_of_sums_not_a_mean_of_cluster_rates() -> None:
    # The long cluster decides: 10 of 1000 words gained, 5 of 10 lost.
    sample = block_bootstrap(np.array([20, 0]), np.array([10, 5]), np.array([1000, 10]), samples=4000, seed=0)
    values = set(np.round(sample.improvements, 9))
    assert values == {-0.5, round(5 / 1010, 9), 0.01}


def test_the_same_seed_gives_the_same_samples_and_chunks_cover_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clusters(3, size=30, improvement=0.0)
    whole = block_bootstrap(*data, samples=1000, seed=5).improvements
    monkeypatch.setattr(significance, "_CHUNK_DRAWS", 30 * 7)
    assert np.array_equal(whole, block_bootstrap(*data, samples=1000, seed=5).improvements)


def test_loss_is_the_improvement_with_its_sign_turned() -> None:
    sample = block_bootstrap(*clusters(1, size=40, improvement=0.05), samples=2000, seed=1)
    lower, upper = sample.loss_bounds(alpha=0.05)
    low, high = sample.interval(0.9)
    assert (lower, upper) == pytest.approx((-high, -low))
    assert lower < upper < 0


def test_bca_is_percentile_when_nothing_is_skewed() -> None:
    half = np.arange(1, 21)
    errors = np.concatenate([half, 42 - half])  # symmetric about 21
    sample = block_bootstrap(errors, np.full(40, 21), np.full(40, 60), samples=20_000, seed=0)
    assert sample.acceleration == pytest.approx(0, abs=1e-12)
    assert sample.interval(0.95, "bca") == pytest.approx(sample.interval(0.95, "percentile"), abs=0.002)


def test_bca_is_that_of_scipy() -> None:
    baseline, candidate, words = clusters(4, size=15, improvement=0.05)
    gains = (baseline - candidate) ** 2 // 6  # skewed

    def ratio(index: np.ndarray, axis: int = -1) -> np.ndarray:
        return gains[index].sum(axis=axis) / words[index].sum(axis=axis)

    theirs = stats.bootstrap(
        (np.arange(15),), ratio, n_resamples=40_000, method="BCa", rng=np.random.default_rng(0), vectorized=True
    ).confidence_interval
    ours = block_bootstrap(gains, np.zeros(15, dtype=np.int64), words, samples=40_000, seed=0)
    assert abs(ours.acceleration) > 0.02
    width = theirs.high - theirs.low
    assert ours.interval(0.95, "bca") == pytest.approx((theirs.low, theirs.high), abs=0.02 * width)
    assert ours.interval(0.95, "percentile") != pytest.approx((theirs.low, theirs.high), abs=0.04 * width)


def test_the_expanded_interval_is_as_wide_as_students_t() -> None:
    errors = np.array([12, 9, 15, 8, 11, 14, 10, 13, 9, 12])
    words = np.full(10, 60)
    sample = block_bootstrap(errors, np.full(10, 8), words, samples=40_000, seed=0)
    theirs = stats.t.interval(0.9, 9, loc=(errors - 8).mean() / 60, scale=stats.sem(errors) / 60)
    low, high = sample.interval(0.9, "expanded percentile")
    plain = sample.interval(0.9, "percentile")
    assert high - low == pytest.approx(theirs[1] - theirs[0], rel=0.03) and high - low > plain[1] - plain[0]
    assert (low + high) / 2 == pytest.approx(sample.observed, abs=0.002)


def test_with_many_clusters_expanding_changes_little() -> None:
    sample = block_bootstrap(*clusters(2, size=400, improvement=0.05), samples=20_000, seed=0)
    low, high = sample.interval(0.95, "expanded percentile")
    plain = sample.interval(0.95, "percentile")
    assert 1 <= (high - low) / (plain[1] - plain[0]) < 1.02


@pytest.mark.parametrize("method", get_args(IntervalMethod))
def test_swapping_the_models_mirrors_the_interval(method: IntervalMethod) -> None:
    baseline, candidate, words = clusters(7, size=25, improvement=0.03)
    low, high = block_bootstrap(baseline, candidate, words, samples=2000, seed=3).interval(0.9, method)
    mirrored = block_bootstrap(candidate, baseline, words, samples=2000, seed=3).interval(0.9, method)
    assert mirrored == pytest.approx((-high, -low))


def test_identical_models_have_an_interval_of_no_width() -> None:
    errors = np.array([3, 4, 5])
    sample = block_bootstrap(errors, errors, np.full(3, 50), samples=1000, seed=0)
    assert all(sample.interval(0.95, method) == (0, 0) for method in get_args(IntervalMethod))


def test_no_clusters_and_empty_clusters_are_refused() -> None:
    none = np.zeros(0, dtype=np.int64)
    with pytest.raises(ValueError, match="at least one"):
        block_bootstrap(none, none, none, samples=1000, seed=0)
    with pytest.raises(ValueError, match="without reference words"):
        block_bootstrap(np.array([1]), np.array([1]), np.array([0]), samples=1000, seed=0)


def test_the_histogram_holds_every_sample() -> None:
    sample = block_bootstrap(*clusters(1, size=40, improvement=0.05), samples=2000, seed=1)
    bins = sample.histogram(bins=10)
    assert len(bins) == 10 and sum(count for _, count in bins) == 2000
    assert sample.improvements[0] < bins[0][0] < bins[-1][0] < sample.improvements[-1]
