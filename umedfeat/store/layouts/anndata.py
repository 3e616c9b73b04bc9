"""AnnData: ``<item>.h5ad``, one observation per row, as scverse tools (squidpy, scanpy) read it.

Written by hand after the file format that anndata documents (encoding types in attributes), so that neither anndata nor
pandas is needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat.store.layouts.base import new_h5
from umedfeat.store.read import FeatureFile

__all__ = ["AnnData"]

_TEXT = h5py.string_dtype("utf-8")


class AnnData:
    """``X`` float32 (n, D); ``obs``: slice, tissue, position; ``obsm["spatial"]``: x, y in source pixels; ``uns``."""

    def __init__(self, file: FeatureFile, folder: Path, nominal_magnification: bool) -> None:
        self._file = file
        self._folder = folder
        self._variables = np.array([f"f{k}" for k in range(file.dim)], dtype=object)

    def add(self, number: int, name: str) -> None:
        file = self._file
        columns = {column: file.tiles(column, number) for column in ("slice", "tissue", "position")}
        labels = np.array([f"{name}:{row}" for row in range(len(columns["slice"]))], dtype=object)
        with new_h5(self._folder / f"{name}.h5ad") as target:
            _encode(target, "anndata", "0.1.0")
            _array(target, "X", file.features(number).astype(np.float32))
            _frame(target, "obs", labels, columns)
            _frame(target, "var", self._variables, {})
            _array(_dict(target, "obsm"), "spatial", file.coords(number))
            for empty in ("varm", "obsp", "varp", "layers"):
                _dict(target, empty)
            self._write_facts(_dict(target, "uns"), number)

    def _write_facts(self, uns: h5py.Group, number: int) -> None:
        texts = {"encoder": self._file.encoder.get("name", ""), "fingerprint": self._file.fingerprint}
        texts |= {key: self._file.items[key][number] for key in ("id", "source", "modality", "patient")}
        texts |= {f"meta.{key.replace('/', '|')}": values[number] for key, values in self._file.meta.items()}
        for key, text in texts.items():
            _scalar(uns, key, str(text), "string")
        for key in ("mpp_x", "mpp_y", "tile_extent"):
            _scalar(uns, key, float(self._file.items[key][number]), "numeric-scalar")

    def close(self) -> None:
        """Nothing spans items."""


def _encode(target: h5py.Group | h5py.Dataset, kind: str, version: str) -> None:
    target.attrs["encoding-type"] = kind
    target.attrs["encoding-version"] = version


def _dict(parent: h5py.Group, name: str) -> h5py.Group:
    group = parent.create_group(name)
    _encode(group, "dict", "0.1.0")
    return group


def _array(parent: h5py.Group, name: str, values: npt.NDArray[Any]) -> None:
    text = values.dtype == object
    parent.create_dataset(name, data=values, dtype=_TEXT if text else None)
    _encode(parent[name], "string-array" if text else "array", "0.2.0")


def _scalar(parent: h5py.Group, name: str, value: str | float, kind: str) -> None:
    parent.create_dataset(name, data=value)
    _encode(parent[name], kind, "0.2.0")


def _frame(parent: h5py.Group, name: str, labels: npt.NDArray[Any], columns: Mapping[str, npt.NDArray[Any]]) -> None:
    group = parent.create_group(name)
    _encode(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = np.array(list(columns), dtype=_TEXT)
    _array(group, "_index", labels)
    for column, values in columns.items():
        _array(group, column, values)
