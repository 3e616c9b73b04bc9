"""Transfer syntaxes: decoded by the codec that is recorded, or refused with what is missing."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_factory import image, save
from pydicom.data.data_manager import DATA_ROOT
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from test_dicom import find, read

from umedfeat.errors import InputError, TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.policy import Limits, Policy
from umedfeat.readers.dicom.decode import decode_frame
from umedfeat.readers.dicom.load import load

RAMP = (np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 7) % 4096
CODESTREAMS = {
    "1.2.840.10008.1.2.4.80": lambda pixels: imagecodecs.jpegls_encode(pixels),
    "1.2.840.10008.1.2.4.70": lambda pixels: imagecodecs.ljpeg_encode(pixels),
    "1.2.840.10008.1.2.4.90": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0),
}
if hasattr(imagecodecs, "htj2k_encode"):  # not in the last version for Python 3.10
    CODESTREAMS["1.2.840.10008.1.2.4.201"] = lambda pixels: imagecodecs.htj2k_encode(pixels)


def film(syntax: str, stream: bytes, **tags: Any) -> pydicom.Dataset:
    """A radiograph whose pixels are one encapsulated code stream."""
    dataset = image("DX", RAMP, BitsStored=12, HighBit=11, **tags)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.add_new("PixelData", "OB", encapsulate([stream]))
    dataset["PixelData"].is_undefined_length = True
    return dataset


@pytest.mark.parametrize("syntax", CODESTREAMS)
def test_lossless_codestreams_of_another_encoder_come_back_exactly(syntax: str, tmp_path: Path) -> None:
    path = save(film(syntax, CODESTREAMS[syntax](RAMP)), tmp_path / "a.dcm")
    values, decoder = decode_frame(load(path, "a"), 0, "a")
    assert np.array_equal(values, RAMP)
    plan, _ = read(find(tmp_path).sources[0])
    assert plan.detail["decoder"] == decoder != ""
    assert plan.detail["transfer_syntax"] == UID(syntax).name


@pytest.mark.parametrize(("near", "most"), [(0, 0), (2, 2)])
def test_near_lossless_jpeg_ls_stays_within_its_bound(near: int, most: int, tmp_path: Path) -> None:
    stream = imagecodecs.jpegls_encode(RAMP, level=near)
    path = save(film("1.2.840.10008.1.2.4.81", stream), tmp_path / "a.dcm")
    values, _ = decode_frame(load(path, "a"), 0, "a")
    assert np.abs(values.astype(int) - RAMP).max() <= most


@pytest.mark.parametrize(
    ("syntax", "told", "remedy"),
    [
        ("1.2.840.10008.1.2.4.102", "video (MPEG-4", "frames as images"),
        ("1.2.840.10008.1.2.4.107", "video (HEVC", "frames as images"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless", "transcode"),
        ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2", "transcode"),
        ("1.2.3.4711", "of a private kind", "transcode"),
    ],
)
def test_what_nothing_decodes_is_named_with_a_remedy(syntax: str, told: str, remedy: str, tmp_path: Path) -> None:
    dataset = film("1.2.840.10008.1.2.4.90", b"\xff\x4f\xff\x51" * 30)
    path = save(dataset, tmp_path / "a.dcm")
    padded = syntax.encode() + b"\0" * (len(syntax) % 2)
    raw = path.read_bytes().replace(b"UI\x16\x001.2.840.10008.1.2.4.90", b"UI" + bytes([len(padded), 0]) + padded)
    path.write_bytes(raw)
    with pytest.raises(UnsupportedInput) as caught:
        read(find(tmp_path).sources[0])
    assert "a.dcm" in caught.value.message and told in caught.value.message
    assert remedy in caught.value.remedy and "4711" not in caught.value.message


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        ("1.2.840.10008.1.2.4.80", "pyjpegls"),
        ("1.2.840.10008.1.2.4.70", "python-gdcm"),
        ("1.2.840.10008.1.2.4.90", "pylibjpeg-openjpeg"),
        ("1.2.840.10008.1.2.4.201", "pylibjpeg-openjpeg"),
    ],
)
def test_a_missing_codec_is_named_and_not_taken_for_damage(
    syntax: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if syntax not in CODESTREAMS:
        pytest.skip("this version of imagecodecs does not encode it")
    save(film(syntax, CODESTREAMS[syntax](RAMP)), tmp_path / "a.dcm")
    decoder = get_decoder(UID(syntax))
    monkeypatch.setattr(decoder, "_unavailable", dict.fromkeys(decoder._available, ("something",)))
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(UnsupportedInput, match="is installed") as caught:
        read(find(tmp_path).sources[0])
    assert package in caught.value.remedy and "pip install" in caught.value.remedy


def test_twelve_bit_jpeg_names_the_package_and_its_licence() -> None:
    for name in ("JPGExtended.dcm", "JPEG-lossy.dcm"):
        with pytest.raises(UnsupportedInput) as caught:
            decode_frame(load(Path(DATA_ROOT, "test_files", name), name), 0, name)
        assert "pylibjpeg-libjpeg (GPLv3)" in caught.value.remedy


def test_damage_is_not_taken_for_a_missing_codec(tmp_path: Path) -> None:
    for syntax, encode in CODESTREAMS.items():
        stream = encode(RAMP)
        stream = stream[: stream.index(b"\xff\xd9") + 2]  # older versions of imagecodecs leave their buffer's end there
        save(film(syntax, stream[: len(stream) // 3]), tmp_path / syntax / "a.dcm")
        with pytest.raises(InputError, match="damaged or truncated"):
            read(find(tmp_path / syntax).sources[0])


@pytest.mark.parametrize("tag", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_pixels_are_read_and_nan_is_counted(tag: str, tmp_path: Path) -> None:
    values = np.linspace(-3, 90, 32 * 32, dtype="<f4" if tag == "FloatPixelData" else "<f8").reshape(32, 32)
    values[0, :5] = np.nan
    dataset = image("MR", np.zeros((32, 32), np.uint16))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 8 * values.itemsize
    setattr(dataset, tag, values.tobytes())
    save(dataset, tmp_path / "a.dcm")
    plan, images = read(find(tmp_path).sources[0])
    assert plan.detail["intensity"]["nonfinite"] == 5  # type: ignore[index,call-overload]
    assert len(np.unique(images[0])) > 900 and images[0][0, :5].max() == 0


def test_a_deflated_file_that_unfolds_without_end_is_refused_by_a_limit(tmp_path: Path) -> None:
    """256 MB of zeros behind a small film; nothing of them is held."""
    dataset = image("DX", RAMP)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(dataset, tmp_path / "a.dcm")
    assert len(find(tmp_path).sources) == 1
    raw = path.read_bytes()
    start = 144 + int.from_bytes(raw[140:144], "little")
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    parts = [zlib.decompressobj(-15).decompress(raw[start:]), bytes.fromhex("e17f0110") + b"OB\0\0"]
    parts += [(1 << 28).to_bytes(4, "little"), *[bytes(1 << 24)] * 16]
    path.write_bytes(raw[:start] + b"".join(map(packer.compress, parts)) + packer.flush())
    policy = Policy(limits=Limits(max_pixels=1 << 24))
    tracemalloc.start()
    found = find(tmp_path, policy)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(f.error, f.remedy) for f in found.failures] == [("TooLarge", "raise --max-pixels if this is right")]
    assert "unfold to more than 64 MiB" in found.failures[0].message and peak < 1 << 24


def test_sizes_are_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    save(film("1.2.840.10008.1.2.4.90", b"\xff\x4f" * 9, Rows=60_000, Columns=60_000), tmp_path / "a" / "a.dcm")
    with pytest.raises(TooLarge, match=r"a\.dcm: 60000x60000 pixels, more than 250000000"):
        read(find(tmp_path / "a").sources[0])
    stream = CODESTREAMS["1.2.840.10008.1.2.4.90"](np.zeros((64, 4096), np.uint16))
    save(film("1.2.840.10008.1.2.4.90", stream), tmp_path / "b" / "b.dcm")
    with pytest.raises(UnreadableInput, match=r"b\.dcm: frame 0 is 4096x64 in its code stream"):
        read(find(tmp_path / "b").sources[0])
