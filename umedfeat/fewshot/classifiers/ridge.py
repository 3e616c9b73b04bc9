"""Ridge regression: one scale, penalty by inner patient-grouped cross-validation, one factorisation per fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from umedfeat.arrays import Floats, Ints, Rows
from umedfeat.fewshot.classifiers.scaling import Scaler, Standard
from umedfeat.fewshot.classifiers.selecting import Selecting
from umedfeat.fewshot.settings import RIDGE_ALPHA, RIDGE_ALPHA_FIXED

__all__ = ["RidgeProbe"]


@dataclass(eq=False, repr=False, kw_only=True)
class RidgeProbe(RegressorMixin, Selecting):  # type: ignore[misc]
    """Scaling (see ``Scaler``) → ridge regression with unpenalised intercept, as scikit-learn's ``Ridge``.

    Args:
        penalties: values of alpha tried. fixed: alpha where fewer than ``enough`` groups are there.
        enough, folds, seed, scale: as of ``Selecting``.

    Attributes:
        alpha_: the chosen penalty; the largest where several are equally good.
    """

    penalties: Sequence[float] = RIDGE_ALPHA
    fixed: float = RIDGE_ALPHA_FIXED

    def fit(
        self, X: Any, y: Any, groups: Any = None, weights: Floats | None = None, pool: Standard | None = None
    ) -> RidgeProbe:
        """Fit on (n, D) rows and (n,) values; the other arguments are those of ``LinearProbe.fit``."""
        X, y = validate_data(self, X, y, y_numeric=True)
        y = np.asarray(y, dtype=np.float64)
        weights = np.ones(len(y)) if weights is None else weights
        _, group = np.unique(np.arange(len(y)) if groups is None else np.asarray(groups), return_inverse=True)
        self.alpha_ = self._choose(X, y, group, weights, pool)
        self.scaler_ = Scaler.of(X, self.scale, weights=weights, pool=pool)
        self.intercept_ = float(np.average(y, weights=weights))
        self.coef_ = _solve(self.scaler_.apply(X), y - self.intercept_, weights, [self.alpha_])[:, 0]
        return self

    def _choose(self, rows: Rows, values: Floats, group: Ints, weights: Floats, pool: Standard | None) -> float:
        number = int(group.max()) + 1
        if number < max(3, self.enough):
            return self.fixed
        folds = min(self.folds, number)
        fold = (np.random.default_rng([self.seed, 3]).permutation(number) % folds)[group]
        errors = np.zeros(len(self.penalties))
        for held in range(folds):
            inside = fold != held
            scaler = Scaler.of(rows[inside], self.scale, weights=weights[inside], pool=pool)
            mean = np.average(values[inside], weights=weights[inside])
            coefs = _solve(scaler.apply(rows[inside]), values[inside] - mean, weights[inside], self.penalties)
            guess = scaler.apply(rows[~inside]) @ coefs + mean
            errors += weights[~inside] @ (guess - values[~inside, None]) ** 2
        best = np.flatnonzero(errors <= errors.min() * (1 + 1e-12))[-1]
        return float(self.penalties[best])

    def predict(self, X: Any) -> Floats:
        """(n,) predicted values."""
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False)
        return np.asarray(self.scaler_.apply(rows) @ self.coef_ + self.intercept_)


def _solve(rows: Floats, values: Floats, weights: Floats, penalties: Sequence[float]) -> Floats:
    """(D, A) ridge coefficients for each penalty from one eigendecomposition; rows and values are centred."""
    root = np.sqrt(weights)
    rows, values = rows * root[:, None], values * root
    wide = rows.shape[0] < rows.shape[1]
    squares, vectors = eigh(rows @ rows.T if wide else rows.T @ rows, check_finite=False)
    target = vectors.T @ (values if wide else rows.T @ values)
    shrunk = target[:, None] / (np.maximum(squares, 0.0)[:, None] + np.asarray(penalties)[None])
    solution = vectors @ shrunk
    return np.asarray(rows.T @ solution if wide else solution)
