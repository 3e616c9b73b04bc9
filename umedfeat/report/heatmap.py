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


@dataclass(frozen=True)
class ScoredTiles:
    """Tiles of one slide with a score each.

    Attributes:
        corners: (n, 2) x, y of the top-left corners in level-0 pixels.
        scores: (n,) in [0, 1], e.g. the probability of a class or an attention weight relative to the largest.
        extent: side of a tile in level-0 pixels.
        size: (width, height) of level 0 in pixels.
        mpp: micrometres per pixel of level 0, or None.
        name: what the score is ("P(malignant)", "attention").
    """

    corners: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    extent: float
    size: tuple[int, int]
    mpp: float | None
    name: str

    @property
    def step(self) -> float:
        """Distance of neighbouring tiles in level-0 pixels: the extent, or less where tiles overlap."""
        gaps = [np.diff(np.unique(axis)) for axis in self.corners.T]
        smallest = min((float(gap.min()) for gap in gaps if len(gap)), default=self.extent)
        return min(self.extent, smallest)


def score_map(tiles: ScoredTiles, pixel: float) -> npt.NDArray[np.float32]:
    """(h, w) mean score of the tiles over each pixel's centre; NaN where there is no tile.

    Args:
        pixel: side of a pixel of the map in level-0 pixels; pixel (i, j) covers ``[j, j + 1) * pixel`` in x.
    """
    width, height = (max(1, int(np.ceil(side / pixel))) for side in tiles.size)
    total, count = np.zeros((height, width)), np.zeros((height, width))
    low = np.ceil(tiles.corners / pixel - 0.5).astype(np.int64)
    high = np.ceil((tiles.corners + tiles.extent) / pixel - 0.5).astype(np.int64)
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


def paint(tiles: ScoredTiles, thumbnail: RGB, downsample: float) -> Image.Image:
    """The slide with its scores in colour, a colour bar and a scale bar below.

    Args:
        thumbnail: (h, w, 3) uint8 of the whole slide. downsample: level-0 pixels per pixel of it.
    """
    scores = score_map(tiles, downsample)[: thumbnail.shape[0], : thumbnail.shape[1]]
    there = np.zeros(thumbnail.shape[:2], dtype=bool)
    there[: scores.shape[0], : scores.shape[1]] = np.isfinite(scores)
    colours = _palette()[np.clip(np.rint(scores[np.isfinite(scores)] * 255), 0, 255).astype(np.intp)]
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
    at += draw_text(draw, (at, middle), f"{tiles.name}  0", size=14, colour=INK) + 6
    for k, colour in enumerate(_palette()[::2]):
        draw.line((at + k, middle - 7, at + k, middle + 7), fill=tuple(int(c) for c in colour))
    draw_text(draw, (at + 134, middle), "1", size=14, colour=INK)
    return sheet


def write_geojson(tiles: ScoredTiles, path: Path) -> None:
    """One detection per tile with its score as a measurement, coloured by it: QuPath, File › Import objects."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * tiles.extent
    features = [
        _tile(tiles.name, corner + square, score) for corner, score in zip(tiles.corners, tiles.scores, strict=True)
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":"))
    path.write_text(text, encoding="utf-8")


def _tile(name: str, ring: npt.NDArray[np.float64], score: float) -> dict[str, Any]:
    colour = [int(c) for c in _palette()[int(np.clip(round(score * 255), 0, 255))]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
        "properties": {
            "objectType": "tile",
            "color": colour,
            "measurements": {name: round(float(score), 5)},
            "isLocked": False,
        },
    }


def write_ome_tiff(tiles: ScoredTiles, path: Path) -> None:
    """float32 scores as OME-TIFF, one pixel per step of the grid, NaN where no tile lies; its first pixel is the
    slide's corner, its physical pixel size that of the step, so that viewers lay it over the slide."""
    size = (
        {} if tiles.mpp is None else {"PhysicalSizeX": tiles.mpp * tiles.step, "PhysicalSizeY": tiles.mpp * tiles.step}
    )
    units = {} if tiles.mpp is None else {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    metadata = {"axes": "YX", "Channel": {"Name": [tiles.name]}, **size, **units}
    tifffile.imwrite(path, score_map(tiles, tiles.step), ome=True, compression="zlib", metadata=metadata)
