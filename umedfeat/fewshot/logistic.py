"""L2 logistic regression along a path of regularisation strengths, all inner folds at once.

The objective is scikit-learn's (``LogisticRegression(C=…)``): ``sum of log-losses + |W|²/(2C)`` with an unpenalised
intercept; one logit for two classes, one per class (softmax) for more. What makes it fast is exact: every fold reads
the same matrix of rows (its own standardisation is a rescaling of the coefficients, its mean part of the intercept), so
one product serves all folds; and L-BFGS runs in coordinates preconditioned by one factorisation of that matrix,
warm-started from the previous strength.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.optimize import minimize

__all__ = ["LogisticPaths", "Rows", "Weights", "probabilities"]

Floats = npt.NDArray[np.float64]

_MAX_ITERATIONS = 2000
_HISTORY = 20
_PASSES = 6
_TINY = 1e-12


@dataclass(frozen=True)
class Weights:
    """One fitted model: logits = rows @ coef + intercept, shapes (D, M) and (M,)."""

    coef: Floats
    intercept: Floats
    converged: bool


class _Root(Protocol):
    """T with T Tᵀ ≈ (c RᵀR + λ)⁻¹."""

    def forth(self, theta: Floats) -> Floats: ...
    def back(self, gradient: Floats) -> Floats: ...
    def inverse(self, weights: Floats) -> Floats: ...


@dataclass(frozen=True)
class _LowRank:
    """The symmetric root for fewer rows than columns: λ^-½ outside the rows' span, (c s² + λ)^-½ inside."""

    vectors: Floats
    inside: Floats
    outside: float

    def forth(self, theta: Floats) -> Floats:
        return self._apply(theta, self.inside, self.outside)

    back = forth

    def inverse(self, weights: Floats) -> Floats:
        return self._apply(weights, 1.0 / self.inside, 1.0 / self.outside)

    def _apply(self, columns: Floats, inside: Floats, outside: float) -> Floats:
        part = self.vectors.T @ columns
        return np.asarray(outside * columns + self.vectors @ ((inside - outside)[:, None] * part))


@dataclass(frozen=True)
class _Triangular:
    """The inverse Cholesky factor."""

    lower: Floats

    def forth(self, theta: Floats) -> Floats:
        return np.asarray(solve_triangular(self.lower, theta, lower=True, trans="T", check_finite=False))

    def back(self, gradient: Floats) -> Floats:
        return np.asarray(solve_triangular(self.lower, gradient, lower=True, check_finite=False))

    def inverse(self, weights: Floats) -> Floats:
        return np.asarray(self.lower.T @ weights)


class Rows:
    """(n, D) standardised rows of one draw with their factorisation, computed once when first needed."""

    def __init__(self, values: Floats) -> None:
        self.values = values

    @cached_property
    def _spectrum(self) -> tuple[Floats, Floats]:
        squares, left = eigh(self.values @ self.values.T, check_finite=False)
        kept = squares > _TINY * max(1.0, float(squares[-1])) * len(self.values)
        return squares[kept], (self.values.T @ left[:, kept]) / np.sqrt(squares[kept])

    @cached_property
    def _gram(self) -> Floats:
        return np.asarray(self.values.T @ self.values)

    def root(self, curvature: float, penalty: float) -> _Root:
        """The preconditioner for a mean curvature of the loss and a penalty λ = 1 / C."""
        if self.values.shape[0] < self.values.shape[1]:
            squares, vectors = self._spectrum
            return _LowRank(vectors, 1.0 / np.sqrt(curvature * squares + penalty), 1.0 / np.sqrt(penalty))
        damped = curvature * self._gram
        damped[np.diag_indices_from(damped)] += penalty + _TINY * float(np.trace(damped)) / len(damped)
        return _Triangular(cholesky(damped, lower=True, overwrite_a=True, check_finite=False))


class LogisticPaths:
    """F fits on parts of the same rows, minimised together.

    Args:
        rows: (n, D).
        targets: (n, M): one 0/1 column for two classes or a single label, one-hot columns for more classes.
        inside: (n, F) bool, the rows that each fit may see.
        scales: (F, D) standard deviation of each column over those rows: the fit is on ``rows / scales``.
    """

    def __init__(self, rows: Rows, targets: Floats, inside: npt.NDArray[np.bool_], scales: Floats) -> None:
        self.rows, self.targets = rows, targets
        self.inside = inside.astype(np.float64)
        self.shrink = (1.0 / scales).T[:, :, None]
        self.shape = (rows.values.shape[1], inside.shape[1], targets.shape[1])
        self.coef: Floats = np.zeros(self.shape)
        self.intercept = np.stack([_start(targets[part]) for part in inside.T])

    def fit(self, strength: float, tolerance: float) -> list[Weights]:
        """Minimise at C = ``strength``, starting from the last solution; one result per fit, for the rows as given.

        Args:
            strength: C.
            tolerance: largest preconditioned gradient entry, times the root of the loss where that is below one.
        """
        sharper, steps = 1.0, 0
        for _ in range(_PASSES):
            value, steps = self._descend(1.0 / strength, tolerance * sharper)
            needed = min(1.0, float(np.sqrt(value / self.shape[1])))
            if sharper <= 2.0 * needed or steps >= _MAX_ITERATIONS:
                break
            sharper = needed
        coef = self.coef * self.shrink
        return [Weights(coef[:, f], self.intercept[f], steps < _MAX_ITERATIONS) for f in range(self.shape[1])]

    def held_out_loss(self) -> float:
        """Sum of the log-losses of the rows outside, at the present solution."""
        losses, _ = _losses(self._logits(self.coef, self.intercept), self.targets)
        return float((losses * (1.0 - self.inside)).sum())

    def _logits(self, coef: Floats, intercept: Floats) -> Floats:
        flat = (coef * self.shrink).reshape(self.shape[0], -1)
        return np.asarray((self.rows.values @ flat).reshape(-1, *self.shape[1:]) + intercept)

    def _descend(self, penalty: float, tolerance: float) -> tuple[float, int]:
        """L-BFGS with a preconditioner for the present solution; the value reached and the iterations it took."""
        curvature = self._curvature()
        root = self.rows.root(curvature * float(self.inside.mean()), penalty)
        slope = float(np.sqrt(max(_TINY, curvature * len(self.inside))))
        theta = root.inverse(self.coef.reshape(self.shape[0], -1))
        found = minimize(
            self._objective,
            np.concatenate([theta.ravel(), self.intercept.ravel() * slope]),
            args=(root, slope, penalty),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MAX_ITERATIONS, "maxcor": _HISTORY, "gtol": tolerance, "ftol": 1e-16, "maxfun": 10**6},
        )
        theta, offset = self._split(found.x)
        self.coef, self.intercept = root.forth(theta).reshape(self.shape), offset / slope
        return float(found.fun), int(found.nit)

    def _split(self, point: Floats) -> tuple[Floats, Floats]:
        width = self.shape[1] * self.shape[2]
        return point[:-width].reshape(-1, width), point[-width:].reshape(self.shape[1:])

    def _curvature(self) -> float:
        """Mean of p (1 - p) at the present solution: the curvature of the loss along one logit."""
        chance = _softmax(self._logits(self.coef, self.intercept))
        return max(1e-9, float((chance * (1.0 - chance)).mean()))

    def _objective(self, point: Floats, root: _Root, slope: float, penalty: float) -> tuple[float, Floats]:
        theta, offset = self._split(point)
        coef = root.forth(theta)
        losses, residual = _losses(self._logits(coef.reshape(self.shape), offset / slope), self.targets)
        residual *= self.inside[:, :, None]
        value = float((losses * self.inside).sum()) + 0.5 * penalty * float(np.vdot(coef, coef))
        pulled = (self.rows.values.T @ residual.reshape(len(residual), -1)).reshape(self.shape) * self.shrink
        gradient = root.back(pulled.reshape(coef.shape) + penalty * coef)
        return value, np.concatenate([gradient.ravel(), residual.sum(axis=0).ravel() / slope])


def _start(targets: Floats) -> Floats:
    mean = np.clip(targets.mean(axis=0), 1e-3, 1.0 - 1e-3)
    logits = np.log(mean / (1.0 - mean)) if targets.shape[1] == 1 else np.log(mean) - np.log(mean).mean()
    return np.asarray(logits)


def _softmax(logits: Floats) -> Floats:
    """(…, M) probabilities of (…, M) logits; a single logit is a sigmoid."""
    if logits.shape[-1] == 1:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _losses(logits: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """(n, F) log-losses of (n, F, M) logits, and their gradients (n, F, M)."""
    truth = targets[:, None, :]
    if logits.shape[-1] == 1:
        signed = np.where(truth > 0.5, logits, -logits)[..., 0]
        losses = np.maximum(-signed, 0.0) + np.log1p(np.exp(-np.abs(signed)))
        return losses, _softmax(logits) - truth
    top = logits.max(axis=-1, keepdims=True)
    powers = np.exp(logits - top)
    total = powers.sum(axis=-1, keepdims=True)
    losses = (np.log(total) + top)[..., 0] - (truth * logits).sum(axis=-1)
    return losses, powers / total - truth


def probabilities(logits: Floats) -> Floats:
    """(n, K) probabilities from (n, M) logits: two columns from one logit, softmax of several."""
    chance = _softmax(logits)
    return np.hstack([1.0 - chance, chance]) if logits.shape[1] == 1 else chance
