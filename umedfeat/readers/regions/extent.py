"""A region of interest in voxels of its image: how far it reaches, and which slices hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from umedfeat.arrays import Floats, Mask
from umedfeat.contract import Json, Roi
from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.regions.flat import FlatMask
from umedfeat.readers.regions.grid import grid_of
from umedfeat.readers.regions.masks import chosen, on_image, open_mask, refuse_off_image
from umedfeat.readers.stacks.geometry import spacings
from umedfeat.readers.stacks.stack import StackFacts

__all__ = ["Extent", "extent_of", "marks_of"]

_INSIDE = 0.99
_OFF = "check that it belongs to this image"


class Extent(NamedTuple):
    """A region along the storage axes (column, row, slice).

    Attributes:
        low, high: in voxels; voxel i reaches from i - 0.5 to i + 0.5.
        holds: which indices along each axis hold a part of it.
        told: facts to store.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    holds: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    told: dict[str, Json]


def extent_of(roi: Roi, facts: StackFacts) -> Extent:
    """Where a region lies in its image.

    Raises:
        UnreadableInput: the mask is damaged or empty, or more than one percent of the region lies outside of the image.
        UnsupportedInput: the mask is of a kind that is not read, or the image does not tell where it lies.
    """
    return _of_mask(roi, facts) if roi.mask is not None else _of_corners(roi, facts)


def marks_of(roi: Roi, facts: StackFacts) -> Mask | None:
    """(slices, rows, columns) bool of a mask on its image; None for boxes and points."""
    return None if roi.mask is None else _marks(roi, facts)[0]


def _marks(roi: Roi, facts: StackFacts) -> tuple[Mask, list[int]]:
    assert roi.mask is not None
    name = f"mask of {facts.name}"
    mask = open_mask(roi.mask, name)
    numbers = chosen(mask, roi.label, name)
    mask = mask.only(numbers)
    if not isinstance(mask, FlatMask):
        refuse_off_image(mask, numbers, facts, name)
    return np.isin(on_image(mask, facts, name), numbers), numbers


def _of_mask(roi: Roi, facts: StackFacts) -> Extent:
    marks, numbers = _marks(roi, facts)
    if not marks.any():
        message = f"mask of {facts.name}: the region of interest is empty"
        raise UnreadableInput(message, remedy="leave the cell empty to take the whole image, or correct the mask")
    holds = tuple(tuple(np.flatnonzero(marks.any(axis=others)).tolist()) for others in ((0, 1), (0, 2), (1, 2)))
    low = tuple(float(indices[0]) - 0.5 for indices in holds)
    high = tuple(float(indices[-1]) + 0.5 for indices in holds)
    told: dict[str, Json] = {"from": "mask", "numbers": list(numbers), "voxels": int(marks.sum())}
    return Extent(low, high, holds, told | _size(low, high, facts))  # type: ignore[arg-type]


def _of_corners(roi: Roi, facts: StackFacts) -> Extent:
    kind = "box" if roi.box else "point"
    numbers, dimensions = roi.box or roi.point, 3 if facts.affine is not None else 2
    if len(numbers) != dimensions * (2 if roi.box else 1):
        what = "an image in the patient" if dimensions == 3 else "a flat image, without a place in the patient"
        message = f"{facts.name}: a {kind} of {len(numbers)} numbers, and it is {what}"
        raise UnsupportedInput(message, remedy=f"{dimensions} numbers for each corner of a box, or for a point")
    corners = np.array(numbers).reshape(-1, dimensions)
    voxels = _voxels(corners, facts, kind)
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    _refuse_beside(low, high, facts, kind)
    holds = tuple(_between(low[i], high[i], count) for i, count in enumerate(facts.shape))
    told: dict[str, Json] = {"from": kind}
    return Extent(tuple(low), tuple(high), holds, told | _size(low, high, facts))  # type: ignore[arg-type]


def _voxels(corners: Floats, facts: StackFacts, kind: str) -> Floats:
    """(n, 3) places in voxels of every corner of the box that two corners span, or of one point."""
    grid = grid_of(facts)
    if grid is not None:
        picked = np.array(np.meshgrid(*corners.T.tolist())).reshape(3, -1).T
        return grid.voxels(picked)
    if not facts.measured:
        message = f"{facts.name}: a {kind} in millimetres, and the size of its pixels is unknown"
        raise UnsupportedInput(message, remedy="a column mpp (micrometres per pixel) in the manifest, or a mask")
    flat = corners / np.array(facts.pixel_spacing[::-1]) - 0.5
    return np.column_stack([flat, np.zeros(len(flat))])


def _refuse_beside(low: Floats, high: Floats, facts: StackFacts, kind: str) -> None:
    last = np.array(facts.shape) - 0.5
    reach = np.minimum(high, last) - np.maximum(low, -0.5)
    length = np.maximum(high - low, 1e-9)
    shares = np.where(high - low < 1e-6, reach >= -1e-6, np.clip(reach, 0, None) / length)
    across = facts.acquired_axis if facts.affine is not None else 2
    in_plane = np.prod(np.delete(shares, across))
    if shares[across] <= 0 or in_plane < _INSIDE:
        outside = 1.0 if shares[across] <= 0 else 1 - in_plane
        message = f"{facts.name}: {outside:.0%} of the {kind} lies outside of the image"
        raise UnreadableInput(message, remedy=f"{_OFF}; millimetres are LPS, as in DICOM")


def _between(low: float, high: float, count: int) -> tuple[int, ...]:
    """Indices whose centres lie between two places, the nearest one where none does."""
    inside = [i for i in range(count) if low <= i <= high]
    middle = (low + high) / 2
    return tuple(inside) if inside else (int(min(range(count), key=lambda i: abs(i - middle))),)


def _size(low: Sequence[float], high: Sequence[float], facts: StackFacts) -> dict[str, Json]:
    """Millimetres along (column, row, slice)."""
    if not facts.in_millimetres:
        return {}
    steps = spacings(facts.affine) if facts.affine is not None else (*facts.pixel_spacing[::-1], 0.0)
    return {"millimetres": [round((b - a) * step, 2) for a, b, step in zip(low, high, steps, strict=True)]}
