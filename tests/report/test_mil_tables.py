"""Tables for MIL tools, read back the way their loaders do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from store_cases import header, item, write

from umedfeat.cli import run
from umedfeat.errors import CohortError, SetupError
from umedfeat.report.mil_tables import write_tables
from umedfeat.store import Item


def _slide(k: int, rows: int, label: str) -> Item:
    made = item(f"class/{k:02d}", rows, label=label)
    return replace(made, source=replace(made.source, patient=f"p{k // 2}"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 slides of 20 patients, one without tissue and one without label; a study of them; three exports."""
    folder = tmp_path_factory.mktemp("mil")
    items = [
        _slide(k, 0 if k == 5 else 3 + k % 3, "" if k == 8 else ["benign", "malignant"][k // 2 % 2]) for k in range(40)
    ]
    feats = write(folder / "feats.h5", items, settings=header())
    study = ["probe", "-f", str(feats), "--label", "label", "--shots", "1", "--repeats", "1", "--bootstrap", "100"]
    study += ["--cv", "2", "--cv-repeats", "1", "--unmatched", "skip", "--no-model", "--out", str(folder / "probe")]
    assert run(study) == 0
    for layout in ("clam", "trident", "stamp"):
        command = ["export", str(feats), "--layout", layout, "--out", str(folder / layout), "--label", "label"]
        assert run([*command, "--splits", str(folder / "probe" / "splits.json"), "--skip-empty"]) == 0
    return folder


def test_clam(exported: Path) -> None:
    """dataset_generic.py of CLAM: slide_data from the CSV, splits by its column names, bags from pt_files."""
    data = pd.read_csv(exported / "clam" / "dataset.csv")
    assert list(data.columns) == ["case_id", "slide_id", "label"]
    label_dict = {"benign": 0, "malignant": 1}
    assert set(data["label"]) == set(label_dict) and len(data) == 38
    tested: list[str] = []
    for k in range(2):
        all_splits = pd.read_csv(exported / "clam" / "splits" / f"splits_{k}.csv", dtype=data["slide_id"].dtype)
        sides = {side: all_splits[side].dropna().tolist() for side in ("train", "val", "test")}
        names = [name for side in sides.values() for name in side]
        assert len(names) == len(set(names)) == len(data["slide_id"].isin(names)) and sides["val"]
        cases = {side: set(data.loc[data["slide_id"].isin(part), "case_id"]) for side, part in sides.items()}
        assert not cases["train"] & cases["val"] and not (cases["train"] | cases["val"]) & cases["test"]
        for part in sides.values():
            assert set(data.loc[data["slide_id"].isin(part), "label"]) == set(label_dict)
        tested += sides["test"]
    assert sorted(tested) == sorted(data["slide_id"])
    for name in data["slide_id"]:
        bag = torch.load(exported / "clam" / "pt_files" / f"{name}.pt", weights_only=True)
        assert len(bag) > 0  # an empty bag ends a training


def test_transmil(exported: Path) -> None:
    """CamelData of TransMIL: index from 0, names and numbers side by side."""
    data = pd.read_csv(exported / "clam" / "folds" / "fold1.csv", index_col=0)
    for side in ("train", "val", "test"):
        names, labels = data.loc[:, side].dropna(), data.loc[:, f"{side}_label"].dropna()
        assert len(names) == len(labels) and list(names.index) == list(range(len(names)))
        for k in range(len(names)):
            assert int(labels[k]) in (0, 1)
            assert (exported / "clam" / "pt_files" / f"{names[k]}.pt").is_file()


def test_patho_bench_and_mil_lab(exported: Path) -> None:
    task = yaml.safe_load((exported / "trident" / "config.yaml").read_text())
    split = pd.read_csv(exported / "trident" / "k=all.tsv", sep="\t", dtype={"case_id": str, "slide_id": str})
    assert task["label_dict"] == {0: "benign", 1: "malignant"} and task["task_col"] == "label"
    assert list(split.columns) == [task["sample_col"], "slide_id", task["task_col"], "fold_0", "fold_1"]
    assert set(split["fold_0"]) == {"train", "test"} == set(split["fold_1"])
    assert (split.groupby("case_id")["fold_0"].nunique() == 1).all()
    for name in split["slide_id"]:
        with h5py.File(exported / "trident" / "features_umedpt" / f"{name}.h5", "r") as file:
            assert file["features"].shape[0] == file["coords"].shape[0] > 0
    labels = pd.read_csv(exported / "trident" / "labels_0.csv", dtype={"slide_id": str})
    assert list(labels.columns) == ["slide_id", "case_id", "label", "split"]
    assert set(labels["split"]) == {"train", "val", "test"} and labels["label"].dtype == np.int64


def test_stamp(exported: Path) -> None:
    clini = pd.read_csv(exported / "stamp" / "clini_table.csv")
    files = pd.read_csv(exported / "stamp" / "slide_table.csv")
    assert list(clini.columns) == ["PATIENT", "label"] and clini["PATIENT"].is_unique
    assert list(files.columns) == ["PATIENT", "FILENAME"] and set(files["PATIENT"]) == set(clini["PATIENT"])
    for name in files["FILENAME"]:
        with h5py.File(exported / "stamp" / name, "r") as file:
            assert file["feats"].dtype == np.float16 and len(file["feats"]) == len(file["coords"])
            assert file.attrs["feat_type"] == "tile" and file.attrs["unit"] == "um"


def test_validation_is_a_choice(exported: Path, tmp_path: Path) -> None:
    splits = exported / "probe" / "splits.json"
    write_tables(exported / "feats.h5", tmp_path, "clam", label="label", splits=splits, validation=0)
    assert pd.read_csv(tmp_path / "splits" / "splits_0.csv")["val"].isna().all()


def test_refused_by_name(exported: Path, tmp_path: Path) -> None:
    feats = exported / "feats.h5"
    with pytest.raises(SetupError, match="has no tables"):
        write_tables(feats, tmp_path, "parquet", label="label")
    with pytest.raises(SetupError, match="no column 'grade'"):
        write_tables(feats, tmp_path, "clam", label="grade")
    with pytest.raises(SetupError, match="holds 1 class"):
        write_tables(feats, tmp_path, "clam", label="modality")
    with pytest.raises(CohortError, match=r"not the splits\.json"):
        write_tables(feats, tmp_path, "clam", label="label", splits=exported / "trident" / "config.yaml")
    torn = write(tmp_path / "torn.h5", [_slide(0, 2, "a"), _slide(1, 2, "b")])
    with pytest.raises(SetupError, match="differs between slides of a patient"):
        write_tables(torn, tmp_path, "stamp", label="label")
    assert run(["export", str(feats), "--layout", "clam", "--splits", str(exported / "probe" / "splits.json")]) == 2
