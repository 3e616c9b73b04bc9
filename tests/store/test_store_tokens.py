"""Dense features in the file: the same however the work was split, checked, read in parts, exported."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_cases import DIM, header, item, write

from umedfeat.errors import OutputError, SetupError
from umedfeat.store import FeatureFile, FeatureStore, Header, export, merge, schema, verify
from umedfeat.store.info import describe, overview

GRID = (2, 3, 5)
SETTINGS = header(tokens=list(GRID))
ITEMS = [item(f"s{k}", rows, grid=GRID, dropped=k % 2) for k, rows in enumerate([3, 0, 700, 1, 40])]


@pytest.fixture(scope="module")
def undivided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("undivided") / "feats.h5", ITEMS, settings=SETTINGS)


def test_they_stand_beside_the_features(undivided: Path) -> None:
    assert verify(undivided).faults == ()
    with FeatureFile(undivided) as file:
        assert file.grid == GRID
        for each in ITEMS:
            assert each.tokens is not None
            assert np.array_equal(file.tokens(each.source.id), each.tokens)
            assert np.array_equal(file.features(each.source.id), each.features)
        assert np.array_equal(file.tokens("s2", slice(5, 9)), ITEMS[2].tokens[5:9])  # type: ignore[index]
        assert file.tokens("s4", slice(38, 99)).shape == (2, *GRID)
        assert describe(file)["tokens"] == list(GRID) and "2 × 3 of 5 values" in overview(describe(file))


def test_a_file_with_tokens_has_a_fingerprint_of_its_own_and_a_newer_schema(undivided: Path, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.h5", [replace(each, tokens=None) for each in ITEMS])
    with FeatureFile(undivided) as dense, FeatureFile(plain) as file:
        assert dense.fingerprint != file.fingerprint
        assert dense.header.of_features.fingerprint == file.header.fingerprint
        with pytest.raises(SetupError, match="holds no tokens"):
            file.tokens("s0")
    with h5py.File(undivided) as dense_file, h5py.File(plain) as plain_file:
        assert (dense_file.attrs["schema"], plain_file.attrs["schema"]) == (4, 3)
        assert "tokens" not in plain_file and "tokens_sha256" not in plain_file["items"]
    with pytest.raises(OutputError, match="other settings"):
        merge([undivided, plain], tmp_path / "both.h5")


def test_segments_and_shards_give_the_same_bytes(undivided: Path, tmp_path: Path) -> None:
    with FeatureStore(tmp_path / "feats.h5", SETTINGS, dim=DIM) as store:
        for each in reversed(ITEMS):
            store.add(each)
            store.flush()
        resumed = store.finish({})
    assert resumed.read_bytes() == undivided.read_bytes()
    parts = [write(tmp_path / f"{k}.h5", ITEMS[k::2], settings=SETTINGS) for k in (1, 0)]
    assert merge(parts, tmp_path / "merged.h5").read_bytes() == undivided.read_bytes()


def test_a_killed_run_goes_on(undivided: Path, tmp_path: Path) -> None:
    out = tmp_path / "feats.h5"
    store = FeatureStore(out, SETTINGS, dim=DIM).__enter__()
    store.add(ITEMS[2])
    store.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with FeatureStore(out, SETTINGS, dim=DIM) as store:
        assert store.done == {"s2"}
    rest = [each for each in ITEMS if each.source.id != "s2"]
    assert write(out, rest, settings=SETTINGS).read_bytes() == undivided.read_bytes()


def _change(file: h5py.File) -> None:
    file["tokens"][4, 1, 1, 1] += 1


def _spoil(file: h5py.File) -> None:
    file["tokens"][702, 0, 0, 0] = np.nan


def _cut(file: h5py.File) -> None:
    values = file["tokens"][:-1]
    del file["tokens"]
    file["tokens"] = values


def _hide(file: h5py.File) -> None:
    del file["tokens"]


def _other_grid(file: h5py.File) -> None:
    file.attrs["encoder"] = file.attrs["encoder"].replace("[2, 3, 5]", "[3, 2, 5]")


def _no_grid(file: h5py.File) -> None:
    file.attrs["encoder"] = file.attrs["encoder"].replace("[2, 3, 5]", "[2, -3, 5]")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_change, "s2: checksum: the tokens"),
        (_spoil, "s2: tokens: NaN"),
        (_cut, "tokens: shape"),
        (_hide, "tokens is missing"),
        (_other_grid, "tokens: shape"),
        (_no_grid, "no grid of tokens"),
    ],
)
def test_what_was_changed_is_found(
    undivided: Path, tmp_path: Path, change: Callable[[h5py.File], None], fault: str
) -> None:
    path = tmp_path / "changed.h5"
    path.write_bytes(undivided.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    assert any(fault in told for told in verify(path).faults), verify(path).faults
    with pytest.raises(OutputError):
        merge([path], tmp_path / "merged.h5")


def test_tokens_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with FeatureStore(tmp_path / "feats.h5", SETTINGS, dim=DIM) as store:
        for wrong in (replace(ITEMS[0], tokens=None), item("x", 3, grid=(3, 2, 5))):
            with pytest.raises(OutputError, match="tokens"):
                store.add(wrong)
    with FeatureStore(tmp_path / "plain.h5", header(), dim=DIM) as store, pytest.raises(OutputError, match="tokens"):
        store.add(ITEMS[0])


def test_half_precision(tmp_path: Path) -> None:
    settings = Header(SETTINGS.encoder, SETTINGS.policy, "float16")
    out = write(tmp_path / "half.h5", ITEMS, settings=settings)
    assert verify(out).faults == ()
    with FeatureFile(out) as file:
        assert file.tokens("s4").dtype == np.float16
        assert np.array_equal(file.tokens("s4"), ITEMS[4].tokens.astype(np.float16))  # type: ignore[union-attr]


def test_export_of_arrays(undivided: Path, tmp_path: Path) -> None:
    done = export(undivided, tmp_path / "out", "tokens")
    assert done.items == len(ITEMS) and done.empty == ("s1",)
    for each in ITEMS:
        assert np.array_equal(np.load(tmp_path / "out" / f"{each.source.id}.npy", mmap_mode="r"), each.tokens)  # type: ignore[arg-type]
    plain = write(tmp_path / "plain.h5", [item("a", 2)])
    with pytest.raises(SetupError, match="holds no tokens"):
        export(plain, tmp_path / "none", "tokens")


def test_memory_does_not_grow_with_the_grids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 MB of tokens pass in blocks of 256 kB: packing and verifying hold a few of them."""
    monkeypatch.setattr(schema, "_CHUNK_BYTES", 1 << 14)
    grid = (4, 4, 64)
    settings = header(tokens=list(grid))
    wide = np.broadcast_to(np.float32(1.5), (2500, *grid))
    parts = [
        write(tmp_path / f"{name}.h5", [replace(item(name, 2500), tokens=wide)], settings=settings) for name in "ab"
    ]
    tracemalloc.start()
    merged = merge(parts, tmp_path / "merged.h5")
    assert verify(merged).faults == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20 < merged.stat().st_size / 2
