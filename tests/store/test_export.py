"""Exports, read back as the tools that load them do."""

from __future__ import annotations

import csv
import doctest
import sys
import unicodedata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from store_cases import item, write

from umedfeat.errors import SetupError
from umedfeat.store import FeatureFile, export
from umedfeat.store.export import file_names
from umedfeat.store.layouts.base import nominal


@pytest.fixture
def feats(tmp_path: Path) -> Path:
    items = [item("a/one", 3, label="x"), item("b/two", 0, label="y"), item("photo", 2, slide=False)]
    return write(tmp_path / "feats.h5", items)


ONE = item("a/one", 3).features


def test_examples() -> None:
    found = doctest.testmod(sys.modules["umedfeat.store.export"])
    assert found.attempted
    assert not found.failed


def test_clam(feats: Path, tmp_path: Path) -> None:
    done = export(feats, tmp_path / "clam", "clam")
    assert (done.items, done.left_out) == (3, ())
    with (tmp_path / "clam" / "items.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [(row["case_id"], row["slide_id"], row["label"]) for row in table] == [
        ("p-a", "one", "x"),
        ("p-b", "two", "y"),
        ("p-p", "photo", ""),
    ]
    for row in table:
        tensor = torch.load(tmp_path / "clam" / "pt_files" / f"{row['slide_id']}.pt", weights_only=True)
        with h5py.File(tmp_path / "clam" / "h5_files" / f"{row['slide_id']}.h5", "r") as file:
            features, coords = torch.from_numpy(file["features"][:]), file["coords"][:]
        assert tensor.dtype == features.dtype == torch.float32
        assert torch.equal(tensor, features)
        assert (coords.dtype, coords.shape) == (np.int32, (int(row["rows"]), 2))
    np.testing.assert_array_equal(torch.load(tmp_path / "clam" / "pt_files" / "one.pt", weights_only=True), ONE)


@pytest.mark.parametrize("layout", ["clam", "trident", "stamp", "pt", "anndata"])
def test_items_without_a_region_are_named(feats: Path, tmp_path: Path, layout: str) -> None:
    assert export(feats, tmp_path / "out", layout).empty == ("b/two",)
    with (tmp_path / "out" / "items.csv").open(newline="") as stream:
        assert {row["id"]: row["rows"] for row in csv.DictReader(stream)}["b/two"] == "0"


def test_the_command_names_them_with_the_remedy(
    feats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from umedfeat.cli import run

    assert run(["export", str(feats), "--layout", "pt", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "1 without a single region, written with no rows: b/two" in said
    assert "--tissue none" in said


def test_trident(feats: Path, tmp_path: Path) -> None:
    done = export(feats, tmp_path / "t", "trident")
    assert done.left_out == (("photo", "it is not tiled"),)
    with h5py.File(tmp_path / "t" / "patches" / "one_patches.h5", "r") as file:
        attributes, coords = dict(file["coords"].attrs), file["coords"][:]
    assert "patch_level" not in attributes
    assert attributes["patch_size_level0"] == 448
    assert attributes["patch_size"] * attributes["level0_magnification"] / attributes["target_magnification"] == 448
    assert (attributes["name"], attributes["overlap"]) == ("one", 0)
    assert (attributes["level0_width"], attributes["level0_height"]) == (4480, 2240)
    with h5py.File(tmp_path / "t" / "features_umedpt" / "one.h5", "r") as file:
        np.testing.assert_array_equal(file["features"][:], ONE)
        np.testing.assert_array_equal(file["coords"][:], coords)
        assert dict(file["coords"].attrs) == attributes


def test_nominal_magnification() -> None:
    """Scanners that differ by a few per mille get one extent; coordinates stay."""
    attributes = {"level0_magnification": 10 / 0.2527, "target_magnification": 20.0, "patch_size": 224}
    assert nominal(attributes) == {
        "level0_magnification": 40.0,
        "target_magnification": 20.0,
        "patch_size": 224,
        "patch_size_level0": 448,
    }


def test_stamp(feats: Path, tmp_path: Path) -> None:
    export(feats, tmp_path / "s", "stamp")
    with h5py.File(tmp_path / "s" / "one.h5", "r") as file:
        feats_, coords, attributes = file["feats"][:], file["coords"][:], dict(file.attrs)
    assert feats_.dtype == np.float16
    np.testing.assert_array_equal(feats_, ONE.astype(np.float16))
    assert coords.dtype == np.float32
    assert coords.tolist() == [[0, 0], [56, 0], [112, 0]]
    assert attributes.pop("extractor").startswith("umedfeat-")
    assert attributes == {"unit": "um", "tile_size_um": 112.0, "tile_size_px": 224, "feat_type": "tile"}
    assert not (tmp_path / "s" / "photo.h5").exists()


def test_tensors(feats: Path, tmp_path: Path) -> None:
    export(feats, tmp_path / "p", "pt")
    np.testing.assert_array_equal(torch.load(tmp_path / "p" / "one.pt", weights_only=True), ONE)
    assert torch.load(tmp_path / "p" / "two.pt", weights_only=True).shape == (0, 4)


def test_parquet(feats: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(feats, tmp_path / "q", "parquet")
    tiles = parquet.read_table(tmp_path / "q" / "tiles.parquet").to_pydict()
    assert tiles["id"] == ["a/one"] * 3 + ["photo"] * 2
    np.testing.assert_array_equal(np.array(tiles["features"][:3], dtype=np.float32), ONE)
    assert tiles["x"] == [0, 224, 448, 0, 224]
    items = parquet.read_table(tmp_path / "q" / "embeddings.parquet").to_pydict()
    assert items["id"] == ["a/one", "b/two", "photo"]
    assert items["meta.label"] == ["x", "y", ""]
    assert len(items["embedding"][0]) == 4


def test_parquet_without_pyarrow(feats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupError, match=r"umedfeat\[parquet\]"):
        export(feats, tmp_path / "q", "parquet")


def read_h5ad(group: h5py.Group | h5py.Dataset) -> Any:
    """A tree of an .h5ad file by its encoding types, as anndata reads it."""
    kind = group.attrs["encoding-type"]
    if kind == "dataframe":
        index, columns = group.attrs["_index"], list(group.attrs["column-order"])
        assert sorted([index, *columns]) == sorted(group)
        return {"index": read_h5ad(group[index])} | {name: read_h5ad(group[name]) for name in columns}
    if kind in ("anndata", "dict"):
        return {name: read_h5ad(part) for name, part in group.items()}
    if kind == "string":
        return group.asstr()[()]
    return group.asstr()[...] if kind == "string-array" else group[()]


def test_anndata(feats: Path, tmp_path: Path) -> None:
    done = export(feats, tmp_path / "a", "anndata")
    assert done.items == 3
    with h5py.File(tmp_path / "a" / "one.h5ad", "r") as file:
        tree = read_h5ad(file)
    assert set(tree) == {"X", "obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns"}
    np.testing.assert_array_equal(tree["X"], ONE)
    assert tree["obs"]["index"].tolist() == ["one:0", "one:1", "one:2"]
    assert tree["obs"]["tissue"].tolist() == [0.5] * 3
    assert len(tree["var"]["index"]) == 4
    assert tree["obsm"]["spatial"].tolist() == [[0, 0], [224, 0], [448, 0]]
    assert (tree["uns"]["id"], tree["uns"]["encoder"], tree["uns"]["meta.label"]) == ("a/one", "umedpt", "x")
    assert tree["obs"]["tile_id"].tolist() == [0, 1, 2] and tree["obs"]["x"].tolist() == [0, 224, 448]
    spec, slide = tree["uns"]["tile_spec"], tree["uns"]["slide_properties"]  # of wsidata
    assert (spec["width"], spec["stride_width"], spec["base_downsample"], spec["mpp"]) == (224, 224, 2.0, 0.5)
    assert (slide["shape"].tolist(), slide["mpp"], slide["magnification"]) == ([2240, 4480], 0.25, 40.0)
    with h5py.File(tmp_path / "a" / "two.h5ad", "r") as file:
        assert read_h5ad(file)["X"].shape == (0, 4)
    with h5py.File(tmp_path / "a" / "photo.h5ad", "r") as file:
        assert "tile_spec" not in read_h5ad(file)["uns"]


def test_anndata_reads_it(feats: Path, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    export(feats, tmp_path / "a", "anndata")
    table = anndata.read_h5ad(tmp_path / "a" / "one.h5ad")
    np.testing.assert_array_equal(table.X, ONE)
    assert table.obs["slice"].tolist() == [0, 0, 0]
    assert table.obsm["spatial"].shape == (3, 2)
    assert table.uns["mpp_x"] == 0.25


def test_nothing_to_export(tmp_path: Path) -> None:
    feats = write(tmp_path / "feats.h5", [item("photo", 2, slide=False)])
    with pytest.raises(SetupError, match="no item fits the layout stamp: it is not tiled"):
        export(feats, tmp_path / "s", "stamp")
    with pytest.raises(SetupError, match="layout 'csv' is unknown"):
        export(feats, tmp_path / "s", "csv")


def test_file_names_never_leave_the_folder_nor_collide() -> None:
    names = file_names(["../../etc/x", "a/..", "A/one", "b/ONE", "c:d"])
    assert len({name.casefold() for name in names}) == 5
    assert not any("/" in name or "\\" in name or name.startswith(".") or ":" in name for name in names)


LONG = "ä" * 150
CLASHING = [
    *("X", "x", "X_0", "x_1", "a/X", "A/x", "Stra\u00dfe", "STRASSE"),
    *("caf\u00e9", "cafe\u0301", "\ufb01le", "file"),
    *("con", "CON.x", "con ", "nul", "com1", "LPT\u00b9", "aux.svs", "_con"),
    *(LONG, LONG + "x", "b/" + LONG, "y" * 300, "y" * 299, "y" * 199),
    *("dot", "dot.", "dot..", "dot ", "..", ".", "...", ".hidden", "-rf", " lead"),
    *("tab\there", "tab\nhere", "tab\x1bhere", "rtl\u202etxt", "c:d", "c*d", "c|d", "c/d", "c__d"),
]


def test_every_name_is_its_own_on_every_file_system() -> None:
    names = file_names(CLASHING)
    for form in ("NFC", "NFD", "NFKC"):
        assert len({unicodedata.normalize(form, name).casefold() for name in names}) == len(CLASHING), form
    for name in names:
        assert len(name.encode()) <= 200
        assert name == name.strip(". ") and not name.startswith("-") and name.isprintable()
        assert not set(name) & set('\\/:*?"<>|')
        assert name.partition(".")[0].rstrip().casefold() not in {"con", "nul", "aux", "com1", "lpt\u00b9"}


def test_a_name_does_not_depend_on_the_other_items_order() -> None:
    known = dict(zip(CLASHING, file_names(CLASHING), strict=True))
    assert dict(zip(CLASHING[::-1], file_names(CLASHING[::-1]), strict=True)) == known


@pytest.mark.parametrize("layout", ["pt", "clam", "anndata"])
def test_every_item_is_written_once(tmp_path: Path, layout: str) -> None:
    feats = write(tmp_path / "feats.h5", [item(name, 1) for name in CLASHING])
    assert export(feats, tmp_path / "out", layout).items == len(CLASHING)
    with (tmp_path / "out" / "items.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == len({row["slide_id"] for row in table}) == len(CLASHING)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "items.csv"]
    assert len(written) == len(CLASHING) * (2 if layout == "clam" else 1)
    if layout == "pt":
        with FeatureFile(feats) as file:
            for number, row in enumerate(table):
                found = torch.load(tmp_path / "out" / f"{row['slide_id']}.pt", weights_only=True)
                np.testing.assert_array_equal(found, file.features(number))


def test_names_stay_names_in_tables() -> None:
    """pandas reads 0017 as 17, and with a missing cell as 17.0; then nothing of that name is found."""
    assert file_names(["a/0017", "a/1e5", "NaN", "NA", "=x", "17a"]) == ["_0017", "_1e5", "_NaN", "_NA", "_=x", "17a"]
