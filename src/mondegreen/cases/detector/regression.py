"""A regularised logistic regression whose strength few data choose for themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Fold = npt.NDArray[np.int64]

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # scikit-learn's C: small is a strong pull to the base rate
DIGITS = 6  # significant ones of what is kept: the last bits of an optimiser differ between machines


@dataclass(frozen=True)
class Regression:
    """Log odds = intercept + slopes @ ((values - means) / scales); each float64 (num_features,)."""

    means: Matrix
    scales: Matrix
    slopes: Matrix
    intercept: float


def rounded(value: float) -> float:
    """To `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


def choose_strength(matrix: Matrix, labels: Labels, folds: Sequence[Fold]) -> tuple[float, Matrix]:
    """The strongest penalty whose cross-fitted log loss is within one standard error of the least.

    The one-standard-error rule (Hastie, Tibshirani & Friedman, "The Elements of Statistical Learning", 2009, 7.10):
    with few examples of a class the least loss is found by luck, and scores far from the base rate are not earned.

    Args:
        matrix: float64 (num_examples, num_features), NaN where unknown.
        labels: bool (num_examples,).
        folds: indices of each held-out part; together all.

    Returns:
        scikit-learn's C, and float64 (num_examples,): each example's score by a regression that has not seen its fold.
    """
    scores = {strength: _cross_fitted(matrix, labels, folds, strength) for strength in STRENGTHS}
    losses = {strength: _losses(labels, scores[strength]) for strength in STRENGTHS}
    best = min(losses.values(), key=lambda values: values.mean())
    bound = best.mean() + best.std() / np.sqrt(len(best))
    chosen = next(strength for strength in STRENGTHS if losses[strength].mean() <= bound)
    return chosen, scores[chosen]


def _losses(labels: Labels, scores: Matrix) -> Matrix:
    """Log loss of each example: float64 (num_examples,)."""
    return np.asarray(-np.log(np.clip(np.where(labels, scores, 1 - scores), 1e-12, 1.0)))


def _cross_fitted(matrix: Matrix, labels: Labels, folds: Sequence[Fold], strength: float) -> Matrix:
    scores = np.empty(len(labels))
    for held in folds:
        rest = np.setdiff1d(np.arange(len(labels)), held)
        regression = fit(matrix[rest], labels[rest], strength)
        standard = np.nan_to_num((matrix[held] - regression.means) / regression.scales)
        scores[held] = 1 / (1 + np.exp(-(regression.intercept + standard @ regression.slopes)))
    return scores


def fit(matrix: Matrix, labels: Labels, strength: float) -> Regression:
    """Logistic regression with an L2 penalty on standardised features; an unknown value stands at the mean.

    One class alone gives its base rate, as if one of the other class had been seen too.

    Args:
        matrix: float64 (num_examples, num_features), NaN where unknown.
        labels: bool (num_examples,).
        strength: scikit-learn's C.
    """
    known = np.isfinite(matrix)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, matrix, 0.0).sum(axis=0) / counts
    deviations = np.where(known, matrix - means, 0.0)
    scales = np.sqrt((deviations**2).sum(axis=0) / counts)
    scales = np.where(scales > 1e-9, scales, 1.0)
    slopes, intercept = np.zeros(matrix.shape[1]), float(np.log((labels.sum() + 1) / ((~labels).sum() + 1)))
    if labels.any() and not labels.all():
        regression = LogisticRegression(C=strength, max_iter=10_000, tol=1e-8).fit(deviations / scales, labels)
        slopes, intercept = regression.coef_[0], float(regression.intercept_[0])
    return Regression(means=means, scales=scales, slopes=slopes, intercept=intercept)
