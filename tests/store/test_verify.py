"""verify finds what was changed, names it, and passes what is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_cases import header, item, write

from umedfeat.errors import SetupError
from umedfeat.store import Header, verify


@pytest.fixture
def feats(tmp_path: Path) -> Path:
    return write(tmp_path / "feats.h5", [item("a", 3, dropped=1), item("b", 0), item("c", 40), item("d", 0)])


def test_whole(feats: Path) -> None:
    rows: list[int] = []
    found = verify(feats, rows.append)
    assert (found.faults, found.items, found.rows, sum(rows)) == ((), 4, 43, 43)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_whole_in_either_precision(tmp_path: Path, dtype: str) -> None:
    settings = Header(header().encoder, header().policy, dtype)
    out = write(tmp_path / "half.h5", [item("a", 300, dim=64)], settings=settings, dim=64)
    assert verify(out).faults == ()


def _set(name: str, place: object, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[name][place] = value

    return change


def _drop_column(file: h5py.File) -> None:
    del file["items/width"]


def _shorten(file: h5py.File) -> None:
    values = file["tiles/tissue"][:-1]
    del file["tiles/tissue"]
    file["tiles/tissue"] = values


def _settings(file: h5py.File) -> None:
    file.attrs["preprocessing"] = file.attrs["preprocessing"].replace("0.5", "1.0", 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_set("features", (2, 1), 9.0), "a: checksum"),
        (_set("features", (20, 0), np.nan), "c: features: NaN"),
        (_set("features", (20, 0), np.inf), "c: features: NaN or infinity"),
        (_set("coords", (0, 0), 5), "a: checksum"),
        (_set("tiles/slice", 42, 3), "c: checksum"),
        (_set("tiles/tissue", 42, 1.5), "c: tiles/tissue"),
        (_set("tiles/item", 1, 2), "a: tiles/item"),
        (_set("items/embedding", (2, 0), 9.0), "c: items/embedding"),
        (_set("items/start", 2, 4), "items/start"),
        (_set("items/count", 3, 1), "own 44 rows of 43"),
        (_set("items/id", 1, b"z"), "items/id: not sorted"),
        (_set("items/n_dropped", 0, 2), "items/n_dropped"),
        (_set("items/mpp_x", 0, -1.0), "a: items/mpp_x: not positive"),
        (_set("dropped/item", 0, 17), "dropped/item"),
        (_drop_column, "items/width is missing"),
        (_shorten, "tiles/tissue: shape"),
        (_settings, "fingerprint"),
    ],
)
def test_faults(feats: Path, change: Callable[[h5py.File], None], fault: str) -> None:
    with h5py.File(feats, "r+") as file:
        change(file)
    assert any(line.startswith(fault) or fault in line for line in verify(feats).faults)


def test_no_flipped_bit_passes_and_none_raises(feats: Path) -> None:
    """Any byte of the file changed: verify ends with a verdict, and rows that changed are always found."""
    whole = bytearray(feats.read_bytes())
    with h5py.File(feats) as file:
        first = file["features"].id.get_chunk_info(0).byte_offset
    rng = np.random.default_rng(0)
    places = [*rng.integers(0, len(whole), 60), *rng.integers(first, first + 43 * 16, 20)]
    for number, place in enumerate(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(0, 8))
        feats.write_bytes(damaged)
        faults = verify(feats).faults
        assert faults or number < 60, f"byte {place}"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no such feature file"):
        verify(tmp_path / "none.h5")
