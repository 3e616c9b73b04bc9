"""What a study needs of a feature file: items with their columns, rows on demand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat.errors import CohortError, SetupError

__all__ = ["FeatureTable", "read_table"]

Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class FeatureTable:
    """The items of one feature file that have rows.

    Attributes:
        path: of the file. encoder: name. fingerprint: of the settings.
        ids, sources, patients, content: (I,) text columns; patients are pseudonyms or "".
        meta: the manifest's own columns.
        start, count: (I,) rows of each item.
        empty: items without rows (a slide without tissue), left out of everything else.
    """

    path: Path
    encoder: str
    fingerprint: str
    ids: Texts
    sources: Texts
    patients: Texts
    content: Texts
    meta: Mapping[str, Texts]
    start: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    empty: int

    def pooled(self, items: npt.NDArray[np.intp], how: str) -> npt.NDArray[np.float32]:
        """(I, D) one row per item: the stored mean, or "max", or "mean+std" (I, 2 D) of its rows."""
        with h5py.File(self.path, "r") as file:
            if how == "mean":
                stored: npt.NDArray[np.float32] = file["items/embedding"][:].astype(np.float32)[self._row[items]]
                return stored
            features = file["features"]
            return np.stack([_pool(features[self._rows(item)].astype(np.float32), how) for item in items])

    def rows(self, items: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
        """(N, D) all rows of some items, and the place (N,) of each row's item in ``items``."""
        owner = np.repeat(np.arange(len(items)), self.count[items])
        with h5py.File(self.path, "r") as file:
            features = file["features"]
            parts = np.empty((len(owner), features.shape[1]), dtype=np.float32)
            end = 0
            for item in items:
                begin, end = end, end + int(self.count[item])
                parts[begin:end] = features[self._rows(int(item))]
        return parts, owner

    def _rows(self, item: int) -> slice:
        return slice(int(self.start[item]), int(self.start[item] + self.count[item]))

    _row: npt.NDArray[np.intp] = None  # type: ignore[assignment]


def _pool(rows: npt.NDArray[np.float32], how: str) -> npt.NDArray[np.float32]:
    if how == "max":
        return np.asarray(rows.max(axis=0))
    return np.concatenate([rows.mean(axis=0), rows.std(axis=0)])


def read_table(path: Path) -> FeatureTable:
    """Read the columns of a feature file.

    Raises:
        SetupError: there is no such file, or it is not a feature file.
    """
    if not path.is_file():
        raise SetupError(
            f"{path}: no such feature file", remedy="name it with --features, or make one: umedfeat extract --help"
        )
    try:
        with h5py.File(path, "r") as file:
            return _columns(path, file)
    except (OSError, KeyError) as error:
        raise SetupError(f"{path}: not a feature file ({error})", remedy="umedfeat verify tells more") from error


def _columns(path: Path, file: h5py.File) -> FeatureTable:
    count = file["items/count"][:].astype(np.int64)
    kept = np.flatnonzero(count > 0)
    if not len(kept):
        raise CohortError(f"{path.name}: it holds no features", remedy="umedfeat info tells what happened")
    meta = file.get("items/meta", {})
    return FeatureTable(
        path=path,
        encoder=_encoder(file),
        fingerprint=str(file.attrs.get("fingerprint", "")),
        ids=_text(file["items/id"], kept),
        sources=_text(file["items/source"], kept),
        patients=_text(file["items/patient"], kept),
        content=_text(file["items/content_sha256"], kept),
        meta={name: _text(meta[name], kept) for name in meta},
        start=file["items/start"][:].astype(np.int64)[kept],
        count=count[kept],
        empty=int(len(count) - len(kept)),
        _row=kept,
    )


def _text(column: h5py.Dataset, kept: npt.NDArray[np.intp]) -> Texts:
    values = column.asstr()[:] if h5py.check_string_dtype(column.dtype) else column[:]
    return np.asarray([str(value).strip() for value in values], dtype=np.str_)[kept]


def _encoder(file: h5py.File) -> str:
    """The encoder's name, from an attribute or from its settings."""
    value = file.attrs.get("encoder", "")
    text = value.decode() if isinstance(value, bytes) else str(value)
    if text.startswith("{"):
        return str(json.loads(text).get("name", ""))
    return text
