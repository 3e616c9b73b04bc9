"""L2 logistic regression along a path of regularisation strengths, all inner folds at once.

The objective is scikit-learn's (``LogisticRegression(C=…)``): ``sum of log-losses + |W|²/(2C)`` with an unpenalised
intercept; one logit for two classes, one per class (softmax) for more. What makes it fast is exact: all folds are
minimised together on one shared matrix; L-BFGS runs along the principal axes of the rows, where the preconditioner is
diagonal for every strength, warm-started from the previous one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from umedfeat.arrays import Bools, Floats
from umedfeat.fewshot.classifiers.designs import Axes, design_of

__all__ = ["LogisticPaths", "Start", "Weights", "probabilities"]


_MAX_ITERATIONS = 2000
_HISTORY = 20
_PASSES = 6
#: Relative gain of one iteration below which it ends: of sums in double and of products in single precision.
_ROUNDING, _ROUNDING_SINGLE = 1e-16, 1e-9
_TINY = 1e-12


@dataclass(frozen=True)
class Weights:
    """One fitted model: logits = rows @ coef + intercept, shapes (D, M) and (M,)."""

    coef: Floats
    intercept: Floats
    converged: bool


class Start(NamedTuple):
    """Where a fit begins: coordinates (M, C) along the axes of the rows, and intercepts (M,)."""

    theta: Floats
    intercept: Floats


class LogisticPaths:
    """F fits on parts of the same rows, minimised together.

    Args:
        axes: of the rows (n, D), standardised or the like.
        targets: (n, M): one 0/1 column for two classes or a single label, one-hot columns for more classes.
        inside: (n, F) bool, the rows that each fit may see.
        scales: (F, D) scale of each column over those rows, or (F, 1) of all: the fit is on ``rows / scales``.
        weights: (n,) how much each row counts; once by default.
        single: products in single precision, for tolerances above 1e-5.
        start: near the solution of every fit; None begins with no slope.
    """

    def __init__(
        self,
        axes: Axes,
        targets: Floats,
        inside: Bools,
        scales: Floats,
        weights: Floats | None = None,
        *,
        single: bool = False,
        start: Start | None = None,
    ) -> None:
        counts = np.ones(len(targets)) if weights is None else weights
        self.targets = np.ascontiguousarray(targets.T)
        self.inside, self.outside = inside.T * counts, ~inside.T * counts
        self.rounding = _ROUNDING_SINGLE if single else _ROUNDING
        self.design, self.scales = design_of(axes, scales, targets.shape[1], single=single), scales
        if start is None:
            self.theta: Floats = np.zeros(self.design.shape)
            self.intercept = np.stack([_start(targets[part]) for part in inside.T])
        else:
            self.theta = start.theta * scales[:, :, None]
            self.intercept = np.tile(start.intercept, (len(scales), 1))

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
            needed = min(1.0, float(np.sqrt(value / self.inside.shape[0])))
            if sharper <= 2.0 * needed or steps >= _MAX_ITERATIONS:
                break
            sharper = needed
        self.converged = steps < _MAX_ITERATIONS

    def held_out_loss(self) -> float:
        """Sum of the log-losses of the rows outside, at the present solution."""
        losses, _ = _losses(self._logits(), self.targets)
        return float((losses * self.outside).sum())

    def middle(self) -> Start | None:
        """The mean of the present solutions; None where each has axes of its own."""
        if self.scales.shape[1] > 1:
            return None
        return Start((self.theta / self.scales[:, :, None]).mean(axis=0), self.intercept.mean(axis=0))

    def _logits(self) -> Floats:
        return np.asarray(self.design.logits(self.theta) + self.intercept[:, :, None])

    def _descend(self, penalty: float, tolerance: float) -> tuple[float, int]:
        """L-BFGS with a preconditioner for the present solution; the value reached and the iterations it took."""
        curvature = self._curvature()
        root = 1.0 / np.sqrt(curvature * float(self.inside.mean()) * self.design.squares + penalty)[:, None, :]
        slope = float(np.sqrt(max(_TINY, curvature * self.inside.shape[1])))
        found = minimize(
            self._objective,
            np.concatenate([(self.theta / root).ravel(), self.intercept.ravel() * slope]),
            args=(root, slope, penalty),
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": _MAX_ITERATIONS,
                "maxcor": _HISTORY,
                "gtol": tolerance,
                "ftol": self.rounding,
                "maxfun": 10**6,
            },
        )
        theta, offset = self._split(found.x)
        self.theta, self.intercept = root * theta, offset / slope
        return float(found.fun), int(found.nit)

    def _split(self, point: Floats) -> tuple[Floats, Floats]:
        return point[: self.theta.size].reshape(self.theta.shape), point[self.theta.size :].reshape(
            self.intercept.shape
        )

    def _curvature(self) -> float:
        """Mean of p (1 - p) at the present solution: the curvature of the loss along one logit."""
        chance = _softmax(self._logits(), axis=1)
        return max(1e-9, float((chance * (1.0 - chance)).mean()))

    def _objective(self, point: Floats, root: Floats, slope: float, penalty: float) -> tuple[float, Floats]:
        theta, offset = self._split(point)
        theta = root * theta
        logits = self.design.logits(theta)
        logits += (offset / slope)[:, :, None]
        losses, residual = _losses(logits, self.targets)
        residual *= self.inside[:, None, :]
        value = float(np.vdot(losses, self.inside)) + 0.5 * penalty * float(np.vdot(theta, theta))
        gradient = root * (self.design.pull(residual) + penalty * theta)
        return value, np.concatenate([gradient.ravel(), residual.sum(axis=2).ravel() / slope])


def _start(targets: Floats) -> Floats:
    mean = np.clip(targets.mean(axis=0), 1e-3, 1.0 - 1e-3)
    logits = np.log(mean / (1.0 - mean)) if targets.shape[1] == 1 else np.log(mean) - np.log(mean).mean()
    return np.asarray(logits)


def _softmax(logits: Floats, axis: int) -> Floats:
    """Probabilities of M logits along an axis; a single logit is a sigmoid."""
    if logits.shape[axis] == 1:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _losses(logits: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """(F, n) log-losses of (F, M, n) logits and (M, n) targets, and their gradients (F, M, n)."""
    if len(targets) == 1:
        signed = np.where(targets[0] > 0.5, logits[:, 0], -logits[:, 0])
        losses = np.maximum(-signed, 0.0) + np.log1p(np.exp(-np.abs(signed)))
        return losses, _softmax(logits, axis=1) - targets
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = (targets * shifted).sum(axis=1)
    chance = np.exp(shifted, out=shifted)
    total = chance.sum(axis=1, keepdims=True)
    losses = np.log(total[:, 0]) - own
    chance /= total
    chance -= targets
    return losses, chance


def probabilities(logits: Floats) -> Floats:
    """(n, K) probabilities from (n, M) logits: two columns from one logit, softmax of several."""
    chance = _softmax(logits, axis=1)
    return np.hstack([1.0 - chance, chance]) if logits.shape[1] == 1 else chance
