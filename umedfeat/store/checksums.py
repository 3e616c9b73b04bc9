"""Checksums of items, taken while their rows stream by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from umedfeat.errors import OutputError
from umedfeat.store.rows import ROW_DATASETS, RowBytes, Rows, RowsDigest, row_bytes
from umedfeat.store.table import Table
from umedfeat.store.tokens import array_bytes

__all__ = ["Checksums", "compared", "compared_tokens"]

_Block = TypeVar("_Block", Rows, npt.NDArray[Any])


class Checksums:
    """Feed it all rows in item order, in blocks of any size.

    Args:
        counts: (I,) rows of each item.
        expected: (I,) checksum of each.
        columns: of ``RowsDigest``.

    Attributes:
        wrong: (I,) bool: rows that are not those of the checksum, as far as they have come by.
    """

    def __init__(
        self, counts: npt.NDArray[np.int64], expected: npt.NDArray[np.object_], columns: int = len(ROW_DATASETS)
    ) -> None:
        self._expected = expected
        self._columns = columns
        self._numbers = np.flatnonzero(counts)
        self._ends = np.cumsum(counts[self._numbers])
        self._next = 0
        self._row = 0
        self._digest = RowsDigest(columns)
        self.wrong = (counts == 0) & (expected != RowsDigest(columns).hexdigest())

    def update(self, columns: RowBytes, count: int) -> None:
        """Take the next rows, ``count`` of them (at least one), column by column."""
        first, begin = self._row, 0
        while begin < count:
            end = min(count, int(self._ends[self._next]) - first)
            self._digest.update(columns, begin, end)
            if first + end == self._ends[self._next]:
                number = self._numbers[self._next]
                self.wrong[number] = self._digest.hexdigest() != self._expected[number]
                self._digest = RowsDigest(self._columns)
                self._next += 1
            begin = end
        self._row = first + count


def compared(rows: Iterator[Rows], items: Table) -> Iterator[Rows]:
    """The same rows, each item compared with its checksum; a thread computes while the rows are being written.

    Raises:
        OutputError: an item's rows are not those that were written.
    """
    checksums = Checksums(items["count"].astype(np.int64), items["rows_sha256"])
    return _compared(rows, row_bytes, checksums, items)


def compared_tokens(blocks: Iterator[npt.NDArray[Any]], items: Table) -> Iterator[npt.NDArray[Any]]:
    """The same of tokens.

    Raises:
        OutputError: an item's tokens are not those that were written.
    """
    checksums = Checksums(items["count"].astype(np.int64), items["tokens_sha256"], 1)
    return _compared(blocks, array_bytes, checksums, items)


def _compared(
    blocks: Iterator[_Block], bytes_of: Callable[[_Block], RowBytes], checksums: Checksums, items: Table
) -> Iterator[_Block]:
    with ThreadPoolExecutor(1, thread_name_prefix="checksum") as thread:
        for block in blocks:
            done = thread.submit(checksums.update, bytes_of(block), len(block))
            yield block
            done.result()
            _refuse_wrong(checksums, items)
    _refuse_wrong(checksums, items)


def _refuse_wrong(checksums: Checksums, items: Table) -> None:
    if checksums.wrong.any():
        name = items["id"][int(np.argmax(checksums.wrong))]
        raise OutputError(
            f"item {name!r}: its rows are not those that were written (checksum)",
            remedy="`umedfeat verify` names the file; extract its inputs again",
        )
