"""The detector's logistic regression: its fit, its penalty, and the digits that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mondegreen.detector.detector import FeatureWeight
from mondegreen.detector.measures import Labels

Matrix = npt.NDArray[np.float64]
Fold = npt.NDArray[np.int64]
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # scikit-learn's C: small is a strong pull to the base rate
_DIGITS = 6  # significant ones of what is kept: the last bits of an optimiser differ between machines


@dataclass(frozen=True)
class Regression:
    """Log odds = intercept + slopes @ ((values - means) / scales); each float64 (num_features,)."""

    means: Matrix
    scales: Matrix
    slopes: Matrix
    intercept: float

    def scores(self, matrix: Matrix) -> Matrix:
        """The probability of each example, float64 (num_examples,); an unknown value stands at the mean."""
        standard = np.nan_to_num((matrix - self.means) / self.scales)
        return np.asarray(1 / (1 + np.exp(-(self.intercept + standard @ self.slopes))))

    def weights(self) -> list[FeatureWeight]:
        """The parts of the features, as a calibration keeps them."""
        return [
            FeatureWeight(mean=rounded(mean), scale=rounded(scale), weight=rounded(slope))
            for mean, scale, slope in zip(self.means, self.scales, self.slopes, strict=True)
        ]


def choose_strength(matrix: Matrix, labels: Labels, folds: Sequence[Fold]) -> tuple[float, Matrix]:
    """The strongest penalty whose cross-fitted log loss is within one standard error of the least.

    The one-standard-error rule (Hastie, Tibshirani & Friedman, "The Elements of Statistical Learning", 2009, 7.10):
    with few examples of a class the least loss is found by luck, and scores far from the base rate are not earned.
    The standard error is that of the difference, example by example: a transcript that is hard to judge is so under
    every penalty, and its loss says nothing about which of two penalties is better.

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
    chosen = next(strength for strength in STRENGTHS if _within_an_error(losses[strength] - best))
    return chosen, scores[chosen]


def _within_an_error(differences: Matrix) -> bool:
    """Whether the mean of differences, float64 (num_examples,), is at most its standard error."""
    return bool(differences.mean() <= differences.std() / np.sqrt(len(differences)))


def _losses(labels: Labels, scores: Matrix) -> Matrix:
    """Log loss of each example: float64 (num_examples,)."""
    return np.asarray(-np.log(np.clip(np.where(labels, scores, 1 - scores), 1e-12, 1.0)))


def _cross_fitted(matrix: Matrix, labels: Labels, folds: Sequence[Fold], strength: float) -> Matrix:
    scores = np.empty(len(labels))
    for held in folds:
        rest = np.setdiff1d(np.arange(len(labels)), held)
        scores[held] = fit(matrix[rest], labels[rest], strength).scores(matrix[held])
    return scores


def fit(matrix: Matrix, labels: Labels, strength: float) -> Regression:
    """Logistic regression with an L2 penalty on standardised features; an unknown value stands at the mean.

    One class alone gives its base rate, as if one of the other class had been seen too.

    Args:
        matrix: float64 (num_examples, num_features), NaN where unknown.
        labels: bool (num_examples,).
        strength: scikit-learn's C.
    """
    nothing = np.zeros(matrix.shape[1])
    if labels.all() or not labels.any():
        return Regression(nothing, nothing + 1, nothing, float(np.log((labels.sum() + 1) / ((~labels).sum() + 1))))
    # The scaler passes over what is unknown: filled in before it, it would make the scales smaller.
    scaler, imputer = StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)
    regression = LogisticRegression(C=strength, max_iter=10_000, tol=1e-8)
    with np.errstate(invalid="ignore"):  # the mean of a feature that nobody knows
        make_pipeline(scaler, imputer, regression).fit(matrix, labels)
    return Regression(
        means=np.nan_to_num(scaler.mean_),
        scales=np.nan_to_num(scaler.scale_, nan=1.0),
        slopes=regression.coef_[0],
        intercept=float(regression.intercept_[0]),
    )


def rounded(value: float) -> float:
    """To `_DIGITS` significant digits."""
    return float(f"{value:.{_DIGITS}g}")
