"""Whole-slide formats that cannot be read here: named, with the way out, and never taken for a picture."""

from __future__ import annotations

from pathlib import Path

from umedfeat.contract import Failure

__all__ = ["foreign_format", "is_foreign", "refusal_of"]

_OME = "convert it to OME-TIFF"
#: Suffix → what it is, and the way out.
_FORMATS = {
    ".i2syntax": ("a Philips iSyntax slide", f"{_OME} (isyntax2raw and raw2ometiff), or export DICOM or TIFF"),
    ".vsi": (
        "an Olympus VSI file without the folder _name_ of its pixels (.ets)",
        f"copy that folder beside it, or {_OME} (bioformats2raw and raw2ometiff, or QuPath: File > Export images)",
    ),
    ".ets": ("pixels of an Olympus VSI slide without their .vsi", "copy the .vsi to where it was"),
    ".zip": ("a zipped OME-Zarr store", "unpack it: the folder is read"),
    ".ozx": ("a zipped OME-Zarr store", "unpack it (it is a zip file): the folder is read"),
    ".sdpc": ("a Sqray SDPC slide", f"{_OME}, or export TIFF from the scanner's viewer"),
    ".dyj": ("a DYJ slide", f"{_OME}, or export TIFF from the scanner's viewer"),
    ".kfb": ("a KFBIO slide", "export TIFF or SVS with the scanner's converter"),
    ".tmap": ("a UNIC TMAP slide", "export TIFF or SVS with the scanner's converter"),
    ".mds": ("a Motic slide", "export TIFF or SVS from the scanner's viewer"),
    ".mdsx": ("a Motic slide", "export TIFF or SVS from the scanner's viewer"),
    ".lif": ("a Leica LIF file", f"{_OME} (bioformats2raw and raw2ometiff, or Fiji)"),
    ".nd2": ("a Nikon ND2 file", f"{_OME} (bioformats2raw and raw2ometiff, or Fiji)"),
    ".zvi": ("a Zeiss ZVI file", f"{_OME} (bioformats2raw and raw2ometiff, or Fiji)"),
    ".oir": ("an Olympus OIR file", f"{_OME} (bioformats2raw and raw2ometiff, or Fiji)"),
}


def foreign_format(path: Path, head: bytes) -> str:
    """Key of the format: the suffix that its files usually have; "" for none of them."""
    suffix = path.suffix.lower()
    if head[:4] == b"SIS\0":
        return ".ets"
    if suffix == ".zip" and not path.name.lower().endswith(".zarr.zip"):
        return ""
    binary = bool(head) and b"\0" in head
    return suffix if suffix in _FORMATS and binary else ""


def is_foreign(path: Path, head: bytes) -> bool:
    """Is this a slide of a format that cannot be read here?"""
    return bool(foreign_format(path, head))


def refusal_of(path: Path, name: str) -> Failure | None:
    """The failure of such a file; None for others."""
    with path.open("rb") as stream:
        kind = foreign_format(path, stream.read(4096))
    if not kind:
        return None
    what, remedy = _FORMATS[kind]
    return Failure(name, "discover", "UnsupportedInput", f"{name}: {what}, which is not read here", remedy)
