import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mondegreen.scoring import significance
from mondegreen.scoring.significance import cluster_t_test, effect_size, signed_rank_test
from mondegreen.scoring.wer import loss_upper_bound, ratio_standard_error

clusters = st.lists(st.tuples(st.integers(-20, 20), st.integers(1, 90)), min_size=2, max_size=30).map(
    lambda rows: (np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))
)


def test_cluster_t_with_equal_clusters_is_the_paired_t_test() -> None:
    differences = np.array([3, -1, 2, 0, 1, 1, 5])
    found = cluster_t_test(differences, np.full(7, 50))
    expected = stats.ttest_1samp(differences / 50, 0, alternative="greater")
    assert found.t == pytest.approx(expected.statistic) and found.p_value == pytest.approx(expected.pvalue)
    assert found.degrees_of_freedom == 6 and found.standard_error == pytest.approx(stats.sem(differences / 50))


def test_the_ratio_standard_error_is_near_that_of_the_jackknife() -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(40, 160, size=60)
    differences = generator.binomial(words, 0.3) - generator.binomial(words, 0.25)
    left_out = (differences.sum() - differences) / (words.sum() - words)
    jackknife = math.sqrt(59 / 60 * np.square(left_out - left_out.mean()).sum())
    assert ratio_standard_error(differences, words) == pytest.approx(jackknife, rel=0.03)


@given(clusters)
def test_swapping_the_models_turns_every_sign(data: tuple[np.ndarray, np.ndarray]) -> None:
    differences, words = data
    there, back = cluster_t_test(differences, words), cluster_t_test(-differences, words)
    assert there.standard_error == back.standard_error
    if there.t is not None and there.p_value is not None and back.t is not None and back.p_value is not None:
        assert there.t == -back.t and there.p_value + back.p_value == pytest.approx(1)
    one, other = signed_rank_test(differences, words), signed_rank_test(-differences, words)
    if one.rank_biserial is not None and other.rank_biserial is not None:
        assert one.rank_biserial == pytest.approx(-other.rank_biserial)
        assert one.p_value is not None and other.p_value is not None and one.p_value + other.p_value >= 1 - 1e-9
    first, second = effect_size(differences, words), effect_size(-differences, words)
    assert (first.better, first.worse, first.equal) == (second.worse, second.better, second.equal)


@given(clusters, st.randoms(use_true_random=False))
def test_the_order_of_clusters_does_not_matter(data: tuple[np.ndarray, np.ndarray], random: object) -> None:
    differences, words = data
    order = np.array(sorted(range(len(words)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    assert effect_size(differences[order], words[order]).hedges_g == pytest.approx(effect_size(*data).hedges_g)
    assert signed_rank_test(differences[order], words[order]).p_value == pytest.approx(signed_rank_test(*data).p_value)


def test_nothing_that_varies_says_nothing() -> None:
    alike = np.array([2, 4, 6]), np.array([10, 20, 30])  # the same gain a word in each cluster
    assert cluster_t_test(*alike).t is None and effect_size(*alike).hedges_g is None
    still = np.zeros(5, dtype=np.int64), np.full(5, 9)
    assert signed_rank_test(*still).p_value is None and cluster_t_test(*still).p_value is None
    assert cluster_t_test(np.array([3]), np.array([9])).p_value is None


def test_signed_rank_known_answer() -> None:
    # Rates .3 .1 -.2 .4 0: without the zero the ranks of the gains are 3, 1 and 4 of 10; 3 of 16 patterns reach 8.
    found = signed_rank_test(np.array([3, 1, -2, 4, 0]), np.full(5, 10))
    assert (found.pairs, found.statistic, found.p_value) == (4, 8, 3 / 16)
    assert found.rank_biserial == pytest.approx((8 - 2) / 10)


@pytest.mark.parametrize("size", [3, 20, 45])
def test_signed_rank_without_ties_is_scipys_exact_one(size: int) -> None:
    generator = np.random.default_rng(size)
    differences = generator.permutation(np.arange(1, size + 1)) * generator.choice([-1, 1, 1], size=size)
    expected = stats.wilcoxon(differences, alternative="greater", method="exact")
    found = signed_rank_test(differences, np.full(size, 100))
    assert found.p_value == pytest.approx(expected.pvalue) and found.statistic == expected.statistic


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_signed_rank_is_exact_with_ties_too(differences: list[int]) -> None:
    """scipy's exact p-value is not, so it is counted here over all signs."""
    found = signed_rank_test(np.array(differences), np.full(len(differences), 10))
    ranks = stats.rankdata([abs(value) for value in differences if value])
    if not len(ranks):
        assert found.p_value is None
        return
    sums = np.array(list(itertools.product((0, 1), repeat=len(ranks)))) @ ranks
    assert found.p_value == pytest.approx(np.mean(sums >= found.statistic))


def test_many_pairs_are_approximated_without_a_jump() -> None:
    differences = np.random.default_rng(1).integers(-9, 11, size=220)
    words = np.full(220, 100)
    exact = signed_rank_test(differences, words).p_value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(significance, "EXACT_PAIRS", 300)
        assert signed_rank_test(differences, words).p_value == pytest.approx(exact, abs=0.002)


def test_hedges_g_known_answer() -> None:
    differences = np.array([3, -1, 2, 0, 1, 1, 5])
    d = differences.mean() / differences.std(ddof=1)
    found = effect_size(differences, np.full(7, 50))
    assert found.hedges_g == pytest.approx(d * (1 - 3 / 23)) and (found.better, found.worse, found.equal) == (5, 1, 1)


def test_the_upper_bound_of_a_loss_is_missed_as_often_as_it_says() -> None:
    numbers = np.random.default_rng(3)
    words = numbers.integers(5, 12, (4000, 40))
    losses = numbers.binomial(words, 0.22) - numbers.binomial(words, 0.2)
    missed = np.mean([loss_upper_bound(*pair, 0.95) < 0.02 for pair in zip(losses, words, strict=True)])
    assert 0.035 < missed < 0.065
    assert loss_upper_bound(np.array([2]), np.array([100]), 0.95) == 0.02  # one cluster shows no variance
