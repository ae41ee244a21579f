"""How far the difference of two corpus error rates may be off: a ratio of sums over clusters, by linearisation."""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def loss_upper_bound(losses: Counts, reference_words: Counts, confidence: float) -> float:
    """One-sided upper bound of sum(losses) / sum(words), absolute WER, by t with clusters - 1 degrees of freedom.

    Args:
        losses: candidate errors - baseline errors, int64 (num_clusters,).
        reference_words: int64 (num_clusters,); more than 0 in all.
        confidence: that the bound is not too low, 0.5..1.

    Returns:
        The loss itself where nothing varies between clusters or there is one cluster.
    """
    from scipy.stats import t

    loss = int(losses.sum()) / int(reference_words.sum())
    error = ratio_standard_error(losses, reference_words)
    return loss if error is None else loss + float(t.ppf(confidence, len(losses) - 1)) * error


def ratio_standard_error(differences: Counts, reference_words: Counts) -> float | None:
    """Standard error of sum(differences) / sum(words) over clusters, by linearisation of the ratio.

    Source: Cochran, "Sampling Techniques", 1977, section 6.3.

    Args:
        differences: int64 (num_clusters,).
        reference_words: int64 (num_clusters,).

    Returns:
        Absolute WER, or None when fewer than two clusters or no variance leave nothing to estimate.
    """
    clusters, words = len(differences), int(reference_words.sum())
    if clusters < 2 or words == 0:
        return None
    # In integers, so that equal gains a word leave exactly nothing: (d - D/W * w) = (d * W - D * w) / W.
    residuals = differences * words - int(differences.sum()) * reference_words
    if not residuals.any():
        return None
    squares = float(np.square(residuals / words).sum())
    return float((clusters / (clusters - 1) * squares) ** 0.5 / words)
