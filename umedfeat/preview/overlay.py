"""The overlay of a slide: what is in full colour goes to the encoder, what is washed out does not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from umedfeat.preview.drawing import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, Colour, Rgb, as_image, draw_text, scale_bar
from umedfeat.tissue import tissue_fractions

__all__ = ["Grid", "draw_overlay", "grid_of", "rejected_tiles"]

Mask = npt.NDArray[np.bool_]
Corners = npt.NDArray[np.float64]

_WASH = 0.68
_STRIP = 40
#: Tiles smaller than this (pixels of the picture) get no border of their own.
_BORDER_FROM = 7.0


class Grid(NamedTuple):
    """Where tiles may lie, in level-0 pixels: side of a tile, distance of neighbours."""

    extent: float
    step: float
    width: int
    height: int

    def corners(self) -> Corners:
        """(n, 2) x, y of every tile that fits the slide, row by row."""
        columns = int((self.width - self.extent) // self.step) + 1 if self.width >= self.extent else 0
        rows = int((self.height - self.extent) // self.step) + 1 if self.height >= self.extent else 0
        x, y = np.meshgrid(np.arange(columns) * self.step, np.arange(rows) * self.step)
        return np.column_stack([x.ravel(), y.ravel()])


def grid_of(extent: float, overlap: int, tile_size: int, width: int, height: int) -> Grid:
    """The grid of a policy on a slide."""
    return Grid(extent, extent * (1 - overlap / tile_size), width, height)


def rejected_tiles(grid: Grid, kept: Corners, mask: Mask, downsample: float) -> Corners:
    """Tiles with some tissue that were not kept: too little tissue for ``--min-tissue``."""
    corners = grid.corners()
    if not len(corners):
        return corners
    boxes = np.hstack([corners, corners + grid.extent]) / downsample
    touched = corners[tissue_fractions(mask, boxes) > 0]
    taken = {(round(x / grid.step), round(y / grid.step)) for x, y in kept}
    left = [k for k, (x, y) in enumerate(touched) if (round(x / grid.step), round(y / grid.step)) not in taken]
    return touched[left]


def draw_overlay(
    thumbnail: Rgb,
    downsample: float,
    kept: Corners,
    extent: float,
    *,
    mask: Mask | None = None,
    rejected: Corners | None = None,
    mpp: float | None = None,
) -> Image.Image:
    """Thumbnail, tissue outline, kept and rejected tiles, and a strip with scale bar and legend.

    Args:
        thumbnail: (h, w, 3) uint8 of the whole slide.
        downsample: level-0 pixels per pixel of the thumbnail.
        kept, rejected: (n, 2) x, y of tiles in level-0 pixels.
        extent: side of a tile in level-0 pixels.
        mask: tissue mask of the whole slide, of any size, or None.
        mpp: micrometres per level-0 pixel, or None for no scale bar.
    """
    side = extent / downsample
    boxes = np.asarray(kept, float).reshape(-1, 2) / downsample
    picture = as_image(_washed(thumbnail, _covered(thumbnail.shape[:2], boxes, side)))
    if rejected is not None:
        _draw_tiles(picture, rejected / downsample, side, ORANGE)
    _draw_tiles(picture, boxes, side, BLUE)
    if mask is not None:
        _draw_outline(picture, mask)
    return _with_strip(picture, mpp * downsample if mpp else None, outlined=mask is not None, some=rejected is not None)


def _covered(shape: tuple[int, int], boxes: Corners, side: float) -> Mask:
    covered = np.zeros(shape, bool)
    for x, y in boxes:
        covered[max(0, round(y)) : round(y + side), max(0, round(x)) : round(x + side)] = True
    return covered


def _washed(thumbnail: Rgb, covered: Mask) -> Rgb:
    """Everything outside the tiles fades towards grey: light on a bright slide, dark on a dark one."""
    target = 236.0 if thumbnail.mean() > 96 else 40.0
    grey = thumbnail.mean(axis=2, keepdims=True)
    faded = (0.5 * grey + 0.5 * thumbnail) * (1 - _WASH) + target * _WASH
    return np.where(covered[..., None], thumbnail, faded.astype(np.uint8))


def _draw_tiles(picture: Image.Image, boxes: Corners, side: float, colour: Colour) -> None:
    """Borders of tiles; where tiles are tiny only the border of what they cover together."""
    if side < _BORDER_FROM:
        covered = _covered((picture.height, picture.width), boxes, side)
        _paint(picture, covered & ~ndimage.binary_erosion(covered), colour)
        return
    draw = ImageDraw.Draw(picture)
    inset = 1 if side >= 12 else 0
    for x, y in boxes:
        draw.rectangle((round(x) + inset, round(y) + inset, round(x + side) - 1, round(y + side) - 1), outline=colour)


def _draw_outline(picture: Image.Image, mask: Mask) -> None:
    """The rim of the tissue, two pixels wide."""
    size = (picture.width, picture.height)
    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(scaled) >= 128
    _paint(picture, ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside, border_value=1), GREEN)


def _paint(picture: Image.Image, where: Mask, colour: Colour) -> None:
    picture.paste(colour, (0, 0), Image.fromarray(where.astype(np.uint8) * 255))


def _with_strip(picture: Image.Image, mpp: float | None, *, outlined: bool, some: bool) -> Image.Image:
    """The picture on paper, with the scale bar on the left and the legend behind it."""
    entries = [("tile kept", BLUE), *([("too little tissue", ORANGE)] if some else [])]
    entries += [("tissue", GREEN)] if outlined else []
    sheet = Image.new("RGB", (max(picture.width, 460), picture.height + _STRIP), PAPER)
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    middle = picture.height + _STRIP // 2
    at = 12.0
    if mpp is not None:
        bar = scale_bar(mpp, picture.width)
        draw.line((at, middle - 5, at, middle + 5), fill=INK)
        draw.line((at, middle, at + bar.pixels, middle), fill=INK, width=2)
        draw.line((at + bar.pixels, middle - 5, at + bar.pixels, middle + 5), fill=INK)
        at += bar.pixels + 8
        draw_text(draw, (at, middle), bar.label, size=14, colour=INK)
        at += 90
    for name, colour in entries:
        draw.rectangle((at, middle - 6, at + 12, middle + 6), outline=colour, width=2)
        draw_text(draw, (at + 19, middle), name, size=14, colour=MUTED)
        at += 40 + 7.5 * len(name)
    return sheet
