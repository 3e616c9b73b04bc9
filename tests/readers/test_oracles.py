"""What SimpleITK (GDCM) and dcm2niix make of the same files: values, places and slices agree voxel by voxel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import image, save
from pydicom.uid import generate_uid

from umedfeat.discovery import discover
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Policy, VolumePolicy
from umedfeat.readers import open_reader

POLICY = Policy(
    intensity=IntensityPolicy(window="percentile", ct_window="percentile"),
    volume=VolumePolicy(include_derived=True),
    image=ImagePolicy(size=128),
)
SERIES = {
    "CT": "dicom/ibsi/STS_025/CT/image",
    "MR": "dicom/ibsi/STS_008/MR_T1/image",
    "PET": "dicom/ibsi/STS_008/PET/image",
    "oblong pixels": "dicom/dicom2nifti/generic/anatomical/002_non_isotropic",
    "RLE": "dicom/dicom2nifti/generic/compressed_rle/001",
}


def opened(path: Path, modality: str = "") -> Any:
    """The reader of the only volume there."""
    (source,) = discover([path], POLICY, Pseudonyms(b"key")).sources
    return open_reader(replace(source, modality=modality or source.modality), POLICY)


def voxels(reader: Any) -> tuple[np.ndarray, np.ndarray]:
    """(slices, rows, columns) in the file's own units, and where the first voxel of every slice lies (LPS)."""
    stack, facts = reader._stack, reader.facts
    values = np.stack([stack.slice(k)[0] for k in range(facts.slices)])
    suv = facts.detail.get("suv") or {}
    origins = facts.origins if facts.origins is not None else facts.affine[:3, 3][None]
    return values / suv.get("factor", 1.0), origins


@pytest.mark.parametrize("name", SERIES)
def test_every_slice_has_the_values_and_the_place_that_simpleitk_reads(data_dir: Path, name: str) -> None:
    """File by file: slopes may vary from slice to slice."""
    sitk = pytest.importorskip("SimpleITK")
    folder = data_dir / SERIES[name]
    reader = opened(folder)
    values, origins = voxels(reader)
    facts = reader.facts
    files = [path for path in folder.iterdir() if path.is_file()]
    assert len(files) == len(values)
    for path in files:
        other = sitk.ReadImage(str(path))
        k = int(np.linalg.norm(origins - np.array(other.GetOrigin()), axis=1).argmin())
        np.testing.assert_allclose(origins[k], other.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(facts.affine[:3, :2], axis=0), other.GetSpacing()[:2], rtol=1e-5)
        axes = np.array(other.GetDirection()).reshape(3, 3)[:, :2] * np.array(other.GetSpacing()[:2])
        np.testing.assert_allclose(facts.affine[:3, :2], axes, atol=1e-4)
        theirs = sitk.GetArrayFromImage(other)[0]
        np.testing.assert_allclose(
            values[k], theirs, rtol=1e-5, atol=1e-3 * max(1.0, float(np.abs(theirs).max())) / 1e3
        )
    reader.close()


def test_voxels_lie_where_simpleitk_puts_them_in_an_oblique_series(tmp_path: Path) -> None:
    """Every voxel through the physical space of the whole series, in a gantry that stands askew."""
    sitk = pytest.importorskip("SimpleITK")
    across, down = np.array([0.96, 0.28, 0.0]), np.array([-0.168, 0.576, -0.8])
    normal, uid = np.cross(across, down), generate_uid()
    stored = np.random.default_rng(0).integers(0, 2000, (7, 18, 22)).astype(np.int16)
    for k in range(7):
        place = [round(float(v), 6) for v in np.array([5.0, -7.0, 11.0]) + 2.5 * k * normal]
        tags = {"ImagePositionPatient": place, "ImageOrientationPatient": [*across, *down], "PixelSpacing": [0.8, 0.7]}
        ids = {"SeriesInstanceUID": uid, "StudyInstanceUID": "1.2.3", "InstanceNumber": 9 - k}
        save(image("CT", stored[k], **tags, **ids), tmp_path / f"{(k * 3) % 7}.dcm")
    series = sitk.ImageSeriesReader()
    series.SetFileNames(series.GetGDCMSeriesFileNames(str(tmp_path)))
    other = series.Execute()
    reader = opened(tmp_path)
    values, _ = voxels(reader)
    affine = reader.facts.affine
    for index in np.random.default_rng(1).integers(0, (22, 18, 7), (200, 3)):
        place = (affine @ [*index, 1.0])[:3]
        theirs = other.GetPixel(*other.TransformPhysicalPointToIndex([float(v) for v in place]))
        assert values[index[2], index[1], index[0]] == theirs
    reader.close()


def test_nm_volumes_agree_with_simpleitk(shared_dir: Path) -> None:
    """Of a positive step; a negative one SimpleITK takes for positive."""
    sitk = pytest.importorskip("SimpleITK")
    path = shared_dir / "cases" / "radiology" / "03_nm" / "pos.dcm"
    if not path.is_file():
        pytest.skip("no drawn cases")
    reader = opened(path)
    values, origins = voxels(reader)
    other = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(values, sitk.GetArrayFromImage(other))
    places = [other.TransformIndexToPhysicalPoint((0, 0, k)) for k in range(len(values))]
    np.testing.assert_allclose(origins, places, atol=1e-4)
    reader.close()


@pytest.mark.parametrize("name", ["CT", "MR", "PET", "RLE"])
def test_what_dcm2niix_converts_gives_the_same_slices(data_dir: Path, tmp_path: Path, name: str) -> None:
    program = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("dcm2niix is not installed")
    folder = data_dir / SERIES[name]
    subprocess.run([program, "-o", tmp_path, "-f", "a", "-b", "n", folder], check=True, capture_output=True)
    (converted,) = tmp_path.glob("*.nii")
    ours = opened(folder)
    theirs = opened(converted, ours.facts.modality)
    plan, other = ours.plan(), theirs.plan()
    assert (plan.depth, plan.detail["plane"]) == (other.depth, other.detail["plane"])
    np.testing.assert_allclose(other.regions["position"], plan.regions["position"], atol=1e-2)
    for k in range(0, plan.depth, 5):
        one, two = (np.asarray(r.read(p.regions[k : k + 1])[0]) for r, p in ((ours, plan), (theirs, other)))
        assert np.abs(one - two).max() < 2e-3
    ours.close()
    theirs.close()
