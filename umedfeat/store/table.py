"""Columns in memory and in HDF5: byte-stable strings, fixed creation order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

__all__ = [
    "Table",
    "concatenate",
    "quoted",
    "read_table",
    "read_texts",
    "text_array",
    "write_column",
    "write_table",
]

#: Column name → array; strings are object arrays of str.
Table = dict[str, npt.NDArray[Any]]


def text_array(values: Sequence[str]) -> npt.NDArray[Any]:
    """An object array of str (numpy would make fixed-width unicode of a list)."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def write_column(group: h5py.Group, name: str, values: npt.NDArray[Any]) -> None:
    """Write one column. Strings get a fixed UTF-8 length, because the layout of variable ones is not byte-stable."""
    if values.dtype != object:
        group.create_dataset(name, data=values, track_times=False)
        return
    encoded = [str(value).encode(errors="backslashreplace") for value in values]
    dtype = h5py.string_dtype("utf-8", max([1, *map(len, encoded)]))
    group.create_dataset(name, data=np.array(encoded, dtype=dtype), dtype=dtype, track_times=False)


def quoted(name: str) -> str:
    """A manifest's column name as the name of a dataset: HDF5 takes "/" and "." for paths."""
    safe = name.replace("%", "%25").replace("/", "%2F")
    return safe if safe.strip(".") else safe.replace(".", "%2E") or "%20"


def write_table(parent: h5py.Group, name: str, columns: Mapping[str, str], table: Table) -> h5py.Group:
    """Write the named columns, in the schema's order, as one group."""
    group = parent.create_group(name)
    for column in columns:
        write_column(group, column, table[column])
    return group


def read_table(group: h5py.Group, columns: Mapping[str, str]) -> Table:
    """Read the named columns; one that an older file lacks is filled with "" or 0."""
    length = len(next(iter(group.values()))) if len(group) else 0
    return {name: _read_column(group, name, kind, length) for name, kind in columns.items()}


def _read_column(group: h5py.Group, name: str, kind: str, length: int) -> npt.NDArray[Any]:
    if name.encode() not in group.id:
        return text_array([""] * length) if kind == "str" else np.zeros(length, dtype=kind)
    return read_texts(group, name) if kind == "str" else _read(group, name)


def read_texts(group: h5py.Group, name: str) -> npt.NDArray[Any]:
    """All values of a column of text, as an object array of str.

    Raises:
        TypeError: it is not of text.
        UnicodeDecodeError: it is not in UTF-8.
    """
    values = _read(group, name)
    if values.dtype.kind == "S":
        return text_array([value.decode() for value in values.tolist()])
    texts: npt.NDArray[Any] = group[name].asstr()[...]
    return texts


def _read(group: h5py.Group, name: str) -> npt.NDArray[Any]:
    """Through h5py's low-level calls, in a quarter of the time: a feature file has some forty small columns."""
    dataset = h5py.h5d.open(group.id, name.encode())
    values = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def concatenate(tables: Sequence[Table], columns: Mapping[str, str]) -> Table:
    """Stack tables; without any, empty columns of the right kind."""
    if not tables:
        return {name: np.empty(0, dtype=object if kind == "str" else kind) for name, kind in columns.items()}
    return {name: np.concatenate([table[name] for table in tables]) for name in columns}
