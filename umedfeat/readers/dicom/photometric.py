"""What a header says of an image's colours, and whether its pixels can be that (PS3.3 C.7.6.3.1.2)."""

from __future__ import annotations

import pydicom
from pydicom.encaps import get_frame
from pydicom.uid import UID, JPEGBaseline8Bit

from umedfeat.errors import UnsupportedInput
from umedfeat.readers.dicom.numbers import texts_of, whole_of
from umedfeat.readers.jpeg import colours_of_stream

__all__ = ["colour_contradiction", "refuse_photometric"]

#: By samples per pixel.
_READ = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}
#: Other defined terms, also retired ones. Anything else is free text, which is not repeated.
_KNOWN = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "XYB")


def refuse_photometric(dataset: pydicom.Dataset, name: str) -> None:
    """Refuse colours that nobody here reads, before a decoder takes them for others.

    Raises:
        UnsupportedInput: the header's photometric interpretation and samples per pixel.
    """
    samples = whole_of(dataset, "SamplesPerPixel") or 1
    told = _photometric(dataset)
    if told in _READ.get(samples, ()):
        return
    known = told in _KNOWN or any(told in terms for terms in _READ.values())
    said = told if known else "of an unknown kind" if told else "missing"
    message = f"{name}: PhotometricInterpretation is {said}, with {samples} sample{'s' * (samples > 1)} per pixel"
    raise UnsupportedInput(message, remedy="export it again as RGB or MONOCHROME2")


def colour_contradiction(dataset: pydicom.Dataset) -> str:
    """Where a JPEG stream's own marker says other colours than the header: what was read. "" where they agree."""
    if UID(dataset.file_meta.TransferSyntaxUID) != JPEGBaseline8Bit or whole_of(dataset, "SamplesPerPixel") != 3:
        return ""
    frames = whole_of(dataset, "NumberOfFrames") or 1
    try:
        stream = get_frame(dataset.PixelData, 0, number_of_frames=frames)
    except (ValueError, TypeError, IndexError, EOFError, OSError):
        return ""  # a damaged encapsulation is the decoder's to tell
    said, told = colours_of_stream(stream), _photometric(dataset)
    if said is None or said == (told != "RGB"):
        return ""
    return f"{'YCbCr' if said else 'RGB'}, as the JPEG stream says; the header says {told}"


def _photometric(dataset: pydicom.Dataset) -> str:
    return next(iter(texts_of(dataset, "PhotometricInterpretation")), "")
