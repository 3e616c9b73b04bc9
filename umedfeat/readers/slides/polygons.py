"""Polygons and masks: fill one with the other, trace one from the other. Pure geometry, exact on the pixel grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from umedfeat.arrays import Ints, Mask

__all__ = ["Polygon", "Ring", "fill_polygon", "fill_polygons", "trace_polygons"]

#: (n, 2) float64 of x, y; closed implicitly.
Ring = npt.NDArray[np.float64]
#: The exterior ring, then the holes.
Polygon = Sequence[Ring]
#: Crossings of edges and rows that are looked at in one go, some 100 bytes each.
_MOST_CROSSINGS = 2_000_000
#: x, y of a pixel corner, or a step between two.
Corner = tuple[int, int]


def fill_polygon(polygon: Polygon, shape: tuple[int, int]) -> Mask:
    """Pixels whose centre lies inside a polygon (even-odd rule, so holes are holes).

    Args:
        polygon: rings in pixels of the mask; pixel (row r, column c) covers x in [c, c+1), y in [r, r+1).
        shape: (H, W) of the mask; what lies outside is cut off.
    """
    return fill_polygons([polygon], shape)


def fill_polygons(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Mask:
    """Pixels whose centre lies inside any of the polygons: all of them at once, in parts of bounded memory.

    Args:
        polygons, shape: as for ``fill_polygon``.
    """
    height, width = shape
    steps = np.zeros((height, width + 1), np.int32)  # +1 where a polygon begins in a row, -1 where it ends
    edges = _edges(polygons, height)
    for first, last in _bands(edges, height):
        _count_spans(edges.within(first, last), width, steps)
    return np.asarray(np.cumsum(steps, axis=1)[:, :width] > 0)


class _Edges(NamedTuple):
    """Edges of all rings: (n, 2) upper and lower ends, polygon (n,), rows [first, last) whose centres they cross."""

    upper: Ring
    lower: Ring
    polygon: Ints
    first: Ints
    last: Ints

    def within(self, first: int, last: int) -> _Edges:
        """The parts in rows [first, last)."""
        begin, end = np.maximum(self.first, first), np.minimum(self.last, last)
        crossing = begin < end
        return _Edges(
            self.upper[crossing], self.lower[crossing], self.polygon[crossing], begin[crossing], end[crossing]
        )


def _edges(polygons: Sequence[Polygon], height: int) -> _Edges:
    rings = [(number, ring) for number, polygon in enumerate(polygons) for ring in polygon]
    lengths = np.array([len(ring) for _, ring in rings], np.intp)
    begin = np.vstack([ring for _, ring in rings])
    following = np.arange(1, len(begin) + 1)
    ends = np.cumsum(lengths)
    following[ends - 1] = ends - lengths  # rings are closed
    end = begin[following]
    down = (begin[:, 1] <= end[:, 1])[:, None]
    upper, lower = np.where(down, begin, end), np.where(down, end, begin)
    return _Edges(
        upper,
        lower,
        np.repeat(np.array([number for number, _ in rings], np.intp), lengths),
        np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.intp),
        np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.intp),
    )


def _bands(edges: _Edges, height: int) -> Iterator[tuple[int, int]]:
    """Rows in bands that no more than ``_MOST_CROSSINGS`` edges cross, or of one row."""
    starting = np.bincount(edges.first, minlength=height + 1)
    ending = np.bincount(edges.last, minlength=height + 1)
    total = np.cumsum(np.cumsum(starting - ending)[:height])
    first = 0
    while first < height:
        done = int(total[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(total, done + _MOST_CROSSINGS, side="right")))
        yield first, min(last, height)
        first = last


def _count_spans(edges: _Edges, width: int, steps: npt.NDArray[np.int32]) -> None:
    """Add the spans between every two crossings of one polygon with the line through the centres of a row."""
    counts = edges.last - edges.first
    edge = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + edges.first[edge]
    upper, lower = edges.upper[edge], edges.lower[edge]
    share = (rows + 0.5 - upper[:, 1]) / (lower[:, 1] - upper[:, 1])
    x = upper[:, 0] + share * (lower[:, 0] - upper[:, 0])
    columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)
    polygons = int(edges.polygon.max(initial=0)) + 1
    keys = np.sort((rows * polygons + edges.polygon[edge]) * (width + 1) + columns)  # by row, polygon, column
    places = keys // ((width + 1) * polygons), keys % (width + 1)
    np.add.at(steps, (places[0][::2], places[1][::2]), 1)
    np.add.at(steps, (places[0][1::2], places[1][1::2]), -1)


def trace_polygons(mask: Mask) -> list[Polygon]:
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
