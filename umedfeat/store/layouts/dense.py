"""Dense features: ``<item>.npy``, the grids of an item's regions, written block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from umedfeat.errors import SetupError
from umedfeat.store.file_writer import written_whole
from umedfeat.store.read import FeatureFile
from umedfeat.store.tokens import tokens_at_once

__all__ = ["Dense"]


class Dense:
    """One array (n, rows, columns, C) per item, which ``numpy.load(…, mmap_mode="r")`` opens without reading it."""

    def __init__(self, file: FeatureFile, folder: Path, nominal_magnification: bool) -> None:
        if file.grid is None:
            raise SetupError(f"{file.path.name}: holds no tokens", remedy="extract with --tokens")
        self._file = file
        self._folder = folder
        self._grid = file.grid
        self._size = tokens_at_once(file.grid, file.dtype)

    def add(self, number: int, name: str) -> None:
        rows = self._file.rows(number)
        count = rows.stop - rows.start
        path, temporary = self._folder / f"{name}.npy", self._folder / f".{name}.npy.tmp"
        head = {"descr": np.dtype(self._file.dtype).str, "fortran_order": False, "shape": (count, *self._grid)}
        with written_whole(temporary, path), temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, head)
            for first in range(0, count, self._size):
                block = self._file.tokens(number, slice(first, first + self._size))
                stream.write(np.ascontiguousarray(block).data)

    def close(self) -> None:
        """Nothing spans items."""
