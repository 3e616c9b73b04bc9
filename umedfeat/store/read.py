"""FeatureFile: the way to read a feature file from Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat.errors import OutputError, SetupError
from umedfeat.store.guard import naming_damage, open_guarded
from umedfeat.store.item_checks import item_faults
from umedfeat.store.rows import ROW_DATASETS, Rows
from umedfeat.store.schema import (
    DROPPED_COLUMNS,
    FAILURE_COLUMNS,
    ITEM_COLUMNS,
    SKIPPED_COLUMNS,
    TOKEN_COLUMNS,
    Grid,
    Header,
)
from umedfeat.store.table import Table, read_table, read_texts

if TYPE_CHECKING:
    from umedfeat.store.torch_dataset import FeatureDataset

__all__ = ["UNKNOWN_KEY", "FeatureFile"]

#: Key check of a file with pseudonyms that was written before there were key checks.
UNKNOWN_KEY = "unknown"


class FeatureFile:
    """A feature file, opened for reading.

    One vector per input, with labels from the manifest, is all that a classifier needs:

    >>> file = FeatureFile("feats.h5")
    >>> file.ids
    ('benign/a', 'benign/b', 'malignant/c')
    >>> file.embeddings.shape                      # (I, D) float32: the mean of each item's rows
    (3, 4)
    >>> file.labels("label").tolist()              # a manifest column, one string per item
    ['benign', 'benign', 'malignant']

    Every tile or slice has a row of its own:

    >>> file.features("malignant/c").shape         # (n, D)
    (2, 4)
    >>> file.coords("malignant/c").tolist()        # x, y of the top-left corners in pixels of the source image
    [[0, 0], [224, 0]]
    >>> {name: len(rows) for name, rows in file}
    {'benign/a': 3, 'benign/b': 0, 'malignant/c': 2}

    For training in torch, in as many DataLoader workers as you like:

    >>> dataset = file.torch_dataset("tile", label="label")
    >>> len(dataset), dataset.classes
    (5, ('benign', 'malignant'))

    What made the features, and what is missing:

    >>> file.encoder["name"], file.policy["slide"].get("mpp")
    ('umedpt', 0.5)
    >>> file.failures["source"].tolist()
    ['broken.svs']
    >>> file.close()                               # or ``with FeatureFile(…) as file:``

    Items are sorted by id. Item i owns rows ``start[i] : start[i] + count[i]`` of ``/features``; a slide without tissue
    owns none.

    Args:
        path: the file.

    Raises:
        SetupError: missing, not a feature file, incomplete, damaged, written by a newer version, or it points out of
            itself (links, external storage, virtual datasets): files of others are not trusted.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file, self._facts = open_guarded(self.path)

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
        return self._facts.dim

    @property
    def dtype(self) -> str:
        """ "float32" or "float16"."""
        return self._facts.dtype

    @property
    def encoder(self) -> dict[str, Any]:
        """Name, weights sha256, precision … of the encoder."""
        return self._facts.encoder

    @property
    def policy(self) -> dict[str, Any]:
        """How pixels were read (see ``umedfeat.Policy``)."""
        return self._facts.policy

    @property
    def header(self) -> Header:
        """Encoder, policy, dtype and key check together."""
        return Header(self.encoder, self.policy, self.dtype, self.key_check)

    @property
    def fingerprint(self) -> str:
        """Files with the same fingerprint hold comparable features."""
        return self._facts.fingerprint

    @property
    def key_check(self) -> str:
        """Of the key of the pseudonyms in it: "" where there are none, "unknown" where an older version wrote them."""
        if self._facts.schema < 2 and (self.items["patient"] != "").any():
            return UNKNOWN_KEY
        return self._facts.key_check

    @property
    def shard(self) -> str:
        """Which part of a run it is, as ``umedfeat.store.Shard`` writes it; "" for a whole one."""
        return self._facts.shard

    @property
    def version(self) -> str:
        """Version of umedfeat that wrote it."""
        return self._facts.version

    # ---- items ----------------------------------------------------------------------------------------------------

    @cached_property
    def items(self) -> Table:
        """Column name → array with one value per item: id, source, format, modality, patient, start, count, mpp_x …

        Raises:
            OutputError: they contradict each other or the rows.
        """
        with naming_damage(self.path):
            items = read_table(self._file["items"], ITEM_COLUMNS)
            fault = next(item_faults(items, self.n_rows), None)
        if fault is not None:
            raise OutputError(f"{self.path.name}: damaged: {fault}", remedy="extract its inputs again")
        return items

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Item ids, sorted."""
        return tuple(self.items["id"])

    @cached_property
    def meta(self) -> dict[str, npt.NDArray[Any]]:
        """The manifest's own columns: name → strings, one per item ("" where a row had none)."""
        with naming_damage(self.path):
            group = self._file["items/meta"]
            return {unquote(name): read_texts(group, name) for name in group}

    @property
    def embeddings(self) -> npt.NDArray[np.float32]:
        """(I, D) float32: the mean of each item's rows, zeros for items without rows."""
        return self.read("items/embedding", slice(None))

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
            if not -len(self) <= item < len(self):
                raise SetupError(f"{self.path.name}: no item {item}", remedy=f"there are {len(self)}, from 0 on")
            return int(item) % len(self)
        if item not in self._numbers:
            near = get_close_matches(item, self.ids, 1)
            remedy = f"did you mean {near[0]!r}?" if near else "`umedfeat info --items` lists them"
            raise SetupError(f"{self.path.name}: no item {item!r}", remedy=remedy)
        return self._numbers[item]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.ids)}

    def detail(self, item: str | int) -> dict[str, Any]:
        """Further facts of an item: window, decoder, vendor, flags …"""
        with naming_damage(self.path):
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
        return self.read("features", self.rows(item))

    def coords(self, item: str | int | None = None) -> npt.NDArray[np.int64]:
        """(n, 2) x, y of the top-left corners in pixels of the source image (level 0 of a slide)."""
        return self.read("coords", self.rows(item))

    @property
    def grid(self) -> Grid | None:
        """(rows, columns, C) of the tokens of each region; None where the file holds none (``extract --tokens``)."""
        return self._facts.grid

    def tokens(self, item: str | int, rows: slice = slice(None)) -> npt.NDArray[Any]:
        """(n, rows, columns, C) dense features of an item's regions, or of some of them: one vector per patch.

        Patch (r, c) of a region of side s covers the pixels from (r s / rows, c s / columns) on, s / rows high.

        Raises:
            SetupError: the file holds none.
        """
        if self.grid is None:
            raise SetupError(f"{self.path.name}: holds no tokens", remedy="extract with --tokens")
        every = self.rows(item)
        first, last, step = rows.indices(every.stop - every.start)
        return self.read("tokens", slice(every.start + first, every.start + max(first, last), step))

    @property
    def token_checksums(self) -> Table:
        """``tokens_sha256`` of every item, as a column; empty where the file holds no tokens."""
        if self.grid is None:
            return {}
        with naming_damage(self.path):
            return read_table(self._file["items"], TOKEN_COLUMNS)

    def tiles(self, column: str, item: str | int | None = None) -> npt.NDArray[Any]:
        """(n,) of a row column: "item", "slice", "tissue" (0..1) or "position" (mm)."""
        return self.read(f"tiles/{column}", self.rows(item))

    def blocks(self, size: int = 8192) -> Iterator[Rows]:
        """All rows in blocks of at most ``size``, in order: flat memory however large the file is."""
        for first in range(0, self.n_rows, size):
            place = slice(first, min(self.n_rows, first + size))
            yield Rows(*(self.read(name, place) for name, _ in ROW_DATASETS.values()))

    def read(self, name: str, place: slice) -> npt.NDArray[Any]:
        """Some rows of a dataset, e.g. "features", as one error where they cannot be read.

        Raises:
            OutputError: damaged, or the disk fails.
        """
        with naming_damage(self.path):
            values: npt.NDArray[Any] = self._file[name][place]
            return values

    def dataset(self, name: str) -> h5py.Dataset:
        """A dataset of the HDF5 file itself, e.g. "features", for slices larger than memory."""
        return self._file[name]

    # ---- what is not in it ------------------------------------------------------------------------------------------

    @cached_property
    def failures(self) -> Table:
        """Inputs that failed: source, stage, error, message, remedy."""
        return self._table("failures", FAILURE_COLUMNS)

    @cached_property
    def skipped(self) -> Table:
        """Files that are not inputs: source, reason."""
        return self._table("skipped", SKIPPED_COLUMNS)

    @cached_property
    def dropped(self) -> Table:
        """Regions that could not be read: item (number), x, y, slice, reason.

        Raises:
            OutputError: one belongs to no item.
        """
        dropped = self._table("dropped", DROPPED_COLUMNS)
        if ((dropped["item"] < 0) | (dropped["item"] >= len(self))).any():
            raise OutputError(f"{self.path.name}: damaged: dropped/item points to no item", remedy="extract it again")
        return dropped

    def _table(self, name: str, columns: Mapping[str, str]) -> Table:
        with naming_damage(self.path):
            return read_table(self._file[name], columns)

    def torch_dataset(self, unit: str = "item", *, label: str | None = None) -> FeatureDataset:
        """A ``torch.utils.data.Dataset`` that opens the file again in every DataLoader worker.

        Args:
            unit: "item" (one pooled vector per input), "bag" (all rows of an input) or "tile" (one row).
            label: a column for the label; items without one are left out; classes are numbered in sorted order
                (``dataset.classes``).
        """
        from umedfeat.store.torch_dataset import FeatureDataset

        return FeatureDataset(self, unit, None if label is None else self.labels(label))
