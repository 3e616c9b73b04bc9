"""Cosines between rows after centring by a mean of the training rows: one similarity matrix serves every draw.

For rows x, t and a weighted mean m of the training rows, ``(x - m)·(t - m) = x·t - x·m - t·m + m·m``, and every term is
a weighted mean of entries of the Gram matrix of all rows. So one Gram matrix gives the centred cosines of every draw
without touching the features again. Where that matrix would be too large, the same numbers are computed block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats, Ints, Rows

__all__ = ["CosineSpace", "DrawnCosines"]


#: Rows up to which the Gram matrix of all rows is kept (1 GiB of float32).
GRAM_ROWS = 16_384
#: Rows of one block where it is not.
BLOCK_ROWS = 4096
_TINY = np.float32(1e-12)


class CosineSpace:
    """All rows of a study.

    Args:
        rows: (N, D). They are shifted by their overall mean and divided by their largest entry for the sake of
            precision; centring and the cosine make the result independent of any shift and scale.
        gram_rows: keep the Gram matrix up to this many rows.
        dtype: of the arithmetic.
    """

    def __init__(self, rows: Rows, *, gram_rows: int = GRAM_ROWS, dtype: npt.DTypeLike = np.float32) -> None:
        shifted = rows - rows.mean(axis=0, dtype=np.float64)
        self.rows: Rows = np.asarray(shifted / (np.abs(shifted).max() or 1.0), dtype=dtype)
        self.gram: Rows | None = self.rows @ self.rows.T if len(rows) <= gram_rows else None

    def draw(self, train: Ints, share: Floats | None = None) -> DrawnCosines:
        """Centre by the mean of the given rows, or their sum by ``share`` (n,), which adds up to one."""
        weights = np.full(len(train), 1.0 / len(train)) if share is None else share
        if self.gram is not None and len(train) < self.rows.shape[1] * 8:
            return _FromGram(self.gram, train, weights)
        return _FromRows(self.rows, train, weights)


class DrawnCosines:
    """Cosines to the training rows of one draw."""

    train: Ints
    dtype: np.dtype[np.floating[Any]]

    def to_train(self, rows: Ints) -> Rows:
        """(len(rows), n) cosines; 0 where a row coincides with the mean."""
        raise NotImplementedError

    def blocks(self, rows: Ints) -> Iterator[tuple[slice, Rows]]:
        """The same in blocks of rows, so that memory stays flat."""
        size = max(1, min(BLOCK_ROWS, (1 << 26) // max(1, len(self.train))))
        for start in range(0, len(rows), size):
            part = slice(start, min(start + size, len(rows)))
            yield part, self.to_train(rows[part])


class _FromGram(DrawnCosines):
    def __init__(self, gram: Rows, train: Ints, share: Floats) -> None:
        self.gram, self.train, self.share, self.dtype = gram, train, share, gram.dtype
        self.means = np.asarray(gram[np.ix_(train, train)] @ share)
        self.mean_square = float(share @ self.means)
        self.norms = self._norms(train, self.means)

    def _norms(self, rows: Ints, means: Floats) -> Rows:
        squares = self.gram[rows, rows] - 2.0 * means + self.mean_square
        return np.sqrt(np.maximum(squares, 0.0)).astype(np.float32)

    def to_train(self, rows: Ints) -> Rows:
        cross = self.gram[np.ix_(rows, self.train)]
        means = np.asarray(cross @ self.share)
        norms = self._norms(rows, means)
        cross -= (means - self.mean_square).astype(np.float32)[:, None]
        cross -= self.means.astype(np.float32)
        cross /= np.maximum(self.norms, _TINY)
        cross /= np.maximum(norms, _TINY)[:, None]
        return cross


class _FromRows(DrawnCosines):
    def __init__(self, rows: Rows, train: Ints, share: Floats) -> None:
        self.rows, self.train, self.dtype = rows, train, rows.dtype
        self.mean = np.asarray(share @ rows[train], dtype=rows.dtype)
        self.unit = self._units(train)

    def _units(self, rows: Ints) -> Rows:
        centred = self.rows[rows] - self.mean
        return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), _TINY))

    def to_train(self, rows: Ints) -> Rows:
        return np.asarray(self._units(rows) @ self.unit.T)
