"""b-values that vendors tell in elements of their own part a series as the standard's element does."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_factory import series
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from test_dicom import find

from umedfeat.readers.dicom.diffusion import b_value

STEPS = [0.0, 5.0, 10.0]
VENDORS: dict[str, tuple[int, str, int, str, Any, Any]] = {
    "Siemens": (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", lambda b: b, lambda b: str(b).encode()),
    "GE": (0x0043, "GEMS_PARM_01", 0x39, "IS", lambda b: [b + 1_000_000_000, 8, 0, 0], lambda b: f"{b}\\8\\0".encode()),
    "Philips": (0x2001, "Philips Imaging DD 001", 0x03, "FL", float, lambda b: struct.pack("<f", b)),
    "United Imaging": (0x0065, "Image Private Header", 0x09, "FD", float, lambda b: struct.pack("<d", b)),
}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("vendor", VENDORS)
def test_two_b_values_are_two_volumes(tmp_path: Path, vendor: str, syntax: str) -> None:
    """Numbered alike, so that nothing else tells them apart."""
    group, creator, element, vr, value, _ = VENDORS[vendor]
    for b in (0, 800):
        for path in series(tmp_path / str(b), STEPS, "MR", SeriesInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3"):
            dataset = pydicom.dcmread(path)
            dataset.private_block(group, "another creator", create=True).add_new(element, "LO", "text")
            dataset.private_block(group, creator, create=True).add_new(element, vr, value(b))
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    found = find(tmp_path)
    assert not found.failures
    assert [sorted({path.parent.name for path in source.files}) for source in found.sources] == [["0"], ["800"]]


@pytest.mark.parametrize("vendor", VENDORS)
def test_bytes_of_an_unknown_type_are_read(vendor: str) -> None:
    group, creator, element, _, _, raw = VENDORS[vendor]
    dataset = Dataset()
    dataset.private_block(group, creator, create=True).add_new(element, "UN", raw(1500))
    assert b_value(dataset) == "1500"
    dataset.DiffusionBValue = 700.0
    assert b_value(dataset) == "700.0"


@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"abc", b"1\\"])
def test_what_is_no_number_tells_nothing_and_ends_nothing(value: bytes) -> None:
    for group, creator, element, *_ in VENDORS.values():
        dataset = Dataset()
        dataset.private_block(group, creator, create=True).add_new(element, "UN", value)
        assert b_value(dataset) in {"", "1"}
    assert b_value(Dataset()) == ""
