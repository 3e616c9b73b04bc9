"""Parquet: ``tiles.parquet`` (one line per row) and ``embeddings.parquet`` (one line per item)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.errors import SetupError
from umedfeat.store.read import FeatureFile

__all__ = ["Parquet"]

_ROWS = 16384


class Parquet:
    """Columns id, x, y, slice, tissue and features (a list of D floats); the items' columns beside their mean."""

    def __init__(self, file: FeatureFile, folder: Path, nominal_magnification: bool) -> None:
        try:
            import pyarrow
            import pyarrow.parquet as pq
        except ImportError as error:
            message = "layout parquet needs pyarrow, which is not installed"
            raise SetupError(message, remedy="pip install 'umedfeat[parquet]'") from error
        self._arrow: Any = pyarrow
        self._parquet: Any = pq
        self._file = file
        self._folder = folder
        self._owners = np.repeat(np.arange(len(file)), file.items["count"])
        self._written: list[int] = []
        self._waiting: list[int] = []
        self._tiles: Any = None

    def add(self, number: int, name: str) -> None:
        self._waiting.append(number)
        self._written.append(number)
        if self._file.items["count"][self._waiting].sum() >= _ROWS:
            self._write_tiles()

    def close(self) -> None:
        """Write what waits, and the items."""
        self._write_tiles()
        if self._tiles is not None:
            self._tiles.close()
            (self._folder / ".tiles.parquet.tmp").replace(self._folder / "tiles.parquet")
        items = {name: values[self._written].tolist() for name, values in self._file.items.items() if name != "start"}
        meta = {f"meta.{name}": values[self._written].tolist() for name, values in self._file.meta.items()}
        means = self._vectors(self._file.embeddings[self._written])
        table = self._arrow.table(items | meta | {"embedding": means})
        self._parquet.write_table(table, self._folder / ".embeddings.parquet.tmp")
        (self._folder / ".embeddings.parquet.tmp").replace(self._folder / "embeddings.parquet")

    def _write_tiles(self) -> None:
        """The waiting items are neighbours in the file: one stretch of rows."""
        if self._waiting:
            first, last = self._file.rows(self._waiting[0]).start, self._file.rows(self._waiting[-1]).stop
            for start in range(first, last, _ROWS):
                self._write_group(slice(start, min(last, start + _ROWS)))
        self._waiting = []

    def _write_group(self, place: slice) -> None:
        coords = self._file.read("coords", place)
        owners = self._owners[place]
        table = self._arrow.table(
            {
                "id": [self._file.ids[number] for number in owners],
                "x": coords[:, 0],
                "y": coords[:, 1],
                "slice": self._file.read("tiles/slice", place),
                "tissue": self._file.read("tiles/tissue", place),
                "features": self._vectors(self._file.read("features", place)),
            }
        )
        if self._tiles is None:
            self._tiles = self._parquet.ParquetWriter(self._folder / ".tiles.parquet.tmp", table.schema)
        self._tiles.write_table(table)

    def _vectors(self, values: npt.NDArray[Any]) -> Any:
        flat = self._arrow.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
        return self._arrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
