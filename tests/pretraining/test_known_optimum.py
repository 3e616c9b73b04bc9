"""What can be learnt is learnt; the shipped encoder is better than its start where it was taught."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_tasks import draw_images, write_tasks
from PIL import Image

import umedfeat
from umedfeat.pretraining.run import pretrain
from umedfeat.pretraining.settings import TrainSettings


@pytest.mark.slow
def test_squares_and_discs_are_learnt(tmp_path: Path) -> None:
    draw_images(tmp_path / "drawn", patients=60)
    tasks = write_tasks(tmp_path / "tasks.yaml", tmp_path / "drawn", "classification", "segmentation", "detection")
    settings = TrainSettings(rounds=150, image_sizes=(64,), batch=8, alpha=1.0, ema=0.95)
    last = pretrain(tasks, tmp_path / "e.safetensors", settings=settings, device="cpu").looks[-1]
    assert last["scores"]["classification0"] > 0.9
    assert last["scores"]["segmentation1"] > 0.8
    assert last["scores"]["detection2"] > 0.8


def test_the_shipped_encoder_beats_its_start_on_patients_it_never_saw(shared_dir: Path) -> None:
    """The nearest class mean of brain MR, made of the other patients: at least .05 better."""
    folder = shared_dir / "pretrain" / "cheng_brain_mri"
    with (folder / "labels.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "heldout"][::5]
    images = torch.stack([_square(folder / row["path"]) for row in rows])
    labels = np.array([row["label"] for row in rows])
    patients = np.array([row["patient"] for row in rows])
    scores = {
        name: _prototypes(umedfeat.load_encoder(name, device="cpu")(images).numpy(), labels, patients)
        for name in ("umedfeat-open", "efficientnet-lite0")
    }
    assert scores["umedfeat-open"] > scores["efficientnet-lite0"] + 0.05, scores


def _square(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L").resize((128, 128)), np.float32) / 255
    return torch.from_numpy(grey).expand(3, -1, -1)


def _prototypes(features: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> float:
    """Balanced accuracy of the nearest class mean, made without the patient."""
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    kinds = np.unique(labels)
    found = []
    for row, patient in zip(features, patients, strict=True):
        others = patients != patient
        means = np.stack([features[others & (labels == kind)].mean(0) for kind in kinds])
        found.append(kinds[(means / np.linalg.norm(means, axis=1, keepdims=True) @ row).argmax()])
    return float(np.mean([(np.array(found)[labels == kind] == kind).mean() for kind in kinds]))
