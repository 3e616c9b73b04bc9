"""A feature file is untrusted input: everything in it is looked at before it is used.

HDF5 lets a file point elsewhere (external and soft links, external storage, virtual datasets), claim more data than it
holds, and nest without end. Feature files do nothing of the kind, so whatever does is refused, on every object of the
file, by the one function that every command opens feature files with.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from umedfeat.errors import DiskError, OutputError, SetupError
from umedfeat.store.schema import (
    DROPPED_COLUMNS,
    FAILURE_COLUMNS,
    ITEM_COLUMNS,
    NEWER_COLUMNS,
    OLDEST_SCHEMA,
    SKIPPED_COLUMNS,
    TILE_COLUMNS,
    TOKEN_COLUMNS,
    TOKENS_SCHEMA,
    Grid,
    grid_in,
)

__all__ = ["Facts", "facts_of", "naming_damage", "open_guarded", "refuse_strange"]

#: What reading a damaged HDF5 file raises, in h5py or in what is done with the values.
_DAMAGE = (
    *(OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError),
    *(MemoryError, ZeroDivisionError),
)
#: So many opened one after the other, and none closed: settings of ours are a few levels deep.
_TOO_DEEP = re.compile(r"(?:[\[{][^\[\]{}]*){65}")
_MOST_OBJECTS = 10_000
_DEEPEST = 8
_MOST_VALUES = 1 << 20  # of an embedding
#: Filters of HDF5 itself, which somebody may have repacked a file with; others would load foreign code.
_OWN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_MOST_EXPANSION = 64
_SLACK_BYTES = 64 << 20


class Facts(NamedTuple):
    """The root attributes, checked."""

    schema: int
    dim: int
    dtype: str
    encoder: dict[str, Any]
    policy: dict[str, Any]
    fingerprint: str
    version: str
    key_check: str
    shard: str
    grid: Grid | None


class _Strange(Exception):
    """Something that no feature file has; the message names it."""


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Whatever a damaged file raises becomes one error that names it."""
    try:
        yield
    except _Strange as fault:
        raise OutputError(f"{path.name}: damaged or tampered with: {fault}", remedy=_REMEDY) from fault
    except _DAMAGE as error:
        _refuse_disk_fault(path, error)
        raise OutputError(f"{path.name}: damaged, cannot be read ({type(error).__name__})", remedy=_REMEDY) from error


_REMEDY = "`umedfeat verify` names the faults; copy the file again, or extract its inputs again"


def _refuse_disk_fault(path: Path, error: BaseException) -> None:
    """HDF5 tells the system's error number in its text only."""
    if getattr(error, "errno", None) == errno.EIO or f"errno = {errno.EIO}," in str(error):
        remedy = "check the disk, then call again; or copy the file from a backup"
        raise DiskError(f"{path.name}: the disk reports an error while reading", remedy=remedy) from error


def open_guarded(path: Path) -> tuple[h5py.File, Facts]:
    """Open a feature file for reading, after looking at every object in it.

    Raises:
        SetupError: there is no such file, or it may not be read.
        OutputError: not a feature file, incomplete, newer than this version, damaged, or it points out of itself.
    """
    if path.is_dir():
        remedy = "`umedfeat extract --dry-run --input` tells what is in it"
        raise SetupError(f"{path}: a folder, no feature file", remedy=remedy)
    if not path.is_file():
        raise SetupError(f"{path}: no such feature file", remedy="write one with `umedfeat extract`, or give its path")
    try:
        file = h5py.File(path, "r", rdcc_nbytes=0)  # no chunk cache: a row costs a row, not a chunk
    except PermissionError as error:
        raise SetupError(f"{path}: may not be read", remedy="change its permissions") from error
    except _DAMAGE as error:
        _refuse_disk_fault(path, error)
        raise OutputError(f"{path}: not a feature file, or damaged", remedy="`umedfeat extract` writes one") from error
    try:
        with naming_damage(path):
            _refuse_others(file, path)
            facts = facts_of(file)
            refuse_strange(file, path.stat().st_size, facts)
    except BaseException:
        file.close()
        raise
    return file, facts


def _refuse_others(file: h5py.File, path: Path) -> None:
    """Files of other programs and other versions, told before anything is called damaged."""
    if "schema" not in file.attrs or "fingerprint" not in file.attrs:
        raise OutputError(
            f"{path}: an HDF5 file, but not written by umedfeat", remedy="`umedfeat extract` writes feature files"
        )
    schema = _number(file, "schema")
    if schema > TOKENS_SCHEMA:
        raise OutputError(
            f"{path}: schema {schema} is newer than this version reads ({TOKENS_SCHEMA})", remedy="upgrade umedfeat"
        )
    if schema < OLDEST_SCHEMA:
        raise OutputError(
            f"{path}: schema {schema} is older than this version reads ({OLDEST_SCHEMA})",
            remedy="extract it again, or read it with the version that wrote it",
        )
    if not _number(file, "complete"):
        raise OutputError(f"{path}: incomplete", remedy="run `umedfeat extract` again; it resumes")


# ---- attributes ---------------------------------------------------------------------------------------------------


def facts_of(file: h5py.File) -> Facts:
    """The root attributes, each of its type."""
    dim, dtype = _number(file, "dim"), _text(file, "dtype")
    policy, encoder = _settings(file, "preprocessing"), _settings(file, "encoder")
    if not all(isinstance(part, dict) for part in policy.values()):
        raise _Strange("attribute preprocessing is no table of tables")
    if not 0 < dim <= _MOST_VALUES:
        raise _Strange(f"an embedding of {dim} values")
    if dtype not in ("float32", "float16"):
        raise _Strange(f"features of type {dtype[:20]!r}")
    return Facts(
        schema=_number(file, "schema"),
        dim=dim,
        dtype=dtype,
        encoder=encoder,
        policy=policy,
        fingerprint=_text(file, "fingerprint"),
        version=_text(file, "umedfeat"),
        key_check=_text(file, "key_check") if "key_check" in file.attrs else "",
        shard=_text(file, "shard") if "shard" in file.attrs else "",
        grid=_grid(encoder),
    )


def _grid(encoder: Mapping[str, Any]) -> Grid | None:
    try:
        return grid_in(encoder)
    except ValueError as error:
        raise _Strange(f"attribute encoder tells of {error}") from error


def _scalar(file: h5py.File, name: str, kinds: tuple[int, ...]) -> Any:
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape != () or attribute.get_type().get_class() not in kinds:
        raise _Strange(f"attribute {name} of another type")
    return file.attrs[name]


def _number(file: h5py.File, name: str) -> int:
    return int(_scalar(file, name, (h5py.h5t.INTEGER, h5py.h5t.ENUM)))


def _text(file: h5py.File, name: str) -> str:
    value = _scalar(file, name, (h5py.h5t.STRING,))
    return value.decode() if isinstance(value, bytes) else str(value)


def _settings(file: h5py.File, name: str) -> dict[str, Any]:
    text = _text(file, name)
    if _TOO_DEEP.search(text):  # how deep a parser goes before it gives up differs between versions of Python
        raise _Strange(f"{name}: settings nested in each other")
    settings = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(settings, dict):
        raise _Strange(f"attribute {name} is no table of settings")
    return settings


def _refuse_constant(name: str) -> None:
    raise _Strange(f"the number {name} among the settings")


# ---- objects ------------------------------------------------------------------------------------------------------


def refuse_strange(file: h5py.File, size: int, facts: Facts) -> None:
    """Every link is a hard one, every dataset lies in the file, none claims more than the file holds; ours have the
    types and shapes of the schema.

    Args:
        file: open. size: of the file in bytes. facts: of the file.
    """
    datasets = dict(_datasets(file.id, "", [0], 0))
    plain = sum(each.bytes for each in datasets.values() if not each.filters)
    packed = sum(each.bytes for each in datasets.values() if each.filters)
    if plain > size or packed > _MOST_EXPANSION * size + _SLACK_BYTES:
        raise _Strange(f"its datasets claim {plain + packed:,} bytes, and the file has {size:,}")
    if file.get("items/meta", getclass=True) is not h5py.Group:
        raise _Strange("items/meta is missing")
    _refuse_other_shapes(datasets, facts)


class _Stored(NamedTuple):
    """A dataset that lies in the file, by its handle: asking HDF5 costs more than what is done with the answers."""

    node: Any
    shape: tuple[int, ...]
    bytes: int
    filters: set[int]


def _datasets(group: Any, place: str, seen: list[int], depth: int) -> Iterator[tuple[str, _Stored]]:
    """(path, dataset) of all; nothing is opened through a link that is not a hard one."""
    if depth > _DEEPEST:
        raise _Strange("groups nested in each other")
    seen[0] += group.get_num_objs()
    if seen[0] > _MOST_OBJECTS:
        raise _Strange(f"more than {_MOST_OBJECTS} objects")
    for raw in group:
        name = place + raw.decode(errors="backslashreplace")
        if group.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            raise _Strange(f"{name} is a link to somewhere else")
        node = h5py.h5o.open(group, raw)
        if isinstance(node, h5py.h5g.GroupID):
            yield from _datasets(node, name + "/", seen, depth + 1)
        elif isinstance(node, h5py.h5d.DatasetID):
            yield name, _stored(node, name)
        else:
            raise _Strange(f"{name} is no dataset")


def _stored(node: Any, name: str) -> _Stored:
    """A dataset whose values lie in the file itself and can be read without foreign code."""
    created = node.get_create_plist()
    layout, value_bytes = created.get_layout(), int(node.get_type().get_size())
    if layout == h5py.h5d.VIRTUAL:
        raise _Strange(f"{name} is a virtual dataset: its values lie in other files")
    if created.get_external_count():
        raise _Strange(f"{name}: its values lie in another file")
    filters = {created.get_filter(number)[0] for number in range(created.get_nfilters())}
    if not filters <= _OWN_FILTERS:
        raise _Strange(f"{name}: stored with a filter that is not loaded")
    if filters and layout == h5py.h5d.CHUNKED and prod(created.get_chunk()) * value_bytes > _SLACK_BYTES:
        raise _Strange(f"{name}: compressed in blocks of more than {_SLACK_BYTES} bytes")
    shape = node.shape
    return _Stored(node, shape, prod(shape) * value_bytes, filters)


def _refuse_other_shapes(datasets: Mapping[str, _Stored], facts: Facts) -> None:
    rows, items = _length(datasets, "features"), _length(datasets, "items/id")
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "features": (facts.dtype, (rows, facts.dim)),
        "coords": ("<i8", (rows, 2)),
        "items/embedding": ("<f4", (items, facts.dim)),
    }
    wanted |= {f"tiles/{name}": (kind, (rows,)) for name, kind in TILE_COLUMNS.items()}
    wanted |= {f"items/{name}": (kind, (items,)) for name, kind in ITEM_COLUMNS.items()}
    wanted |= {name: ("str", (items,)) for name in datasets if name.startswith("items/meta/")}
    for group, columns in (("dropped", DROPPED_COLUMNS), ("failures", FAILURE_COLUMNS), ("skipped", SKIPPED_COLUMNS)):
        length = _length(datasets, f"{group}/{next(iter(columns))}")
        wanted |= {f"{group}/{name}": (kind, (length,)) for name, kind in columns.items()}
    if facts.grid is not None:
        wanted |= {"tokens": (facts.dtype, (rows, *facts.grid))}
        wanted |= {f"items/{name}": (kind, (items,)) for name, kind in TOKEN_COLUMNS.items()}
    elif "tokens" in datasets:
        raise _Strange("tokens of which its settings do not tell")
    for name, (kind, shape) in wanted.items():
        if name in datasets:
            _refuse_other_shape(name, datasets[name], kind, shape)
        elif NEWER_COLUMNS.get(name, 0) <= facts.schema:
            raise _Strange(f"{name} is missing")


def _length(datasets: Mapping[str, _Stored], name: str) -> int:
    if name not in datasets:
        raise _Strange(f"{name} is missing")
    shape = datasets[name].shape
    return int(shape[0]) if shape else -1  # a scalar has another shape than any that is wanted


def _refuse_other_shape(name: str, stored: _Stored, kind: str, shape: tuple[int, ...]) -> None:
    if stored.shape != shape:
        raise _Strange(f"{name}: shape {stored.shape}, expected {shape}")
    dtype = stored.node.dtype
    text = h5py.check_string_dtype(dtype)
    if (text is None or text.length is None) if kind == "str" else dtype != np.dtype(kind):
        raise _Strange(f"{name}: type {dtype}, expected {'text of one length' if kind == 'str' else kind}")
