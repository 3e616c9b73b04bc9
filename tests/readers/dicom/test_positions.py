"""Every slice is stored with its index and its place in millimetres, checked against the headers themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_factory import image, save
from nifti_factory import write
from test_dicom import PSEUDONYMS, find, one

from umedfeat.contract import Plan
from umedfeat.discovery import discover
from umedfeat.policy import ImagePolicy, Policy, VolumePolicy
from umedfeat.readers import open_reader


def how(**volume: Any) -> Policy:
    return Policy(volume=VolumePolicy(**volume), image=ImagePolicy(size=32, fit="squash"))


def planned(path: Path, policy: Policy) -> tuple[Plan, Any]:
    reader = open_reader(discover([path], policy, PSEUDONYMS).sources[0], policy)
    return reader.plan(), reader


@pytest.mark.parametrize("name", ["ibsi/STS_025/CT/image", "ibsi/STS_008/MR_T1/image", "totalseg_ct"])
def test_slices_of_a_series_lie_where_their_files_say(data_dir: Path, name: str) -> None:
    folder = data_dir / "dicom" / name
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    axes = np.array([float(v) for v in files[0].ImageOrientationPatient])
    normal = np.cross(axes[:3], axes[3:])
    normal *= np.sign(normal[np.abs(normal).argmax()])  # towards left, back or head
    places = {round(float(normal @ [float(v) for v in f.ImagePositionPatient]), 2): f for f in files}
    plan, reader = planned(folder, how(include_derived=True))
    assert [round(float(p), 2) for p in plan.regions["position"]] == sorted(places)
    assert plan.regions["slice"].tolist() == list(range(len(files)))
    for k in (0, len(files) // 2, len(files) - 1):
        stored, _ = reader._across(int(reader._view.order[k]))
        file = places[sorted(places)[k]]
        slope, intercept = float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))
        assert np.abs(stored - (file.pixel_array * slope + intercept)).max() < 1e-3
    reader.close()


@pytest.mark.parametrize("rule", ["5", "every-7", "all"])
def test_chosen_slices_keep_their_index_and_place(data_dir: Path, rule: str) -> None:
    folder = data_dir / "dicom" / "ibsi" / "STS_025" / "CT" / "image"
    whole, _ = planned(folder, how())
    chosen, _ = planned(folder, how(slices=rule))
    kept = chosen.regions["slice"]
    assert len(kept) == {"5": 5, "every-7": 7, "all": 47}[rule] and (np.diff(kept) > 0).all()
    assert np.array_equal(chosen.regions["position"], whole.regions["position"][kept])
    assert chosen.detail["slices_total"] == 47


@pytest.mark.parametrize(("plane", "axis"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_slices_of_a_nifti_lie_where_its_affine_says(tmp_path: Path, plane: str, axis: int) -> None:
    affine = np.array([[-2.0, 0, 0, 40], [0, 0, 1.5, -30], [0, 3.0, 0, 7], [0, 0, 0, 1]])
    data = np.random.default_rng(0).integers(0, 500, (6, 7, 8)).astype(np.int16)
    write(tmp_path / "a.nii", data, affine)
    plan, reader = planned(tmp_path / "a.nii", how(plane=plane))
    voxels = np.array(np.meshgrid(*map(range, data.shape), indexing="ij")).reshape(3, -1)
    world = nibabel.affines.apply_affine(np.diag([-1.0, -1, 1, 1]) @ affine, voxels.T)  # LPS
    expected = np.unique(np.round(world[:, axis], 4))
    assert plan.regions["position"] == pytest.approx(expected, abs=1e-3)
    for k, place in enumerate(expected):
        ours = np.sort(reader._across(int(reader._view.order[k]))[0].ravel())
        theirs = np.sort(data[tuple(voxels[:, np.isclose(world[:, axis], place)])])
        assert np.array_equal(ours, theirs)
    reader.close()


def test_pixels_that_are_not_square_are_shown_in_proportion(tmp_path: Path) -> None:
    """A disc of 40 mm, sampled every 1 mm down and every 2 mm across."""
    y, x = np.mgrid[-32:32, -32:32:2]
    disc = (np.hypot(x + 1, y + 0.5) < 20) * 1000 + 10
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for folder, tags in (("mr", {**place, "PixelSpacing": [1.0, 2.0]}), ("film", {"PixelAspectRatio": [1, 2]})):
        dataset = image("MR" if folder == "mr" else "DX", disc.astype(np.uint16), **tags)
        _, picture = one(tmp_path / folder, dataset, Policy(image=ImagePolicy(size=64)))
        bright = picture[..., 0] > 0.5
        assert bright.any(axis=1).sum() == pytest.approx(bright.any(axis=0).sum(), abs=2) == pytest.approx(40, abs=2)


def test_a_real_series_with_oblong_pixels(data_dir: Path) -> None:
    folder = data_dir / "dicom" / "dicom2nifti" / "generic" / "anatomical" / "002_non_isotropic"
    plan, reader = planned(folder, how(include_derived=True))
    header = pydicom.dcmread(next(folder.iterdir()))
    step, down, across = (float(part) for part in plan.spacing.split("\\"))
    assert (down, across) == pytest.approx([float(v) for v in header.PixelSpacing], abs=1e-4)
    assert step == pytest.approx(0.5, abs=1e-3)
    reader.close()


def test_cine_frames_have_an_index_and_no_place(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 32)).astype(np.uint16)
    save(image("US", frames[0], NumberOfFrames=6, PixelData=frames.tobytes()), tmp_path / "a.dcm")
    plan, _ = planned(tmp_path, how(frames="3"))
    assert plan.regions["slice"].tolist() == [1, 3, 5] and np.isnan(plan.regions["position"]).all()
    assert len(find(tmp_path).sources) == 1
