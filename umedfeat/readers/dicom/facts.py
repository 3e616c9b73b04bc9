"""What a DICOM header tells of an image besides its pixels: facts to store, spacing, the place in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from umedfeat.arrays import Floats
from umedfeat.contract import Json
from umedfeat.readers.dicom.bits import bits_below, stored_bits_exceeded
from umedfeat.readers.dicom.header import intent_of
from umedfeat.readers.dicom.numbers import comma_decimals, number_of, numbers_of, texts_of
from umedfeat.readers.dicom.photometric import colour_contradiction
from umedfeat.readers.dicom.pixels import claims_hounsfield, is_lossy, is_secondary_capture

__all__ = [
    "affine_of",
    "detail_of",
    "is_calibrated",
    "pixel_facts",
    "pixel_spacing",
    "positive_pair",
    "thickness_of",
    "told_spacing",
]

#: Defined terms of ViewPosition (PS3.3 C.7.3.1, C.8.7.1, C.8.11.5, C.8.11.7) and the usual mammography views.
_VIEWS = frozenset({
    "AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LAT", "LATERAL", "CC", "MLO", "ML", "LM", "LMO", "SIO", "ISO",
    "FB", "XCC", "XCCL", "XCCM", "CV", "AT", "RM", "TAN",
})  # fmt: skip
_INTENTS = frozenset({"FOR PRESENTATION", "FOR PROCESSING"})
_SIDES = frozenset({"L", "R", "B", "U"})
#: Numbers that decide how an image is shown, or are stored with it.
_NUMBERS = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "WindowCenter",
    "WindowWidth",
)

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def pixel_facts(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> dict[str, Json]:
    """What the decoded values tell: bits where none should be, greys that are stored as colours."""
    said: dict[str, Json] = {}
    if stored_bits_exceeded(dataset, stored):
        said["bits_above_stored"] = "kept: the compression is lossy" if is_lossy(dataset) else "masked"
    if (
        stored.ndim == 3
        and np.array_equal(stored[..., 0], stored[..., 1])
        and np.array_equal(stored[..., 0], stored[..., 2])
    ):
        said["grey_as_colour"] = True
    return said


def is_calibrated(dataset: pydicom.Dataset, modality: str, name: str) -> bool:
    """May values be taken in the unit of their modality? A CT must claim Hounsfield units."""
    return modality != "CT" or claims_hounsfield(dataset, name)


def detail_of(dataset: pydicom.Dataset, decoder: str) -> dict[str, Json]:
    """Facts worth keeping; only these tags, none of them free text."""
    detail: dict[str, Json] = {"decoder": decoder, "transfer_syntax": str(dataset.file_meta.TransferSyntaxUID.name)}
    for tag, key in (("ViewPosition", "view"), ("ImageLaterality", "laterality"), ("Laterality", "laterality")):
        value = str(dataset.get(tag, "") or "").upper()
        if value in (_VIEWS if key == "view" else _SIDES):
            detail.setdefault(key, value)
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        detail["burned_in_annotation"] = True
    if str(next(iter(dataset.get("ImageType") or [""]), "")).upper() == "DERIVED":
        detail["derived"] = True
    if dataset.get("LossyImageCompression") == "01":
        detail["lossy"] = True
    if dataset.get("ConcatenationUID"):  # other files hold the rest (PS3.3 C.7.6.16.2.2.4)
        number, total = dataset.get("InConcatenationNumber"), dataset.get("InConcatenationTotalNumber")
        detail["part"] = f"{int(number or 0) or '?'} of {int(total or 0) or '?'}"
    if said := colour_contradiction(dataset):
        detail["colours"] = said
    if odd := _odd_numbers(dataset):
        detail["odd_numbers"] = list(odd)
    if (intent := intent_of(dataset)) in _INTENTS:
        detail["presentation_intent"] = intent.lower()
    if is_secondary_capture(dataset):
        detail["secondary_capture"] = True
    return detail


def told_spacing(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """(row, column) millimetres of a pixel; None where the header does not tell. Of radiographs: at the detector."""
    pairs = (positive_pair(numbers_of(dataset, tag)) for tag in _SPACINGS)
    return next((pair for pair in pairs if pair is not None), None)


def pixel_spacing(dataset: pydicom.Dataset) -> tuple[float, float]:
    """(row, column) distance of pixels: millimetres where the header tells them, else their ratio."""
    if (told := told_spacing(dataset)) is not None:
        return told
    aspect = numbers_of(dataset, "PixelAspectRatio")
    return (aspect[0] / aspect[1], 1.0) if len(aspect) == 2 and min(aspect) > 0 else (1.0, 1.0)


def positive_pair(values: Sequence[float]) -> tuple[float, float] | None:
    """Two positive numbers, one for both directions where it stands alone; None for anything else."""
    pair = tuple(values) * (2 if len(values) == 1 else 1)
    return (pair[0], pair[1]) if len(pair) == 2 and min(pair) > 0 else None


def thickness_of(dataset: pydicom.Dataset) -> float:
    """Millimetres from slice to slice where only the header tells, 1 without."""
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        if thickness := abs(number_of(dataset, tag) or 0.0):
            return thickness
    return 1.0


def _odd_numbers(dataset: pydicom.Dataset) -> list[str]:
    """What is odd about the numbers that were read, or counted as absent."""
    said = [f"{tag}: decimals with a comma" for tag in _NUMBERS if comma_decimals(dataset, tag)]
    if len(numbers_of(dataset, "PixelSpacing")) == 1:
        said.append("PixelSpacing: one value for both directions")
    broken = [tag for tag in _NUMBERS if texts_of(dataset, tag) and not numbers_of(dataset, tag)]
    said += [f"{tag}: no number, taken as absent" for tag in broken]
    senseless = [tag for tag in _SPACINGS if (pair := numbers_of(dataset, tag)) and positive_pair(pair) is None]
    said += [f"{tag}: not two numbers above 0, taken as absent" for tag in senseless]
    return said + (["HighBit: values lie higher in their words"] if bits_below(dataset) else [])


def affine_of(orientation: Sequence[float], spacing: tuple[float, float], origins: Floats, thickness: float) -> Floats:
    """(4, 4) of (column, row, slice, 1) to LPS millimetres; PS3.3 C.7.6.2.1.1."""
    across, down = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    step = np.cross(across, down) * thickness
    if len(origins) > 1:
        step = (origins[-1] - origins[0]) / (len(origins) - 1)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * spacing[1], down * spacing[0]
    affine[:3, 2], affine[:3, 3] = step, origins[0]
    return affine
