"""The same scan as DICOM and as NIfTI: the same slices in the same order, and the same features.

The NIfTI files are written here from highdicom's reading of the series, not from ours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from dicom_factory import image, save
from nifti_factory import reordered, write
from scipy.spatial.transform import Rotation

from umedfeat.contract import Found
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Policy, VolumePolicy
from umedfeat.readers.dicom import reader as dicom
from umedfeat.readers.volumes import reader as nifti

SERIES = {
    "CT": "ibsi/STS_025/CT/image",
    "MR": "ibsi/STS_008/MR_T1/image",
    "PT": "ibsi/STS_008/PET/image",
    "CT repaired": "totalseg_ct",
}
STORED = [("RAS", "<", ".nii"), ("LPS", ">", ".nii.gz"), ("AIL", "<", ".nii.gz"), ("SRP", ">", ".nii")]


def policy(plane: str = "acquired") -> Policy:
    """Percentiles for PET: a NIfTI does not tell in which unit its values are."""
    volume = VolumePolicy(plane=plane, slices="6", include_derived=True)
    return Policy(intensity=IntensityPolicy(window="percentile"), volume=volume, image=ImagePolicy(size=224))


def read(module, source, how):
    reader = module.open_source(source, how)
    try:
        plan = reader.plan()
        return plan, np.stack(reader.read(plan.regions))
    finally:
        reader.close()


def as_dicom(folder: Path, how: Policy):
    found = [Found(path, path.name, {}) for path in sorted(folder.iterdir())]
    collected = dicom.collect(found, how, Pseudonyms(b"key"))
    assert len(collected.sources) == 1
    return collected.sources[0], read(dicom, collected.sources[0], how)


def as_array(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """((x, y, z), RAS affine) by highdicom."""
    datasets = [pydicom.dcmread(path) for path in folder.iterdir()]
    volume = highdicom.get_volume_from_series(datasets, dtype=np.float32, apply_voi_transform=False)
    affine = np.diag([-1.0, -1, 1, 1]) @ volume.affine[:, [2, 1, 0, 3]]  # (slice, row, column) of LPS
    return volume.array.transpose(2, 1, 0), affine


@pytest.fixture(scope="module")
def repaired(data_dir, tmp_path_factory):
    """A CT whose identifiers an anonymiser has blanked, with new ones: highdicom needs them."""
    folder, uid = tmp_path_factory.mktemp("repaired"), pydicom.uid.generate_uid()
    for path in (data_dir / "dicom" / SERIES["CT repaired"]).iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SOPClassUID, dataset.SeriesInstanceUID = pydicom.uid.CTImageStorage, uid
        dataset.SOPInstanceUID = dataset.get("SOPInstanceUID") or pydicom.uid.generate_uid()
        dataset.save_as(folder / path.name)
    return folder


@pytest.fixture(scope="module", params=SERIES)
def scan(request, data_dir, repaired):
    folder = repaired if request.param == "CT repaired" else data_dir / "dicom" / SERIES[request.param]
    data, affine = as_array(folder)
    return folder, data.astype(np.int16) if np.array_equal(data, np.rint(data)) else data, affine


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_every_way_of_storing_gives_the_slices_of_the_dicom_series(scan, tmp_path):
    folder, data, affine = scan
    source, (plan, images) = as_dicom(folder, policy())
    for codes, endian, suffix in STORED:
        path = write(tmp_path / f"{codes}{suffix}", *reordered(data, affine, codes), endian=endian)
        declared = nifti.collect([Found(path, path.name, {})], policy(), Pseudonyms(b"key")).sources[0]
        same, same_images = read(nifti, replace(declared, modality=source.modality), policy())
        np.testing.assert_array_equal(same.regions["slice"], plan.regions["slice"])
        np.testing.assert_allclose(same.regions["position"], plan.regions["position"], atol=1e-2)
        assert same.detail["plane"] == plan.detail["plane"] and same.depth == plan.depth
        assert np.abs(same_images - images).max() < 2e-3


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_resliced_planes_agree_too(repaired, tmp_path, plane):
    data, affine = as_array(repaired)
    path = write(tmp_path / "a.nii.gz", *reordered(data.astype(np.int16), affine, "PIR"))
    _, (plan, images) = as_dicom(repaired, policy(plane))
    source = nifti.collect([Found(path, "a.nii.gz", {})], policy(plane), Pseudonyms(b"key")).sources[0]
    same, same_images = read(nifti, replace(source, modality="CT"), policy(plane))
    np.testing.assert_allclose(same.regions["position"], plan.regions["position"], atol=1e-2)
    assert np.abs(same_images - images).max() < 2e-3


def test_embeddings_of_the_same_scan_agree(scan, tmp_path):
    import torch

    from umedfeat.encoders import load_encoder

    folder, data, affine = scan
    source, (_, images) = as_dicom(folder, policy())
    path = write(tmp_path / "a.nii.gz", *reordered(data, affine, "ASR"), endian=">")
    found = nifti.collect([Found(path, "a.nii.gz", {})], policy(), Pseudonyms(b"key")).sources[0]
    _, same_images = read(nifti, replace(found, modality=source.modality), policy())
    encoder = load_encoder("efficientnet-lite0", device="cpu", precision="fp32")
    ours, theirs = (encoder(torch.from_numpy(i.transpose(0, 3, 1, 2).copy())).numpy() for i in (images, same_images))
    assert cosines(ours, theirs).min() > 0.999
    mirrored = encoder(torch.from_numpy(images[:, :, ::-1].transpose(0, 3, 1, 2).copy())).numpy()
    assert cosines(ours, mirrored).min() < 0.999  # the threshold can tell a mirrored patient


def test_the_oracle_is_not_ours(data_dir):
    """The affine written to NIfTI puts the first voxel of the first file where its header says."""
    folder = data_dir / "dicom" / SERIES["MR"]
    data, affine = as_array(folder)
    header = pydicom.dcmread(next(folder.iterdir()))
    position = np.array([*map(float, header.ImagePositionPatient), 1.0]) * [-1, -1, 1, 1]
    voxel = np.rint(np.linalg.solve(affine, position)[:3]).astype(int)
    stored = header.pixel_array * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
    assert data[tuple(voxel)] == pytest.approx(stored[0, 0])
    assert nibabel.aff2axcodes(affine)


@pytest.mark.parametrize("angles", [(20, 0, 0), (10, -25, 15), (0, 40, 30)])
def test_an_oblique_acquisition_is_the_same_in_both_formats(tmp_path, angles):
    """Slices tilted about all axes; the affine of the NIfTI is written down here from the DICOM attributes alone."""
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    across, down, normal = rotation[:, 0], rotation[:, 1], rotation[:, 2]
    voxels = np.random.default_rng(1).integers(0, 1000, (20, 24, 6)).astype(np.int16)  # column, row, slice
    voxels[2:8, 3:9] += 2000
    uid = {"SeriesInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3", "PixelSpacing": [0.8, 0.7]}
    for k in range(6):
        position = [round(float(v), 6) for v in np.array([-9.0, 4.0, 30.0]) + normal * 3.0 * k]
        axes = [round(float(v), 8) for v in (*across, *down)]
        tags = {**uid, "ImagePositionPatient": position, "ImageOrientationPatient": axes}
        save(image("MR", np.ascontiguousarray(voxels[:, :, k].T), **tags), tmp_path / "dicom" / f"{5 - k}.dcm")
    lps = np.eye(4)
    lps[:3, :3] = np.stack([across * 0.7, down * 0.8, normal * 3.0], axis=1)
    lps[:3, 3] = [-9.0, 4.0, 30.0]
    affine = np.diag([-1.0, -1, 1, 1]) @ lps
    how = Policy(image=ImagePolicy(size=48))
    source, (plan, images) = as_dicom(tmp_path / "dicom", how)
    for codes, endian, suffix in STORED:
        path = write(tmp_path / f"{codes}{suffix}", *reordered(voxels, affine, codes), endian=endian)
        found = nifti.collect([Found(path, path.name, {})], how, Pseudonyms(b"key")).sources[0]
        same, same_images = read(nifti, replace(found, modality=source.modality), how)
        assert same.detail["plane"] == plan.detail["plane"]
        np.testing.assert_allclose(same.regions["position"], plan.regions["position"], atol=1e-3)
        assert np.abs(same_images - images).max() < 1e-4
