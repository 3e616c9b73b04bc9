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

from umedfeat.store.guard import naming_damage
from umedfeat.store.layouts.base import new_h5
from umedfeat.store.read import FeatureFile

__all__ = ["AnnData"]

_TEXT = h5py.string_dtype("utf-8")


class AnnData:
    """``X`` float32 (n, D); ``obs``: slice, tissue, position; ``obsm["spatial"]``: x, y in source pixels; ``uns``.

    Of slides also what wsidata's tables hold: ``obs`` tile_id, x, y; ``uns["tile_spec"]``, ``uns["slide_properties"]``.
    """

    def __init__(self, file: FeatureFile, folder: Path, nominal_magnification: bool) -> None:
        self._file = file
        self._folder = folder
        self._variables = np.array([f"f{k}" for k in range(file.dim)], dtype=object)

    def add(self, number: int, name: str) -> None:
        file = self._file
        columns = {column: file.tiles(column, number) for column in ("slice", "tissue", "position")}
        coords = file.coords(number)
        columns = {"tile_id": np.arange(len(coords)), "x": coords[:, 0], "y": coords[:, 1]} | columns
        labels = np.array([f"{name}:{row}" for row in range(len(columns["slice"]))], dtype=object)
        with new_h5(self._folder / f"{name}.h5ad") as target:
            _encode(target, "anndata", "0.1.0")
            _array(target, "X", file.features(number).astype(np.float32))
            _frame(target, "obs", labels, columns)
            _frame(target, "var", self._variables, {})
            _array(_dict(target, "obsm"), "spatial", coords)
            for empty in ("varm", "obsp", "varp", "layers"):
                _dict(target, empty)
            uns = _dict(target, "uns")
            self._write_facts(uns, number)
            for key, facts in _of_slides(file, number).items():
                _write_mapping(_dict(uns, key), facts)

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


def _of_slides(file: FeatureFile, number: int) -> dict[str, dict[str, Any]]:
    """``TileSpec`` and ``SlideProperties`` of wsidata, as mappings; nothing for what is not tiled or has no scale."""
    facts = {column: values[number] for column, values in file.items.items()}
    if not (facts["tile_extent"] > 0 and facts["mpp_x"] > 0):
        return {}
    with naming_damage(file.path):
        side, overlap = int(file.policy["slide"]["tile_size"]), int(file.policy["slide"]["overlap"])
        mpp = float(file.policy["slide"]["mpp"])
    sides = {"height": side, "width": side, "stride_height": side - overlap, "stride_width": side - overlap}
    shrunk = float(facts["tile_extent"]) / side
    level = {"ops_level": 0, "ops_downsample": shrunk, "base_level": 0, "base_downsample": shrunk}
    height, width = int(facts["height"]), int(facts["width"])
    slide = {"shape": [height, width], "n_level": 1, "level_shape": [[height, width]], "level_downsample": [1.0]}
    scale = {"mpp": float(facts["mpp_x"]), "magnification": 10.0 / float(facts["mpp_x"])}
    return {
        "tile_spec": {**sides, "mpp": mpp, **level},
        "slide_properties": {**slide, **scale, "bounds": [0, 0, width, height]},
    }


def _write_mapping(group: h5py.Group, facts: Mapping[str, Any]) -> None:
    for key, value in facts.items():
        if isinstance(value, list):
            _array(group, key, np.asarray(value))
        else:
            _scalar(group, key, value, "numeric-scalar")


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
