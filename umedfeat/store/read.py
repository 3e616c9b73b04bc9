"""FeatureFile: the way to read a feature file from Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat.errors import OutputError, SetupError
from umedfeat.store.schema import (
    DROPPED_COLUMNS,
    FAILURE_COLUMNS,
    ITEM_COLUMNS,
    SCHEMA,
    SKIPPED_COLUMNS,
    Header,
)
from umedfeat.store.table import Table, read_table

if TYPE_CHECKING:
    from umedfeat.store.torch_dataset import FeatureDataset

__all__ = ["FeatureFile"]


class FeatureFile:
    """A feature file, opened for reading.

    >>> with FeatureFile("feats.h5") as file:  # doctest: +SKIP
    ...     file.ids                           # ('benign/a', 'malignant/b', …)
    ...     file.embeddings                    # (I, D) float32: one vector per input, the mean of its rows
    ...     file.features("benign/a")          # (n, D): one vector per tile or slice
    ...     file.coords("benign/a")            # (n, 2): x, y in pixels of the source image
    ...     file.labels("label")               # a manifest column, one string per input
    ...     dataset = file.torch_dataset("tile", label="label")

    Items are sorted by id. Item i owns rows ``start[i] : start[i] + count[i]`` of ``/features``; a slide without tissue
    owns none.

    Args:
        path: the file.

    Raises:
        SetupError: missing, not a feature file, incomplete, or written by a newer version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = _opened(self.path)

    def __enter__(self) -> FeatureFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """(id, features (n, D)) of every item, in order."""
        for name in self.ids:
            yield name, self.features(name)

    def close(self) -> None:
        """Close it; arrays that were read stay valid."""
        self._file.close()

    # ---- what the features are ----------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return int(self._file.attrs["dim"])

    @property
    def dtype(self) -> str:
        """ "float32" or "float16"."""
        return str(self._file.attrs["dtype"])

    @property
    def encoder(self) -> dict[str, Any]:
        """Name, weights sha256, precision … of the encoder."""
        return dict(json.loads(self._file.attrs["encoder"]))

    @property
    def policy(self) -> dict[str, Any]:
        """How pixels were read (see ``umedfeat.Policy``)."""
        return dict(json.loads(self._file.attrs["preprocessing"]))

    @property
    def header(self) -> Header:
        """Encoder, policy and dtype together."""
        return Header(self.encoder, self.policy, self.dtype)

    @property
    def fingerprint(self) -> str:
        """Files with the same fingerprint hold comparable features."""
        return str(self._file.attrs["fingerprint"])

    @property
    def version(self) -> str:
        """Version of umedfeat that wrote it."""
        return str(self._file.attrs["umedfeat"])

    # ---- items ----------------------------------------------------------------------------------------------------

    @cached_property
    def items(self) -> Table:
        """Column name → array with one value per item: id, source, format, modality, patient, start, count, mpp_x …"""
        return read_table(self._file["items"], ITEM_COLUMNS)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Item ids, sorted."""
        return tuple(self.items["id"])

    @cached_property
    def meta(self) -> dict[str, npt.NDArray[Any]]:
        """The manifest's own columns: name → strings, one per item ("" where a row had none)."""
        group = self._file["items/meta"]
        return {name: group[name].asstr()[...] for name in group}

    @property
    def embeddings(self) -> npt.NDArray[np.float32]:
        """(I, D) float32: the mean of each item's rows, zeros for items without rows."""
        values: npt.NDArray[np.float32] = self._file["items/embedding"][...]
        return values

    def labels(self, column: str = "label") -> npt.NDArray[Any]:
        """A manifest column or an item column as an array with one value per item.

        Raises:
            SetupError: there is no such column; the message lists those there are.
        """
        if column in self.meta:
            return self.meta[column]
        if column in self.items:
            return self.items[column]
        known = ", ".join([*self.meta, "modality", "patient"])
        raise SetupError(f"{self.path.name}: no column {column!r}", remedy=f"columns here: {known}")

    def find(self, item: str | int) -> int:
        """Number of an item given by id or number.

        Raises:
            SetupError: there is no such item.
        """
        if isinstance(item, (int, np.integer)):
            return int(item)
        place = int(np.searchsorted(np.asarray(self.ids, dtype=object), item))
        if place >= len(self.ids) or self.ids[place] != item:
            raise SetupError(f"{self.path.name}: no item {item!r}", remedy="`umedfeat info --items` lists them")
        return place

    def detail(self, item: str | int) -> dict[str, Any]:
        """Further facts of an item: window, decoder, vendor, flags …"""
        return dict(json.loads(self.items["detail"][self.find(item)]))

    # ---- rows -----------------------------------------------------------------------------------------------------

    def rows(self, item: str | int | None = None) -> slice:
        """The rows of one item, or of all."""
        if item is None:
            return slice(0, self.n_rows)
        number = self.find(item)
        start = int(self.items["start"][number])
        return slice(start, start + int(self.items["count"][number]))

    @property
    def n_rows(self) -> int:
        """T, the number of rows (tiles, slices, images) of all items."""
        return int(self._file["features"].shape[0])

    def features(self, item: str | int | None = None) -> npt.NDArray[Any]:
        """(n, D) features of one item, or (T, D) of all."""
        values: npt.NDArray[Any] = self._file["features"][self.rows(item)]
        return values

    def coords(self, item: str | int | None = None) -> npt.NDArray[np.int64]:
        """(n, 2) x, y of the top-left corners in pixels of the source image (level 0 of a slide)."""
        values: npt.NDArray[np.int64] = self._file["coords"][self.rows(item)]
        return values

    def tiles(self, column: str, item: str | int | None = None) -> npt.NDArray[Any]:
        """(n,) of a row column: "item", "slice", "tissue" (0..1) or "position" (mm)."""
        values: npt.NDArray[Any] = self._file["tiles"][column][self.rows(item)]
        return values

    # ---- what is not in it ------------------------------------------------------------------------------------------

    @cached_property
    def failures(self) -> Table:
        """Inputs that failed: source, stage, error, message, remedy."""
        return read_table(self._file["failures"], FAILURE_COLUMNS)

    @cached_property
    def skipped(self) -> Table:
        """Files that are not inputs: source, reason."""
        return read_table(self._file["skipped"], SKIPPED_COLUMNS)

    @cached_property
    def dropped(self) -> Table:
        """Regions that could not be read: item (number), x, y, slice, reason."""
        return read_table(self._file["dropped"], DROPPED_COLUMNS)

    def torch_dataset(self, unit: str = "item", *, label: str | None = None) -> FeatureDataset:
        """A ``torch.utils.data.Dataset`` that opens the file again in every DataLoader worker.

        Args:
            unit: "item" (one pooled vector per input), "bag" (all rows of an input) or "tile" (one row).
            label: a column for the label; classes are numbered in sorted order (``dataset.classes``).
        """
        from umedfeat.store.torch_dataset import FeatureDataset

        return FeatureDataset(self.path, unit, None if label is None else self.labels(label))


def _opened(path: Path) -> h5py.File:
    if not path.is_file():
        raise SetupError(f"{path}: no such feature file", remedy="write one with `umedfeat extract`, or give its path")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise OutputError(f"{path}: not a feature file, or damaged", remedy="`umedfeat extract` writes one") from error
    fault = _fault(file.attrs)
    if fault:
        file.close()
        raise OutputError(f"{path}: {fault[0]}", remedy=fault[1])
    return file


def _fault(attributes: Mapping[str, Any]) -> tuple[str, str] | None:
    if "schema" not in attributes or "fingerprint" not in attributes:
        return "an HDF5 file, but not written by umedfeat", "`umedfeat extract` writes feature files"
    if int(attributes["schema"]) > SCHEMA:
        return f"schema {attributes['schema']} is newer than this version reads ({SCHEMA})", "upgrade umedfeat"
    if not attributes.get("complete", False):
        return "incomplete", "run `umedfeat extract` again; it resumes"
    return None
