"""L2 logistic regression along a path of regularisation strengths, sharing one factorisation.

The objective is scikit-learn's (``LogisticRegression(C=…)``): ``sum of log-losses + |W|²/(2C)`` with an unpenalised
intercept; one logit for two classes, one per class (softmax) for more. Two exact devices make it fast: where rows are
fewer than columns the problem moves to the rows' own span (|W| is unchanged by the rotation), and L-BFGS runs in
coordinates preconditioned by the Gram matrix, warm-started from the previous strength.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp

__all__ = ["LogisticPath", "Weights", "log_losses", "probabilities"]

Floats = npt.NDArray[np.float64]

_MAX_ITERATIONS = 2000
_HISTORY = 20
_TINY = 1e-12


@dataclass(frozen=True)
class Weights:
    """A fitted model in the coordinates of the rows given: logits = X @ coef + intercept; (D, M) and (M,)."""

    coef: Floats
    intercept: Floats
    converged: bool


class _Scale(Protocol):
    """T with T Tᵀ = (c ZᵀZ + λ)⁻¹, applied from either side."""

    def forth(self, theta: Floats) -> Floats: ...
    def back(self, gradient: Floats) -> Floats: ...
    def inverse(self, weights: Floats) -> Floats: ...


class _Diagonal:
    def __init__(self, squares: Floats, curvature: float, penalty: float) -> None:
        self.root = np.sqrt(curvature * squares + penalty)[:, None]

    def forth(self, theta: Floats) -> Floats:
        return np.asarray(theta / self.root)

    back = forth

    def inverse(self, weights: Floats) -> Floats:
        return np.asarray(weights * self.root)


class _Cholesky:
    def __init__(self, gram: Floats, curvature: float, penalty: float) -> None:
        damped = curvature * gram
        damped[np.diag_indices_from(damped)] += penalty + _TINY * (1.0 + np.trace(damped) / len(damped))
        self.lower = cholesky(damped, lower=True, overwrite_a=True, check_finite=False)

    def forth(self, theta: Floats) -> Floats:
        return np.asarray(solve_triangular(self.lower, theta, lower=True, trans="T", check_finite=False))

    def back(self, gradient: Floats) -> Floats:
        return np.asarray(solve_triangular(self.lower, gradient, lower=True, check_finite=False))

    def inverse(self, weights: Floats) -> Floats:
        return np.asarray(self.lower.T @ weights)


class LogisticPath:
    """One training set, ready to be fitted at several strengths.

    Args:
        rows: (n, D) float64, standardised.
        targets: (n, M): one 0/1 column for two classes or a single label, one-hot columns for more classes.
    """

    def __init__(self, rows: Floats, targets: Floats) -> None:
        self.targets = targets
        self.wide = rows.shape[0] < rows.shape[1]
        if self.wide:
            squares, left = eigh(rows @ rows.T, check_finite=False)
            kept = squares > _TINY * max(1.0, float(squares[-1])) * len(rows)
            self.squares = squares[kept]
            self.rows = left[:, kept] * np.sqrt(self.squares)
            self.basis = (rows.T @ left[:, kept]) / np.sqrt(self.squares)
        else:
            self.rows = rows
            self.gram = rows.T @ rows
        width = targets.shape[1]
        self.coef = np.zeros((self.rows.shape[1], width))
        self.intercept = _start(targets)

    def fit(self, strength: float, tolerance: float) -> Weights:
        """Minimise at C = ``strength``, starting from the last solution.

        Args:
            strength: C.
            tolerance: largest preconditioned gradient entry; its square bounds the distance to the minimum in nats.
        """
        penalty = 1.0 / strength
        scale = self._scale(penalty)
        slope = np.sqrt(max(_TINY, self._curvature() * len(self.rows)))
        start = np.concatenate([scale.inverse(self.coef).ravel(), self.intercept * slope])
        found = minimize(
            self._objective,
            start,
            args=(scale, slope, penalty),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MAX_ITERATIONS, "maxcor": _HISTORY, "gtol": tolerance, "ftol": 1e-16, "maxfun": 10**6},
        )
        theta, offset = self._split(found.x)
        self.coef, self.intercept = scale.forth(theta), offset / slope
        coef = self.basis @ self.coef if self.wide else self.coef
        return Weights(coef, self.intercept, bool(found.nit < _MAX_ITERATIONS))

    def _split(self, point: Floats) -> tuple[Floats, Floats]:
        width = self.targets.shape[1]
        return point[:-width].reshape(-1, width), point[-width:]

    def _scale(self, penalty: float) -> _Scale:
        curvature = self._curvature()
        if self.wide:
            return _Diagonal(self.squares, curvature, penalty)
        return _Cholesky(self.gram, curvature, penalty)

    def _curvature(self) -> float:
        """Mean of p (1 - p) at the present solution: the curvature of the loss along one logit."""
        chance = probabilities(self.rows @ self.coef + self.intercept)
        spread = chance * (1.0 - chance)
        return max(1e-4, float(spread[:, -self.targets.shape[1] :].mean()))

    def _objective(self, point: Floats, scale: _Scale, slope: float, penalty: float) -> tuple[float, Floats]:
        theta, offset = self._split(point)
        coef = scale.forth(theta)
        loss, residual = _loss(self.rows @ coef + offset / slope, self.targets)
        value = loss + 0.5 * penalty * float(np.vdot(coef, coef))
        gradient = scale.back(self.rows.T @ residual + penalty * coef)
        return value, np.concatenate([gradient.ravel(), residual.sum(axis=0) / slope])


def _start(targets: Floats) -> Floats:
    mean = np.clip(targets.mean(axis=0), 1e-3, 1.0 - 1e-3)
    logits = np.log(mean / (1.0 - mean)) if targets.shape[1] == 1 else np.log(mean) - np.log(mean).mean()
    return np.asarray(logits)


def _loss(logits: Floats, targets: Floats) -> tuple[float, Floats]:
    """Sum of log-losses and its gradient by the logits."""
    if logits.shape[1] == 1:
        signed = np.where(targets > 0.5, logits, -logits)
        return float(-log_expit(signed).sum()), expit(logits) - targets
    top = logits.max(axis=1, keepdims=True)
    powers = np.exp(logits - top)
    total = powers.sum(axis=1, keepdims=True)
    loss = float((np.log(total) + top).sum() - np.vdot(targets, logits))
    return loss, powers / total - targets


def probabilities(logits: Floats) -> Floats:
    """(n, K) probabilities from (n, M) logits: two columns from one logit, softmax of several."""
    if logits.shape[1] == 1:
        return np.hstack([expit(-logits), expit(logits)])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def log_losses(logits: Floats, targets: Floats) -> Floats:
    """(n,) log-loss of each row."""
    if logits.shape[1] == 1:
        return np.asarray(-log_expit(np.where(targets > 0.5, logits, -logits))[:, 0])
    return np.asarray(logsumexp(logits, axis=1) - (targets * logits).sum(axis=1))
