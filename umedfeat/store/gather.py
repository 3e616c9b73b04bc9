"""Collecting rows that lie scattered over many files, in blocks of the output's order, with bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat.store.guard import naming_damage
from umedfeat.store.raw_rows import RawRows
from umedfeat.store.read import FeatureFile

__all__ = ["FilePool", "Pieces", "gather"]

Ints = npt.NDArray[np.int64]

#: Open files at a time; runs of many hours leave more segments than a process may open.
_OPEN_FILES = 64
#: Rows that lie within so many times their number are read in one go, gaps included.
_SPREAD = 4


@dataclass(frozen=True)
class Pieces:
    """Where the output's rows lie: piece k is ``count[k]`` rows of file ``file[k]`` from row ``start[k]`` on."""

    file: Ints
    start: Ints
    count: Ints

    def blocks(self, size: int) -> Iterator[tuple[Ints, Ints]]:
        """(file, row) of each output row, in blocks of ``size`` rows."""
        ends = np.cumsum(self.count)
        total = int(ends[-1]) if len(ends) else 0
        for first in range(0, total, size):
            places = np.arange(first, min(total, first + size))
            piece = np.searchsorted(ends, places, side="right")
            yield self.file[piece], self.start[piece] + places - (ends[piece] - self.count[piece])


@dataclass(frozen=True)
class _Open:
    """An open file and what was asked of it; raw rows are None where a dataset is not stored as such."""

    file: FeatureFile
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)
    raw: dict[str, RawRows | None] = field(default_factory=dict)

    def close(self) -> None:
        for rows in self.raw.values():
            if rows is not None:
                rows.close()
        self.file.close()


class FilePool:
    """Feature files by number, opened on demand, only so many at a time. For one thread."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def __enter__(self) -> FilePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._open.values():
            file.close()

    def path(self, number: int) -> Path:
        """Path of a file."""
        return self._paths[number]

    def dataset(self, number: int, name: str) -> h5py.Dataset:
        """A dataset of a file."""
        opened = self._opened(number)
        if name not in opened.datasets:
            opened.datasets[name] = opened.file.dataset(name)
        return opened.datasets[name]

    def raw(self, number: int, name: str) -> RawRows | None:
        """The rows of a wide dataset past HDF5, or None where that does not go."""
        opened = self._opened(number)
        if name not in opened.raw:
            dataset = self.dataset(number, name)
            try:
                opened.raw[name] = RawRows(dataset) if dataset.ndim > 1 else None
            except ValueError:
                opened.raw[name] = None
        return opened.raw[name]

    def _opened(self, number: int) -> _Open:
        if number not in self._open:
            while len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            self._open[number] = _Open(FeatureFile(self._paths[number]))
        self._open.move_to_end(number)
        return self._open[number]


def gather(pool: FilePool, pieces: Pieces, names: Sequence[str], size: int) -> Iterator[list[npt.NDArray[Any]]]:
    """Read datasets of all pieces, in blocks of ``size`` rows: one array per name.

    Memory stays below about six blocks, however the pieces are scattered; neighbouring rows are read together.

    Raises:
        OutputError: a file is damaged; it is named.
    """
    for file, row in pieces.blocks(size):
        order = np.lexsort((row, file))
        groups = np.split(order, np.flatnonzero(np.diff(file[order])) + 1)
        arrays: list[npt.NDArray[Any]] = []
        for name in names:
            example = pool.dataset(int(file[0]), name)
            target = np.empty((len(row), *example.shape[1:]), dtype=example.dtype)
            for places in groups:
                _fill(target, places, pool, int(file[places[0]]), name, row[places])
            arrays.append(target)
        yield arrays


def _fill(target: npt.NDArray[Any], places: Ints, pool: FilePool, number: int, name: str, rows: Ints) -> None:
    """``target[places] = dataset[rows]`` for ascending rows."""
    with naming_damage(pool.path(number)):
        dataset = pool.dataset(number, name)
        first, at = int(rows[0]), int(places[0])
        if _consecutive(rows) and _consecutive(places):
            part, raw = target[at : at + len(rows)], pool.raw(number, name)
            if raw is not None:
                raw.read_into(part, first)
            else:
                dataset.read_direct(part, np.s_[first : first + len(part)])
            return
        if rows[-1] - rows[0] < _SPREAD * len(rows):
            target[places] = dataset[first : int(rows[-1]) + 1][rows - first]
            return
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) != 1) + 1):
            target[places[run]] = dataset[int(rows[run[0]]) : int(rows[run[-1]]) + 1]


def _consecutive(numbers: Ints) -> bool:
    return int(numbers[-1] - numbers[0]) == len(numbers) - 1 and bool((np.diff(numbers) == 1).all())
