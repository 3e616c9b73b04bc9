"""Masks of volumes lie on what they were drawn on, however the axes are stored; another grid is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from umedfeat.errors import SetupError
from umedfeat.policy import Policy
from umedfeat.pretraining.pictures import Pictures
from umedfeat.pretraining.spec import read_task_file
from umedfeat.pretraining.tasks import load_task


def write(folder: Path, affine: np.ndarray, mask_affine: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    volume = rng.normal(100, 5, (40, 32, 12)).astype(np.float32)
    mask = np.zeros(volume.shape, np.uint8)
    mask[6:20, 10:16, 3:9] = 1
    volume[mask == 1] += 400
    nibabel.save(nibabel.Nifti1Image(volume, affine), folder / "scan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask, mask_affine), folder / "mask.nii.gz")
    (folder / "labels.csv").write_text("path,patient,split,mask\nscan.nii.gz,p,train,mask.nii.gz\n")
    (folder / "tasks.yaml").write_text(
        "tasks: [{name: a, type: segmentation, labels: labels.csv, classes: [background, bright]}]"
    )
    return folder / "tasks.yaml"


@pytest.mark.parametrize("diagonal", [(1, 1, 3, 1), (-1, 1, 3, 1), (1, -1, -3, 1), (2, 1, 4, 1)])
def test_a_mask_covers_what_it_was_drawn_on(tmp_path: Path, diagonal: tuple[int, ...]) -> None:
    affine = np.diag(np.array(diagonal, float))
    task = load_task(read_task_file(write(tmp_path, affine, affine))[0], Policy(), holdout="split", seed=0)
    with contextlib.closing(Pictures(Policy(), 0)) as pictures:
        picture = pictures.read(task, task.train[0], 0.5, 64)
    assert picture.mask is not None
    bright = picture.pixels[0].astype(np.float32) > 0.6
    drawn = picture.mask == 1
    assert drawn.sum() > 50
    assert (bright & drawn).sum() / (bright | drawn).sum() > 0.85


def test_a_mask_elsewhere_is_refused(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1, 3, 1])
    path = write(tmp_path, affine, np.diag([1.0, 1, 2, 1]))
    task = load_task(read_task_file(path)[0], Policy(), holdout="split", seed=0)
    with contextlib.closing(Pictures(Policy(), 0)) as pictures, pytest.raises(SetupError, match="lies elsewhere"):
        pictures.read(task, task.train[0], 0.5, 64)
