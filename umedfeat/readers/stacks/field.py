"""The field of view that a square shows: the whole image, or so many millimetres around a place."""

from __future__ import annotations

from typing import NamedTuple

from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.policy import Policy
from umedfeat.readers.stacks.geometry import IN_PLANE, View
from umedfeat.readers.stacks.intensity import Placement, field_placement, placement
from umedfeat.readers.stacks.stack import StackFacts
from umedfeat.readers.stacks.views import displayed_shape

__all__ = ["Box", "Reach", "box_of", "field_of", "place_of"]


class Reach(NamedTuple):
    """How far a region of interest reaches along (column, row, slice), in voxels from centre to centre."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]


class Box(NamedTuple):
    """Part of a displayed slice in its pixels, fractions allowed; it may reach beyond the slice."""

    left: float
    top: float
    right: float
    bottom: float


def box_of(reach: Reach, facts: StackFacts, view: View) -> Box:
    """A region of interest in a displayed slice: turned and flipped as the slice is."""
    row_axis, col_axis = IN_PLANE[view.axis]
    top, bottom = reach.low[row_axis] + 0.5, reach.high[row_axis] + 0.5
    left, right = reach.low[col_axis] + 0.5, reach.high[col_axis] + 0.5
    if view.swap:
        left, top, right, bottom = top, left, bottom, right
    cols, rows = displayed_shape(facts, view)
    if view.flip_cols:
        left, right = cols - right, cols - left
    if view.flip_rows:
        top, bottom = rows - bottom, rows - top
    return Box(left, top, right, bottom)


def field_of(region: Box | None, facts: StackFacts, view: View, policy: Policy) -> Box | None:
    """The square field of view in pixels of a displayed slice; None where the whole slice is fitted.

    Raises:
        UnsupportedInput: it is asked for in millimetres, and the size of the pixels is unknown.
    """
    side = _side(region, facts, view, policy)
    if side is None:
        return None
    cols, rows = displayed_shape(facts, view)
    left, top, right, bottom = region or Box(0, 0, cols, rows)
    x, y = (left + right) / 2, (top + bottom) / 2
    half_height, half_width = (side / 2 / step for step in view.spacing)
    return Box(x - half_width, y - half_height, x + half_width, y + half_height)


def place_of(field: Box | None, facts: StackFacts, view: View, policy: Policy) -> Placement:
    """Where a displayed slice, or the part of it in a field of view, lies in the square.

    Raises:
        UnreadableInput: the field lies beside the image.
    """
    cols, rows = displayed_shape(facts, view)
    image = policy.image
    if field is None:
        return placement((rows, cols), image.size, image.fit, spacing=view.spacing)
    try:
        return field_placement((rows, cols), image.size, field)
    except ValueError as error:
        raise UnreadableInput(f"{facts.name}: {error}", remedy="check that the region belongs to this image") from error


def _side(region: Box | None, facts: StackFacts, view: View, policy: Policy) -> float | None:
    """Millimetres (pixels where their size is unknown and nothing was asked for in millimetres)."""
    spacing, roi = policy.image.spacing, policy.roi
    asked = spacing is not None or (region is not None and (roi.size is not None or roi.margin > 0))
    if asked and not facts.in_millimetres:
        option = "--spacing" if spacing is not None else "--roi-size and --roi-margin"
        message = f"{facts.name}: the size of its pixels is unknown"
        raise UnsupportedInput(message, remedy=f"leave out {option}, or give mpp in a manifest")
    if spacing is not None:
        return spacing * policy.image.size
    if region is None:
        return None
    if roi.size is not None:
        return roi.size
    height, width = region.bottom - region.top, region.right - region.left
    side = max(height * view.spacing[0], width * view.spacing[1]) + 2 * roi.margin
    if side <= 0:
        message = f"{facts.name}: a point has no size"
        raise UnsupportedInput(message, remedy="--roi-size, --roi-margin or --spacing (millimetres)")
    return side
