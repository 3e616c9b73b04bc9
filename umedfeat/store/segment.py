"""Segments: small complete feature files in ``<out>.partial/``; a killed process leaves only whole ones."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Plan, Source
from umedfeat.disk.plain import read_plain
from umedfeat.errors import OutputError
from umedfeat.store.file_writer import Contents, write_file, written_whole
from umedfeat.store.item import Item, item_row, mean_embedding, refuse_unstorable
from umedfeat.store.rows import Rows, rows_sha256
from umedfeat.store.schema import (
    DROPPED_COLUMNS,
    FAILURE_COLUMNS,
    ITEM_COLUMNS,
    SKIPPED_COLUMNS,
    TOKEN_COLUMNS,
    Header,
)
from umedfeat.store.table import Table, concatenate, text_array
from umedfeat.store.tokens import Tokens, token_blocks, tokens_sha256

__all__ = [
    "SegmentPlace",
    "SegmentWriter",
    "claimed_place",
    "foreign_files",
    "leftovers",
    "partial_folder",
    "refuse_linked",
    "remove_segments",
    "segment_files",
]

_SEGMENT_BYTES = 64 << 20
_SEGMENT_SECONDS = 60.0
#: What an item weighs in memory besides its rows (its plan, its texts): a hundred thousand radiographs are many items.
_ITEM_BYTES = 8 << 10
_BLOCK = 8192
#: In the folder of segments: whose they are.
_OWNER = "owner"
_SEGMENT = re.compile(r"\d{20}-[0-9a-f]{8}-[0-9a-f]{8}\.h5")
#: Names that only our runs make, besides those of whole segments.
_OURS = re.compile(r"\d{20}-[0-9a-f]{8}-[0-9a-f]{8}\.damaged|\.(\d{20}-[0-9a-f-]{17}\.h5|owner)\.\d+\.tmp")


def partial_folder(out: Path) -> Path:
    """Where the segments of an unfinished output lie."""
    return out.with_name(out.name + ".partial")


def segment_files(out: Path) -> list[Path]:
    """The whole segments of an unfinished output, by name: those that its own runs have written, and nothing else."""
    folder = partial_folder(out)
    owner = _owner(folder)
    ours = re.compile(rf"\d{{20}}-{owner}-[0-9a-f]{{8}}\.h5")
    return [path for path in sorted(folder.glob("*.h5")) if owner and ours.fullmatch(path.name) and _is_plain(path)]


def foreign_files(out: Path) -> list[Path]:
    """What lies among the segments and is none: segments of other outputs, links, files of others."""
    folder = partial_folder(out)
    known = {*segment_files(out), folder / _OWNER}
    return [path for path in sorted(folder.glob("*")) if path not in known and not _OURS.fullmatch(path.name)]


def refuse_linked(out: Path) -> None:
    """Segments behind a link would be another folder's files, and be removed there.

    Raises:
        OutputError: a link, or no folder, stands where the segments go.
    """
    folder = partial_folder(out)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{folder}: a link or a file, not a folder of segments", remedy="remove it")


def remove_segments(out: Path) -> None:
    """Remove the segments of an output and what its runs left beside them; what others put there stays."""
    folder = partial_folder(out)
    for path in [*segment_files(out), *leftovers(out), *folder.glob("*.damaged"), folder / _OWNER]:
        if path.name == _OWNER or _OURS.fullmatch(path.name) or _SEGMENT.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()


def leftovers(out: Path) -> list[Path]:
    """Temporary files of killed runs."""
    return [path for path in partial_folder(out).glob(".*.tmp") if _OURS.fullmatch(path.name)]


def _owner(folder: Path) -> str:
    """8 hex digits that every segment of an output carries in its name; "" where there are none yet."""
    try:
        text = read_plain(folder / _OWNER).decode()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if re.fullmatch("[0-9a-f]{8}", text) else ""


def _claimed(folder: Path) -> str:
    """The owner of a folder of segments, which may be new."""
    owner = _owner(folder) or uuid.uuid4().hex[:8]
    if not _owner(folder):
        temporary = folder / f".{_OWNER}.{os.getpid()}.tmp"
        with written_whole(temporary, folder / _OWNER):
            temporary.write_text(owner)
    return owner


class SegmentPlace(NamedTuple):
    """Where others write segments of an output: the arguments of their ``SegmentWriter``."""

    folder: Path
    header: Header
    dim: int


def claimed_place(out: Path, header: Header, dim: int) -> SegmentPlace:
    """The folder of an output's segments, made and claimed, so that others may begin to write there at once.

    Raises:
        OutputError: it cannot be made.
    """
    folder = partial_folder(out.absolute())
    _make(folder)
    _claimed(folder)
    return SegmentPlace(folder, header, dim)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})", remedy="choose another --out") from error


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


class SegmentWriter:
    """Collects finished items and writes them as a segment when 64 MiB or 60 s are full.

    A thread writes, so that the run goes on meanwhile; at most one segment is being written while the next fills.
    Several writers may share a folder: names never collide.

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
        self._writing: tuple[list[Item], Future[None]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segment")
        self._guard = threading.RLock()
        self._timer: threading.Timer | None = None
        self._fault: OutputError | None = None

    def add(self, item: Item) -> None:
        """Take an item.

        Raises:
            OutputError: features of the wrong shape or not finite, or a segment could not be written.
        """
        refuse_unstorable(item, self._dim, self._header.dtype, self._header.grid)
        with self._guard:
            self._raise_fault()
            self._items.append(item)
            self._bytes += item.nbytes + _ITEM_BYTES
            if self._bytes >= _SEGMENT_BYTES:
                self._hand_over()
            elif self._timer is None:
                self._timer = threading.Timer(self._seconds, self._hand_over_in_time)
                self._timer.daemon = True
                self._timer.start()

    def item_of(self, source: Source, plan: Plan, given: npt.NDArray[np.float32], dropped: tuple[Dropped, ...]) -> Item:
        """What an encoder gave of each region of a source, as this file takes it."""
        return Item.of(source, plan, given, dropped, self._dim, self._header.grid)

    def flush(self) -> None:
        """Write what was collected, safely on disk when this returns. What cannot be written is kept for a next try.

        Raises:
            OutputError: the disk is full or the folder cannot be written.
        """
        with self._guard:
            self._hand_over()
            self._wait()

    def close(self) -> None:
        """Stop the clock and the thread; what was not flushed is not written."""
        with self._guard:
            self._stop_timer()
            self._thread.shutdown()

    def _hand_over(self) -> None:
        self._stop_timer()
        self._wait()
        if self._items:
            self._writing = self._items, self._thread.submit(self._write, self._items)
            self._items, self._bytes = [], 0

    def _hand_over_in_time(self) -> None:
        with self._guard:
            try:
                self._hand_over()
            except OutputError as error:
                self._fault = error

    def _raise_fault(self) -> None:
        """Tell at once, not only when the next segment is full."""
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        if self._writing is not None and self._writing[1].done():
            self._wait()

    def _wait(self) -> None:
        """Until the segment that is being written is safe."""
        if self._writing is None:
            return
        items, written = self._writing
        try:
            written.result()
        except OutputError:
            self._items = [*items, *self._items]
            raise
        finally:
            if written.done():
                self._writing = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self, collected: list[Item]) -> None:
        _make(self._folder)
        items = list({item.source.id: item for item in collected}.values())
        items.sort(key=lambda item: item.source.id)
        rows = [_rows_of(item, self._header.dtype) for item in items]
        name = f"{time.time_ns():020d}-{_claimed(self._folder)}-{uuid.uuid4().hex[:8]}.h5"
        contents = _contents_of(items, rows, self._header)
        write_file(self._folder / name, self._header, self._dim, contents, _blocks(rows))


def _blocks(rows: list[Rows]) -> Iterator[Rows]:
    for part in rows:
        yield from part.blocks(_BLOCK)


def _rows_of(item: Item, dtype: str) -> Rows:
    regions = item.plan.regions
    coords = np.stack([regions["x"], regions["y"]], axis=1)
    features = item.features if item.features.dtype == dtype else item.features.astype(dtype)
    return Rows(features, coords, regions["slice"], regions["tissue"], regions["position"])


def _contents_of(items: list[Item], rows: list[Rows], header: Header) -> Contents:
    described = [item_row(item, rows_sha256(part)) for item, part in zip(items, rows, strict=True)]
    columns, tokens = ITEM_COLUMNS, None
    if header.grid is not None:
        grids = [item.tokens for item in items if item.tokens is not None]
        columns, tokens = ITEM_COLUMNS | TOKEN_COLUMNS, Tokens(header.grid, token_blocks(grids, header.dtype))
        for row, grid in zip(described, grids, strict=True):
            row["tokens_sha256"] = tokens_sha256(grid, header.dtype)
    embedding = np.stack([mean_embedding(item.features) for item in items])
    names = sorted({name for item in items for name in item.source.kept_meta})
    meta = {name: text_array([str(item.source.kept_meta.get(name, "")) for item in items]) for name in names}
    return Contents(
        items=table_of(described, columns),
        embedding=iter([embedding]),
        meta=meta,
        dropped=table_of(list(_dropped_rows(items)), DROPPED_COLUMNS),
        failures=concatenate([], FAILURE_COLUMNS),
        skipped=concatenate([], SKIPPED_COLUMNS),
        tokens=tokens,
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
