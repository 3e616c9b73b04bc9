"""Stored DICOM pixels to physical values: decoding, padding, modality LUT, rescale, palette, colour."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.intensity import StoredVoi, linear_voi

__all__ = ["Rescale", "Values", "decode_frame", "is_colour", "is_inverted", "physical", "rescale_of", "voi_of"]

Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Lossy frames differ slightly by decoder, so the order is fixed; the one that was used is recorded. GDCM comes last,
#: and never for baseline JPEG and JPEG 2000, where damaged files make it crash. Only pydicom's own RLE decoder survives
#: damaged RLE.
_PLUGINS = ("pyjpegls", "pylibjpeg", "pillow", "gdcm")
_PLUGINS_OF = {
    RLELossless: ("pydicom",),
    JPEGBaseline8Bit: ("pillow", "pylibjpeg"),
    JPEG2000Lossless: ("pylibjpeg", "pillow"),
    JPEG2000: ("pylibjpeg", "pillow"),
}
_JP2_START = b"\x00\x00\x00\x0cjP  "
_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_12_BIT = "1.2.840.10008.1.2.4.51"
_CT_AIR = -1024.0


class Rescale(NamedTuple):
    """Stored value · slope + intercept; ``stated``: the file says so."""

    slope: float = 1.0
    intercept: float = 0.0
    stated: bool = False


def decode_frame(dataset: pydicom.Dataset, frame: int, name: str) -> tuple[npt.NDArray[Any], str]:
    """(rows, columns[, 3]) stored values of one frame, colours as RGB, and the decoder that was used.

    Raises:
        UnsupportedInput: no installed codec decodes the transfer syntax.
        UnreadableInput: the pixel data is damaged or too short.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnsupportedInput(f"{name}: transfer syntax {syntax.name} is not an image encoding") from error
    plugins = [plugin for plugin in _PLUGINS_OF.get(syntax, _PLUGINS) if plugin in decoder.available_plugins] or [""]
    _refuse_strange_codestream(dataset, syntax, frame, name)
    fault: Exception | None = None
    for plugin in plugins:
        try:
            values, _ = decoder.as_array(dataset, index=frame, decoding_plugin=plugin, raw=False)
        except Exception as error:  # noqa: BLE001 - every codec has errors of its own
            fault = error
            continue
        return values, plugin or "none"
    raise _undecodable(syntax, name, fault) from fault


def _refuse_strange_codestream(dataset: pydicom.Dataset, syntax: UID, frame: int, name: str) -> None:
    """A JPEG 2000 stream that does not begin as one sends parsers into endless loops."""
    if "JPEG 2000" not in syntax.name:
        return
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    try:
        stream = get_frame(dataset.PixelData, frame, number_of_frames=frames)
    except Exception as error:  # whatever a damaged encapsulation leads to
        raise _undecodable(syntax, name, error) from error
    if not stream.startswith(_J2K_START) and not _boxes_lead_to_codestream(stream):
        raise _undecodable(syntax, name, None)


def _boxes_lead_to_codestream(stream: bytes) -> bool:
    """Do the boxes of a JP2 file (ISO/IEC 15444-1 Annex I) lead to its code stream?"""
    offset = 12 if stream.startswith(_JP2_START) else len(stream)
    while offset + 8 <= len(stream):
        if stream[offset + 4 : offset + 8] == b"jp2c":
            return True
        length = int.from_bytes(stream[offset : offset + 4], "big")
        if length < 8:  # a box cannot be shorter than its header: pydicom would never get past it
            return False
        offset += length
    return False


def _undecodable(syntax: UID, name: str, fault: Exception | None) -> UnreadableInput | UnsupportedInput:
    if syntax == _JPEG_12_BIT:
        message = f"{name}: 12-bit JPEG ({syntax.name}) is decoded by none of the permissive codecs"
        return UnsupportedInput(message, remedy="pip install 'umedfeat[gpl-codecs]'")
    if syntax.is_compressed and isinstance(fault, RuntimeError) and "missing required dependencies" in str(fault):
        remedy = "pip install pylibjpeg pylibjpeg-openjpeg pylibjpeg-rle pyjpegls python-gdcm"
        return UnsupportedInput(f"{name}: no codec for {syntax.name} is installed", remedy=remedy)
    kind = type(fault).__name__ if fault else "no decoder"
    message = f"{name}: the pixel data is damaged or truncated ({syntax.name}: {kind})"
    return UnreadableInput(message, remedy="export it again from the archive")


def is_colour(dataset: pydicom.Dataset) -> bool:
    """RGB, YBR or palette: shown as it is."""
    return (
        int(dataset.get("SamplesPerPixel", 1) or 1) > 1 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    )


def is_inverted(dataset: pydicom.Dataset) -> bool:
    """MONOCHROME1, or a presentation shape that says the same: inverted once, after the window."""
    return (
        dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        or str(dataset.get("PresentationLUTShape", "")) == "INVERSE"
    )


def rescale_of(dataset: pydicom.Dataset, frame: int, name: str) -> Rescale:
    """The rescale of a frame: its own functional group's, the shared one's, or the file's.

    Raises:
        UnreadableInput: a slope of 0.
    """
    for group in _groups(dataset, frame):
        transform = group.get("PixelValueTransformationSequence")
        if transform:
            return _checked(transform[0], name)
    if "RescaleSlope" in dataset and dataset.RescaleSlope is not None:
        return _checked(dataset, name)
    return Rescale()


def _groups(dataset: pydicom.Dataset, frame: int) -> list[pydicom.Dataset]:
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    return [*own[frame : frame + 1], *shared[:1]]


def _checked(holder: pydicom.Dataset, name: str) -> Rescale:
    slope, intercept = float(holder.RescaleSlope), float(holder.get("RescaleIntercept", 0) or 0)
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise UnreadableInput(
            f"{name}: rescale slope {slope:g} cannot be true", remedy="repair the header's RescaleSlope"
        )
    return Rescale(slope, intercept, stated=True)


def physical(dataset: pydicom.Dataset, stored: npt.NDArray[Any], frame: int, name: str) -> tuple[Values, Mask | None]:
    """Stored values of one frame to physical values, and the padding mask.

    Colours: (rows, columns, 3) uint8, or float32 in [0, 1] where they have more than 8 bits.
    """
    if is_colour(dataset):
        return _colours(dataset, stored), None
    padding = _padding(dataset, stored)
    if dataset.get("ModalityLUTSequence"):
        values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    else:
        rescale = rescale_of(dataset, frame, name)
        values = (stored.astype(np.float64) * rescale.slope + rescale.intercept).astype(np.float32)
        if dataset.get("Modality") == "CT" and rescale.stated:
            below = values < _CT_AIR  # sentinels outside of the field of view, with or without a tag
            padding = below if padding is None else padding | below
    return values, padding if padding is not None and padding.any() else None


def _padding(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> Mask | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    low = _as_stored(int(value), dataset)
    high = _as_stored(int(dataset.get("PixelPaddingRangeLimit", value)), dataset)
    return np.asarray((stored >= min(low, high)) & (stored <= max(low, high)))


def _as_stored(value: int, dataset: pydicom.Dataset) -> int:
    """Padding values are often written with the wrong signedness; the pixels' own decides."""
    bits, signed = int(dataset.BitsAllocated), bool(dataset.get("PixelRepresentation", 0))
    if signed and value >= 1 << (bits - 1):
        return value - (1 << bits)
    if not signed and value < 0:
        return value + (1 << bits)
    return value


def _colours(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)[..., :3]
        bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
        full = 65535 if stored.dtype == np.uint16 and stored.max() > 255 else (1 << bits) - 1
        return np.asarray(stored / np.float32(full), dtype=np.float32)
    if stored.dtype == np.uint8:
        return stored
    return np.asarray(stored / np.float32((1 << int(dataset.BitsStored)) - 1), dtype=np.float32)


def voi_of(dataset: pydicom.Dataset, frame: int) -> StoredVoi | None:
    """The first window or VOI LUT stored with a frame."""
    if dataset.get("VOILUTSequence"):
        return lambda values: _through_lut(values, dataset)
    for holder in [*_voi_groups(dataset, frame), dataset]:
        if holder.get("WindowWidth") is not None and holder.get("WindowCenter") is not None:
            return _window(holder)
    return None


def _voi_groups(dataset: pydicom.Dataset, frame: int) -> list[pydicom.Dataset]:
    sequences = [group.get("FrameVOILUTSequence") for group in _groups(dataset, frame)]
    return [sequence[0] for sequence in sequences if sequence]


def _window(holder: pydicom.Dataset) -> StoredVoi | None:
    """PS3.3 C.11.2.1.2: LINEAR, LINEAR_EXACT, SIGMOID."""
    centre, width = _first(holder.WindowCenter), _first(holder.WindowWidth)
    kind = str(holder.get("VOILUTFunction", "LINEAR") or "LINEAR").upper()
    if width <= 0:
        return None
    if kind == "SIGMOID":
        return lambda values: (1 / (1 + np.exp(-4 * (values - centre) / width))).astype(np.float32)
    if kind == "LINEAR_EXACT" or width <= 1:
        return linear_voi(centre - width / 2, centre + width / 2)
    return linear_voi(centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _first(value: Any) -> float:
    return float(value if isinstance(value, (int, float, str)) else value[0])


def _through_lut(values: Values, dataset: pydicom.Dataset) -> Values:
    lut = dataset.VOILUTSequence[0]
    full = 2 ** int(lut.LUTDescriptor[2]) - 1
    shown = apply_voi(np.rint(values).astype(np.int64), dataset)
    return np.asarray((shown / np.float32(full)).clip(0, 1), dtype=np.float32)
