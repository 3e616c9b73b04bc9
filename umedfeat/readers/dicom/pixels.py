"""Stored DICOM pixels to physical values: padding, modality LUT, rescale, palette, colour."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.uid import UID

from umedfeat.arrays import Floats32, Mask
from umedfeat.errors import UnreadableInput
from umedfeat.readers.dicom.bits import masked, stored_bits_exceeded
from umedfeat.readers.dicom.numbers import number_of, texts_of
from umedfeat.readers.stacks.intensity import StoredVoi, linear_voi

__all__ = [
    "Rescale",
    "claims_hounsfield",
    "grey_of",
    "is_colour",
    "is_float",
    "is_inverted",
    "is_lossy",
    "is_secondary_capture",
    "physical",
    "rescale_of",
    "voi_of",
]


_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


class Rescale(NamedTuple):
    """Stored value · slope + intercept; ``stated``: the file says so."""

    slope: float = 1.0
    intercept: float = 0.0
    stated: bool = False


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
    if texts_of(dataset, "RescaleSlope") or texts_of(dataset, "RescaleIntercept"):
        return _checked(dataset, name)
    return Rescale()


def _groups(dataset: pydicom.Dataset, frame: int) -> list[pydicom.Dataset]:
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    return [*own[frame : frame + 1], *shared[:1]]


def claims_hounsfield(dataset: pydicom.Dataset, name: str) -> bool:
    """Are the values of a CT in Hounsfield units?

    Screenshots (secondary captures) and copies without a rescale are not; nor are those whose type and rescale leave no
    room for values below zero, where fat, lung and air lie (8-bit copies with a rescale of 1 and 0).
    """
    rescale, table = rescale_of(dataset, 0, name), bool(dataset.get("ModalityLUTSequence"))
    if not (rescale.stated or table) or is_secondary_capture(dataset):
        return False
    if str(dataset.get("RescaleType", "HU") or "HU").upper() not in {"HU", "US", "HU_MOD"}:
        return False
    bits, signed = int(dataset.get("BitsStored") or 16), bool(dataset.get("PixelRepresentation", 0))
    ends = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return table or is_float(dataset) or min(end * rescale.slope + rescale.intercept for end in ends) < 0


def is_secondary_capture(dataset: pydicom.Dataset) -> bool:
    """A picture of images, whatever its modality says."""
    return str(dataset.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE)


def is_float(dataset: pydicom.Dataset) -> bool:
    """Pixels stored as floating point numbers: they may be NaN."""
    return "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset


def _checked(holder: pydicom.Dataset, name: str) -> Rescale:
    """The numbers of a rescale; one of them alone leaves the other at its neutral value."""
    slope, intercept = _told(holder, "RescaleSlope", 1.0, name), _told(holder, "RescaleIntercept", 0.0, name)
    if slope == 0:
        raise UnreadableInput(f"{name}: rescale slope 0 cannot be true", remedy="repair the header's RescaleSlope")
    return Rescale(slope, intercept, stated=True)


def _told(holder: pydicom.Dataset, keyword: str, otherwise: float, name: str) -> float:
    if not texts_of(holder, keyword):
        return otherwise
    number = number_of(holder, keyword)
    if number is None:
        raise UnreadableInput(f"{name}: {keyword} is no finite number", remedy=f"repair the header's {keyword}")
    return number


def physical(dataset: pydicom.Dataset, stored: npt.NDArray[Any], frame: int, name: str) -> tuple[Floats32, Mask | None]:
    """Stored values of one frame to physical values, and the padding mask.

    Colours: (rows, columns, 3) uint8, or float32 in [0, 1] where they have more than 8 bits.
    """
    if is_colour(dataset):
        return _colours(dataset, stored), None
    padding = _padding(dataset, stored)
    if stored_bits_exceeded(dataset, stored) and not is_lossy(dataset):
        stored = masked(dataset, stored)
        more = _padding(dataset, stored)
        padding = more if padding is None or more is None else padding | more
    if dataset.get("ModalityLUTSequence"):
        values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    else:
        values = _rescaled(stored, rescale_of(dataset, frame, name))
    return values, padding if padding is not None and padding.any() else None


def is_lossy(dataset: pydicom.Dataset) -> bool:
    """Has the transfer syntax of the file changed pixel values?"""
    name = str(UID(dataset.file_meta.TransferSyntaxUID).name)
    return UID(dataset.file_meta.TransferSyntaxUID).is_compressed and not ("Lossless" in name or "RLE" in name)


def _rescaled(stored: npt.NDArray[Any], rescale: Rescale) -> Floats32:
    """Stored value × slope + intercept, in float64; in float32 where that is exact, in half the time."""
    exact = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2 and rescale.slope == 1
    if exact and rescale.intercept.is_integer() and abs(rescale.intercept) < 1 << 23:
        values = stored.astype(np.float32)
        if rescale.intercept:
            values += np.float32(rescale.intercept)
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return (stored.astype(np.float64) * rescale.slope + rescale.intercept).astype(np.float32)


def _padding(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> Mask | None:
    if stored.dtype.kind == "f":
        value = dataset.get("FloatPixelPaddingValue", dataset.get("DoubleFloatPixelPaddingValue"))
        return None if value is None else np.asarray(stored == stored.dtype.type(value))
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
        return np.asarray(stored / np.float32(_full_palette(dataset, stored.dtype)), dtype=np.float32)
    if stored.dtype == np.uint8:
        return stored
    return np.asarray(stored / np.float32((1 << int(dataset.BitsStored)) - 1), dtype=np.float32)


def grey_of(colours: npt.NDArray[Any]) -> Floats32:
    """(rows, columns, 3) colours as grey float32: one channel where they are equal, else luma (Rec. 601)."""
    if np.array_equal(colours[..., 0], colours[..., 1]) and np.array_equal(colours[..., 0], colours[..., 2]):
        return colours[..., 0].astype(np.float32)
    return colours.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _full_palette(dataset: pydicom.Dataset, kind: np.dtype[Any]) -> int:
    """Value of full brightness; of tables that declare 8 bits and hold 16, the entries decide, not those in use."""
    entries, first, bits = (int(value) for value in dataset.RedPaletteColorLookupTableDescriptor)
    if bits == 8 and kind == np.uint16:
        every = np.arange(first, first + (entries or 1 << 16))
        return 65535 if apply_color_lut(every, dataset).max() > 255 else 255
    return (1 << bits) - 1


def voi_of(dataset: pydicom.Dataset, frame: int) -> StoredVoi | None:
    """The first window or VOI LUT stored with a frame."""
    if dataset.get("VOILUTSequence"):
        return lambda values: _through_lut(values, dataset)
    for holder in [*_voi_groups(dataset, frame), dataset]:
        if (window := _window(holder)) is not None:
            return window
    return None


def _voi_groups(dataset: pydicom.Dataset, frame: int) -> list[pydicom.Dataset]:
    sequences = [group.get("FrameVOILUTSequence") for group in _groups(dataset, frame)]
    return [sequence[0] for sequence in sequences if sequence]


def _window(holder: pydicom.Dataset) -> StoredVoi | None:
    """PS3.3 C.11.2.1.2: LINEAR, LINEAR_EXACT, SIGMOID."""
    centre, width = number_of(holder, "WindowCenter"), number_of(holder, "WindowWidth")
    kind = str(holder.get("VOILUTFunction", "LINEAR") or "LINEAR").upper()
    if centre is None or width is None or width <= 0:
        return None
    if kind == "SIGMOID":
        return lambda values: (1 / (1 + np.exp(-4 * (values - centre) / width))).astype(np.float32)
    if kind == "LINEAR_EXACT" or width <= 1:
        return linear_voi(centre - width / 2, centre + width / 2)
    return linear_voi(centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _through_lut(values: Floats32, dataset: pydicom.Dataset) -> Floats32:
    lut = dataset.VOILUTSequence[0]
    full = 2 ** int(lut.LUTDescriptor[2]) - 1
    shown = apply_voi(np.rint(values).astype(np.int64), dataset)
    return np.asarray((shown / np.float32(full)).clip(0, 1), dtype=np.float32)
