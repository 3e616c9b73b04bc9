"""Ridge regression: standardise, penalty by inner patient-grouped cross-validation, one factorisation per fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from umedfeat.fewshot.arrays import Floats, Ints, Rows
from umedfeat.fewshot.classifiers.scaling import Standard
from umedfeat.fewshot.settings import INNER_FOLDS, RIDGE_ALPHA

__all__ = ["RidgeProbe"]


class RidgeProbe(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """StandardScaler → ridge regression with unpenalised intercept, as scikit-learn's ``Ridge``.

    Args:
        penalties: values of alpha tried. fixed: alpha where fewer than three groups are there.
        folds: inner folds. seed: of their draw.

    Attributes:
        alpha_: the chosen penalty; the largest where several are equally good.
    """

    def __init__(
        self, penalties: Sequence[float] = RIDGE_ALPHA, fixed: float = 1.0, folds: int = INNER_FOLDS, seed: int = 0
    ) -> None:
        self.penalties = penalties
        self.fixed = fixed
        self.folds = folds
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> RidgeProbe:
        """Fit on (n, D) rows and (n,) values; ``groups`` (n,) names the patients (each row its own by default)."""
        X, y = validate_data(self, X, y, y_numeric=True)
        y = np.asarray(y, dtype=np.float64)
        _, group = np.unique(np.arange(len(y)) if groups is None else np.asarray(groups), return_inverse=True)
        self.alpha_ = self._choose(X, y, group)
        self.standard_ = Standard.of(X)
        self.coef_ = _solve(self.standard_.apply(X), y - y.mean(), [self.alpha_])[:, 0]
        self.intercept_ = float(y.mean())
        return self

    def _choose(self, rows: Rows, values: Floats, group: Ints) -> float:
        number = int(group.max()) + 1
        if number < 3:
            return self.fixed
        folds = min(self.folds, number)
        fold = (np.random.default_rng([self.seed, 3]).permutation(number) % folds)[group]
        errors = np.zeros(len(self.penalties))
        for held in range(folds):
            inside = fold != held
            standard, mean = Standard.of(rows[inside]), values[inside].mean()
            coefs = _solve(standard.apply(rows[inside]), values[inside] - mean, self.penalties)
            guess = standard.apply(rows[~inside]) @ coefs + mean
            errors += ((guess - values[~inside, None]) ** 2).sum(axis=0)
        best = np.flatnonzero(errors <= errors.min() * (1 + 1e-12))[-1]
        return float(self.penalties[best])

    def predict(self, X: Any) -> Floats:
        """(n,) predicted values."""
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False)
        return np.asarray(self.standard_.apply(rows) @ self.coef_ + self.intercept_)


def _solve(rows: Floats, values: Floats, penalties: Sequence[float]) -> Floats:
    """(D, A) ridge coefficients for each penalty from one eigendecomposition; rows and values are centred."""
    wide = rows.shape[0] < rows.shape[1]
    squares, vectors = eigh(rows @ rows.T if wide else rows.T @ rows, check_finite=False)
    target = vectors.T @ (values if wide else rows.T @ values)
    shrunk = target[:, None] / (np.maximum(squares, 0.0)[:, None] + np.asarray(penalties)[None])
    solution = vectors @ shrunk
    return np.asarray(rows.T @ solution if wide else solution)
