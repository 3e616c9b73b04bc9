"""What a slide's file says besides, or lacks, and nobody would see in the tiles."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from dicom_slide import write_instance, write_pyramid
from slide_factory import tissue_like
from slide_reading import planned, policy
from test_slide_dicom_planes import read

from umedfeat.errors import InputError, ScaleError, UnreadableInput
from umedfeat.readers.scale import scale_note, scale_of
from umedfeat.readers.slides.grid import believed_factors


def test_a_level_that_is_almost_a_half_was_cut_and_is_not_believed() -> None:
    """Seven rows and 13 columns off a half: by the ratio of its sides its last tile would lie 50 pixels off."""
    assert believed_factors([(4096, 2048), (2035, 1017), (1024, 512)]) == (1.0, None, 4.0)
    assert believed_factors([(4096, 2048), (1365, 683), (1638, 819)])[1] == 3.0
    assert believed_factors([(4096, 2048), (2035, 1017)], [None, 2.0128])[1] == pytest.approx(2.013, abs=0.01)


def test_two_scales_in_one_header_are_told() -> None:
    told = {"ome.PhysicalSizeX": "0.5", "tiff.XResolution": "40000", "tiff.ResolutionUnit": "CENTIMETER"}
    scale = scale_of(told, "s", manifest=None, flag=None)
    note = scale_note(told, scale, None)
    assert scale.x == 0.5 and "0.5 (ome.PhysicalSizeX) and 0.25 (tiff.XResolution)" in note
    assert scale_note(told | {"tiff.XResolution": "20000"}, scale, None) == ""
    assert scale_note(told | {"tiff.XResolution": "118.11"}, scale, None) == ""  # 300 dpi: of a printer


def test_a_scale_in_pixels_is_named() -> None:
    told = {"ome.PhysicalSizeX": "1", "ome.PhysicalSizeXUnit": "pixel", "ome.PhysicalSizeYUnit": "pixel"}
    with pytest.raises(ScaleError, match="in no unit of length"):
        scale_of(told, "s", manifest=None, flag=None)


OME = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="256" SizeY="256" SizeC="2"
SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel ID="C:0" SamplesPerPixel="1"/>
<Channel ID="C:1" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>"""
UUIDS = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")


def test_a_missing_file_of_a_set_is_named(tmp_path: Path) -> None:
    data = "".join(
        f'<TiffData FirstC="{c}" PlaneCount="1"><UUID FileName="c{c}.ome.tif">urn:uuid:{uuid}</UUID></TiffData>'
        for c, uuid in enumerate(UUIDS)
    )
    for c, uuid in enumerate(UUIDS):
        text = OME.format(own=uuid, data=data).encode()
        tifffile.imwrite(tmp_path / f"c{c}.ome.tif", np.zeros((256, 256), np.uint8), description=text, metadata=None)
    (tmp_path / "c1.ome.tif").unlink()
    with pytest.raises(UnreadableInput, match=r"files that are missing \(c1\.ome\.tif\)") as caught:
        planned(tmp_path / "c0.ome.tif", policy())
    assert "beside it" in caught.value.remedy


@pytest.mark.parametrize("told", ["8 of 12", "concatenation"])
def test_a_level_of_which_frames_are_missing_is_refused(tmp_path: Path, told: str) -> None:
    """Grey slides are read here, not by OpenSlide: the missing tiles would be background."""
    grey = tissue_like(1024, 768)[..., 0]
    path = write_instance(tmp_path / "a.dcm", [grey], 0.5, series="1.2.3", lossless=True)
    dataset = pydicom.dcmread(path)
    if told == "concatenation":
        dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = 1, 2
    else:
        dataset.NumberOfFrames, dataset.PixelData = 8, dataset.PixelData[: 8 * 256 * 256]
    dataset.save_as(path)
    with pytest.raises(UnreadableInput, match=told):
        read(tmp_path, policy(tissue="none"))


def test_no_uid_of_a_slide_is_told(tmp_path: Path) -> None:
    (path,) = write_pyramid(tmp_path / "a", [(tissue_like(512, 512), 0.5)])
    other = pydicom.dcmread(shutil.copy(path, tmp_path / "a" / "b.dcm"))
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.2825617934711"
    other.save_as(tmp_path / "a" / "b.dcm")
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a", policy())
    assert "1.2.826" not in str(caught.value)
