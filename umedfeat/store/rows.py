"""Rows of a feature file in memory, their blocks, and their checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ROW_DATASETS", "RowBytes", "Rows", "RowsDigest", "row_bytes", "rows_sha256"]

#: Field of ``Rows`` → (dataset of the file, type as stored; "" means the file's own dtype).
ROW_DATASETS: dict[str, tuple[str, str]] = {
    "features": ("features", ""),
    "coords": ("coords", "<i8"),
    "slice": ("tiles/slice", "<i4"),
    "tissue": ("tiles/tissue", "<f4"),
    "position": ("tiles/position", "<f4"),
}


@dataclass(frozen=True)
class Rows:
    """Some rows: features (n, D), coords (n, 2), slice, tissue, position (n,)."""

    features: npt.NDArray[Any]
    coords: npt.NDArray[Any]
    slice: npt.NDArray[Any]
    tissue: npt.NDArray[Any]
    position: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.features)

    def part(self, first: int, last: int) -> Rows:
        """Rows ``first`` to ``last`` (excluded), without copying."""
        return Rows(*(getattr(self, name)[first:last] for name in ROW_DATASETS))

    def blocks(self, size: int) -> Iterator[Rows]:
        """Parts of at most ``size`` rows."""
        for first in range(0, len(self), size):
            yield self.part(first, min(len(self), first + size))


#: Per column: the bytes of all its rows as stored, and how many one row takes.
RowBytes = list[tuple[memoryview, int]]


def row_bytes(rows: Rows) -> RowBytes:
    """The columns of at least one row as bytes (little endian); ``features`` in the dtype of the file."""
    columns: RowBytes = []
    for name, (_, dtype) in ROW_DATASETS.items():
        values = getattr(rows, name)
        stored = np.ascontiguousarray(values, dtype=dtype or values.dtype)
        columns.append((stored.data.cast("B"), stored.nbytes // len(stored)))
    return columns


class RowsDigest:
    """Checksum of rows as stored, taken in parts of any size.

    Args:
        columns: how many there are: those of ``Rows``, or one.
    """

    def __init__(self, columns: int = len(ROW_DATASETS)) -> None:
        self._columns = [hashlib.sha256() for _ in range(columns)]

    def update(self, columns: RowBytes, first: int, last: int) -> None:
        """Take the next rows: ``first`` to ``last`` (excluded) of some columns."""
        for digest, (values, width) in zip(self._columns, columns, strict=True):
            digest.update(values[first * width : last * width])

    def hexdigest(self) -> str:
        """SHA-256 of the columns' SHA-256."""
        return hashlib.sha256(b"".join([digest.digest() for digest in self._columns])).hexdigest()


def rows_sha256(rows: Rows) -> str:
    """``RowsDigest`` of all rows at once."""
    digest = RowsDigest()
    for block in rows.blocks(8192):
        digest.update(row_bytes(block), 0, len(block))
    return digest.hexdigest()
