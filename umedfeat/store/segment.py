"""Segments: small complete feature files in ``<out>.partial/``; a killed process leaves only whole ones."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from umedfeat.errors import OutputError
from umedfeat.store.file_writer import Contents, write_file
from umedfeat.store.item import Item, item_row, mean_embedding, refuse_unstorable
from umedfeat.store.rows import Rows, rows_sha256
from umedfeat.store.schema import DROPPED_COLUMNS, FAILURE_COLUMNS, ITEM_COLUMNS, SKIPPED_COLUMNS, Header
from umedfeat.store.table import Table, concatenate, text_array

__all__ = ["SegmentWriter", "partial_folder", "segment_files"]

_SEGMENT_BYTES = 64 << 20
_SEGMENT_SECONDS = 60.0
#: What an item weighs in memory besides its rows (its plan, its texts): a hundred thousand radiographs are many items.
_ITEM_BYTES = 8 << 10
_BLOCK = 8192


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
        seconds: an item waits no longer than this, even if no other follows it.
    """

    def __init__(self, folder: Path, header: Header, dim: int, seconds: float = _SEGMENT_SECONDS) -> None:
        self._folder = folder
        self._header = header
        self._dim = dim
        self._seconds = seconds
        self._items: list[Item] = []
        self._bytes = 0
        self._guard = threading.RLock()
        self._timer: threading.Timer | None = None
        self._fault: OutputError | None = None

    def add(self, item: Item) -> None:
        """Take an item.

        Raises:
            OutputError: features of the wrong shape or not finite, or a segment cannot be written.
        """
        refuse_unstorable(item, self._dim, self._header.dtype)
        with self._guard:
            self._raise_fault()
            self._items.append(item)
            self._bytes += item.features.nbytes + item.plan.regions.nbytes + _ITEM_BYTES
            if self._bytes >= _SEGMENT_BYTES:
                self.flush()
            elif self._timer is None:
                self._timer = threading.Timer(self._seconds, self._flush_in_time)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what was collected, safely on disk when this returns. What cannot be written is kept for a next try.

        Raises:
            OutputError: the disk is full or the folder cannot be written.
        """
        with self._guard:
            self._stop_timer()
            self._raise_fault()
            if self._items:
                self._write()
                self._items, self._bytes = [], 0

    def close(self) -> None:
        """Stop the clock; nothing is written."""
        with self._guard:
            self._stop_timer()

    def _flush_in_time(self) -> None:
        with self._guard:
            try:
                self.flush()
            except OutputError as error:
                self._fault = error

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self._folder}: cannot be made ({error.strerror})", remedy="choose another --out"
            ) from error
        items = list({item.source.id: item for item in self._items}.values())
        items.sort(key=lambda item: item.source.id)
        rows = [_rows_of(item, self._header.dtype) for item in items]
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.h5"
        write_file(self._folder / name, self._header, self._dim, _contents_of(items, rows), _blocks(rows))


def _blocks(rows: list[Rows]) -> Iterator[Rows]:
    for part in rows:
        yield from part.blocks(_BLOCK)


def _rows_of(item: Item, dtype: str) -> Rows:
    regions = item.plan.regions
    coords = np.stack([regions["x"], regions["y"]], axis=1)
    features = item.features if item.features.dtype == dtype else item.features.astype(dtype)
    return Rows(features, coords, regions["slice"], regions["tissue"], regions["position"])


def _contents_of(items: list[Item], rows: list[Rows]) -> Contents:
    described = [item_row(item, rows_sha256(part)) for item, part in zip(items, rows, strict=True)]
    embedding = np.stack([mean_embedding(item.features) for item in items])
    names = sorted({name for item in items for name in item.source.meta})
    meta = {name: text_array([str(item.source.meta.get(name, "")) for item in items]) for name in names}
    return Contents(
        items=table_of(described, ITEM_COLUMNS),
        embedding=iter([embedding]),
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
