"""Checksums of items, taken while their rows stream by."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from umedfeat.errors import OutputError
from umedfeat.store.rows import Rows, RowsDigest, row_bytes
from umedfeat.store.table import Table

__all__ = ["Checksums", "compared"]


class Checksums:
    """Feed it all rows in item order, in blocks of any size.

    Args:
        counts: (I,) rows of each item.
        expected: (I,) ``rows_sha256`` of each.

    Attributes:
        wrong: (I,) bool: rows that are not those of the checksum, as far as they have come by.
    """

    def __init__(self, counts: npt.NDArray[np.int64], expected: npt.NDArray[np.object_]) -> None:
        self._expected = expected
        self._numbers = np.flatnonzero(counts)
        self._ends = np.cumsum(counts[self._numbers])
        self._next = 0
        self._row = 0
        self._digest = RowsDigest()
        self.wrong = (counts == 0) & (expected != RowsDigest().hexdigest())

    def update(self, block: Rows) -> None:
        """Take the next rows (at least one)."""
        columns, first, begin = row_bytes(block), self._row, 0
        while begin < len(block):
            end = min(len(block), int(self._ends[self._next]) - first)
            self._digest.update(columns, begin, end)
            if first + end == self._ends[self._next]:
                number = self._numbers[self._next]
                self.wrong[number] = self._digest.hexdigest() != self._expected[number]
                self._digest = RowsDigest()
                self._next += 1
            begin = end
        self._row = first + len(block)


def compared(rows: Iterator[Rows], items: Table) -> Iterator[Rows]:
    """The same rows, each item compared with its checksum; a thread computes while the rows are being written.

    Raises:
        OutputError: an item's rows are not those that were written.
    """
    checksums = Checksums(items["count"].astype(np.int64), items["rows_sha256"])
    with ThreadPoolExecutor(1, thread_name_prefix="checksum") as thread:
        for block in rows:
            done = thread.submit(checksums.update, block)
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
