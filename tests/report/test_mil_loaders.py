"""Exports read the way the published loaders of other tools read them, with the assumptions that these make silently.

Written from the contracts of: CLAM dataset_modules/dataset_generic.py; TRIDENT IO.py (read_coords), wsi_objects/WSI.py;
Patho-Bench SplitFactory.py, datasets/DataSplit.py and PatchEmbeddingsDataset.py; STAMP modeling/data.py; MIL-Lab
data_loading/dataset.py; torchmil datasets/trident_wsi_dataset.py; eva datasets/classification/multi_embeddings.py;
slideflow dataset.py and mil/data.py.
"""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from store_cases import header, item, write

from umedfeat.cli import run
from umedfeat.errors import SetupError
from umedfeat.report.mil_tables import MISSING, write_tables
from umedfeat.store import FeatureFile, Item

PATIENTS = 12


def _slide(k: int, label: str, patient: str) -> Item:
    made = item(f"slide-{k:02d}", 0 if k == 5 else 3 + k % 3, label=label)
    return replace(made, source=replace(made.source, patient=patient))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides of each patient, far apart in the file's order; one slide without tissue; a study of two folds."""
    folder = tmp_path_factory.mktemp("loaders")
    labels = ["benign", "malignant"]
    items = [_slide(k, labels[k % PATIENTS % 2], f"p{k % PATIENTS:02d}") for k in range(2 * PATIENTS)]
    feats = write(folder / "feats.h5", items, settings=header())
    study = ["probe", "-f", str(feats), "--label", "label", "--shots", "1", "--repeats", "1", "--bootstrap", "100"]
    study += ["--cv", "2", "--cv-repeats", "1", "--no-model", "--out", str(folder / "probe")]
    assert run(study) == 0
    for layout in ("clam", "trident", "stamp", "pt"):
        command = ["export", str(feats), "--layout", layout, "--out", str(folder / layout), "--label", "label"]
        assert run([*command, "--splits", str(folder / "probe" / "splits.json")]) == 0
    return folder


def test_clam_trains_on_bags_with_rows(exported: Path) -> None:
    """Split columns select rows of the table; a bag is a tensor, or features and coordinates of one length."""
    table = pd.read_csv(exported / "clam" / "dataset.csv")
    split = pd.read_csv(exported / "clam" / "splits" / "splits_0.csv", dtype=table["slide_id"].dtype)
    for side in ("train", "val", "test"):
        part = table[table["slide_id"].isin(split[side].dropna().tolist())].reset_index(drop=True)
        assert len(part) == split[side].notna().sum() > 0
        for slide, label in zip(part["slide_id"], part["label"], strict=True):
            assert {"benign": 0, "malignant": 1}[label] in (0, 1)
            bag = torch.load(exported / "clam" / "pt_files" / f"{slide}.pt", weights_only=True)
            with h5py.File(exported / "clam" / "h5_files" / f"{slide}.h5", "r") as file:
                features, coords = torch.from_numpy(file["features"][:]), file["coords"][:]
            assert len(bag) > 0 and bag.dtype == torch.float32 and torch.equal(bag, features)
            assert coords.shape == (len(bag), 2) and coords.dtype.kind == "i"
    empty = torch.load(exported / "clam" / "pt_files" / "slide-05.pt", weights_only=True)
    assert empty.shape == (0, 4) and "slide-05" not in set(table["slide_id"])


def test_trident_finds_scale_and_extent_at_the_coordinates(exported: Path) -> None:
    """The three attributes without which it falls back to CLAM's patch_level, and those that slide encoders need."""
    for path in sorted((exported / "trident" / "patches").glob("*_patches.h5")):
        with h5py.File(path, "r") as file:
            attributes, coords = dict(file["coords"].attrs), file["coords"][:]
        assert coords.ndim == 2 and coords.shape[1] == 2 and coords.dtype == np.int64
        size, source, target = (
            attributes.get(name) for name in ("patch_size", "level0_magnification", "target_magnification")
        )
        assert None not in (size, source, target)
        assert int(size * source // target) == attributes["patch_size_level0"]
        assert attributes["name"] == path.name.removesuffix("_patches.h5") and attributes.get("overlap", "NA") == 0


def patho_bench(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Samples as its split object holds them: one of each sample_col, with one label and one side a fold."""
    task = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    kinds = {"sample_col": str, "extra_cols": list, "label_dict": dict, "metrics": list}
    assert all(isinstance(task[name], kind) for name, kind in kinds.items())
    rows = pd.read_csv(folder / "k=all.tsv", sep="\t", dtype={"case_id": str, "slide_id": str, "id": str})
    rows = rows.dropna(subset=[task["task_col"]])
    samples = []
    for sample in rows[task["sample_col"]].unique():
        own = rows[rows[task["sample_col"]] == sample]
        folds = sorted((name for name in own.columns if "fold_" in name), key=lambda name: int(name.split("_")[-1]))
        assert len(own.drop_duplicates(subset=[task["task_col"]])) == 1
        assert all(len(set(own[name].values)) == 1 for name in folds)
        told = {"label": own[task["task_col"]].iloc[0], "slides": own["slide_id"].tolist()}
        samples.append({**told, "folds": [own[name].iloc[0] for name in folds]})
    return samples, task


def test_patho_bench_pools_the_slides_of_a_patient(exported: Path) -> None:
    samples, task = patho_bench(exported / "trident")
    assert len(samples) == PATIENTS and task["sample_col"] == "case_id"
    available = {path.stem: path for path in (exported / "trident" / "features_umedpt").glob("*.h5")}
    for sample in samples:
        assert int(sample["label"]) in task["label_dict"] and set(sample["folds"]) <= {"train", "test"}
        extents = []
        for slide in sample["slides"]:
            with h5py.File(available[slide], "r") as file:
                assert file["features"].ndim == file["coords"].ndim == 2 and len(file["features"])
                extents.append(dict(file["coords"].attrs)["patch_size_level0"])
        assert len(set(extents)) == 1  # it combines the slides of a patient only then


def test_patho_bench_takes_slides_where_a_patients_slides_differ(tmp_path: Path) -> None:
    items = [_slide(k, ["benign", "malignant"][k % 2], f"p{k // 2}") for k in range(8, 16)]
    write_tables(write(tmp_path / "feats.h5", items), tmp_path, "trident", label="label")
    samples, task = patho_bench(tmp_path)
    assert len(samples) == 8 and task["sample_col"] == "slide_id"


def test_stamp_finds_every_slide_of_a_patient(exported: Path) -> None:
    """It groups the rows of the slide table without sorting them: a patient's last run of rows is what it keeps."""
    folder = exported / "stamp"
    slides = pd.read_csv(folder / "slide_table.csv", usecols=["PATIENT", "FILENAME"], dtype=str)
    assert slides["FILENAME"].str.endswith(".h5").all()
    assert slides["FILENAME"].is_unique
    of_slide = dict(zip(slides["FILENAME"], slides["PATIENT"], strict=True))
    of_patient = {patient: set(names) for patient, names in groupby(of_slide, lambda name: of_slide[name])}
    truth = pd.read_csv(folder / "clini_table.csv", dtype=str).dropna()
    assert truth["PATIENT"].is_unique and set(of_patient) == set(truth["PATIENT"])
    with FeatureFile(exported / "feats.h5") as file:
        there = [k for k in range(len(file)) if file.items["count"][k]]
    assert sum(map(len, of_patient.values())) == len(there) == 2 * PATIENTS - 1
    assert {len(names) for names in of_patient.values()} == {1, 2}


def test_stamp_knows_micrometres_and_pixels_of_every_tile(exported: Path) -> None:
    for path in (exported / "stamp").glob("*.h5"):
        with h5py.File(path, "r") as file:
            features = torch.from_numpy(file["feats"][:]).float()
            coords = torch.from_numpy(file["coords"][:]).float()
            attributes = dict(file.attrs)
        assert str(attributes["feat_type"]) == "tile" and "tile_size" not in attributes
        assert float(attributes["tile_size_um"]) / int(attributes["tile_size_px"]) == 0.5
        assert features.shape == (len(coords), 4) and coords.shape[1] == 2
        assert "stamp_version" not in attributes  # a newer one than the reader's is refused


def test_mil_lab_joins_labels_and_files_by_name(exported: Path) -> None:
    labels = pd.read_csv(exported / "trident" / "labels_0.csv")
    labels[["slide_id", "label"]] = labels[["slide_id", "label"]].astype(str)
    files = pd.DataFrame({"slide_id": [p.stem for p in (exported / "trident" / "features_umedpt").glob("*.h5")]})
    joined = labels.merge(files, on="slide_id", how="inner")
    assert len(joined) == len(labels) and set(joined["split"]) == {"train", "val", "test"}
    known = set(joined.loc[joined["split"] == "train", "label"])
    assert set(joined["label"]) <= known  # its label map is made of the training slides
    sides = joined.groupby("case_id")["split"].nunique()
    assert (sides == 1).all()


def test_torchmil_finds_a_label_for_every_bag(exported: Path) -> None:
    """Bags by the names of the features; labels are looked up by what stands before the last dot of a name."""
    folder = exported / "trident"
    table = pd.read_csv(folder / "labels_0.csv")
    for bag in table["slide_id"]:
        with h5py.File(folder / "features_umedpt" / f"{bag}.h5", "r") as file:
            features = file["features"][:]
        with h5py.File(folder / "patches" / f"{bag}_patches.h5", "r") as file:
            places = (file["coords"][:] / file["coords"].attrs["patch_size_level0"]).astype(int)
        label = table.loc[table["slide_id"].map(lambda name: Path(name).stem) == bag, "label"].to_numpy()
        assert features.dtype == np.float32 and places.shape == (len(features), 2)
        assert torch.from_numpy(np.array(label)).shape == (1,)


def test_eva_stacks_the_tiles_of_a_slide(exported: Path) -> None:
    """One target each, whole numbers, every side there; tensors of two axes."""
    table = pd.read_csv(exported / "pt" / "manifest_0.csv")
    assert set(table["split"]) == {"train", "val", "test"} and table["wsi_id"].is_unique
    for row in table.itertuples():
        tensor = torch.load(exported / "pt" / row.embeddings, map_location="cpu", weights_only=True)
        assert tensor.ndim == 2 and len(tensor) and np.asarray(row.target, np.int64) in (0, 1)


def test_slideflow_finds_bags_by_name(exported: Path) -> None:
    """Everything is text; the side of a fold is a column to filter by; a bag is named as its slide."""
    table = pd.read_csv(exported / "pt" / "annotations.csv", dtype=str).fillna("")
    assert table.columns.tolist() == ["patient", "slide", "label", "fold_0", "fold_1"]
    files = {path.name.removesuffix(".pt") for path in (exported / "pt").glob("*.pt")}
    assert set(table["slide"]) <= files and "slide-05" not in set(table["slide"])
    manifest = pd.read_csv(exported / "pt" / "manifest_1.csv").set_index("wsi_id")["split"]
    assert dict(zip(table["slide"], table["fold_1"], strict=True)) == manifest.to_dict()
    assert set(table.groupby("patient")["fold_0"].nunique()) == {1}


@pytest.mark.parametrize("name", MISSING)
def test_what_pandas_takes_for_nothing(name: str) -> None:
    assert pd.read_csv(io.StringIO(f"label,k\n{name},0\n"))["label"].isna().all()


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan"])
def test_a_class_that_pandas_would_lose_is_refused(tmp_path: Path, name: str) -> None:
    items = [_slide(k, [name, "tumour"][k % 2], f"p{k}") for k in range(8, 12)]
    with pytest.raises(SetupError, match="missing value") as caught:
        write_tables(write(tmp_path / "feats.h5", items), tmp_path, "stamp", label="label")
    assert "no finding" in caught.value.remedy
