"""Checks of all rows in one pass, blocks of rows and items side by side; a hundred thousand items are no more work."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.store.checksums import Checksums
from umedfeat.store.read import FeatureFile
from umedfeat.store.rows import Rows, row_bytes
from umedfeat.store.tokens import array_bytes, tokens_at_once

__all__ = ["RowChecks", "TokenChecks"]


class RowChecks:
    """Feed it the file's blocks in order, then ``finish``.

    Attributes:
        not_finite, bad_tissue, bad_owner, bad_checksum, bad_embedding: (I,) bool, one fault each.
    """

    def __init__(self, file: FeatureFile) -> None:
        self._file = file
        counts = file.items["count"]
        self._numbers = np.flatnonzero(counts)  # items with rows; ``_starts`` and ``_ends`` are of those
        self._counts = counts[self._numbers]
        self._ends = np.cumsum(self._counts)
        self._starts = self._ends - self._counts
        self._row = 0
        self._checksums = Checksums(counts, file.items["rows_sha256"])
        self._sum = np.zeros(file.dim)  # of the rows of an item that began in an earlier block
        self.not_finite, self.bad_tissue, self.bad_owner, self.bad_checksum, self.bad_embedding = (
            np.zeros(len(file), dtype=bool) for _ in range(5)
        )

    def update(self, block: Rows) -> None:
        """Check the next rows (at least one)."""
        begin, end = self._row, self._row + len(block)
        first = int(np.searchsorted(self._ends, begin, side="right"))
        last = int(np.searchsorted(self._starts, end, side="left"))
        places = np.maximum(self._starts[first:last], begin) - begin
        numbers = self._numbers[first:last]
        owners = self._file.dataset("tiles/item")[begin:end]
        sizes = np.diff(np.append(places, len(block)))
        for fault, wrong in (
            (self.not_finite, ~np.isfinite(block.features).all(axis=1)),
            (self.bad_tissue, ~((block.tissue >= 0) & (block.tissue <= 1))),
            (self.bad_owner, owners != np.repeat(numbers, sizes)),
        ):
            fault[numbers] |= np.logical_or.reduceat(wrong, places)
        whole = int(np.searchsorted(self._ends[first:last], end, side="right"))
        self._checksums.update(row_bytes(block), len(block))
        self._check_means(block, places, first, whole)
        self._row = end

    def _check_means(self, block: Rows, places: npt.NDArray[np.int64], first: int, whole: int) -> None:
        sums = _sums(block.features, places)
        sums[0] += self._sum
        self._sum = sums[-1] if whole < len(places) else np.zeros_like(self._sum)
        chosen = slice(first, first + whole)
        self._compare(self._numbers[chosen], sums[:whole] / self._counts[chosen, None])

    def finish(self) -> None:
        """Check what has no rows."""
        empty = np.flatnonzero(self._file.items["count"] == 0)
        self.bad_checksum = self._checksums.wrong
        for first in range(0, len(empty), 4096):
            numbers = empty[first : first + 4096]
            self._compare(numbers, np.zeros((len(numbers), self._file.dim)))

    def _compare(self, numbers: npt.NDArray[np.int64], means: npt.NDArray[np.float64]) -> None:
        """Are the stored embeddings of some items, in ascending order, the means of their rows?"""
        if not len(numbers):
            return
        low, high = int(numbers[0]), int(numbers[-1]) + 1
        stored = self._file.dataset("items/embedding")[low:high][numbers - low]
        near = 1e-5 if self._file.dtype == "float32" else 2e-3
        scale = np.maximum(1e-6, np.abs(means).max(axis=1, initial=0.0, keepdims=True))
        close = np.abs(stored - means) <= near * (scale + np.abs(means))  # False for NaN
        self.bad_embedding[numbers] = ~close.all(axis=1)


class TokenChecks:
    """The same of the tokens of a file that holds some, read here in blocks of their own.

    Attributes:
        not_finite: (I,) bool.
    """

    def __init__(self, file: FeatureFile) -> None:
        assert file.grid is not None
        counts = file.items["count"]
        self._file = file
        self._owner = np.repeat(np.arange(len(file)), counts)
        self._size = tokens_at_once(file.grid, file.dtype)
        self._row = 0
        self._checksums = Checksums(counts, file.token_checksums["tokens_sha256"], 1)
        self.not_finite = np.zeros(len(file), dtype=bool)

    @property
    def bad_checksum(self) -> npt.NDArray[np.bool_]:
        """(I,) tokens that are not those of the checksum, as far as they have been read."""
        return np.asarray(self._checksums.wrong)

    def update(self, count: int) -> None:
        """Check the tokens of the next ``count`` rows."""
        end = self._row + count
        for first in range(self._row, end, self._size):
            block = self._file.read("tokens", slice(first, min(end, first + self._size)))
            finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
            self.not_finite[self._owner[first : first + len(block)][~finite]] = True
            self._checksums.update(array_bytes(block), len(block))
        self._row = end


def _sums(rows: npt.NDArray[np.floating[Any]], places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Sums in double precision of the runs of rows that begin at ``places``; np.add.reduceat takes ten times longer."""
    if len(places) == len(rows):
        return rows.astype(np.float64)
    ends = np.append(places[1:], len(rows))
    return np.stack([rows[a:b].sum(axis=0, dtype=np.float64) for a, b in zip(places, ends, strict=True)])
