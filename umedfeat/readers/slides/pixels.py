"""From a slide's level to tiles and thumbnails: exact boxes, antialiased resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from umedfeat.arrays import RGB, Mask
from umedfeat.contract import RegionUnreadable
from umedfeat.errors import UnreadableInput
from umedfeat.readers.slides.backends import Block, SlideBackend
from umedfeat.readers.slides.grid import choose_level
from umedfeat.readers.slides.resample import hamming

__all__ = ["ColourProfile", "Thumbnail", "TileCutter", "thumbnail"]


#: Large enough for a few tiles, small enough for the processor's cache: blocks of 6 million pixels are a third slower.
_BLOCK_PIXELS = 500_000
_THUMB_CELL = 256


@dataclass(frozen=True)
class TileCutter:
    """Cuts tiles of one slide at one level.

    Attributes:
        backend: where pixels come from.
        level: the level that is read.
        extent: (x, y) side of a tile in level-0 pixels.
        tile_size: side of the result in pixels.
    """

    backend: SlideBackend
    level: int
    extent: tuple[float, float]
    tile_size: int

    def cut(
        self, x: Sequence[int], y: Sequence[int], scanned: Sequence[float] | None = None
    ) -> list[RGB | RegionUnreadable]:
        """Tiles whose top-left corners are at whole level-0 pixels; neighbours in a row are read as one block.

        Args:
            scanned: the least share of each tile that the slide must hold (0..1); a tile with less is unreadable:
                white would stand where other levels show tissue.
        """
        least = [0.0] * len(x) if scanned is None else list(scanned)
        tiles: list[RGB | RegionUnreadable] = []
        for first, last in self._runs(x, y):
            tiles += self._cut_run(list(x[first:last]), y[first], least[first:last])
        return tiles

    def _runs(self, x: Sequence[int], y: Sequence[int]) -> list[tuple[int, int]]:
        """Index ranges of neighbours that are worth one read.

        Only where the level is aligned: then a block shows each tile the same pixels as a read of its own.
        """
        factor = self.backend.downsamples[self.level]
        most = 1
        if self.backend.aligned[self.level]:
            height = self.extent[1] / factor
            most = max(1, int(_BLOCK_PIXELS / max(1.0, height) / max(1.0, self.extent[0] / factor)))
        runs: list[tuple[int, int]] = []
        for k in range(len(x)):
            if runs:
                first, last = runs[-1]
                near = y[k] == y[k - 1] and 0 < x[k] - x[k - 1] <= self.extent[0] + 1
                if near and last - first < most:
                    runs[-1] = (first, k + 1)
                    continue
            runs.append((k, k + 1))
        return runs

    def _cut_run(self, x: list[int], y: int, least: list[float]) -> list[RGB | RegionUnreadable]:
        boxes = [self._box(corner, y) for corner in x]
        left, top = boxes[0][0], boxes[0][1]
        right, bottom = boxes[-1][2], boxes[-1][3]
        try:
            block = self.backend.read(self.level, left, top, right - left, bottom - top)
        except RegionUnreadable as fault:
            if len(x) == 1:
                return [fault]
            alone = (self._cut_run([corner], y, [share]) for corner, share in zip(x, least, strict=True))
            return [tile for tiles in alone for tile in tiles]  # only the damaged ones are lost
        tiles: list[RGB | RegionUnreadable] = []
        for corner, box, share in zip(x, boxes, least, strict=True):
            part = np.s_[:, box[0] - left : box[2] - left]
            held = 1.0 if block.scanned is None else self._share(block.scanned[part], corner, y, box)
            tiles.append(
                RegionUnreadable(f"the file holds {held:.0%} of it, the rest is missing")
                if held < share
                else self._resample(block.rgb[part], corner, y, box)
            )
        return tiles

    def _share(self, scanned: Mask, x: int, y: int, box: tuple[int, int, int, int]) -> float:
        """Share of the exact tile that the slide holds, without what only the filter reaches for."""
        left, top, right, bottom = (round(side) for side in self._exact(x, y))
        part = scanned[top - box[1] : max(bottom, top + 1) - box[1], left - box[0] : max(right, left + 1) - box[0]]
        return float(part.mean())

    def _exact(self, x: int, y: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a tile in pixels of the level."""
        factor, (origin_x, origin_y) = self.backend.downsamples[self.level], self.backend.origins[self.level]
        left, top = (x - origin_x) / factor, (y - origin_y) / factor
        return left, top, left + self.extent[0] / factor, top + self.extent[1] / factor

    def _box(self, x: int, y: int) -> tuple[int, int, int, int]:
        """Level pixels that a tile needs: its exact box plus the reach of the resampling filter, if there is one."""
        left, top, right, bottom = self._exact(x, y)
        reach = (0, 0)
        if not self._copies:
            reach_x, reach_y = (right - left) / self.tile_size, (bottom - top) / self.tile_size
            reach = (math.ceil(max(1.0, reach_x)), math.ceil(max(1.0, reach_y)))
        return (
            math.floor(left) - reach[0],
            math.floor(top) - reach[1],
            math.ceil(right) + reach[0],
            math.ceil(bottom) + reach[1],
        )

    def _resample(self, pixels: RGB, x: int, y: int, box: tuple[int, int, int, int]) -> RGB:
        if self._copies:
            return np.ascontiguousarray(pixels[: self.tile_size, : self.tile_size])
        left, top, right, bottom = self._exact(x, y)
        exact = (left - box[0], top - box[1], right - box[0], bottom - box[1])
        return hamming(pixels, exact, self.tile_size)

    @property
    def _copies(self) -> bool:
        """Level 0 at exactly the target scale: pixels are taken as they are."""
        exact = all(abs(extent - self.tile_size) < 1e-6 for extent in self.extent)
        return exact and self.backend.downsamples[self.level] == 1


@dataclass(frozen=True)
class Thumbnail:
    """(h, w, 3) pixels, how many level-0 pixels one of them covers, (x, y), and (h, w) what the slide holds."""

    pixels: RGB
    downsample: tuple[float, float]
    scanned: Mask


def thumbnail(backend: SlideBackend, downsample: float, name: str) -> Thumbnail:
    """The whole slide, about ``downsample`` times smaller, area-averaged from the nearest finer level.

    Read piece by piece, so that a slide with a single level needs no more memory.

    Raises:
        UnreadableInput: the level it is made of is damaged.
    """
    level = choose_level(backend.downsamples, downsample)
    level_width, level_height = backend.levels[level]
    factor = max(1.0, downsample / backend.downsamples[level])
    width, height = max(1, math.floor(level_width / factor)), max(1, math.floor(level_height / factor))
    step_x, step_y = level_width / width, level_height / height
    out, scanned = np.empty((height, width, 3), dtype=np.uint8), np.ones((height, width), dtype=bool)
    cell = max(1, min(_THUMB_CELL, int(2048 / factor)))
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            bottom, right = min(height, top + cell), min(width, left + cell)
            exact = (left * step_x, top * step_y, right * step_x, bottom * step_y)
            try:
                part = _shrunk(backend, level, exact, (right - left, bottom - top))
            except RegionUnreadable as fault:
                message = f"{name}: its overview is unreadable at level {level} ({fault})"
                raise UnreadableInput(message, remedy="copy it again from the scanner") from fault
            out[top:bottom, left:right] = part.rgb
            scanned[top:bottom, left:right] = True if part.scanned is None else part.scanned
    slide_width, slide_height = backend.levels[0]
    return Thumbnail(out, (slide_width / width, slide_height / height), scanned)


def _shrunk(
    backend: SlideBackend, level: int, exact: tuple[float, float, float, float], size: tuple[int, int]
) -> Block:
    x0, y0, x1, y1 = math.floor(exact[0]), math.floor(exact[1]), math.ceil(exact[2] - 1e-9), math.ceil(exact[3] - 1e-9)
    block = backend.read(level, x0, y0, x1 - x0, y1 - y0)
    box = (exact[0] - x0, exact[1] - y0, min(exact[2] - x0, x1 - x0), min(exact[3] - y0, y1 - y0))
    rgb = np.asarray(Image.fromarray(block.rgb).resize(size, Image.Resampling.BOX, box=box))
    if block.scanned is None:
        return Block(rgb)
    share = Image.fromarray(block.scanned.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX, box=box)
    return Block(rgb, np.asarray(share) >= 128)


class ColourProfile:
    """Converts tiles to sRGB by the slide's own ICC profile.

    Raises:
        UnreadableInput: the profile is damaged.
    """

    def __init__(self, profile: bytes, name: str) -> None:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            self._transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
        except (ImageCms.PyCMSError, OSError) as error:
            raise UnreadableInput(f"{name}: its colour profile is damaged", remedy="read it with --icc keep") from error

    def to_srgb(self, tile: RGB) -> RGB:
        """(h, w, 3) in the slide's colours → sRGB."""
        return np.asarray(ImageCms.applyTransform(Image.fromarray(tile), self._transform))
