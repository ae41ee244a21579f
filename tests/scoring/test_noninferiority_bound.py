"""A model that lost exactly the margin passes as not inferior no more often than alpha, also with few clusters."""

import numpy as np
import pytest

from mondegreen.scoring.comparison import _loss_bounds
from mondegreen.scoring.significance import block_bootstrap, cluster_t_test

MARGIN, TRIALS = 0.02, 1500


def wrong_passes(clusters: int, alpha: float, samples: int) -> tuple[float, float]:
    """Shares of trials that pass by the bound that decides, and by the bootstrap's alone."""
    generator, ours, bootstrap = np.random.default_rng(7), 0, 0
    for seed in range(TRIALS):
        words = generator.integers(40, 160, clusters)
        before = np.clip(generator.normal(0.2, 0.08, clusters), 0.02, 0.9)
        after = np.clip(before + MARGIN + generator.normal(0, 0.03, clusters), 0, 1)
        old, new = generator.binomial(words, before), generator.binomial(words, after)
        sample = block_bootstrap(old, new, words, samples=samples, seed=seed)
        ours += _loss_bounds(sample, cluster_t_test(old - new, words), alpha)[1] < MARGIN
        bootstrap += sample.loss_bounds(alpha)[1] < MARGIN
    return ours / TRIALS, bootstrap / TRIALS


@pytest.mark.parametrize(("clusters", "alpha", "samples"), [(12, 0.05, 500), (20, 0.05, 500), (12, 0.0076, 2000)])
def test_a_loss_of_the_margin_passes_no_more_often_than_alpha(clusters: int, alpha: float, samples: int) -> None:
    ours, bootstrap = wrong_passes(clusters, alpha, samples)
    assert ours <= alpha + 3 * (alpha * (1 - alpha) / TRIALS) ** 0.5
    assert bootstrap > ours  # what the second bound is for
