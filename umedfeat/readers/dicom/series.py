"""Which DICOM files belong together, and which are no images at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from umedfeat.errors import UnreadableInput
from umedfeat.readers.dicom.header import DICOMDIR, DicomHeader, sop_name
from umedfeat.readers.dicom.repeats import NotParted, Spot, alike, volumes_at_places

__all__ = ["Grouped", "SliceGroup", "group_slices", "not_an_image"]

_STORAGE = "1.2.840.10008.5.1.4.1.1."
#: SOP classes that hold no image to embed: prefix behind "1.2.840.10008.5.1.4.1.1." → what it is.
_NO_IMAGE = {
    "88.": "structured report or key object",
    "481.2": "radiotherapy dose",
    "481.3": "radiotherapy structures",
    "481.": "radiotherapy object",
    "66.4": "segmentation",
    "66": "raw data, segmentation or registration",
    "30": "parametric map",
    "11.": "presentation state",
    "9.": "waveform",
    "104.": "encapsulated document",
    "67": "real-world value map",
}
_PROJECTIONS = {"MIP", "MINIP", "MPR", "PROJECTION IMAGE", "MAXIMUM INTENSITY PROJECTION", "SUBTRACTION"}
#: What a scanner computes from the images of an acquisition and declares as DERIVED.
_MAPS = {
    "ADC", "EADC", "FA", "TRACEW", "ISOTROPIC", "CBF", "CBV", "RCBF", "RCBV", "RELCBF", "RELCBV", "MTT", "RELMTT",
    "TTP", "TMAX", "T1 MAP", "T2 MAP", "T2_STAR MAP",
}  # fmt: skip
#: Modalities whose derived images (reformats, maps) would be second copies of the same anatomy.
_CROSS_SECTIONAL = {"CT", "MR", "PT", "NM"}
#: Values of ImageType that a reason may repeat; writers put free text there, too.
_TOLD = _PROJECTIONS | _MAPS | {
    "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "REFORMATTED", "AVERAGE", "OTHER", "DIFFUSION", "PERFUSION"
}  # fmt: skip
_TORN = "several images share one SOP instance UID: all are kept; export them again"
_SAME_DIRECTION = 2e-3  # direction cosines
_SAME_SPACING = 2e-3  # of each other
_SAME_PLACE = 0.05  # of a pixel


class SliceGroup(NamedTuple):
    """One volume, or one image.

    Attributes:
        headers: of its files, sorted along the normal.
        parted_by: tags that parted it from others at the same places.
        note: what is odd about it, to store.
    """

    headers: list[DicomHeader]
    parted_by: str = ""
    note: str = ""


class Grouped(NamedTuple):
    """What became of a folder's files.

    ``groups``: one volume (or image) each; ``left_out``: files with the reason; ``refused``: files that should be
    volumes and cannot be told apart, with the reason.
    """

    groups: list[SliceGroup]
    left_out: list[tuple[DicomHeader, str]]
    refused: list[tuple[list[DicomHeader], str]]


def not_an_image(header: DicomHeader, *, include_derived: bool) -> str | None:
    """Why a file is not embedded, or None.

    Raises:
        UnreadableInput: it should be an image, and its header has lost it.
    """
    kind = header.sop_class
    if kind == DICOMDIR:
        return "DICOMDIR, an index of files"
    for prefix, what in _NO_IMAGE.items():
        full = _STORAGE + prefix
        if kind == full or (kind.startswith(full) and (prefix.endswith(".") or kind[len(full)] == ".")):
            return f"{what} ({sop_name(kind)})"
    if not header.rows or not header.columns:
        if not kind or "Image Storage" in sop_name(kind):
            what = "an image" if kind else "a data set without SOP class,"
            raise UnreadableInput(f"{header.found.name}: {what} without rows and columns", remedy="export it again")
        return f"no pixels ({sop_name(kind)})"
    if "LOCALIZER" in header.image_type:
        return "localizer"
    if "MOSAIC" in header.image_type and header.modality == "MR":
        return "a mosaic, its slices side by side in one image: convert the series with dcm2niix, and give the NIfTI"
    if not include_derived and header.modality in _CROSS_SECTIONAL:
        values = set(header.image_type)
        computed = header.image_type[:1] == ("DERIVED",) and bool(_MAPS & values)
        if _PROJECTIONS & values or computed or header.image_type[:2] == ("DERIVED", "SECONDARY"):
            told = "/".join(part for part in header.image_type if part in _TOLD)
            return f"derived image ({told}); --include-derived reads it"
    return None


def group_slices(headers: Sequence[DicomHeader]) -> Grouped:
    """Which files make a volume each (or an image).

    File names and UIDs decide nothing: positions do, and what tells images at one position apart.
    """
    kept, left_out, torn = _without_copies(headers)
    series: dict[tuple[str, ...], list[DicomHeader]] = defaultdict(list)
    for header in kept:
        series[_series_of(header)].append(header)
    grouped = Grouped([], left_out, [])
    for members in series.values():
        volumes, lone = _without_lone_orientations(_by_geometry(members))
        grouped.left_out.extend((header, "lone orientation in its series: a localizer") for header in lone)
        for volume in volumes:
            _add_volumes(grouped, volume, torn)
    return grouped


def _add_volumes(grouped: Grouped, slices: list[DicomHeader], torn: set[str]) -> None:
    note = _TORN if any(header.sop_uid in torn for header in slices) else ""
    try:
        volumes, parted_by = volumes_at_places(slices, _spot, _nearness(slices))
    except NotParted as error:
        grouped.refused.append((slices, str(error)))
        return
    grouped.groups.extend(SliceGroup(volume, parted_by, note) for volume in volumes)


def _without_copies(
    headers: Sequence[DicomHeader],
) -> tuple[list[DicomHeader], list[tuple[DicomHeader, str]], set[str]]:
    """Every image once, the second copies, and the instance UIDs that several different images share."""
    kept: list[DicomHeader] = []
    copies: list[tuple[DicomHeader, str]] = []
    seen: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in sorted(headers, key=lambda h: h.found.name):
        if header.sop_uid and any(_same_image(header, other) for other in seen[header.sop_uid]):
            copies.append((header, "a second copy of the same image (SOP instance)"))
            continue
        seen[header.sop_uid].append(header)
        kept.append(header)
    return kept, copies, {uid for uid, several in seen.items() if uid and len(several) > 1}


def _same_image(one: DicomHeader, other: DicomHeader) -> bool:
    """Of two files with one instance UID: do they show the same place of one patient?"""
    first, second = (
        (h.study, h.patient, h.position, h.orientation, h.number if h.position is None else None) for h in (one, other)
    )
    return first == second


def _series_of(header: DicomHeader) -> tuple[str, ...]:
    """Broken anonymisers give one UID to several patients; where they have blanked it, the folder stands for it.

    Files to which a manifest gives different ids are inputs of their own.
    """
    folder = "" if header.series else header.found.name.rpartition("/")[0]
    return header.series, folder, header.study, header.patient, header.found.row.get("id", "")


def _spot(header: DicomHeader) -> Spot:
    return Spot(header.along_normal, dict(header.order), header.number)


def _nearness(group: Sequence[DicomHeader]) -> float:
    """Millimetres within which two images lie at one place; images without a place stand alone anyway."""
    return _SAME_PLACE * min(group[0].spacing or (1.0,))


def _by_geometry(headers: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    """Files that can be slices of one volume; images without a place in the patient stand alone."""
    directions = alike([header.orientation or () for header in headers], _SAME_DIRECTION)
    distances = alike([_logarithms(header.spacing) for header in headers], _SAME_SPACING)
    groups: dict[tuple[object, ...], list[DicomHeader]] = defaultdict(list)
    for header, direction, distance in zip(headers, directions, distances, strict=True):
        key: tuple[object, ...] = ("alone", header.sop_uid, header.found.name)
        stacks = header.modality in _CROSS_SECTIONAL and header.frames == 1 and not header.enhanced
        if stacks and header.position is not None and header.orientation is not None:
            shape = (header.rows, header.columns, header.samples, header.photometric)
            key = (direction, distance, shape, header.image_type[:4], header.modality, header.unit)
        groups[key].append(header)
    return [groups[key] for key in sorted(groups, key=str)]


def _logarithms(spacing: tuple[float, ...] | None) -> tuple[float, ...]:
    return tuple(np.log(spacing)) if spacing and min(spacing) > 0 else ()


def _without_lone_orientations(
    groups: list[list[DicomHeader]],
) -> tuple[list[list[DicomHeader]], list[DicomHeader]]:
    """Single slices that stand across a series of their own are scouts; so are three single planes."""
    directions = alike([group[0].orientation or () for group in groups], _SAME_DIRECTION)
    planes = {way for way, group in zip(directions, groups, strict=True) if group[0].orientation is not None}
    sizes = [len(group) for group in groups]
    scouts = len(planes) >= 3 and max(sizes) == 1
    mixed = len(planes) >= 2 and max(sizes) > 3
    if not (scouts or mixed):
        return groups, []
    usual = directions[sizes.index(max(sizes))]
    alone = [size == 1 and (scouts or way != usual) for size, way in zip(sizes, directions, strict=True)]
    kept = [group for group, scout in zip(groups, alone, strict=True) if not scout]
    return kept, [group[0] for group, scout in zip(groups, alone, strict=True) if scout]
