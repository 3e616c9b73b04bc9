"""Segments: small complete feature files in ``<out>.partial/``; a killed process leaves only whole ones."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from umedfeat.errors import OutputError
from umedfeat.store.file_writer import Contents, Rows, write_file
from umedfeat.store.item import Item, item_row, mean_embedding, rows_sha256
from umedfeat.store.schema import DROPPED_COLUMNS, FAILURE_COLUMNS, ITEM_COLUMNS, SKIPPED_COLUMNS, Header
from umedfeat.store.table import Table, concatenate, text_array

__all__ = ["SegmentWriter", "partial_folder", "segment_files"]

_SEGMENT_BYTES = 64 << 20
_SEGMENT_SECONDS = 60.0


def partial_folder(out: Path) -> Path:
    """Where the segments of an unfinished output lie."""
    return out.with_name(out.name + ".partial")


def segment_files(out: Path) -> list[Path]:
    """The whole segments of an unfinished output, by name."""
    return sorted(partial_folder(out).glob("*.h5"))


class SegmentWriter:
    """Collects finished items and writes them as a segment when 64 MiB or 60 s are full.

    Several writers (one per device) may share a folder: names never collide.

    Args:
        folder: ``partial_folder(out)``; made on first use.
        header: settings of the features.
        dim: D.
    """

    def __init__(self, folder: Path, header: Header, dim: int) -> None:
        self._folder = folder
        self._header = header
        self._dim = dim
        self._items: list[Item] = []
        self._bytes = 0
        self._since = time.monotonic()

    def add(self, item: Item) -> None:
        """Take an item.

        Raises:
            OutputError: features of the wrong shape or not finite, or the segment cannot be written.
        """
        if item.features.shape != (len(item.plan.regions), self._dim):
            shape = item.features.shape
            raise OutputError(
                f"{item.source.name}: features {shape} do not fit {len(item.plan.regions)} rows × {self._dim}"
            )
        if not self._items:
            self._since = time.monotonic()
        self._items.append(item)
        self._bytes += item.features.nbytes
        if self._bytes >= _SEGMENT_BYTES or time.monotonic() - self._since >= _SEGMENT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was collected, safely on disk when this returns."""
        if not self._items:
            return
        items, self._items, self._bytes = self._items, [], 0
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self._folder}: cannot be made ({error.strerror})", remedy="choose another --out"
            ) from error
        rows = [_rows_of(item, self._header.dtype) for item in items]
        contents = _contents_of(items, rows, self._dim)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.h5"
        write_file(self._folder / name, self._header, self._dim, contents, iter(enumerate(rows)))


def _rows_of(item: Item, dtype: str) -> Rows:
    regions = item.plan.regions
    coords = np.stack([regions["x"], regions["y"]], axis=1)
    features = np.asarray(item.features, dtype=dtype)
    return Rows(features, coords, regions["slice"], regions["tissue"], regions["position"])


def _contents_of(items: list[Item], rows: list[Rows], dim: int) -> Contents:
    described = [
        item_row(item, rows_sha256(part.features, part.coords, part.slice))
        for item, part in zip(items, rows, strict=True)
    ]
    embedding = np.stack([mean_embedding(item.features, item.source.name) for item in items])
    names = sorted({name for item in items for name in item.source.meta})
    meta = {name: text_array([str(item.source.meta.get(name, "")) for item in items]) for name in names}
    return Contents(
        items=table_of(described, ITEM_COLUMNS),
        embedding=embedding.reshape(-1, dim),
        meta=meta,
        dropped=table_of(list(_dropped_rows(items)), DROPPED_COLUMNS),
        failures=concatenate([], FAILURE_COLUMNS),
        skipped=concatenate([], SKIPPED_COLUMNS),
    )


def _dropped_rows(items: list[Item]) -> Iterator[dict[str, Any]]:
    for number, item in enumerate(items):
        for drop in item.dropped:
            yield {"item": number, "x": drop.x, "y": drop.y, "slice": drop.slice, "reason": drop.reason}


def table_of(rows: list[dict[str, Any]], columns: dict[str, str]) -> Table:
    """Rows to columns of the schema's kinds."""
    return {
        name: text_array([str(row[name]) for row in rows])
        if kind == "str"
        else np.array([row[name] for row in rows], dtype=kind)
        for name, kind in columns.items()
    }
