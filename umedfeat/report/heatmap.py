"""Scores of a slide's tiles, in place: a picture over the slide, objects for QuPath, a map as OME-TIFF."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageDraw

from umedfeat.arrays import RGB
from umedfeat.report.preview.drawing import INK, PAPER, as_image, draw_text, scale_bar

__all__ = ["ScoredTiles", "paint", "score_map", "write_geojson", "write_ome_tiff"]

#: How much of the slide shines through the colours.
_SHINE = 0.35
_STRIP = 44
#: Tiles that lie a few pixels off each other's grid would ask for a map as large as the slide.
_MOST_PIXELS = 8192


@dataclass(frozen=True)
class ScoredTiles:
    """Tiles of one slide with a score each.

    Attributes:
        corners: (n, 2) x, y of the top-left corners in level-0 pixels.
        scores: (n,) e.g. the probability of a class or an attention weight relative to the largest.
        extent: width of a tile in level-0 pixels.
        size: (width, height) of level 0 in pixels.
        mpp: micrometres per pixel of level 0 in x, or None.
        name: what the score is ("P(malignant)", "attention").
        span: scores at the ends of the colours.
        aspect: height of a pixel of level 0 by its width; tiles are square in micrometres.
    """

    corners: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    extent: float
    size: tuple[int, int]
    mpp: float | None
    name: str
    span: tuple[float, float] = (0.0, 1.0)
    aspect: float = 1.0

    @property
    def sides(self) -> npt.NDArray[np.float64]:
        """(2,) width and height of a tile in level-0 pixels."""
        return np.array([self.extent, self.extent / self.aspect])

    @property
    def step(self) -> float:
        """Distance of neighbouring tiles in level-0 pixels: the extent, or less where tiles overlap; never so little
        that a map of the slide would have more than ``_MOST_PIXELS`` along a side."""
        gaps = [np.diff(np.unique(axis)) for axis in self.corners.T]
        smallest = min((float(gap.min()) for gap in gaps if len(gap)), default=self.extent)
        return max(float(min(self.sides.min(), smallest)), max(self.size) / _MOST_PIXELS)

    @property
    def colours(self) -> npt.NDArray[np.intp]:
        """(n,) places in the palette."""
        return colours_of(self.scores, self.span)


def score_map(tiles: ScoredTiles, pixel: float) -> npt.NDArray[np.float32]:
    """(h, w) mean score of the tiles over each pixel's centre; NaN where there is no tile.

    Args:
        pixel: side of a pixel of the map in level-0 pixels; pixel (i, j) covers ``[j, j + 1) * pixel`` in x.
    """
    width, height = (max(1, int(np.ceil(side / pixel))) for side in tiles.size)
    total, count = np.zeros((height, width)), np.zeros((height, width))
    low = np.ceil(tiles.corners / pixel - 0.5).astype(np.int64)
    high = np.ceil((tiles.corners + tiles.sides) / pixel - 0.5).astype(np.int64)
    for (x0, y0), (x1, y1), score in zip(np.maximum(low, 0), high, tiles.scores, strict=True):
        total[y0:y1, x0:x1] += score
        count[y0:y1, x0:x1] += 1
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)


@lru_cache(maxsize=1)
def _palette() -> npt.NDArray[np.float32]:
    """(256, 3) of viridis: even steps look even, also in grey and to colour-blind readers."""
    from matplotlib import colormaps

    return np.asarray(colormaps["viridis"](np.arange(256))[:, :3] * 255, dtype=np.float32)


def colours_of(scores: npt.NDArray[Any], span: tuple[float, float]) -> npt.NDArray[np.intp]:
    """Places of finite scores in the palette, whose ends stand for ``span``."""
    low, high = span
    share = (scores - low) / (high - low if high > low else 1.0)
    return np.clip(np.rint(share * 255), 0, 255).astype(np.intp)


def paint(tiles: ScoredTiles, thumbnail: RGB, downsample: float) -> Image.Image:
    """The slide with its scores in colour, a colour bar and a scale bar below.

    Args:
        thumbnail: (h, w, 3) uint8 of the whole slide. downsample: level-0 pixels per pixel of it.
    """
    scores = score_map(tiles, downsample)[: thumbnail.shape[0], : thumbnail.shape[1]]
    there = np.zeros(thumbnail.shape[:2], dtype=bool)
    there[: scores.shape[0], : scores.shape[1]] = np.isfinite(scores)
    colours = _palette()[colours_of(scores[np.isfinite(scores)], tiles.span)]
    painted = thumbnail.astype(np.float32)
    painted[there] = _SHINE * painted[there].mean(axis=1, keepdims=True) + (1 - _SHINE) * colours
    return _with_key(as_image(np.rint(painted).astype(np.uint8)), tiles, downsample)


def _with_key(picture: Image.Image, tiles: ScoredTiles, downsample: float) -> Image.Image:
    sheet = Image.new("RGB", (max(picture.width, 460), picture.height + _STRIP), PAPER)
    sheet.paste(picture, (0, 0))
    draw, middle = ImageDraw.Draw(sheet), picture.height + _STRIP / 2
    at = 12.0
    if tiles.mpp is not None:
        bar = scale_bar(tiles.mpp * downsample, picture.width)
        draw.line((at, middle, at + bar.pixels, middle), fill=INK, width=2)
        at += bar.pixels + 8
        at += draw_text(draw, (at, middle), bar.label, size=14, colour=INK) + 30
    at += draw_text(draw, (at, middle), f"{tiles.name}  {tiles.span[0]:.3g}", size=14, colour=INK) + 6
    for k, colour in enumerate(_palette()[::2]):
        draw.line((at + k, middle - 7, at + k, middle + 7), fill=tuple(int(c) for c in colour))
    draw_text(draw, (at + 134, middle), f"{tiles.span[1]:.3g}", size=14, colour=INK)
    return sheet


def write_geojson(tiles: ScoredTiles, path: Path) -> None:
    """One detection per tile with its score as a measurement, coloured by it: QuPath, File › Import objects."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * tiles.sides
    features = [
        _tile(tiles.name, corner + square, score, colour)
        for corner, score, colour in zip(tiles.corners, tiles.scores, _palette()[tiles.colours], strict=True)
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":"))
    path.write_text(text, encoding="utf-8")


def _tile(name: str, ring: npt.NDArray[np.float64], score: float, colour: npt.NDArray[np.float32]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
        "properties": {
            "objectType": "tile",
            "color": [int(part) for part in colour],
            "measurements": {name: round(float(score), 5)},
            "isLocked": False,
        },
    }


def write_ome_tiff(tiles: ScoredTiles, path: Path) -> None:
    """float32 scores as OME-TIFF, one pixel per step of the grid, NaN where no tile lies; its first pixel is the
    slide's corner, its physical pixel size that of the step, so that viewers lay it over the slide."""
    metadata = {"axes": "YX", "Channel": {"Name": [tiles.name]}, **_physical(tiles)}
    tifffile.imwrite(path, score_map(tiles, tiles.step), ome=True, compression="zlib", metadata=metadata)


def _physical(tiles: ScoredTiles) -> dict[str, Any]:
    if tiles.mpp is None:
        return {}
    across = tiles.mpp * tiles.step
    size = {"PhysicalSizeX": across, "PhysicalSizeY": across * tiles.aspect}
    return {**size, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
