"""Writes one complete feature file in one pass; segments and packed files come out of the same function."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from umedfeat._version import __version__
from umedfeat.disk.space import is_full, reserve
from umedfeat.errors import OutputError
from umedfeat.store.new_hdf5 import Target, new_hdf5
from umedfeat.store.rows import ROW_DATASETS, Rows
from umedfeat.store.schema import (
    DROPPED_COLUMNS,
    FAILURE_COLUMNS,
    ITEM_COLUMNS,
    SCHEMA,
    SKIPPED_COLUMNS,
    TILE_COLUMNS,
    TOKEN_COLUMNS,
    TOKENS_SCHEMA,
    Header,
    chunk_rows,
)
from umedfeat.store.table import Table, quoted, write_column, write_table
from umedfeat.store.tokens import Tokens

__all__ = ["Contents", "block_rows", "move_whole", "slide_attributes", "write_file", "written_whole"]

_SLACK = 1 << 17
#: Files above this size are written back while they grow.
_LARGE = 256 << 20
_FREE_SPACE = "free some space and run the same command again: finished inputs are kept"

#: Rows are collected into blocks of this many chunks, so that every write is aligned to chunks.
_CHUNKS_PER_WRITE = 16


@dataclass(frozen=True)
class Contents:
    """Everything of a file but its rows.

    Attributes:
        items: as in the schema, in order; ``start`` is filled in while writing.
        embedding: blocks of the (I, D) means.
        meta: name → strings, one per item.
        dropped, failures, skipped: as in the schema.
        tokens: of all rows, where the header tells of them.
    """

    items: Table
    embedding: Iterator[npt.NDArray[Any]]
    meta: dict[str, npt.NDArray[Any]]
    dropped: Table
    failures: Table
    skipped: Table
    tokens: Tokens | None = None


def block_rows(dim: int, dtype: str) -> int:
    """Rows of one write: about 16 MiB, aligned to chunks."""
    return chunk_rows(dim, dtype) * _CHUNKS_PER_WRITE


def write_file(path: Path, header: Header, dim: int, contents: Contents, rows: Iterator[Rows]) -> None:
    """Write a feature file under a temporary name, flush it to the disk, rename it.

    Args:
        path: final place; an existing file is replaced at the end, never damaged.
        header: settings; their fingerprint goes into the file.
        dim: D.
        contents: items in the order in which they shall stand.
        rows: all rows in item order, in blocks of any size.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    counts = contents.items["count"].astype(np.int64)
    contents.items["start"] = np.cumsum(counts) - counts
    size = _size(header, dim, int(counts.sum()), contents)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with (
        written_whole(temporary, path),
        new_hdf5(temporary, libver=("earliest", "v110")) as (file, target),
        _reserved(file, temporary, path, size),
        _on_its_way(temporary, size),
    ):
        _write_attributes(file, header, dim)
        file.attrs["key_check"] = header.key_check if _holds_pseudonyms(contents.items) else ""
        _write_rows(file, header, dim, counts, _while_written(rows, target))
        if contents.tokens is not None:
            _write_tokens(file, header.dtype, int(counts.sum()), contents.tokens, target)
        columns = ITEM_COLUMNS if contents.tokens is None else ITEM_COLUMNS | TOKEN_COLUMNS
        items = write_table(file, "items", columns, contents.items)
        _write_embedding(items, len(counts), dim, contents.embedding)
        meta = items.create_group("meta")
        for name in sorted(contents.meta):
            write_column(meta, quoted(name), contents.meta[name])
        write_table(file, "dropped", DROPPED_COLUMNS, contents.dropped)
        write_table(file, "failures", FAILURE_COLUMNS, contents.failures)
        write_table(file, "skipped", SKIPPED_COLUMNS, contents.skipped)
        _describe_single_slide(file, header, contents)
        file.attrs["complete"] = True


@contextlib.contextmanager
def _reserved(file: h5py.File, temporary: Path, path: Path, size: int) -> Iterator[None]:
    """Take the space before writing, so that a full disk is told at once and with figures."""
    try:
        with temporary.open("rb+") as stream:
            reserve(stream.fileno(), size)
    except OSError as error:
        os.truncate(temporary, 0)
        if not is_full(error):
            raise
        free = shutil.disk_usage(temporary.parent).free
        text = f"{path.name}: the disk is full: {size / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free"
        raise OutputError(text, remedy=_FREE_SPACE) from error
    yield
    file.flush()
    used = file.id.get_filesize()
    file.close()
    os.truncate(temporary, used)


@contextlib.contextmanager
def _on_its_way(temporary: Path, size: int) -> Iterator[None]:
    """Let the disk work while rows are gathered: else all of it is waited for at the end."""
    if size < _LARGE:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_keep_syncing, args=(temporary, over), daemon=True, name="write back")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _keep_syncing(path: Path, over: threading.Event) -> None:
    with contextlib.suppress(OSError), path.open("rb+") as stream:  # a fault shows again in the last sync
        while not over.wait(0.2):
            os.fsync(stream.fileno())


def _while_written(rows: Iterator[Rows], target: Target) -> Iterator[Rows]:
    """The same rows, until one cannot be written: hours of reading are not spent on a file that is lost."""
    for block in rows:
        target.check()
        yield block


def _size(header: Header, dim: int, rows: int, contents: Contents) -> int:
    """Bytes that a file needs at most."""
    items = len(contents.items["id"])
    width = np.dtype(header.dtype).itemsize
    features = _whole_chunks(rows, chunk_rows(dim, header.dtype)) * dim * width
    embedding = _whole_chunks(items, chunk_rows(dim, "<f4")) * dim * 4
    columns = _whole_chunks(rows, 131072) * (16 + 16)
    if contents.tokens is not None:
        values = math.prod(contents.tokens.grid)
        features += _whole_chunks(rows, chunk_rows(values, header.dtype)) * values * width
    tables = (contents.items, contents.meta, contents.dropped, contents.failures, contents.skipped)
    texts = sum(_column_bytes(values) for table in tables for values in table.values())
    return int((features + embedding + columns + texts) * 1.002) + _SLACK


def _whole_chunks(rows: int, chunk: int) -> int:
    """Rows that so many take in chunks of at most ``chunk``."""
    return -(-rows // min(chunk, rows)) * min(chunk, rows) if rows else 0


def _column_bytes(values: npt.NDArray[Any]) -> int:
    if values.dtype != object:
        return int(values.nbytes)
    return len(values) * max((4 * len(str(value)) for value in values), default=1)


@contextlib.contextmanager
def written_whole(temporary: Path, path: Path) -> Iterator[None]:
    """Whatever happens inside, ``path`` is the old file or the whole new one; never a part.

    What stands under the temporary name goes first: a link there is not written through.
    """
    try:
        temporary.unlink(missing_ok=True)
        yield
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # HDF5 tells of a full disk as either
        raise _explained(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def move_whole(path: Path, target: Path) -> None:
    """Give a file that is safe on disk its final place in the same file system."""
    if path != target:
        path.replace(target)
        _sync_folder(target.parent)


def _explained(error: OSError | RuntimeError, path: Path) -> OutputError:
    number = getattr(error, "errno", None)
    if is_full(error):
        return OutputError(f"{path.name}: the disk is full", remedy=_FREE_SPACE)
    if number in (errno.EACCES, errno.EROFS, errno.EPERM):
        return OutputError(
            f"{path}: the folder cannot be written", remedy="choose another --out, or change its permissions"
        )
    fault = getattr(error, "strerror", None) or str(error).partition("(")[0].strip() or type(error).__name__
    return OutputError(f"{path.name}: writing failed ({fault})", remedy="check the disk")


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _holds_pseudonyms(items: Table) -> bool:
    return any((items[name] != "").any() for name in ("patient", "study", "series", "accession"))


def _write_attributes(file: h5py.File, header: Header, dim: int) -> None:
    settings = json.loads(header.to_json())
    file.attrs["schema"] = SCHEMA if header.grid is None else TOKENS_SCHEMA
    file.attrs["complete"] = False
    file.attrs["umedfeat"] = __version__
    file.attrs["encoder_name"] = str(header.encoder.get("name", ""))
    file.attrs["weights_sha256"] = str(header.encoder.get("weights_sha256", ""))
    file.attrs["encoder"] = json.dumps(settings["encoder"], sort_keys=True)
    file.attrs["preprocessing"] = json.dumps(settings["policy"], sort_keys=True)
    file.attrs["dim"] = dim
    file.attrs["dtype"] = header.dtype
    file.attrs["fingerprint"] = header.fingerprint
    if header.shard:
        file.attrs["shard"] = header.shard


def _write_rows(file: h5py.File, header: Header, dim: int, counts: npt.NDArray[np.int64], rows: Iterator[Rows]) -> None:
    total = int(counts.sum())
    features = _dataset(file, "features", (total, dim), header.dtype, (chunk_rows(dim, header.dtype), dim))
    coords = _dataset(file, "coords", (total, 2), "<i8", (65536, 2))
    tiles = file.create_group("tiles")
    columns = {name: _dataset(tiles, name, (total,), kind, (131072,)) for name, kind in TILE_COLUMNS.items()}
    ends, first = np.cumsum(counts), 0
    for block in _aligned(rows, block_rows(dim, header.dtype)):
        place = slice(first, first + len(block))
        features[place] = block.features
        coords[place] = block.coords
        columns["item"][place] = np.searchsorted(ends, np.arange(place.start, place.stop), side="right")
        columns["slice"][place] = block.slice
        columns["tissue"][place] = block.tissue
        columns["position"][place] = block.position
        first = place.stop
    _refuse_short(first, total)


def _write_tokens(file: h5py.File, dtype: str, total: int, tokens: Tokens, target: Target) -> None:
    chunk = chunk_rows(math.prod(tokens.grid), dtype)
    dataset = _dataset(file, "tokens", (total, *tokens.grid), dtype, (chunk, *tokens.grid))
    first = 0
    for block in tokens.blocks:
        target.check()
        dataset[first : first + len(block)] = block
        first += len(block)
    _refuse_short(first, total)


def _write_embedding(items: h5py.Group, total: int, dim: int, blocks: Iterator[npt.NDArray[Any]]) -> None:
    target = _dataset(items, "embedding", (total, dim), "<f4", (chunk_rows(dim, "<f4"), dim))
    first = 0
    for block in blocks:
        target[first : first + len(block)] = block
        first += len(block)
    _refuse_short(first, total)


def _refuse_short(written: int, total: int) -> None:
    if written != total:
        raise OutputError(f"wrote {written} of {total} rows", remedy="this is a fault of the program; please report it")


def _dataset(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: str, chunks: tuple[int, ...]) -> h5py.Dataset:
    if shape[0] == 0:
        return group.create_dataset(name, shape=shape, dtype=dtype, track_times=False)
    chunks = (min(chunks[0], shape[0]), *chunks[1:])
    wide = len(shape) > 2 or shape[-1] > 2
    cache = 0 if len(shape) > 1 and wide else None  # whole chunks are written: no copy of them is needed
    return group.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks, track_times=False, rdcc_nbytes=cache)


def _aligned(rows: Iterator[Rows], size: int) -> Iterator[Rows]:
    """The same rows in blocks of exactly ``size``, so that every write is aligned to chunks."""
    waiting: list[Rows] = []
    held = 0
    for part in rows:
        first = 0
        while first < len(part):
            last = min(len(part), first + size - held)
            waiting.append(part.part(first, last))
            held += last - first
            first = last
            if held == size:
                yield _joined(waiting)
                waiting, held = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in ROW_DATASETS))


def _describe_single_slide(file: h5py.File, header: Header, contents: Contents) -> None:
    """A file of one slide opens in slide tools as it is."""
    if len(contents.items["id"]) != 1:
        return
    facts = {name: values[0] for name, values in contents.items.items()}
    if facts["tile_extent"] > 0 and facts["mpp_x"] > 0 and "slide" in header.policy:
        for name, value in slide_attributes(facts, header.policy["slide"]):
            file["coords"].attrs[name] = value


def slide_attributes(facts: Mapping[str, Any], slide: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    """What slide tools look for among the attributes of /coords, of an item's columns and the slide policy.

    Magnifications are 10 / (micrometres per pixel), the usual convention.
    """
    return (
        ("patch_size", int(slide["tile_size"])),
        ("patch_size_level0", round(float(facts["tile_extent"]))),
        ("level0_magnification", 10.0 / float(facts["mpp_x"])),
        ("target_magnification", 10.0 / float(slide["mpp"])),
        ("overlap", int(slide["overlap"])),
        ("name", str(facts["id"]).rpartition("/")[2].encode(errors="backslashreplace").decode()),
        ("level0_width", int(facts["width"])),
        ("level0_height", int(facts["height"])),
    )
