"""FeatureFile: the documented way to read features."""

from __future__ import annotations

import doctest
import gzip
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from store_cases import header, item, write
from torch.utils.data import DataLoader

from umedfeat.errors import OutputError, SetupError
from umedfeat.store import FeatureFile, FeatureStore, merge, read, verify


@pytest.fixture
def feats(tmp_path: Path) -> Path:
    items = [
        item("benign/a", 3, label="benign"),
        item("benign/b", 0, label="benign"),
        item("malignant/c", 2, label="malignant"),
    ]
    return write(tmp_path / "feats.h5", items, failures=["broken.svs"])


def test_examples_of_the_docstring(feats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(feats.parent)
    found = doctest.testmod(read)
    assert found.attempted > 10
    assert not found.failed


def test_everything_that_was_written_is_read(feats: Path) -> None:
    one = item("malignant/c", 2, label="malignant")
    with FeatureFile(feats) as file:
        assert file.items["patient"].tolist() == ["p-b", "p-b", "p-m"]
        assert file.items["mpp_x"].tolist() == [0.25] * 3
        assert file.items["tile_extent"].tolist() == [448.0] * 3
        assert file.detail("malignant/c") == {"vendor": "aperio"}
        np.testing.assert_allclose(file.embeddings[2], one.features.mean(axis=0), rtol=1e-6)
        assert not file.embeddings[1].any()
        assert file.tiles("tissue", 0).tolist() == [0.5] * 3
        assert np.isnan(file.tiles("position")).all()
        assert file.header == header()
        assert sum(len(block) for block in file.blocks(2)) == file.n_rows == 5
        assert file.labels("modality").tolist() == ["WSI"] * 3
        with pytest.raises(SetupError, match="did you mean 'malignant/c'"):
            file.features("malignant/d")
        with pytest.raises(SetupError, match="no column 'grade'"):
            file.labels("grade")
        with pytest.raises(SetupError, match="no item 3"):
            file.features(3)


def test_column_and_file_names_of_any_kind(tmp_path: Path) -> None:
    """Names with "/", ".", "%" and file names that are not UTF-8 survive."""
    one = item("größe/\udcff", 1)
    columns = {"a/b": "1", ".": "2", "50 %": "3", "naïve": "ü"}
    one.source.meta.update(columns)  # type: ignore[attr-defined]
    with FeatureFile(write(tmp_path / "feats.h5", [one])) as file:
        assert {name: values[0] for name, values in file.meta.items()} == {
            "a/b": "1",
            ".": "2",
            "50 %": "3",
            "naïve": "ü",
        }
        assert file.ids == ("größe/\\udcff",)


@pytest.mark.parametrize("unit", ["item", "tile", "bag"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_torch_dataset(feats: Path, unit: str, workers: int) -> None:
    with FeatureFile(feats) as file:
        dataset = file.torch_dataset(unit, label="label")
        expected = {
            "item": file.embeddings,
            "tile": file.features(),
            "bag": np.concatenate([file.features(k) for k in range(3)]),
        }[unit]
    loader = DataLoader(dataset, batch_size=None if unit == "bag" else 2, num_workers=workers)
    batches = list(loader)
    values = np.concatenate([batch[0].numpy() for batch in batches])
    np.testing.assert_array_equal(values, expected)
    if unit == "tile":
        assert torch.cat([batch[1] for batch in batches]).tolist() == [0, 0, 0, 1, 1]
        assert dataset.items.tolist() == [0, 0, 0, 2, 2]
    assert dataset.classes == ("benign", "malignant")
    assert len(pickle.loads(pickle.dumps(dataset))) == len(dataset)


def test_torch_dataset_leaves_unlabelled_items_out(tmp_path: Path) -> None:
    out = write(tmp_path / "feats.h5", [item("a", 2), item("b", 1, label="x"), item("c", 3)])
    with FeatureFile(out) as file:
        assert file.torch_dataset("item", label="label").items.tolist() == [1]
        assert file.torch_dataset("tile", label="label").items.tolist() == [1]
        assert len(file.torch_dataset("tile")) == 6
        with pytest.raises(SetupError, match="unit 'patch'"):
            file.torch_dataset("patch")


def test_one_slide_opens_in_slide_tools(tmp_path: Path) -> None:
    """What a loader of slide features does: h5["features"], h5["coords"], attributes of coords."""
    out = write(tmp_path / "feats.h5", [item("ward/slide", 3)])
    with h5py.File(out, "r") as file:
        features, coords, attributes = file["features"][:], file["coords"][:], dict(file["coords"].attrs)
    assert features.shape == (3, 4)
    assert coords.tolist() == [[0, 0], [224, 0], [448, 0]]
    assert attributes == {
        "patch_size": 224,
        "patch_size_level0": 448,
        "level0_magnification": 40.0,
        "target_magnification": 20.0,
        "overlap": 0,
        "name": "slide",
        "level0_width": 4480,
        "level0_height": 2240,
    }


def _older(file: h5py.File) -> None:
    file.attrs["schema"] = 0


def _newer(file: h5py.File) -> None:
    file.attrs["schema"] = 99


def _incomplete(file: h5py.File) -> None:
    file.attrs["complete"] = False


def _foreign(file: h5py.File) -> None:
    del file.attrs["fingerprint"]


def _without_coords(file: h5py.File) -> None:
    del file["coords"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_older, "schema 0 is older"),
        (_newer, "schema 99 is newer"),
        (_incomplete, "incomplete"),
        (_foreign, "not written by umedfeat"),
        (_without_coords, "coords is missing"),
    ],
)
def test_refused_files(feats: Path, change: object, message: str) -> None:
    with h5py.File(feats, "r+") as file:
        change(file)  # type: ignore[operator]
    with pytest.raises(OutputError, match=message):
        FeatureFile(feats)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_files(feats: Path, share: float) -> None:
    whole = feats.read_bytes()
    feats.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(OutputError, match="not a feature file, or damaged"):
        FeatureFile(feats)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no such feature file"):
        FeatureFile(tmp_path / "none.h5")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A file as version 0.1.0 wrote it (schema 1)."""
    path = tmp_path / "older.h5"
    path.write_bytes(gzip.decompress(Path(__file__).with_name("schema-1.h5.gz").read_bytes()))
    return path


def test_older_files_are_read_verified_merged_and_resumed(older: Path) -> None:
    assert verify(older).faults == ()
    with FeatureFile(older) as file:
        assert file.ids == ("a", "b/c", "d")
        np.testing.assert_array_equal(file.features("a"), item("a", 2).features)
        assert file.key_check == "unknown"
        assert file.items["files_stat"].tolist() == [""] * 3
        settings = file.header
        assert file.fingerprint == settings.fingerprint
    with FeatureStore(older, settings, dim=4) as store:
        assert store.done == {"a", "b/c", "d"}
        store.add(item("new", 2))
        store.finish({})
    assert verify(older).faults == ()
    with FeatureFile(older) as file:
        assert file.ids == ("a", "b/c", "d", "new")
    other = write(older.with_name("other.h5"), [item("z", 1)], settings=replace(settings, key_check="1" * 12))
    with FeatureFile(merge([other, older], older.with_name("both.h5"))) as file:
        assert (len(file), file.key_check) == (5, "1" * 12)
