"""What a header says elsewhere than in the usual tag, or in another slice than the first."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_factory import body, image, save, series
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, RLELossless
from test_dicom import find, one, read
from test_dicom_frames import enhanced, frame, stored
from test_dicom_series import reasons
from test_odd_files import RAW, SHOWN, how, mammogram
from test_suv import expected, pet

from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.policy import ImagePolicy, Policy
from umedfeat.readers import open_reader

RAMP = np.tile(np.arange(32, dtype=np.uint16) * 128, (32, 1))  # 12 bits
SMALL = Policy(image=ImagePolicy(size=32))


@pytest.mark.parametrize("compressed", [False, True])
def test_values_that_lie_higher_in_their_words_are_moved_down(tmp_path: Path, compressed: bool) -> None:
    """12 bits in the upper part of 16, an overlay in the lowest bit: masking them would leave the low bits alone."""
    _, right = one(tmp_path / "a", image("DX", RAMP, BitsStored=12, HighBit=11))
    high = image("DX", RAMP << 4 | 1, BitsStored=12, HighBit=15)
    if compressed:
        high.compress(RLELossless)
    plan, shown = one(tmp_path / "b", high)
    assert np.array_equal(shown, right) and "HighBit" in str(plan.detail["odd_numbers"])


def test_a_wrong_high_bit_moves_nothing(tmp_path: Path) -> None:
    odd = RAMP + np.uint16(3)
    _, right = one(tmp_path / "a", image("DX", odd, BitsStored=12, HighBit=11))
    _, shown = one(tmp_path / "b", image("DX", odd, BitsStored=12, HighBit=15))
    assert np.array_equal(shown, right)


def colours(stream: bytes | None = None, **tags: Any) -> pydicom.Dataset:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 200, 40, 60
    usual = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8}
    usual |= {"BitsStored": 8, "HighBit": 7, "PixelData": encapsulate([stream]) if stream else pixels.tobytes()}
    dataset = image("US", pixels[..., 0], **{**usual, **tags})
    if stream:
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return dataset


@pytest.mark.parametrize("told", ["HSV", "CMYK", "YBR_PARTIAL_422", "MONOCHROME2", "Jane^Doe", ""])
def test_colours_that_are_not_read_are_refused_by_name(tmp_path: Path, told: str) -> None:
    with pytest.raises(UnsupportedInput, match=r"PhotometricInterpretation is .*, with 3 samples") as caught:
        one(tmp_path, colours(PhotometricInterpretation=told))
    assert "Jane" not in str(caught.value) and "damaged" not in str(caught.value)


def test_tags_without_which_nothing_is_decoded_are_named(tmp_path: Path) -> None:
    dataset = image("DX", RAMP)
    del dataset.BitsStored, dataset.SamplesPerPixel
    with pytest.raises(UnreadableInput, match="its header lacks SamplesPerPixel, BitsStored"):
        one(tmp_path, dataset)


@pytest.mark.parametrize(("rgb", "told"), [(False, "RGB"), (True, "YBR_FULL_422")])
def test_a_jpeg_that_says_other_colours_than_its_header_is_told(tmp_path: Path, rgb: bool, told: str) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 200, 40, 60
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, subsampling=0, keep_rgb=rgb)
    plan, shown = one(tmp_path, colours(stream.getvalue(), PhotometricInterpretation=told))
    assert np.abs(shown[16, 28] * 255 - [200, 40, 60]).max() < 4
    assert str(plan.detail["colours"]).startswith("RGB" if rgb else "YCbCr")
    same, _ = one(tmp_path, colours(stream.getvalue(), PhotometricInterpretation="RGB" if rgb else "YBR_FULL_422"))
    assert "colours" not in same.detail


ODD: dict[str, dict[str, Any]] = {
    "no rescale": {"RescaleSlope": None, "RescaleIntercept": None},
    "a screenshot": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
    "other unit": {"RescaleType": "Z_EFF"},
    "inverted": {"PresentationLUTShape": "INVERSE"},
}


@pytest.mark.parametrize("tags", ODD.values(), ids=ODD)
def test_a_slice_in_another_unit_is_no_slice_of_the_volume(tmp_path: Path, tags: dict[str, Any]) -> None:
    """It would be shown in the Hounsfield units, or as dark as bright, that the first slice tells of."""
    path = series(tmp_path, [0.0, 3.0, 6.0, 9.0])[2]
    dataset = pydicom.dcmread(path)
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    dataset.save_as(path)
    plans = [read(source)[0] for source in find(tmp_path).sources]
    assert sorted(plan.depth for plan in plans) == [1, 3]
    odd = next(plan for plan in plans if plan.depth == 1)
    assert (odd.detail.get("hounsfield") is False) == ("PresentationLUTShape" not in tags)


def test_a_slice_with_a_broken_rescale_stays_with_its_volume(tmp_path: Path) -> None:
    paths = series(tmp_path, [float(z) for z in range(4)])
    paths[2].write_bytes(paths[2].read_bytes().replace(b"-1024.0", b"nan    "))
    (source,) = find(tmp_path).sources
    _, images = read(source)
    assert "RescaleIntercept" in str(images[2])


def test_presentation_that_only_the_sop_class_tells(tmp_path: Path) -> None:
    mammogram(tmp_path, "CC", "L", raw=False, PresentationIntentType="")
    mammogram(tmp_path, "CC", "L", raw=True)
    found = find(tmp_path)
    assert len(found.sources) == 1 and "--for-processing" in reasons(found)
    assert read(found.sources[0])[0].detail["presentation_intent"] == "for presentation"
    assert SHOWN != RAW


def test_an_exploded_volume_with_a_missing_slice_and_folders_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for z in (0.0, 3.0, 6.0, 12.0, 15.0):
        series(tmp_path / f"{z:g}", [z], "MR", StudyInstanceUID="1.2.3")
    with caplog.at_level(logging.WARNING):
        assert len(find(tmp_path).sources) == 5
    assert "5 items of one slice look like one volume" in caplog.text
    (source,) = find(tmp_path, how(join_slices=True)).sources
    assert read(source, how(join_slices=True))[0].detail["missing_slices"] == 1


def test_a_spacing_that_is_not_above_zero_is_recorded(tmp_path: Path) -> None:
    plan, _ = one(tmp_path, image("DX", RAMP, PixelSpacing=[-1, 0]))
    assert "PixelSpacing: not two numbers above 0" in str(plan.detail["odd_numbers"])


@pytest.mark.parametrize(("written", "right"), [(b"nan ", False), (b"3,0 ", True)])
def test_the_place_of_a_frame_is_read_as_that_of_a_file(tmp_path: Path, written: bytes, right: bool) -> None:
    path = enhanced(tmp_path, [frame(z) for z in (0.0, 3.0, 6.0)], stored([0.0, 3.0, 6.0]))
    path.write_bytes(path.read_bytes().replace(b"\\3.0 ", b"\\" + written))
    (source,) = find(tmp_path).sources
    if right:
        assert read(source)[0].regions["position"].tolist() == [0, 3, 6]
        return
    with pytest.raises(UnreadableInput, match="ImagePositionPatient of frame 2 is not 3 finite numbers"):
        read(source)


def test_pet_of_several_frames_is_in_suv_or_says_why_not(tmp_path: Path) -> None:
    dataset = pet(0.0, NumberOfFrames=3, PixelData=stored([0.0, 3.0, 6.0]).tobytes())
    save(dataset, tmp_path / "a.dcm")
    reader = open_reader(find(tmp_path).sources[0], SMALL)
    assert reader.plan().detail["intensity"] == {"window": "SUV", "low": 0, "high": 10, "setting": "suv"}  # type: ignore[comparison-overlap]
    values = reader._stack.slice(1)[0]  # type: ignore[attr-defined]
    assert values.max() / body(3.0).max() == pytest.approx(expected(3600), rel=1e-5)
    enhanced(tmp_path / "b", [frame(z) for z in (0.0, 3.0)], stored([0.0, 3.0]), "PT")
    assert "PET not in SUV" in read(find(tmp_path / "b").sources[0])[0].hint
