"""Masks of volumes lie on what they were drawn on, however the axes are stored; another grid is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_factory import image, save
from mask_factory import segmentation, square, structure_set
from pydicom.uid import generate_uid

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


BOX = (slice(3, 8), slice(6, 20), slice(10, 26))  # slices, rows, columns


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An MR series of 10 slices of 32 x 40 pixels of 1.5 mm, 3 mm apart, with a bright box."""
    folder = tmp_path_factory.mktemp("series") / "scan"
    folder.mkdir()
    pixels = np.random.default_rng(0).normal(100, 5, (10, 32, 40))
    pixels[BOX] += 400
    stored = pixels.astype(np.uint16)
    shared = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "PixelSpacing": [1.5, 1.5]}
    shared |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SliceThickness": 3.0}
    places = [{"ImagePositionPatient": [-30, -20, 3.0 * k], "InstanceNumber": k + 1} for k in range(len(stored))]
    slices = [image("MR", part, **shared, **place) for part, place in zip(stored, places, strict=True)]
    return [save(one, folder / f"{k}.dcm") for k, one in enumerate(slices)]


def drawn_box() -> np.ndarray:
    mask = np.zeros((10, 32, 40), np.uint8)
    mask[BOX] = 1
    return mask


def overlap(series: list[Path], mask: Path, classes: str = "[background, bright]") -> float:
    """Of mask and brightness (intersection over union), over all slices."""
    folder = mask.parent
    (folder / "labels.csv").write_text(f"path,patient,split,mask\n{series[0].parent},p,train,{mask.name}\n")
    (folder / "tasks.yaml").write_text(
        f"tasks: [{{name: a, type: segmentation, labels: labels.csv, classes: {classes}}}]"
    )
    task = load_task(read_task_file(folder / "tasks.yaml")[0], Policy(), holdout="split", seed=0)
    with contextlib.closing(Pictures(Policy(), 0)) as pictures:
        read = [pictures.read(task, task.train[0], (k + 0.5) / 10, 64) for k in range(10)]
    bright = np.stack([picture.pixels[0].astype(np.float32) > 0.6 for picture in read])
    drawn = np.stack([picture.mask for picture in read if picture.mask is not None]) == 1
    assert drawn.any()
    return float((bright & drawn).sum() / (bright | drawn).sum())


def test_a_dicom_segmentation_covers_what_it_was_drawn_on(tmp_path: Path, series: list[Path]) -> None:
    other = np.zeros((10, 32, 40), np.uint8)
    other[:, :3] = 1
    segmentation(tmp_path / "seg.dcm", series, {"Table": other, "Bright": drawn_box()})
    assert overlap(series, tmp_path / "seg.dcm") > 0.85


def test_a_structure_set_covers_what_it_was_drawn_on(tmp_path: Path, series: list[Path]) -> None:
    left, top = -30 + 1.5 * (10 - 0.5), -20 + 1.5 * (6 - 0.5)
    contours = [square(left, top, left + 16 * 1.5, top + 14 * 1.5, 3.0 * k) for k in range(3, 8)]
    structure_set(tmp_path / "rt.dcm", {"body": [square(-30, -20, 28, 26, 3.0 * k) for k in range(10)], "b": contours})
    assert overlap(series, tmp_path / "rt.dcm", "[background, b]") > 0.85


def test_names_that_the_task_does_not_know_are_told(tmp_path: Path, series: list[Path]) -> None:
    segmentation(tmp_path / "seg.dcm", series, {"liver": drawn_box(), "spleen": drawn_box()})
    with pytest.raises(SetupError, match="none of its segments") as fault:
        overlap(series, tmp_path / "seg.dcm")
    assert "liver, spleen" in fault.value.remedy


def test_a_mask_of_another_patient_is_refused(tmp_path: Path, series: list[Path]) -> None:
    structure_set(tmp_path / "rt.dcm", {"b": [square(900, 900, 950, 950, 9.0)]})
    with pytest.raises(SetupError, match="outside of the image"):
        overlap(series, tmp_path / "rt.dcm", "[background, b]")
