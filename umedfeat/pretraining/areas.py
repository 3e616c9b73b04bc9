"""Areas of classes on slides and tiled images: what QuPath's polygons say of a tile, and which tiles they touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Plan
from umedfeat.errors import InputError, SetupError
from umedfeat.pretraining.masks import IGNORED
from umedfeat.readers.slides.geojson import Drawn, read_areas
from umedfeat.readers.slides.polygons import Polygon, Ring, fill_polygon, fill_polygons
from umedfeat.readers.slides.tissue import tissue_fractions

__all__ = ["Areas", "Tile", "areas_of", "outlines_of", "read_drawn", "tiles_touching"]

#: QuPath's own class for the part of a slide that somebody looked at.
_SEEN = "region"
_UNKNOWN = ("ignore", "exclude")
_TILE_OF_QUPATH = "tile"
#: Cells of a tile's side on which it is told whether a polygon touches it; cells of a slide's side at the most.
_CELLS, _MOST_CELLS = 16, 4096
_FAR = 1e9  # pixels
_INWARDS = 0.999
_TOUCHED = 1e-3  # of a tile: less than one cell, more than what rounding leaves


class Tile(NamedTuple):
    """A part of an image in its own pixels (level 0 of a slide)."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def of(cls, plan: Plan, index: int) -> Tile:
        """Region ``index`` of a plan of tiles."""
        ratio = 1.0 if plan.mpp is None else plan.mpp[0] / plan.mpp[1]
        row = plan.regions[index]
        return cls(float(row["x"]), float(row["y"]), plan.tile_extent, plan.tile_extent * ratio)


@dataclass(frozen=True, eq=False)
class Areas:
    """Polygons of one slide, the largest first, so that what is drawn inside another area lies on top of it.

    Attributes:
        polygons: in level-0 pixels; ``kinds``: class number of each, or IGNORED.
        seen: parts that somebody looked at; () is all of the slide.
        beside: what pixels without a polygon are: class 0, or IGNORED.
    """

    polygons: tuple[Polygon, ...]
    kinds: tuple[int, ...]
    seen: tuple[Polygon, ...] = ()
    beside: int = 0

    def fitted(self, tile: Tile, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """(rows, columns) class numbers of a part of the slide: what covers the centre of each pixel."""
        mask = np.full(shape, self.beside, np.uint8)
        for polygon, kind in zip(self.polygons, self.kinds, strict=True):
            _paint(mask, _moved(polygon, tile, shape), kind)
        if self.seen:
            mask[~fill_polygons([_moved(polygon, tile, shape) for polygon in self.seen], shape)] = IGNORED
        return mask

    @property
    def where_drawn(self) -> tuple[Polygon, ...]:
        """Where tiles are drawn: in the parts that were looked at, else wherever a class is."""
        return self.seen or tuple(p for p, kind in zip(self.polygons, self.kinds, strict=True) if kind != IGNORED)


def read_drawn(path: Path, where: str) -> list[Drawn]:
    """The polygons of a file, QuPath's tiles left out.

    Raises:
        SetupError: not GeoJSON, or no polygon in it.
    """
    try:
        drawn = [_bounded(area) for area in read_areas(path) if area.kind != _TILE_OF_QUPATH]
    except InputError as error:
        raise SetupError(f"{where}: {error.message}", remedy=error.remedy) from error
    if not drawn:
        raise SetupError(f"{where}: {path.name}: no polygon in it", remedy="draw an area, or remove the file")
    return drawn


def areas_of(drawn: Sequence[Drawn], classes: Sequence[str], *, sparse: bool, where: str) -> Areas:
    """Polygons with the numbers of their classes.

    Args:
        sparse: somebody drew class 0 too, so that what is not drawn is unknown.

    Raises:
        SetupError: a class that the task does not have.
    """
    seen = tuple(area.polygon for area in drawn if area.label.lower().startswith(_SEEN))
    rest = [area for area in drawn if not area.label.lower().startswith(_SEEN)]
    kinds = [_number(area.label, classes, where) for area in rest]
    order = np.argsort([-_extent(area.polygon) for area in rest], kind="stable")
    return Areas(tuple(rest[k].polygon for k in order), tuple(kinds[k] for k in order), seen, IGNORED if sparse else 0)


def outlines_of(
    drawn: Sequence[Drawn], classes: Sequence[str], where: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The boxes around polygons: (n, 4) left, top, right, bottom in level-0 pixels, and their classes.

    Raises:
        SetupError: a class that the task does not have.
    """
    rest = [area for area in drawn if not area.label.lower().startswith(_SEEN)]
    kinds = np.array([_number(area.label, classes, where, first=0) for area in rest], np.int64)
    corners = np.array([[*area.polygon[0].min(0), *area.polygon[0].max(0)] for area in rest], np.float32)
    known = kinds != IGNORED
    return corners.reshape(-1, 4)[known], kinds[known]


def tiles_touching(plan: Plan, polygons: Sequence[Polygon]) -> npt.NDArray[np.bool_]:
    """Which regions of a plan of tiles does some polygon touch?"""
    if not polygons or not len(plan.regions):
        return np.zeros(len(plan.regions), bool)
    cell = max(plan.tile_extent / _CELLS, max(plan.width, plan.height) / _MOST_CELLS)
    shape = (int(np.ceil(plan.height / cell)), int(np.ceil(plan.width / cell)))
    scaled = [[ring / cell for ring in polygon] for polygon in polygons]
    mask = fill_polygons(scaled, shape)
    corners = np.floor(np.vstack([_shrunk(polygon[0]) for polygon in scaled])).astype(np.int64)
    inside = ((corners >= 0) & (corners < (shape[1], shape[0]))).all(1)
    mask[corners[inside, 1], corners[inside, 0]] = True
    tile = Tile.of(plan, 0)
    x, y = plan.regions["x"].astype(np.float64), plan.regions["y"].astype(np.float64)
    boxes = np.stack([x, y, x + tile.width, y + tile.height], 1) / cell
    return np.asarray(tissue_fractions(mask, boxes) > _TOUCHED)


def _bounded(area: Drawn) -> Drawn:
    """Corners far beyond any slide are moved nearer, so that arithmetic on them stays finite."""
    return area._replace(polygon=[np.clip(ring, -_FAR, _FAR) for ring in area.polygon])


def _shrunk(ring: Ring) -> Ring:
    """The corners, moved inwards a little: thin areas cover no centre of a cell, but their corners lie in some."""
    middle = ring.mean(0)
    shrunk: Ring = middle + (ring - middle) * _INWARDS
    return shrunk


def _number(label: str, classes: Sequence[str], where: str, first: int = 1) -> int:
    """The class of a polygon, or IGNORED; one without a class is of the only class there is (from ``first`` on)."""
    if label.lower().startswith(_UNKNOWN):
        return IGNORED
    named = [name.lower() for name in classes]
    if label.lower() in named:
        return named.index(label.lower())
    if not label and len(classes) == first + 1:
        return first
    remedy = f"its classes are {', '.join(classes)}; Ignore* is not counted, Region* is what was looked at"
    raise SetupError(f"{where}: an area of class {label!r}", remedy=remedy)


def _extent(polygon: Polygon) -> float:
    width, height = np.ptp(polygon[0], axis=0)
    return float(width * height)


def _moved(polygon: Polygon, tile: Tile, shape: tuple[int, int]) -> Polygon:
    origin, scale = np.array((tile.x, tile.y)), np.array((shape[1] / tile.width, shape[0] / tile.height))
    return [(ring - origin) * scale for ring in polygon]


def _paint(mask: npt.NDArray[np.uint8], polygon: Polygon, kind: int) -> None:
    """Fill one polygon, looking at the pixels within its bounds alone."""
    bounds = mask.shape[::-1]
    low = np.clip(np.floor(polygon[0].min(0)), 0, bounds).astype(int)
    high = np.clip(np.ceil(polygon[0].max(0)), 0, bounds).astype(int)
    if (low < high).all():
        window = mask[low[1] : high[1], low[0] : high[0]]
        window[fill_polygon([ring - low for ring in polygon], (window.shape[0], window.shape[1]))] = kind
