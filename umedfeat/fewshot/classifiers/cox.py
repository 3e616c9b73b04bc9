"""Proportional hazards with a ridge penalty: the linear probe of a survival study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.utils.validation import check_array, check_is_fitted

from umedfeat.arrays import Bools, Floats, Ints, Rows
from umedfeat.fewshot.classifiers.scaling import Scaler, Standard
from umedfeat.fewshot.classifiers.selecting import Selecting, inner_folds
from umedfeat.fewshot.metrics.concordance import concordance
from umedfeat.fewshot.settings import COX_ALPHA, COX_ALPHA_FIXED

__all__ = ["CoxProbe"]


@dataclass(eq=False, repr=False, kw_only=True)
class CoxProbe(Selecting):
    """Scaling (see ``Scaler``) → Cox regression with a ridge penalty, Breslow's likelihood for ties.

    Minimised is ``Σ wᵢ dᵢ (log Σ_{tⱼ ≥ tᵢ} wⱼ exp(ηⱼ) - ηᵢ) + alpha / 2 · |β|²`` (d: event seen), scikit-survival's
    objective times the number of rows.

    Args:
        penalties: values of alpha tried, the largest of equally good ones taken; by concordance in inner folds.
        fixed: alpha where fewer than ``enough`` groups with an event, or without, are there.
        enough, folds, seed, scale: as of ``Selecting``.
    """

    penalties: Sequence[float] = COX_ALPHA
    fixed: float = COX_ALPHA_FIXED

    def fit(
        self, X: Any, y: Any, groups: Any = None, weights: Floats | None = None, pool: Standard | None = None
    ) -> CoxProbe:
        """Fit on (n, D) rows and (n, 2) times and events (1: seen, 0: censored)."""
        X, y = check_array(X, dtype=[np.float64, np.float32]), np.asarray(y, dtype=np.float64)
        weights = np.ones(len(y)) if weights is None else weights
        _, group = np.unique(np.arange(len(y)) if groups is None else np.asarray(groups), return_inverse=True)
        self.alpha_ = self._choose(X, y, group, weights, pool)
        self.scaler_ = Scaler.of(X, self.scale, weights=weights, pool=pool)
        self.coef_, self.converged_ = _fitted(self.scaler_.apply(X), y, weights, self.alpha_)
        return self

    def _choose(self, rows: Rows, outcome: Floats, group: Ints, weights: Floats, pool: Standard | None) -> float:
        seen = np.stack([outcome[:, 1] > 0, outcome[:, 1] == 0], axis=1)
        fold = inner_folds(seen, group, self.folds, self.seed, max(3, self.enough))
        if fold is None:
            return self.fixed
        found = np.zeros(len(self.penalties))
        for held in range(int(fold.max()) + 1):
            inside = fold != held
            scaler = Scaler.of(rows[inside], self.scale, weights=weights[inside], pool=pool)
            train, test = scaler.apply(rows[inside]), scaler.apply(rows[~inside])
            for place, alpha in enumerate(self.penalties):
                coef, _ = _fitted(train, outcome[inside], weights[inside], alpha)
                value = concordance(outcome[~inside], test @ coef, np.arange(len(test)), np.ones((1, len(test))))[0]
                found[place] += np.nan_to_num(value, nan=0.5)
        best = np.flatnonzero(found >= found.max() - 1e-12)[-1]
        return float(self.penalties[best])

    def predict(self, X: Any) -> Floats:
        """(n,) log relative hazards: higher is worse."""
        check_is_fitted(self)
        return np.asarray(self.scaler_.apply(check_array(X, dtype=[np.float64, np.float32])) @ self.coef_)


def _fitted(rows: Floats, outcome: Floats, weights: Floats, alpha: float) -> tuple[Floats, bool]:
    """Coefficients (D,), found in the span of the rows, and whether the solver converged."""
    order = np.argsort(outcome[:, 0], kind="stable")
    left, size, right = np.linalg.svd(rows[order], full_matrices=False)
    span = left * size
    likelihood = _Likelihood(outcome[order, 0], outcome[order, 1] > 0, weights[order])

    def objective(beta: Floats) -> tuple[float, Floats]:
        value, slope = likelihood(span @ beta)
        return value + alpha / 2 * float(beta @ beta), slope @ span + alpha * beta

    found = minimize(objective, np.zeros(span.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    return np.asarray(found.x @ right), bool(found.success)


class _Likelihood:
    """Negative logarithm of Breslow's partial likelihood and its slope in η, for rows sorted by time."""

    def __init__(self, times: Floats, events: Bools, weights: Floats) -> None:
        self.first = np.searchsorted(times, times, side="left")  # the risk set begins with the first of equal times
        self.last = np.searchsorted(times, times, side="right") - 1
        self.counted = np.where(events, weights, 0.0)
        self.log_weights = np.log(weights)

    def __call__(self, eta: Floats) -> tuple[float, Floats]:
        at_risk = np.logaddexp.accumulate((eta + self.log_weights)[::-1])[::-1][self.first]
        value = float(self.counted @ (at_risk - eta))
        with np.errstate(divide="ignore"):
            log_hazard = np.logaddexp.accumulate(np.log(self.counted) - at_risk)[self.last]
        return value, np.exp(eta + self.log_weights + log_hazard) - self.counted
