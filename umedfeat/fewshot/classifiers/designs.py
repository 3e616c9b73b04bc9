"""Coordinates in which many regularised fits on parts of the same rows are minimised together.

With one scale for all features every fit has the same principal axes, those of the rows: along them the curvature of
the loss and the penalty are both diagonal, whatever the strength of the penalty. Few rows span few axes, so a fit has
at most as many coordinates as there are rows. Logits and residuals are kept as (F, M, n), rows last, so that each
sum over rows or logits runs through memory in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from umedfeat.arrays import Floats, Rows

__all__ = ["Axes", "Design", "design_of"]

_TINY = 1e-12


class Design(Protocol):
    """F fits with M logits on parts of the same n rows; θ (F, M, C) are coordinates whose penalty is |θ|².

    Attributes:
        shape: of θ.
        squares: (F, C) sum of the squared logits that a coordinate of 1 gives.
    """

    shape: tuple[int, int, int]
    squares: Floats

    def logits(self, theta: Floats) -> Floats:
        """(F, M, n) without intercept."""

    def pull(self, residual: Floats) -> Floats:
        """Gradient with respect to θ of logits with gradient (F, M, n)."""

    def coefficients(self, theta: Floats) -> Floats:
        """(F, D, M) for the rows as given."""


@dataclass(frozen=True)
class Axes:
    """Principal axes of rows (n, D).

    Attributes:
        rows: as given.
        squares: (C,) eigenvalues of the smaller of the two Gram matrices.
        vectors: its eigenvectors: (D, D) axes of the features where there are more rows, else (n, n) of the rows.
    """

    rows: Floats
    squares: Floats
    vectors: Floats

    @classmethod
    def of(cls, rows: Floats) -> Axes:
        """By one eigendecomposition of at most min(n, D) columns."""
        tall = rows.shape[0] > rows.shape[1]
        squares, vectors = np.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
        return cls(rows, np.maximum(squares, 0.0), vectors)

    @property
    def tall(self) -> bool:
        """More rows than columns."""
        return bool(self.rows.shape[0] > self.rows.shape[1])


def design_of(axes: Axes, scales: Floats, width: int, *, single: bool = False) -> Design:
    """Coordinates for fits on ``rows / scales``.

    Args:
        axes: of the rows.
        scales: (F, 1) of all features, or (F, D) of each.
        width: M.
        single: products in single precision, which is enough to compare strengths and takes half as long.
    """
    if axes.tall:
        return _Tall(axes, 1.0 / scales, width, single)
    if scales.shape[1] == 1:
        return _Wide(axes, 1.0 / scales, width, single)
    return _WideEach(axes.rows, 1.0 / scales, width)


class _Tall:
    """More rows than columns: coordinates are turned to the features, then one product serves all fits."""

    def __init__(self, axes: Axes, shrink: Floats, width: int, single: bool) -> None:
        kind = np.float32 if single else np.float64
        self.rows: Rows = axes.rows.astype(kind, copy=False)
        self.turn: Rows = axes.vectors.astype(kind, copy=False)
        self.shrink: Rows = shrink[:, None, :].astype(kind)
        self.shape = (len(shrink), width, axes.rows.shape[1])
        self.squares = axes.squares * (shrink**2).mean(axis=1, keepdims=True)

    def _turned(self, theta: Floats) -> Rows:
        flat = theta.reshape(-1, self.shape[2]).astype(self.rows.dtype, copy=False)
        return np.asarray((flat @ self.turn.T).reshape(self.shape) * self.shrink)

    def logits(self, theta: Floats) -> Floats:
        found = self._turned(theta).reshape(-1, self.shape[2]) @ self.rows.T
        return np.asarray(found.reshape(*self.shape[:2], -1), dtype=np.float64)

    def pull(self, residual: Floats) -> Floats:
        flat = residual.reshape(-1, residual.shape[2]).astype(self.rows.dtype, copy=False)
        found = (flat @ self.rows).reshape(self.shape) * self.shrink
        return np.asarray((found.reshape(-1, self.shape[2]) @ self.turn).reshape(self.shape), dtype=np.float64)

    def coefficients(self, theta: Floats) -> Floats:
        return np.asarray(self._turned(theta).transpose(0, 2, 1), dtype=np.float64)


class _Wide:
    """Few rows, one scale a fit: with ``R Rᵀ = U Λ Uᵀ`` coefficients are ``Rᵀ U Λ^-½ θ`` and logits ``U Λ^½ θ``."""

    def __init__(self, axes: Axes, shrink: Floats, width: int, single: bool) -> None:
        self.axes, self.shrink = axes, shrink[:, None, :]
        roots = np.sqrt(_kept(axes.squares))
        self.basis: Rows = (axes.vectors * roots).astype(np.float32 if single else np.float64)
        self.shape = (len(shrink), width, len(axes.squares))
        self.squares = roots**2 * shrink**2

    def logits(self, theta: Floats) -> Floats:
        flat = (theta * self.shrink).reshape(-1, self.shape[2]).astype(self.basis.dtype, copy=False)
        return np.asarray((flat @ self.basis.T).reshape(self.shape), dtype=np.float64)

    def pull(self, residual: Floats) -> Floats:
        flat = residual.reshape(-1, self.shape[2]).astype(self.basis.dtype, copy=False)
        return np.asarray((flat @ self.basis).reshape(self.shape) * self.shrink, dtype=np.float64)

    def coefficients(self, theta: Floats) -> Floats:
        along = (theta * self.shrink * _inverse_roots(self.axes.squares)) @ self.axes.vectors.T
        return np.asarray((along @ self.axes.rows).transpose(0, 2, 1))


class _WideEach:
    """Few rows, a scale of each feature in each fit, so that each has axes of its own."""

    def __init__(self, rows: Floats, shrink: Floats, width: int) -> None:
        self.rows, self.shrink, self.shape = rows, shrink, (len(shrink), width, len(rows))
        squares, left = np.linalg.eigh(np.stack([(rows * each) @ (rows * each).T for each in shrink]))
        self.squares = _kept(squares)
        self.basis = left * np.sqrt(self.squares)[:, None, :]
        self.left = left * _inverse_roots(squares)[:, None, :]

    def logits(self, theta: Floats) -> Floats:
        return np.asarray(theta @ self.basis.transpose(0, 2, 1))

    def pull(self, residual: Floats) -> Floats:
        return np.asarray(residual @ self.basis)

    def coefficients(self, theta: Floats) -> Floats:
        along = theta @ self.left.transpose(0, 2, 1) @ self.rows
        return np.asarray((along * self.shrink[:, None, :] ** 2).transpose(0, 2, 1))


def _kept(squares: Floats) -> Floats:
    """Eigenvalues (…, n), ascending, without those that are rounding."""
    least = _TINY * np.maximum(1.0, squares[..., -1:]) * squares.shape[-1]
    return np.where(squares > least, squares, 0.0)


def _inverse_roots(squares: Floats) -> Floats:
    kept = _kept(squares)
    return np.where(kept > 0, 1.0 / np.sqrt(np.where(kept > 0, kept, 1.0)), 0.0)
