"""Writes one complete feature file in one pass; segments and packed files come out of the same function."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat._version import __version__
from umedfeat.errors import OutputError
from umedfeat.store.schema import (
    DROPPED_COLUMNS,
    FAILURE_COLUMNS,
    ITEM_COLUMNS,
    SCHEMA,
    SKIPPED_COLUMNS,
    TILE_COLUMNS,
    Header,
    chunk_rows,
)
from umedfeat.store.table import Table, write_column, write_table

__all__ = ["Contents", "Rows", "write_file", "written_whole"]

#: Rows are collected into blocks of this many chunks, so that every write is aligned to chunks.
_CHUNKS_PER_WRITE = 16


@dataclass(frozen=True)
class Rows:
    """Rows of one item, or a part of them: features (n, D), coords (n, 2), slice, tissue, position (n,)."""

    features: npt.NDArray[Any]
    coords: npt.NDArray[np.int64]
    slice: npt.NDArray[np.int32]
    tissue: npt.NDArray[np.float32]
    position: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Contents:
    """Everything of a file but its rows. Tables as in the schema; ``meta``: name → strings, one per item."""

    items: Table
    embedding: npt.NDArray[np.float32]
    meta: dict[str, npt.NDArray[Any]]
    dropped: Table
    failures: Table
    skipped: Table


def write_file(path: Path, header: Header, dim: int, contents: Contents, rows: Iterator[tuple[int, Rows]]) -> None:
    """Write a feature file under a temporary name, flush it to the disk, rename it.

    Args:
        path: final place; an existing file is replaced at the end, never damaged.
        header: settings; their fingerprint goes into the file.
        dim: D.
        contents: items sorted as they shall stand; ``start`` is filled in here.
        rows: (item number, rows) in item order; an item may come in several parts.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with written_whole(temporary, path), h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
        _write_attributes(file, header, dim)
        counts = contents.items["count"].astype(np.int64)
        contents.items["start"] = np.cumsum(counts) - counts
        _write_rows(file, header, dim, int(counts.sum()), rows)
        items = write_table(file, "items", ITEM_COLUMNS, contents.items)
        items.create_dataset("embedding", data=contents.embedding.reshape(-1, dim), track_times=False)
        meta = items.create_group("meta")
        for name in sorted(contents.meta):
            write_column(meta, name, contents.meta[name])
        write_table(file, "dropped", DROPPED_COLUMNS, contents.dropped)
        write_table(file, "failures", FAILURE_COLUMNS, contents.failures)
        write_table(file, "skipped", SKIPPED_COLUMNS, contents.skipped)
        _describe_single_slide(file, header, contents)
        file.attrs["complete"] = True


@contextlib.contextmanager
def written_whole(temporary: Path, path: Path) -> Iterator[None]:
    """Whatever happens inside, ``path`` is the old file or the whole new one; never a part."""
    try:
        yield
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _explained(error: OSError, path: Path) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        remedy = "free some space and run the same command again: finished inputs are kept"
        return OutputError(f"{path.name}: the disk is full", remedy=remedy)
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return OutputError(
            f"{path}: the folder cannot be written", remedy="choose another --out, or change its permissions"
        )
    return OutputError(
        f"{path.name}: writing failed ({error.strerror or type(error).__name__})", remedy="check the disk"
    )


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_attributes(file: h5py.File, header: Header, dim: int) -> None:
    settings = json.loads(header.to_json())
    file.attrs["schema"] = SCHEMA
    file.attrs["complete"] = False
    file.attrs["umedfeat"] = __version__
    file.attrs["encoder_name"] = str(header.encoder.get("name", ""))
    file.attrs["weights_sha256"] = str(header.encoder.get("weights_sha256", ""))
    file.attrs["encoder"] = json.dumps(settings["encoder"], sort_keys=True)
    file.attrs["preprocessing"] = json.dumps(settings["policy"], sort_keys=True)
    file.attrs["dim"] = dim
    file.attrs["dtype"] = header.dtype
    file.attrs["fingerprint"] = header.fingerprint


def _write_rows(file: h5py.File, header: Header, dim: int, total: int, rows: Iterator[tuple[int, Rows]]) -> None:
    step = chunk_rows(dim, header.dtype)
    targets = {
        "features": _dataset(file, "features", (total, dim), header.dtype, (step, dim)),
        "coords": _dataset(file, "coords", (total, 2), "<i8", (65536, 2)),
    }
    tiles = file.create_group("tiles")
    targets |= {name: _dataset(tiles, name, (total,), kind, (131072,)) for name, kind in TILE_COLUMNS.items()}
    block = _Block(targets, step * _CHUNKS_PER_WRITE)
    for number, part in rows:
        item = np.full(len(part.features), number, dtype=np.int32)
        columns = {"features": part.features, "coords": part.coords, "item": item, "slice": part.slice}
        block.add(columns | {"tissue": part.tissue, "position": part.position})
    block.flush()
    if block.written != total:
        raise OutputError(
            f"wrote {block.written} of {total} rows", remedy="this is a fault of the program; please report it"
        )


def _dataset(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: str, chunks: tuple[int, ...]) -> h5py.Dataset:
    if shape[0] == 0:
        return group.create_dataset(name, shape=shape, dtype=dtype, track_times=False)
    chunks = (min(chunks[0], shape[0]), *chunks[1:])
    return group.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks, track_times=False)


class _Block:
    """Collects rows and writes them in aligned blocks."""

    def __init__(self, targets: dict[str, h5py.Dataset], size: int) -> None:
        self._targets = targets
        self._size = size
        self._waiting: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in targets}
        self._rows = 0
        self.written = 0

    def add(self, columns: dict[str, npt.NDArray[Any]]) -> None:
        length = len(columns["features"])
        first = 0
        while first < length:
            last = min(length, first + self._size - self._rows)
            for name, values in columns.items():
                self._waiting[name].append(values[first:last])
            self._rows += last - first
            first = last
            if self._rows == self._size:
                self.flush()

    def flush(self) -> None:
        if not self._rows:
            return
        place = slice(self.written, self.written + self._rows)
        for name, parts in self._waiting.items():
            target = self._targets[name]
            target[place] = np.concatenate([np.asarray(part, dtype=target.dtype) for part in parts])
            parts.clear()
        self.written += self._rows
        self._rows = 0


def _describe_single_slide(file: h5py.File, header: Header, contents: Contents) -> None:
    """A file of one slide opens in slide tools as it is: they look for these attributes of /coords."""
    if len(contents.items["id"]) != 1:
        return
    facts = {name: values[0] for name, values in contents.items.items()}
    if not facts["tile_extent"] > 0 or not facts["mpp_x"] > 0:
        return
    slide: Any = header.policy["slide"]
    attributes: Sequence[tuple[str, Any]] = (
        ("patch_size", int(slide["tile_size"])),
        ("patch_size_level0", round(float(facts["tile_extent"]))),
        ("level0_magnification", 10.0 / float(facts["mpp_x"])),
        ("target_magnification", 10.0 / float(slide["mpp"])),
        ("overlap", int(slide["overlap"])),
        ("name", str(facts["id"]).rpartition("/")[2]),
        ("level0_width", int(facts["width"])),
        ("level0_height", int(facts["height"])),
    )
    for name, value in attributes:
        file["coords"].attrs[name] = value
