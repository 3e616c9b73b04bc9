"""L2 logistic regression along a path of regularisation strengths, all inner folds at once.

The objective is scikit-learn's (``LogisticRegression(C=…)``): ``sum of log-losses + |W|²/(2C)`` with an unpenalised
intercept; one logit for two classes, one per class (softmax) for more. What makes it fast is exact: all folds are
minimised together, in the span of the rows where these are few and on one shared matrix where they are many; L-BFGS
runs in coordinates preconditioned by one factorisation, warm-started from the previous strength.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

from umedfeat.arrays import Bools, Floats, Rows

__all__ = ["LogisticPaths", "Weights", "probabilities"]


_MAX_ITERATIONS = 2000
_HISTORY = 20
_PASSES = 6
_TINY = 1e-12
#: Columns per row from which the span of the rows is the smaller space to work in.
_SPAN = 2


@dataclass(frozen=True)
class Weights:
    """One fitted model: logits = rows @ coef + intercept, shapes (D, M) and (M,)."""

    coef: Floats
    intercept: Floats
    converged: bool


class _Design(Protocol):
    """F fits on parts of the same rows, in coordinates of their own: θ has the shape ``shape``, the penalty is |θ|²."""

    shape: tuple[int, int, int]

    def logits(self, theta: Floats) -> Floats:
        """(n, F, M) without intercept."""

    def pull(self, residual: Floats) -> Floats:
        """Gradient with respect to θ of logits with gradient (n, F, M)."""

    def coefficients(self, theta: Floats) -> Floats:
        """(F, D, M) for the rows as given."""

    def root(self, curvature: float, penalty: float) -> _Root:
        """The preconditioner for a mean curvature of the loss and a penalty λ = 1 / C."""


class _Root(Protocol):
    """T with T Tᵀ ≈ (c RᵀR + λ)⁻¹."""

    def forth(self, theta: Floats) -> Floats: ...
    def back(self, gradient: Floats) -> Floats: ...
    def inverse(self, weights: Floats) -> Floats: ...


class _Tall:
    """Many rows: one product with the matrix of rows serves all fits; θ (D, F, M) multiplies rows / scales.

    Each fold's standardisation is a rescaling of its coefficients, its mean part of its intercept. The products
    wait for memory: in single precision, which is enough to compare strengths, they take half as long.
    """

    def __init__(self, rows: Floats, scales: Floats, width: int, single: bool) -> None:
        self.rows: Rows = rows.astype(np.float32) if single else rows
        self.shape = (rows.shape[1], len(scales), width)
        self.shrink = (1.0 / scales).T[:, :, None]
        self._gram = np.asarray(self.rows.T @ self.rows, dtype=np.float64)

    def logits(self, theta: Floats) -> Floats:
        flat = (theta * self.shrink).reshape(self.shape[0], -1).astype(self.rows.dtype, copy=False)
        return np.asarray((self.rows @ flat).reshape(-1, *self.shape[1:]), dtype=np.float64)

    def pull(self, residual: Floats) -> Floats:
        flat = residual.reshape(len(residual), -1).astype(self.rows.dtype, copy=False)
        return np.asarray((self.rows.T @ flat).reshape(self.shape) * self.shrink)

    def coefficients(self, theta: Floats) -> Floats:
        return np.asarray((theta * self.shrink).transpose(1, 0, 2))

    def root(self, curvature: float, penalty: float) -> _Root:
        damped = curvature * self._gram
        damped[np.diag_indices_from(damped)] += penalty + _TINY * float(np.trace(damped)) / len(damped)
        return _Triangular(cholesky(damped, lower=True, overwrite_a=True, check_finite=False))


@dataclass(frozen=True)
class _Triangular:
    """The inverse Cholesky factor."""

    lower: Floats

    def forth(self, theta: Floats) -> Floats:
        flat = theta.reshape(len(theta), -1)
        return np.asarray(solve_triangular(self.lower, flat, lower=True, trans="T", check_finite=False)).reshape(
            theta.shape
        )

    def back(self, gradient: Floats) -> Floats:
        flat = gradient.reshape(len(gradient), -1)
        return np.asarray(solve_triangular(self.lower, flat, lower=True, check_finite=False)).reshape(gradient.shape)

    def inverse(self, weights: Floats) -> Floats:
        return np.asarray(self.lower.T @ weights.reshape(len(weights), -1)).reshape(weights.shape)


class _Wide:
    """Few rows: the solution lies in their span, so each fit has n coordinates a logit instead of D; θ (F, n, M).

    With the fit's scales S, ``R S⁻² Rᵀ = U Λ Uᵀ`` and coefficients ``S⁻² Rᵀ U Λ^-½ θ``, logits are ``U Λ^½ θ`` and the
    penalty stays |θ|². The preconditioner is diagonal.
    """

    def __init__(self, rows: Floats, scales: Floats, width: int) -> None:
        self.rows, self.shape = rows, (len(scales), len(rows), width)
        self.shrink = 1.0 / scales
        squares, left = _eigen(rows, self.shrink)
        kept = squares > _TINY * np.maximum(1.0, squares[:, -1:]) * len(rows)
        self.squares = np.where(kept, squares, 0.0)
        self.basis = left * np.sqrt(self.squares)[:, None, :]
        self.left = left * np.where(kept, 1.0 / np.sqrt(np.where(kept, squares, 1.0)), 0.0)[:, None, :]

    def logits(self, theta: Floats) -> Floats:
        return np.asarray((self.basis @ theta).transpose(1, 0, 2))

    def pull(self, residual: Floats) -> Floats:
        return np.asarray(self.basis.transpose(0, 2, 1) @ residual.transpose(1, 0, 2))

    def coefficients(self, theta: Floats) -> Floats:
        return np.asarray((self.shrink**2)[:, :, None] * (self.rows.T @ (self.left @ theta)))

    def root(self, curvature: float, penalty: float) -> _Root:
        return _Diagonal(1.0 / np.sqrt(curvature * self.squares[:, :, None] + penalty))


@dataclass(frozen=True)
class _Diagonal:
    scale: Floats

    def forth(self, theta: Floats) -> Floats:
        return np.asarray(self.scale * theta)

    back = forth

    def inverse(self, weights: Floats) -> Floats:
        return np.asarray(weights / self.scale)


def _eigen(rows: Floats, shrink: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (F, n) and vectors (F, n, n) of each fit's Gram matrix; one scale a fit leaves the vectors alike."""
    if shrink.shape[1] > 1:
        found = np.linalg.eigh(np.stack([(rows * s) @ (rows * s).T for s in shrink]))
        return found.eigenvalues, found.eigenvectors
    squares, left = np.linalg.eigh(rows @ rows.T)
    return squares * shrink**2, np.broadcast_to(left, (len(shrink), *left.shape))


class LogisticPaths:
    """F fits on parts of the same rows, minimised together.

    Args:
        rows: (n, D), standardised or the like.
        targets: (n, M): one 0/1 column for two classes or a single label, one-hot columns for more classes.
        inside: (n, F) bool, the rows that each fit may see.
        scales: (F, D) scale of each column over those rows, or (F, 1) of all: the fit is on ``rows / scales``.
        weights: (n,) how much each row counts; once by default.
        single: products of many rows in single precision, for tolerances above 1e-5.
    """

    def __init__(
        self,
        rows: Floats,
        targets: Floats,
        inside: Bools,
        scales: Floats,
        weights: Floats | None = None,
        *,
        single: bool = False,
    ) -> None:
        counts = np.ones(len(rows)) if weights is None else weights
        self.targets, self.inside, self.outside = targets, inside * counts[:, None], ~inside * counts[:, None]
        wide, width = _SPAN * rows.shape[0] <= rows.shape[1], targets.shape[1]
        self.design: _Design = _Wide(rows, scales, width) if wide else _Tall(rows, scales, width, single)
        self.theta: Floats = np.zeros(self.design.shape)
        self.intercept = np.stack([_start(targets[part]) for part in inside.T])

    def fit(self, strength: float, tolerance: float) -> list[Weights]:
        """Minimise at C = ``strength``, starting from the last solution; one result per fit, for the rows as given.

        Args:
            strength: C.
            tolerance: largest preconditioned gradient entry, times the root of the loss where that is below one.
        """
        self.walk(strength, tolerance)
        coefs = self.design.coefficients(self.theta)
        return [Weights(*each, self.converged) for each in zip(coefs, self.intercept, strict=True)]

    def walk(self, strength: float, tolerance: float) -> None:
        """``fit`` without the coefficients."""
        sharper, steps = 1.0, 0
        for _ in range(_PASSES):
            value, steps = self._descend(1.0 / strength, tolerance * sharper)
            needed = min(1.0, float(np.sqrt(value / self.inside.shape[1])))
            if sharper <= 2.0 * needed or steps >= _MAX_ITERATIONS:
                break
            sharper = needed
        self.converged = steps < _MAX_ITERATIONS

    def held_out_loss(self) -> float:
        """Sum of the log-losses of the rows outside, at the present solution."""
        losses, _ = _losses(self.design.logits(self.theta) + self.intercept, self.targets)
        return float((losses * self.outside).sum())

    def _descend(self, penalty: float, tolerance: float) -> tuple[float, int]:
        """L-BFGS with a preconditioner for the present solution; the value reached and the iterations it took."""
        curvature = self._curvature()
        root = self.design.root(curvature * float(self.inside.mean()), penalty)
        slope = float(np.sqrt(max(_TINY, curvature * len(self.inside))))
        found = minimize(
            self._objective,
            np.concatenate([root.inverse(self.theta).ravel(), self.intercept.ravel() * slope]),
            args=(root, slope, penalty),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MAX_ITERATIONS, "maxcor": _HISTORY, "gtol": tolerance, "ftol": 1e-16, "maxfun": 10**6},
        )
        theta, offset = self._split(found.x)
        self.theta, self.intercept = root.forth(theta), offset / slope
        return float(found.fun), int(found.nit)

    def _split(self, point: Floats) -> tuple[Floats, Floats]:
        return point[: self.theta.size].reshape(self.theta.shape), point[self.theta.size :].reshape(
            self.intercept.shape
        )

    def _curvature(self) -> float:
        """Mean of p (1 - p) at the present solution: the curvature of the loss along one logit."""
        chance = _softmax(self.design.logits(self.theta) + self.intercept)
        return max(1e-9, float((chance * (1.0 - chance)).mean()))

    def _objective(self, point: Floats, root: _Root, slope: float, penalty: float) -> tuple[float, Floats]:
        theta, offset = self._split(point)
        theta = root.forth(theta)
        losses, residual = _losses(self.design.logits(theta) + offset / slope, self.targets)
        residual *= self.inside[:, :, None]
        value = float((losses * self.inside).sum()) + 0.5 * penalty * float(np.vdot(theta, theta))
        gradient = root.back(self.design.pull(residual) + penalty * theta)
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
