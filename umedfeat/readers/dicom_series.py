"""Which DICOM files belong together, and which are no images at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from umedfeat.errors import UnreadableInput
from umedfeat.readers.dicom_header import DICOMDIR, DicomHeader, sop_name

__all__ = ["group_slices", "not_an_image"]

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
_PROJECTIONS = {"MIP", "MINIP", "MPR", "PROJECTION IMAGE", "MOSAIC", "MAXIMUM INTENSITY PROJECTION", "SUBTRACTION"}
#: Modalities whose derived images (reformats, maps) would be second copies of the same anatomy.
_CROSS_SECTIONAL = {"CT", "MR", "PT", "NM"}
#: Values of ImageType that a reason may repeat; writers put free text there, too.
_TOLD = _PROJECTIONS | {
    "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "REFORMATTED", "AVERAGE", "OTHER", "ADC", "FA", "TRACEW"
}  # fmt: skip
_SAME_PLACE_MM = 1e-3


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
    if not include_derived and header.modality in _CROSS_SECTIONAL:
        marks = _PROJECTIONS & set(header.image_type)
        if marks or header.image_type[:2] == ("DERIVED", "SECONDARY"):
            told = "/".join(part for part in header.image_type[:4] if part in _TOLD)
            return f"derived image ({told}); --include-derived reads it"
    return None


def group_slices(
    headers: Sequence[DicomHeader],
) -> tuple[list[list[DicomHeader]], list[tuple[DicomHeader, str]]]:
    """Groups that are one volume each (or one image), sorted along the normal; and (header, reason) left out.

    File names and instance numbers decide nothing: positions do.
    """
    left_out: list[tuple[DicomHeader, str]] = []
    series: dict[str, list[DicomHeader]] = defaultdict(list)
    seen: dict[str, DicomHeader] = {}
    for header in sorted(headers, key=lambda h: (h.sop_uid, h.found.name)):
        if header.sop_uid and header.sop_uid in seen:
            left_out.append((header, "a second copy of the same image (SOP instance)"))
            continue
        seen[header.sop_uid] = header
        series[header.series or _folder_of(header)].append(header)
    groups: list[list[DicomHeader]] = []
    for members in series.values():
        kept, lone = _without_lone_orientations(_by_geometry(members))
        left_out += [(header, "lone orientation in its series: a localizer") for header in lone]
        for group in kept:
            groups += _split_repeats(group)
    return groups, left_out


def _folder_of(header: DicomHeader) -> str:
    """What stands for the series where an anonymiser has blanked it: the folder and the study."""
    return f"folder:{header.found.name.rpartition('/')[0]}:{header.study}"


def _by_geometry(headers: Sequence[DicomHeader]) -> list[list[DicomHeader]]:
    """Files that can be slices of one volume; images without a place in the patient stand alone."""
    alike: dict[tuple[object, ...], list[DicomHeader]] = defaultdict(list)
    for header in headers:
        key: tuple[object, ...] = ("alone", header.sop_uid, header.found.name)
        stacks = header.modality in _CROSS_SECTIONAL and header.frames == 1 and not header.enhanced
        if stacks and header.position is not None and header.orientation is not None:
            tilt = tuple(round(value, 3) + 0.0 for value in header.orientation)
            spacing = tuple(round(value, 4) for value in header.spacing or ())
            key = (tilt, spacing, header.rows, header.columns, header.samples, header.image_type[:4], header.modality)
        alike[key].append(header)
    return [alike[key] for key in sorted(alike, key=str)]


def _without_lone_orientations(
    groups: list[list[DicomHeader]],
) -> tuple[list[list[DicomHeader]], list[DicomHeader]]:
    """Single slices that stand across a series of their own are scouts; so are three single planes."""
    planes = {group[0].orientation for group in groups if group[0].orientation is not None}
    largest = max(len(group) for group in groups)
    scouts = len(planes) >= 3 and largest == 1
    mixed = len(planes) >= 2 and largest > 3
    if not (scouts or mixed):
        return groups, []
    usual = max(groups, key=len)[0].orientation
    lone = [group for group in groups if len(group) == 1 and (scouts or group[0].orientation != usual)]
    return [group for group in groups if group not in lone], [header for group in lone for header in group]


def _split_repeats(group: list[DicomHeader]) -> list[list[DicomHeader]]:
    """Phases, echoes and b-values at one place become volumes of their own."""
    ordered = _sorted(group)
    if not _repeats(ordered):
        return [ordered]
    for tag in [tag for tag, _ in ordered[0].order]:
        parts: dict[str, list[DicomHeader]] = defaultdict(list)
        for header in ordered:
            parts[dict(header.order)[tag]].append(header)
        if len(parts) > 1 and not any(_repeats(part) for part in parts.values()):
            return [parts[value] for value in sorted(parts, key=_as_number)]
    return _by_turn(ordered)


def _by_turn(ordered: list[DicomHeader]) -> list[list[DicomHeader]]:
    """No tag tells them apart: the n-th image of every place, in order of time and UID, makes the n-th volume."""
    volumes: list[list[DicomHeader]] = []
    turn = 0
    for k, header in enumerate(ordered):
        turn = turn + 1 if k and _same_place(ordered[k - 1], header) else 0
        if turn == len(volumes):
            volumes.append([])
        volumes[turn].append(header)
    return volumes


def _sorted(group: Sequence[DicomHeader]) -> list[DicomHeader]:
    return sorted(
        group, key=lambda h: (round(h.along_normal, 3), *(_as_number(value) for _, value in h.order), h.sop_uid)
    )


def _repeats(ordered: Sequence[DicomHeader]) -> bool:
    return any(_same_place(a, b) for a, b in pairwise(ordered))


def _same_place(a: DicomHeader, b: DicomHeader) -> bool:
    return a.position is not None and abs(a.along_normal - b.along_normal) < _SAME_PLACE_MM


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text
