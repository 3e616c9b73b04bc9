"""Hounsfield units are claimed where the values can be some, in every format alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import body, image, save, series
from nifti_factory import write
from PIL import Image
from test_dicom import PSEUDONYMS, find, one, read

from umedfeat.contract import Plan
from umedfeat.discovery import discover
from umedfeat.errors import EmptyImage, UnreadableInput
from umedfeat.policy import ImagePolicy, IntensityPolicy, Policy, VolumePolicy


def declared_ct(**intensity: Any) -> Policy:
    return Policy(
        volume=VolumePolicy(modality="CT"), image=ImagePolicy(size=32), intensity=IntensityPolicy(**intensity)
    )


def window(plan: Plan) -> str:
    return str(plan.detail["intensity"]["window"])  # type: ignore[index,call-overload]


def test_unsigned_values_without_an_offset_are_no_hounsfield_units(tmp_path: Path) -> None:
    """Where water is 0 and nothing can lie below, there is no air: an 8-bit copy with a rescale of 1 and 0."""
    pixels = body(0).astype(np.uint16)
    plan, _ = one(tmp_path / "a", image("CT", pixels, RescaleIntercept=0))
    assert plan.detail["hounsfield"] is False and window(plan) == "p2.5-p97.5"
    plan, _ = one(tmp_path / "b", image("CT", pixels))
    assert "hounsfield" not in plan.detail and window(plan) == "soft-tissue"
    plan, _ = one(tmp_path / "c", image("CT", body(0) - np.int16(1024), RescaleIntercept=0))
    assert "hounsfield" not in plan.detail and window(plan) == "soft-tissue"


def test_a_real_eight_bit_ct_with_a_rescale_of_one_and_zero(data_dir: Path) -> None:
    plan, _ = read(discover([data_dir / "dicom" / "CT-MONO2-8-abdo.dcm"], Policy(), PSEUDONYMS).sources[0])
    assert plan.detail["hounsfield"] is False and window(plan) == "p2.5-p97.5"


def test_a_secondary_capture_is_flagged_whatever_its_rescale_says(tmp_path: Path) -> None:
    plan, _ = one(tmp_path, image("CT", body(0), SOPClassUID="1.2.840.10008.5.1.4.1.1.7.3"))
    assert plan.detail["secondary_capture"] is True and plan.detail["hounsfield"] is False


def test_a_coloured_screenshot_of_a_ct_is_flagged_and_shown_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    dataset = image("CT", np.zeros((32, 32), np.uint16), SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "RGB"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelData = 7, pixels.tobytes()
    plan, picture = one(tmp_path, dataset)
    assert plan.detail["hounsfield"] is False and window(plan) == "full range"
    assert picture == pytest.approx(pixels / 255, abs=1e-6)


def test_pictures_of_ct_declared_as_ct_get_percentiles(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    write(tmp_path / "b.nii", np.repeat(ramp[..., None], 3, axis=2))
    for source in discover([tmp_path], declared_ct(), PSEUDONYMS).sources:
        plan, _ = read(source, declared_ct())
        assert plan.modality == "CT" and plan.detail["hounsfield"] is False
        assert window(plan) == "p2.5-p97.5"


def test_deep_pictures_declared_as_ct_get_the_range_that_is_asked_for(tmp_path: Path) -> None:
    """Hounsfield units with an offset, as some collections store them."""
    values = np.tile(np.linspace(-160, 240, 32), (32, 1))
    Image.fromarray((values + 32768).astype(np.uint16)).save(tmp_path / "a.png")
    policy = declared_ct(ct_window="32608,33008")
    _, images = read(discover([tmp_path], policy, PSEUDONYMS).sources[0], policy)
    assert images[0][16, :, 0] == pytest.approx((values[0] + 160) / 400, abs=3e-3)


def test_sentinels_leave_the_percentiles_of_dicom_and_nifti_alike(tmp_path: Path) -> None:
    """-3024 outside of the field of view, without a tag."""
    slices = []
    for k, path in enumerate(series(tmp_path / "dicom", [0.0, 5.0, 10.0])):
        pixels = body(5 * k)
        pixels[:6] = -2000
        slices.append(pixels - np.int16(1024))
        save(image("CT", pixels, **_kept(path)), path)
    affine = np.diag([-1.0, -1, 5, 1])
    affine[:2, 3] = 16
    write(tmp_path / "a.nii", np.stack(slices, -1).transpose(1, 0, 2), affine)
    policy = declared_ct(ct_window="percentile")
    plans = [read(source, policy) for source in find(tmp_path, policy).sources]
    assert len(plans) == 2 and plans[0][0].detail["intensity"] == plans[1][0].detail["intensity"]
    assert plans[0][0].detail["intensity"]["low"] == -1024  # type: ignore[index,call-overload]
    for ours, theirs in zip(plans[0][1], plans[1][1], strict=True):
        assert np.abs(ours - theirs).max() < 1e-6


def _kept(path: Path) -> dict[str, Any]:
    import pydicom

    dataset = pydicom.dcmread(path)
    names = ("SeriesInstanceUID", "StudyInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    return {name: dataset[name].value for name in names}


def test_a_constant_image_tells_its_values(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 254, (32, 32)).astype(np.uint16)
    with pytest.raises(EmptyImage, match=r"window soft-tissue: -160 to 240; its values are -1024 to -77\d") as caught:
        one(tmp_path / "a", image("CT", pixels))
    assert "another window" in caught.value.remedy
    with pytest.raises(EmptyImage, match="constant") as caught:
        one(tmp_path / "b", image("CT", np.full((32, 32), 1100, np.uint16)))
    assert caught.value.remedy == "leave it out"
    with pytest.raises(EmptyImage, match="nothing but padding"):
        one(tmp_path / "c", image("CT", np.full((32, 32), -2000, np.int16)))


def test_a_series_whose_only_slice_is_damaged_tells_why(tmp_path: Path) -> None:
    path = series(tmp_path, [0.0])[0]
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UnreadableInput, match=r"its only slice cannot be read: .*truncated") as caught:
        read(find(tmp_path).sources[0])
    assert "origin" in caught.value.remedy


def test_a_manifest_overrules_the_modality_in_any_spelling_but_makes_no_hounsfield_units(tmp_path: Path) -> None:
    save(image("CT", body(0), Modality="OT"), tmp_path / "a.dcm")
    screenshot = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"}
    save(image("CT", body(0), **screenshot), tmp_path / "b.dcm")
    (tmp_path / "study.csv").write_text("path,modality\na.dcm,ct\nb.dcm,Ct\n")
    plans = [read(source)[0] for source in discover([tmp_path / "study.csv"], Policy(), PSEUDONYMS).sources]
    assert [(plan.modality, window(plan)) for plan in plans] == [("CT", "soft-tissue"), ("CT", "p2.5-p97.5")]
