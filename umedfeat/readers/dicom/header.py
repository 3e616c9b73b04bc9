"""The few header facts that grouping needs, read without pixels."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from pydicom.tag import Tag
from pydicom.uid import UID

from umedfeat.contract import Found
from umedfeat.errors import TooLarge, UnreadableInput
from umedfeat.naming import Pseudonyms
from umedfeat.readers.dicom.deflate import refuse_bomb
from umedfeat.readers.dicom.diffusion import B_VALUE_TAGS, b_value
from umedfeat.readers.dicom.modalities import known_modality
from umedfeat.readers.dicom.names import IDENTIFYING, identifiers_of, without
from umedfeat.readers.dicom.numbers import numbers_of, texts_of, whole_of
from umedfeat.readers.dicom.on_disk import refuse_claimed_frames
from umedfeat.readers.dicom.pixels import claims_hounsfield, is_inverted

__all__ = [
    "DICOMDIR",
    "DicomHeader",
    "has_preamble",
    "intent_of",
    "looks_like_bare_dataset",
    "read_header",
    "without_identifiers",
    "without_warnings",
]

# pydicom warns of odd values by quoting them, and a quoted identifier has no place in a log.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.logger.setLevel(logging.CRITICAL)

#: SOP class of an index of files, which tells its class in the file's meta header alone.
DICOMDIR = "1.2.840.10008.1.3.10"

#: What tells images at one place apart, the most telling first; times last, since they may differ from slice to slice.
_MARKS = (
    "TemporalPositionIdentifier", "FrameReferenceTime", "AcquisitionNumber", "EchoTime", "InversionTime", "FlipAngle",
    "DiffusionBValue", "DiffusionGradientOrientation", "TriggerTime", "NominalPercentageOfCardiacPhase",
    "ConvolutionKernel", "KVP", "AcquisitionTime", "ContentTime",
)  # fmt: skip

_TAGS = [Tag(keyword) for keyword in (
    *IDENTIFYING, "SOPClassUID", "Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "PresentationLUTShape", "BitsStored", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "Units",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    *_MARKS, "PerFrameFunctionalGroupsSequence", "InstanceNumber", "PresentationIntentType",
    "ViewPosition", "ImageLaterality", "Laterality",
)] + B_VALUE_TAGS  # fmt: skip

#: Digital X-ray, mammography and intra-oral images come in two kinds (PS3.4 B.5).
_INTENTS = {f"1.2.840.10008.5.1.4.1.1.1.{kind}": "FOR PRESENTATION" for kind in (1, 2, 3)}
_INTENTS |= {f"{presented}.1": "FOR PROCESSING" for presented in _INTENTS}


@dataclass(frozen=True)
class DicomHeader:
    """One file's facts.

    ``encoded``: the meta header says how the file is encoded. ``order``: values that tell phases, echoes and b-values
    at one position apart. ``number``: InstanceNumber, None without. ``intent``: "FOR PRESENTATION", "FOR PROCESSING" or
    "" of a radiograph. ``unit``: what decides how stored values are shown, and is the same in all slices of a volume.
    """

    found: Found
    encoded: bool
    sop_class: str
    sop_uid: str
    series: str
    study: str
    patient: str
    accession: str
    modality: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    frames: int
    enhanced: bool
    samples: int
    photometric: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    order: tuple[tuple[str, str], ...]
    number: int | None
    intent: str
    view: str
    laterality: str
    unit: tuple[str, ...]
    identifiers: tuple[str, ...]

    @property
    def along_normal(self) -> float:
        """Millimetres along the slice normal; 0 without geometry."""
        if self.position is None or self.orientation is None:
            return 0.0
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return float(np.dot(normal, self.position))


@contextmanager
def without_warnings() -> Iterator[None]:
    """Nothing that pydicom and codecs warn of is shown: their warnings quote values of tags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def has_preamble(head: bytes) -> bool:
    """Is it a DICOM file as the standard wants it?"""
    return head[128:132] == b"DICM"


def looks_like_bare_dataset(head: bytes) -> bool:
    """A data set without preamble: the first element is of group 2 or 8, with a VR or a sensible length."""
    if len(head) < 16:
        return False
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0:
        return bool(re.fullmatch(rb"[A-Z]{2}", head[4:6])) or int.from_bytes(head[4:8], "little") <= 256
    return head[:2] == b"\x00\x08" and head[2] == 0 and bool(re.fullmatch(rb"[A-Z]{2}", head[4:6]))


def read_header(file: Found, *, force: bool, max_pixels: int) -> DicomHeader:
    """Read one file's header.

    Raises:
        UnreadableInput: damaged; the message holds no value of any tag.
        TooLarge: a deflated file that unfolds to more than ``max_pixels`` allow.
    """
    try:
        refuse_bomb(file.path, file.name, max_pixels)
        dataset = pydicom.dcmread(file.path, stop_before_pixels=True, specific_tags=_TAGS, force=force)
        header = _header_of(file, dataset)
        refuse_claimed_frames(header.frames, file.path, file.name)
        return header
    except (TooLarge, UnreadableInput):
        raise
    except Exception as error:  # pydicom's parser raises whatever damaged bytes lead to
        raise _damaged(file, error) from error


def _damaged(file: Found, error: Exception) -> UnreadableInput:
    message = f"{file.name}: the DICOM header is damaged ({type(error).__name__})"
    return UnreadableInput(message, remedy="export it again from the archive")


def _header_of(file: Found, dataset: pydicom.Dataset) -> DicomHeader:
    media = str(getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID", "") or "")
    uids = [str(dataset.get(tag, "") or "") for tag in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
    sop_class = str(dataset.get("SOPClassUID", "") or (media if media == DICOMDIR else ""))
    image_type = tuple(str(part).upper() for part in _many(dataset.get("ImageType")))
    modality = known_modality(str(dataset.get("Modality", "") or "").strip().upper(), sop_class)
    return DicomHeader(
        found=file,
        encoded=bool(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")),
        sop_class=sop_class,
        sop_uid=uids[0],
        series=uids[1],
        study=uids[2],
        patient=str(dataset.get("PatientID", "") or "").strip(),
        accession=str(dataset.get("AccessionNumber", "") or "").strip(),
        modality=modality,
        image_type=image_type,
        rows=int(dataset.get("Rows", 0) or 0),
        columns=int(dataset.get("Columns", 0) or 0),
        frames=max(1, whole_of(dataset, "NumberOfFrames") or 1),
        enhanced="PerFrameFunctionalGroupsSequence" in dataset,
        samples=int(dataset.get("SamplesPerPixel", 1) or 1),
        position=_place(dataset, "ImagePositionPatient", 3, file.name),
        orientation=_place(dataset, "ImageOrientationPatient", 6, file.name),
        spacing=_numbers(dataset, "PixelSpacing", 2),
        photometric=str(dataset.get("PhotometricInterpretation", "") or ""),
        order=(("ImageType", "/".join(image_type)), *((tag, _mark(dataset, tag, modality)) for tag in _MARKS)),
        number=whole_of(dataset, "InstanceNumber"),
        intent=intent_of(dataset),
        view=_first(dataset, "ViewPosition"),
        laterality=_first(dataset, "ImageLaterality") or _first(dataset, "Laterality"),
        unit=_unit(dataset, modality),
        identifiers=identifiers_of(dataset),
    )


def _mark(dataset: pydicom.Dataset, tag: str, modality: str) -> str:
    return b_value(dataset) if (tag, modality) == ("DiffusionBValue", "MR") else "\\".join(texts_of(dataset, tag))


def _unit(dataset: pydicom.Dataset, modality: str) -> tuple[str, ...]:
    return "inverted" * is_inverted(dataset), "HU" * _in_hounsfield(dataset, modality), _first(dataset, "Units")


def _in_hounsfield(dataset: pydicom.Dataset, modality: str) -> bool:
    """Of a CT slice. One with a broken rescale stays with the others, and is told when it is read."""
    try:
        return modality == "CT" and claims_hounsfield(dataset, "")
    except UnreadableInput:
        return True


def _first(dataset: pydicom.Dataset, keyword: str) -> str:
    return next(iter(texts_of(dataset, keyword)), "").upper()


def intent_of(dataset: pydicom.Dataset) -> str:
    """As told, or as the SOP class implies."""
    return _first(dataset, "PresentationIntentType") or _INTENTS.get(str(dataset.get("SOPClassUID", "")), "")


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """So many numbers, or None; one spacing stands for both directions."""
    numbers = numbers_of(dataset, keyword)
    numbers = numbers * count if keyword == "PixelSpacing" and len(numbers) == 1 else numbers
    return numbers if len(numbers) == count else None


def _place(dataset: pydicom.Dataset, keyword: str, count: int, name: str) -> tuple[float, ...] | None:
    """Where a slice lies, None where its header does not tell.

    Raises:
        UnreadableInput: it tells something else than numbers.
    """
    numbers = _numbers(dataset, keyword, count)
    if numbers is None and texts_of(dataset, keyword):
        raise UnreadableInput(f"{name}: {keyword} is not {count} finite numbers", remedy="repair the header")
    return numbers


def without_identifiers(name: str, header: DicomHeader, pseudonyms: Pseudonyms) -> str:
    """A relative path whose parts no longer hold the file's own patient, accession number or UIDs."""
    return without(name, header.identifiers, pseudonyms)


def sop_name(uid: str) -> str:
    """The standard's name of a SOP class; damaged headers hold anything there, so nothing else is repeated."""
    return str(UID(uid).name) if re.fullmatch(r"[0-9.]{1,64}", uid) else "unknown class"
