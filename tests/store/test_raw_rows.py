"""Rows past HDF5 are the rows HDF5 reads."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

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
