"""The overlay of a slide: what is in full colour goes to the encoder, what is washed out does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from umedfeat.arrays import RGB, Mask
from umedfeat.contract import Plan
from umedfeat.readers.slides.tissue import tissue_fractions
from umedfeat.report.preview.drawing import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    SKY,
    Colour,
    as_image,
    draw_text,
    scale_bar,
)

__all__ = ["Grid", "draw_overlay", "grid_of", "rejected_tiles", "with_legend"]

Corners = npt.NDArray[np.float64]

_WASH = 0.68
#: Tiles smaller than this (pixels of the picture) get no border of their own.
_BORDER_FROM = 7.0


class Grid(NamedTuple):
    """Where tiles may lie, in level-0 pixels: width of a tile, distance of neighbours in a row, how many.

    ``aspect``: height of a pixel by its width; tiles are square in micrometres.
    """

    extent: float
    step: float
    columns: int
    rows: int
    aspect: float = 1.0

    def corners(self) -> Corners:
        """(n, 2) x, y of every tile, row by row."""
        x, y = np.meshgrid(np.arange(self.columns), np.arange(self.rows))
        return np.column_stack([x.ravel(), y.ravel()]) * sides_of(self.step, self.aspect)

    def places(self, corners: Corners) -> list[tuple[int, int]]:
        """(column, row) of tiles."""
        return [(round(x), round(y)) for x, y in corners / sides_of(self.step, self.aspect)]


def sides_of(width: float, aspect: float) -> npt.NDArray[np.float64]:
    """(width, height) in pixels of what is a square in micrometres."""
    return np.array([width, width / aspect])


def grid_of(plan: Plan) -> Grid | None:
    """The grid that a slide's plan was chosen from, or None where the plan does not tell."""
    told = plan.detail.get("grid")
    if not isinstance(told, Mapping):
        return None
    step, columns, rows = (told.get(key) for key in ("step", "columns", "rows"))
    if not isinstance(step, int | float) or not isinstance(columns, int) or not isinstance(rows, int):
        return None
    return Grid(plan.tile_extent, float(step), columns, rows, plan.pixel_aspect)


def rejected_tiles(grid: Grid, kept: Corners, mask: Mask, downsample: float) -> Corners:
    """Tiles with some tissue that were not kept: too little tissue for ``--min-tissue``."""
    corners = grid.corners()
    if not len(corners):
        return corners
    boxes = np.hstack([corners, corners + sides_of(grid.extent, grid.aspect)]) / downsample
    touched = corners[tissue_fractions(mask, boxes) > 0]
    taken = set(grid.places(kept))
    return touched[[k for k, place in enumerate(grid.places(touched)) if place not in taken]]


def draw_overlay(
    thumbnail: RGB,
    downsample: float,
    kept: Corners,
    extent: float,
    *,
    aspect: float = 1.0,
    mask: Mask | None = None,
    rejected: Corners | None = None,
) -> Image.Image:
    """Thumbnail with tissue outline, kept and rejected tiles; everything that is not kept is washed out.

    Args:
        thumbnail: (h, w, 3) uint8 of the whole slide.
        downsample: level-0 pixels per pixel of the thumbnail.
        kept, rejected: (n, 2) x, y of tiles in level-0 pixels; empty or None draws none.
        extent: width of a tile in level-0 pixels. aspect: height of a pixel by its width.
        mask: tissue mask of the whole slide, of any size, or None.
    """
    sides = sides_of(extent, aspect) / downsample
    shape = thumbnail.shape[:2]
    boxes = np.asarray(kept, float).reshape(-1, 2) / downsample
    picture = _washed(thumbnail, _covered(shape, boxes, sides))
    width = max(1, round(max(shape) / 900))  # large pictures are shown smaller, their lines must stay visible
    if rejected is not None:
        picture = _blend(picture, _thick(_borders(shape, rejected / downsample, sides), width), ORANGE, 0.8)
    lines = _thick(_borders(shape, boxes, sides), width)
    picture = _blend(picture, lines, SKY if _is_dark(thumbnail) else BLUE, 0.6)
    if mask is not None:
        picture = _blend(picture, _thick(_outline(mask, shape), width), GREEN, 1.0)
    return as_image(picture)


def with_legend(picture: Image.Image, mpp: float | None, *, tissue: bool, rejected: bool) -> Image.Image:
    """The picture on paper, with the scale bar on the left and the legend behind it.

    Args:
        mpp: micrometres per pixel of the picture, or None for no scale bar.
        tissue, rejected: whether the outline and the rejected tiles were drawn.
    """
    kept = SKY if _is_dark(np.asarray(picture)) else BLUE
    entries = [("tile kept", kept), *([("too little tissue", ORANGE)] if rejected else [])]
    entries += [("tissue", GREEN)] if tissue else []
    unit = max(1.0, max(picture.size) / 900)  # large pictures are shown smaller, their legend must stay readable
    size = round(14 * unit)
    strip = round(40 * unit)
    sheet = Image.new("RGB", (max(picture.width, round(480 * unit)), picture.height + strip), PAPER)
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    middle, tick = picture.height + strip / 2, 5 * unit
    at = 12 * unit
    if mpp is not None:
        bar = scale_bar(mpp, picture.width)
        draw.line((at, middle, at + bar.pixels, middle), fill=INK, width=round(2 * unit))
        for end in (at, at + bar.pixels):
            draw.line((end, middle - tick, end, middle + tick), fill=INK, width=round(unit))
        at += bar.pixels + 8 * unit
        at += draw_text(draw, (at, middle), bar.label, size=size, colour=INK) + 34 * unit
    for name, colour in entries:
        draw.rectangle(
            (at, middle - 6 * unit, at + 12 * unit, middle + 6 * unit), outline=colour, width=round(2 * unit)
        )
        at += 19 * unit
        at += draw_text(draw, (at, middle), name, size=size, colour=MUTED) + 22 * unit
    return sheet


def _is_dark(pixels: RGB) -> bool:
    return float(pixels.mean()) < 96


def _covered(shape: tuple[int, int], boxes: Corners, sides: npt.NDArray[np.float64]) -> Mask:
    covered = np.zeros(shape, bool)
    across, down = sides.tolist()
    for x, y in boxes:
        covered[max(0, round(y)) : round(y + down), max(0, round(x)) : round(x + across)] = True
    return covered


def _washed(thumbnail: RGB, covered: Mask) -> RGB:
    """Everything outside the tiles fades towards grey: light on a bright slide, dark on a dark one."""
    target = 40.0 if _is_dark(thumbnail) else 236.0
    red, green, blue = (thumbnail[..., c].astype(np.float32) for c in range(3))
    grey = (red + green + blue) / 3
    washed = thumbnail.copy()
    for c, channel in enumerate((red, green, blue)):
        faded = (0.5 * grey + 0.5 * channel) * np.float32(1 - _WASH) + np.float32(target * _WASH)
        np.copyto(washed[..., c], faded.astype(np.uint8), where=~covered)
    return np.asarray(washed)


def _borders(shape: tuple[int, int], boxes: Corners, sides: npt.NDArray[np.float64]) -> Mask:
    """One line around every tile; where tiles are tiny only around what they cover together."""
    if sides.min() < _BORDER_FROM:
        covered = _covered(shape, boxes, sides)
        return np.asarray(covered & ~ndimage.binary_erosion(covered), bool)
    lines = np.zeros(shape, bool)
    across, down = sides.tolist()
    for x, y in boxes:
        top, left = max(0, round(y)), max(0, round(x))
        bottom, right = min(shape[0] - 1, round(y + down)), min(shape[1] - 1, round(x + across))
        lines[[top, bottom], left : right + 1] = True
        lines[top : bottom + 1, [left, right]] = True
    return lines


def _outline(mask: Mask, shape: tuple[int, int]) -> Mask:
    """The rim of the tissue, two pixels wide, closed where the tissue reaches the border of the picture."""
    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    inside = np.asarray(scaled) >= 128
    return np.asarray(ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside), bool)


def _thick(lines: Mask, width: int) -> Mask:
    return lines if width == 1 else np.asarray(ndimage.maximum_filter(lines, width), bool)


def _blend(picture: RGB, where: Mask, colour: Colour, opacity: float) -> RGB:
    painted = picture.copy()
    painted[where] = ((1 - opacity) * picture[where] + opacity * np.array(colour)).astype(np.uint8)
    return np.asarray(painted)
