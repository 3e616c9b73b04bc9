"""Exploded volumes: every slice with a series (or study) of its own, or without a place in the patient.

They are joined when asked for, and pointed out else: a slice on its own is stretched on its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from umedfeat.arrays import Floats
from umedfeat.readers.dicom.header import DicomHeader
from umedfeat.readers.dicom.repeats import alike
from umedfeat.readers.dicom.series import SliceGroup

__all__ = ["Exploded", "exploded_volumes"]

_FEWEST = 3
_SAME_DIRECTION = 2e-3  # direction cosines
_EVEN = 0.05  # of the usual step
_MOSTLY = 0.5  # share of steps that are the usual one
_STACKED = {"CT", "MR", "PT", "NM", "OT"}


class Exploded(NamedTuple):
    """Groups of one slice that together make ``volume``."""

    parts: list[SliceGroup]
    volume: SliceGroup


def exploded_volumes(groups: Sequence[SliceGroup]) -> list[Exploded]:
    """One-slice groups of one patient, folder and size: evenly spaced along the normal, or numbered without a place."""
    alone: dict[tuple[object, ...], list[SliceGroup]] = defaultdict(list)
    slices = [group for group in groups if len(group.headers) == 1 and _may_be_a_slice(group.headers[0])]
    folders = Counter(_folder(group.headers[0]) for group in slices)
    for group in slices:
        folder = _folder(group.headers[0])
        if folders[folder] == 1:  # exports that give every series a folder
            folder = folder.rpartition("/")[0]
        key: tuple[object, ...] = (folder, *_like(group.headers[0]))
        alone[key].append(group)
    found = []
    for several in (alone[key] for key in sorted(alone, key=str)):
        for parts in _same_direction(several):
            volume = _volume(parts)
            if volume is not None:
                found.append(Exploded(parts, volume))
    return found


def _may_be_a_slice(header: DicomHeader) -> bool:
    return header.modality in _STACKED and header.frames == 1 and not header.enhanced


def _like(header: DicomHeader) -> tuple[object, ...]:
    """What slices of one volume have in common; without a place the series must be one."""
    placed = header.position is not None and header.orientation is not None
    shape = (header.rows, header.columns, header.samples, header.photometric, header.modality, header.unit)
    return (header.patient, shape, header.found.row.get("id", ""), "" if placed else header.series)


def _folder(header: DicomHeader) -> str:
    return header.found.name.rpartition("/")[0]


def _same_direction(groups: Sequence[SliceGroup]) -> list[list[SliceGroup]]:
    ways = alike([group.headers[0].orientation or () for group in groups], _SAME_DIRECTION)
    parts: dict[int, list[SliceGroup]] = defaultdict(list)
    for group, way in zip(groups, ways, strict=True):
        parts[way].append(group)
    return [part for part in parts.values() if len(part) >= _FEWEST]


def _on_a_grid(steps: Floats) -> bool:
    """Are slices evenly spaced, but for some that are missing?"""
    usual = float(np.median(steps))
    if usual <= 0:
        return False
    wholes = np.rint(steps / usual)
    return bool(wholes.min() >= 1 and np.abs(steps / usual - wholes).max() <= _EVEN and np.mean(wholes == 1) > _MOSTLY)


def _volume(parts: Sequence[SliceGroup]) -> SliceGroup | None:
    headers = [group.headers[0] for group in parts]
    if headers[0].position is None or headers[0].orientation is None:
        numbers = [header.number for header in headers]
        if not headers[0].series or None in numbers or len(set(numbers)) < len(numbers):
            return None
        ordered = sorted(headers, key=lambda header: header.number or 0)
        return SliceGroup(ordered, note="slices without a place in the patient, in the order of InstanceNumber")
    along = np.array([header.along_normal for header in headers])
    steps = np.diff(np.sort(along))
    if not _on_a_grid(steps):
        return None
    ordered = [headers[k] for k in np.argsort(along)]
    return SliceGroup(ordered, note="slices of several series, joined by their positions")
