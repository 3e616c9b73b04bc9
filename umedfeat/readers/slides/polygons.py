"""Polygons and masks: fill one with the other, trace one from the other. Pure geometry, exact on the pixel grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["Polygon", "Ring", "fill_polygon", "trace_polygons"]

#: (n, 2) float64 of x, y; closed implicitly.
Ring = npt.NDArray[np.float64]
#: The exterior ring, then the holes.
Polygon = Sequence[Ring]
#: x, y of a pixel corner, or a step between two.
Corner = tuple[int, int]


def fill_polygon(polygon: Polygon, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels whose centre lies inside a polygon (even-odd rule, so holes are holes).

    Args:
        polygon: rings in pixels of the mask; pixel (row r, column c) covers x in [c, c+1), y in [r, r+1).
        shape: (H, W) of the mask; what lies outside is cut off.
    """
    height, width = shape
    toggles = np.zeros((height, width + 1), np.uint8)
    for ring in polygon:
        rows, columns = _crossings(ring, height, width)
        np.bitwise_xor.at(toggles, (rows, columns), 1)
    return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)


def _crossings(ring: Ring, height: int, width: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where the ring crosses the line through the centres of each row: row, and first column to the right of it."""
    begin, end = ring, np.roll(ring, -1, axis=0)
    upper = np.where((begin[:, 1] <= end[:, 1])[:, None], begin, end)
    lower = np.where((begin[:, 1] <= end[:, 1])[:, None], end, begin)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.intp)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.intp)
    counts = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    share = (rows + 0.5 - upper[edge, 1]) / (lower[edge, 1] - upper[edge, 1])
    x = upper[edge, 0] + share * (lower[edge, 0] - upper[edge, 0])
    return rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)


def trace_polygons(mask: npt.NDArray[np.bool_]) -> list[Polygon]:
    """Outlines of a mask along the pixel edges: one polygon per 4-connected part, with its holes.

    Exact inverse of ``fill_polygon``: filling every polygon gives the mask again.
    """
    labels, _ = ndimage.label(mask)
    polygons: list[Polygon] = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        corner = np.array([place[1].start, place[0].start], np.float64)
        rings = [corner + ring for ring in _rings(labels[place] == number)]
        rings.sort(key=lambda ring: -abs(_area(ring)))
        polygons.append(rings)
    return polygons


def _rings(part: npt.NDArray[np.bool_]) -> Iterable[Ring]:
    """Closed outlines of one 4-connected part, corners only, the part on the right-hand side of the walk."""
    follow = _directed_edges(np.pad(part, 1))
    # Corners where two outlines touch come last: by then one of them has been walked.
    for start in sorted(follow, key=lambda corner: len(follow[corner])):
        while start in follow:
            yield np.asarray(_walk(follow, start), np.float64) - 1.0


def _walk(follow: dict[Corner, list[Corner]], start: Corner) -> list[Corner]:
    """Follow one outline from ``start`` until it closes, taking its edges out of ``follow``."""
    corners: list[Corner] = []
    here, heading = start, (0, 0)
    while not corners or here != start:
        choices = follow[here]
        # Where two outlines touch, turning right keeps the part 4-connected.
        step = choices[0] if len(choices) == 1 or heading == (0, 0) else (-heading[1], heading[0])
        choices.remove(step)
        if not choices:
            del follow[here]
        if step != heading:
            corners.append(here)
        here, heading = (here[0] + step[0], here[1] + step[1]), step
    first_step = (np.sign(corners[1][0] - start[0]), np.sign(corners[1][1] - start[1]))
    return corners[1:] if first_step == heading else corners


def _directed_edges(padded: npt.NDArray[np.bool_]) -> dict[Corner, list[Corner]]:
    """Unit edges between inside and outside as corner (x, y) → directions that leave it, inside on the right."""
    follow: dict[Corner, list[Corner]] = {}
    below = padded[1:] & ~padded[:-1]
    above = padded[:-1] & ~padded[1:]
    right = padded[:, 1:] & ~padded[:, :-1]
    left = padded[:, :-1] & ~padded[:, 1:]
    for edges, start, step in (
        (below, (0, 1), (1, 0)),
        (above, (1, 1), (-1, 0)),
        (right, (1, 1), (0, -1)),
        (left, (1, 0), (0, 1)),
    ):
        rows, columns = np.nonzero(edges)
        for y, x in zip((rows + start[1]).tolist(), (columns + start[0]).tolist(), strict=True):
            follow.setdefault((x, y), []).append(step)
    return follow


def _area(ring: Ring) -> float:
    """Signed area of a ring (shoelace formula)."""
    x, y = ring.T
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
