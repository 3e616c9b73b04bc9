"""Cosines between rows after centring by a mean of the training rows: one similarity matrix serves every draw.

For rows x, t and the mean m of the training rows, ``(x - m)·(t - m) = x·t - x·m - t·m + m·m``: the Gram matrix of all
rows and one product of the rows with m give the centred cosines of a draw. Where that matrix would be too large, the
same numbers are computed block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats, Ints, Rows

__all__ = ["GRAM_ROWS", "CosineSpace", "DrawnCosines"]


#: Rows up to which the Gram matrix of all rows is kept (1 GiB of float32).
GRAM_ROWS = 16_384
#: Rows of one block where it is not.
BLOCK_ROWS = 4096
#: Cosines of one block: with the places of the best, 200 MB.
_BLOCK_COSINES = 1 << 24
#: Rows of a block that stays in the processor's cache.
_CACHED_ROWS = 256
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
        self.rows: Rows = _shifted(rows, dtype)
        self.gram: Rows | None = self.rows @ self.rows.T if len(rows) <= gram_rows else None

    def draw(self, train: Ints) -> DrawnCosines:
        """Centre by the mean of the given rows."""
        if self.gram is not None and len(train) < self.rows.shape[1] * 8:
            return _FromGram(self.gram, self.rows, train)
        return _FromRows(self.rows, train)

    def sums(self, rows: Ints, share: Floats, centre: Rows | None = None) -> Floats:
        """(D, K) sums of rows by their share (n, K); around a centre (D,), of rows of length 1."""
        found = np.zeros((self.rows.shape[1], share.shape[1]))
        for part, block in self._cached(rows, centre):
            found += block.T @ share[part].astype(block.dtype)
        return found

    def along(self, rows: Ints, centre: Rows, directions: Rows) -> Floats:
        """(n, K) cosines of rows around a centre (D,) to directions (D, K) of length 1; 0 at the centre."""
        found = np.empty((len(rows), directions.shape[1]))
        for part, block in self._cached(rows, centre):
            found[part] = block @ directions
        return found

    def _cached(self, rows: Ints, centre: Rows | None) -> Iterator[tuple[slice, Rows]]:
        """Blocks of rows; around a centre, with length 1."""
        middle = None if centre is None else centre.astype(self.rows.dtype)
        for start in range(0, len(rows), _CACHED_ROWS):
            part = slice(start, start + _CACHED_ROWS)
            block = self.rows[rows[part]]
            if middle is not None:
                block -= middle
                block /= np.maximum(np.sqrt(np.einsum("nd,nd->n", block, block)), _TINY)[:, None]
            yield part, block


def _shifted(rows: Rows, dtype: npt.DTypeLike) -> Rows:
    """Less the overall mean, by the largest entry of what is left; never all of it in double precision."""
    mean = rows.mean(axis=0, dtype=np.float64)
    parts = [slice(start, start + BLOCK_ROWS) for start in range(0, len(rows), BLOCK_ROWS)]
    largest = max((float(np.abs(rows[part] - mean).max()) for part in parts), default=0.0)
    found = np.empty(rows.shape, dtype=dtype)
    for part in parts:
        found[part] = (rows[part] - mean) / (largest or 1.0)
    return found


class DrawnCosines:
    """Cosines to the training rows of one draw."""

    train: Ints
    dtype: np.dtype[np.floating[Any]]

    def to_train(self, rows: Ints) -> Rows:
        """(len(rows), n) cosines; 0 where a row coincides with the mean."""
        raise NotImplementedError

    def blocks(self, rows: Ints) -> Iterator[tuple[slice, Rows]]:
        """The same in blocks of rows, so that memory stays flat."""
        size = max(1, min(BLOCK_ROWS, _BLOCK_COSINES // max(1, len(self.train))))
        for start in range(0, len(rows), size):
            part = slice(start, min(start + size, len(rows)))
            yield part, self.to_train(rows[part])


class _FromGram(DrawnCosines):
    def __init__(self, gram: Rows, rows: Rows, train: Ints) -> None:
        self.gram, self.train, self.dtype = gram, train, gram.dtype
        mean = rows[train].mean(axis=0, dtype=np.float64)
        to_mean = (rows @ mean.astype(rows.dtype)).astype(np.float64)
        squares = np.diagonal(gram) - 2.0 * to_mean + float(mean @ mean)
        self.lengths = np.maximum(np.sqrt(np.maximum(squares, 0.0)).astype(np.float32), _TINY)
        self.before = (to_mean - float(mean @ mean)).astype(np.float32)
        self.after = to_mean[train].astype(np.float32)

    def to_train(self, rows: Ints) -> Rows:
        cross = np.empty((len(rows), len(self.train)), dtype=self.dtype)
        for start in range(0, len(rows), _CACHED_ROWS):
            part = rows[start : start + _CACHED_ROWS]
            found = np.take(self.gram[part], self.train, axis=1, out=cross[start : start + len(part)], mode="clip")
            found -= self.before[part, None]
            found -= self.after
            found /= self.lengths[self.train]
            found /= self.lengths[part, None]
        return cross


class _FromRows(DrawnCosines):
    def __init__(self, rows: Rows, train: Ints) -> None:
        self.rows, self.train, self.dtype = rows, train, rows.dtype
        self.mean = np.asarray(rows[train].mean(axis=0, dtype=np.float64), dtype=rows.dtype)
        self.unit = self._units(train)

    def _units(self, rows: Ints) -> Rows:
        centred = self.rows[rows]
        centred -= self.mean
        centred /= np.maximum(np.sqrt(np.einsum("nd,nd->n", centred, centred)), _TINY)[:, None]
        return centred

    def to_train(self, rows: Ints) -> Rows:
        return np.asarray(self._units(rows) @ self.unit.T)
