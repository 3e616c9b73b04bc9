"""Rows past HDF5 are the rows HDF5 reads; what comes ahead is what would have come."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from umedfeat.store.ahead import ahead
from umedfeat.store.raw_rows import RawRows


def dataset(path: Path, rows: int = 1000, **options: object) -> h5py.Dataset:
    values = np.random.default_rng(0).normal(size=(rows, 12)).astype("<f4")
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values, **{"chunks": (64, 12), **options})
    return h5py.File(path)["features"]


def test_the_same_rows_as_through_hdf5(tmp_path: Path) -> None:
    stored = dataset(tmp_path / "a.h5")
    raw = RawRows(stored)
    rng = np.random.default_rng(1)
    for first, last in [(0, 1000), (63, 65), (999, 1000), *np.sort(rng.integers(0, 1000, (30, 2))).tolist()]:
        target = np.full((last - first, 12), np.nan, "<f4")
        raw.read_into(target, first)
        np.testing.assert_array_equal(target, stored[first:last])
    raw.close()


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": (64, 6)}, {"chunks": None}])
def test_what_lies_otherwise_is_left_to_hdf5(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="plain chunks"):
        RawRows(dataset(tmp_path / "a.h5", **options))


def test_chunks_that_were_never_written_are_left_to_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", (1000, 12), "<f4", chunks=(64, 12))[:64] = 1
    with h5py.File(tmp_path / "a.h5") as file, pytest.raises(ValueError, match="never written"):
        RawRows(file["features"])


def test_a_file_cut_under_it_is_an_error(tmp_path: Path) -> None:
    raw = RawRows(dataset(tmp_path / "a.h5"))
    os.truncate(tmp_path / "a.h5", 20_000)
    with pytest.raises(OSError, match="ends before"):
        raw.read_into(np.empty((1000, 12), "<f4"), 0)
    raw.close()


def test_ahead_gives_the_same_things_and_errors_in_their_place() -> None:
    def things() -> Iterator[int]:
        yield from range(5)
        raise KeyError("sixth")

    assert list(ahead(range(100))) == list(range(100))
    iterator = ahead(things())
    assert [next(iterator) for _ in range(5)] == list(range(5))
    with pytest.raises(KeyError, match="sixth"):
        next(iterator)


def test_ahead_is_bounded_and_ends_with_its_reader() -> None:
    made = []

    def things() -> Iterator[int]:
        for k in range(1000):
            made.append(k)
            yield k

    threads = threading.active_count()
    iterator = ahead(things(), depth=2)
    assert next(iterator) == 0
    iterator.close()
    assert threading.active_count() == threads
    assert len(made) <= 5
