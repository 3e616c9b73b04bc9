"""NRRD, MetaImage and MINC give what the same volume gives as NIfTI."""

from __future__ import annotations

import bz2
from pathlib import Path
from typing import Any

import nibabel
import nibabel.testing
import numpy as np
import pytest
from nifti_factory import RAS, phantom, reordered, write

from umedfeat.discovery import discover
from umedfeat.errors import InputError, UnreadableInput, UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, Limits, Policy, VolumePolicy
from umedfeat.readers import open_reader

sitk = pytest.importorskip("SimpleITK")

POLICY = Policy(image=ImagePolicy(size=32))
#: Suffix, compressed.
WRITTEN = [(".nrrd", True), (".nrrd", False), (".nhdr", False), (".mha", True), (".mhd", True), (".mhd", False)]
CUT = b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n12"
DATA = Path(nibabel.testing.data_path)


def seen(path: Path, policy: Policy = POLICY) -> tuple[Any, np.ndarray]:
    found = discover([path], policy, Pseudonyms(b"key"))
    for failure in found.failures:
        raise InputError(failure.message, remedy=failure.remedy)
    (source,) = found.sources
    reader = open_reader(source, policy)
    plan = reader.plan()
    try:
        return plan, np.stack([np.asarray(square) for square in reader.read(plan.regions)])
    finally:
        reader.close()


@pytest.mark.parametrize("codes", ["LPS", "RAS", "AIL", "SRP"])
@pytest.mark.parametrize(("suffix", "zipped"), WRITTEN)
def test_nrrd_and_metaimage_equal_nifti(tmp_path: Path, codes: str, suffix: str, zipped: bool) -> None:
    original = write(tmp_path / "original.nii.gz", *reordered(phantom(), RAS, codes))
    (tmp_path / "written").mkdir()
    path = tmp_path / "written" / f"copy{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(original)), str(path), zipped)
    plan, squares = seen(original)
    copy, same = seen(tmp_path / "written")
    assert copy.format == {"n": "nrrd", "m": "metaimage"}[suffix[1]]
    np.testing.assert_allclose(copy.regions["position"], plan.regions["position"], atol=1e-3)
    np.testing.assert_allclose(same, squares, atol=1e-6)
    assert copy.detail["plane"] == plan.detail["plane"]


@pytest.mark.parametrize("name", ["tiny.mnc", "small.mnc", "minc1_1_scale.mnc", "minc2_1_scale.mnc"])
def test_minc_equals_the_same_volume_as_nifti(tmp_path: Path, name: str) -> None:
    image = nibabel.load(DATA / name)
    values = np.asarray(image.dataobj).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, image.affine), tmp_path / "a.nii")
    plan, squares = seen(tmp_path / "a.nii")
    minc, same = seen(DATA / name)
    assert minc.format == "minc"
    np.testing.assert_allclose(minc.regions["position"], plan.regions["position"], atol=1e-3)
    np.testing.assert_allclose(same, squares, atol=1e-5)


def test_four_dimensions_and_damage_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "cut.mnc").write_bytes((DATA / "small.mnc").read_bytes()[:3000])
    (tmp_path / "cut.mha").write_bytes(CUT)
    sitk.WriteImage(sitk.Image([4, 4, 4, 2], sitk.sitkInt16), str(tmp_path / "four.nrrd"))
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3), str(tmp_path / "vectors.nrrd"))
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkComplexFloat32), str(tmp_path / "complex.nrrd"))
    for path in (*sorted(tmp_path.iterdir()), DATA / "minc2_4d.mnc"):
        with pytest.raises(InputError) as caught:
            seen(path)
        assert path.name in caught.value.message and caught.value.remedy


def test_an_encoding_that_is_not_read_is_no_damage(tmp_path: Path) -> None:
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nendian: little\nencoding: bzip2\n\n"
    (tmp_path / "a.nrrd").write_bytes(header + bz2.compress(bytes(128)))
    with pytest.raises(UnsupportedInput, match="bzip2 encoding") as caught:
        seen(tmp_path / "a.nrrd")
    assert "gzip" in caught.value.remedy


def test_limits(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([40, 40, 40], sitk.sitkInt16), str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError, match="64000 voxels, more than 1000"):
        seen(tmp_path / "a.nrrd", Policy(limits=Limits(max_voxels=1000)))


def test_a_header_without_its_voxels_fails_and_voxels_are_listed(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.ReadImage(str(write(tmp_path / "a.nii"))), str(tmp_path / "copy.mhd"))
    (tmp_path / "a.nii").unlink()
    found = discover([tmp_path], POLICY, Pseudonyms(b"key"))
    assert [source.id for source in found.sources] == ["copy"] and len(found.sources[0].files) == 2
    assert [(skipped.name, skipped.reason) for skipped in found.skipped] == [("copy.raw", "the voxels of copy.mhd")]
    (tmp_path / "copy.raw").unlink()
    with pytest.raises(UnreadableInput, match=r"copy\.raw is missing"):
        seen(tmp_path)


def test_label_maps_beside_their_image_are_skipped(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd")
    labels = (phantom() > 100).astype(np.uint8)
    for name, values in (("image.nii", phantom()), ("labels.nii", labels)):
        written = sitk.ReadImage(str(write(tmp_path / name, values)))
        sitk.WriteImage(written, str(tmp_path / name.replace("nii", "nrrd")))
        (tmp_path / name).unlink()
    nrrd.write(str(tmp_path / "drawn.seg.nrrd"), labels, {"Segment0_Name": "a", "Segment0_LabelValue": "1"})
    found = discover([tmp_path], POLICY, Pseudonyms(b"key"))
    assert [source.id for source in found.sources] == ["image"]
    reasons = {skipped.name: skipped.reason for skipped in found.skipped}
    assert "looks like a label map" in reasons["labels.nrrd"] and "by its header" in reasons["drawn.seg.nrrd"]


def test_colours_and_declared_ct(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (5, 20, 24, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "colours.mha"))
    plan, squares = seen(tmp_path / "colours.mha", Policy(image=ImagePolicy(size=24)))
    assert plan.detail["intensity"] == {"window": "full range"} and squares.shape == (5, 24, 24, 3)
    np.testing.assert_allclose(squares[:, 2:22] * 255, colours, atol=0.01)
    sitk.WriteImage(sitk.ReadImage(str(write(tmp_path / "a.nii"))), str(tmp_path / "ct.nrrd"))
    plan, _ = seen(tmp_path / "ct.nrrd", Policy(volume=VolumePolicy(modality="CT")))
    assert plan.modality == "CT" and plan.detail["intensity"]["window"] == "soft-tissue"
