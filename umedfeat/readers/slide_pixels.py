"""From a slide's level to tiles and thumbnails: exact boxes, antialiased resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from umedfeat.errors import UnreadableInput
from umedfeat.grid import choose_level
from umedfeat.items import RegionUnreadable
from umedfeat.readers.slide_backends import SlideBackend

__all__ = ["ColourProfile", "Thumbnail", "TileCutter", "thumbnail"]

RGB = npt.NDArray[np.uint8]

#: Antialiased, and of Pillow's filters the one whose tiles come closest to what a coarser scan of the same tissue
#: shows (cosine 0.997-0.998 against a scan at half the scale; bicubic 0.989-0.992, bilinear 0.975-0.978).
_FILTER = Image.Resampling.HAMMING
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

    def cut(self, x: Sequence[int], y: Sequence[int]) -> list[RGB | RegionUnreadable]:
        """Tiles whose top-left corners are at whole level-0 pixels; neighbours in a row are read as one block."""
        tiles: list[RGB | RegionUnreadable] = []
        for first, last in self._runs(x, y):
            tiles += self._cut_run(list(x[first:last]), y[first])
        return tiles

    def _runs(self, x: Sequence[int], y: Sequence[int]) -> list[tuple[int, int]]:
        """Index ranges of neighbours that are worth one read.

        Only where the downsample is whole, since then a block shows each tile the same pixels as a read of its own.
        """
        factor = self.backend.downsamples[self.level]
        most = 1
        if factor == round(factor):
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

    def _cut_run(self, x: list[int], y: int) -> list[RGB | RegionUnreadable]:
        boxes = [self._box(corner, y) for corner in x]
        left, top = boxes[0][0], boxes[0][1]
        right, bottom = boxes[-1][2], boxes[-1][3]
        try:
            block = self.backend.read(self.level, left, top, right - left, bottom - top)
        except RegionUnreadable as fault:
            if len(x) == 1:
                return [fault]
            return [tile for corner in x for tile in self._cut_run([corner], y)]  # only the damaged ones are lost
        return [
            self._resample(block[:, box[0] - left : box[2] - left], corner, y, box)
            for corner, box in zip(x, boxes, strict=True)
        ]

    def _box(self, x: int, y: int) -> tuple[int, int, int, int]:
        """Level pixels that a tile needs: its exact box plus the reach of the resampling filter, if there is one."""
        factor = self.backend.downsamples[self.level]
        scale = [extent / factor / self.tile_size for extent in self.extent]
        reach_x, reach_y = (0 if self._copies else math.ceil(max(1.0, step)) for step in scale)
        return (
            math.floor(x / factor) - reach_x,
            math.floor(y / factor) - reach_y,
            math.ceil((x + self.extent[0]) / factor) + reach_x,
            math.ceil((y + self.extent[1]) / factor) + reach_y,
        )

    def _resample(self, pixels: RGB, x: int, y: int, box: tuple[int, int, int, int]) -> RGB:
        factor = self.backend.downsamples[self.level]
        left, top = x / factor - box[0], y / factor - box[1]
        if self._copies:
            return np.ascontiguousarray(pixels[: self.tile_size, : self.tile_size])
        exact = (left, top, left + self.extent[0] / factor, top + self.extent[1] / factor)
        side = (self.tile_size, self.tile_size)
        return np.asarray(Image.fromarray(pixels).resize(side, _FILTER, box=exact))

    @property
    def _copies(self) -> bool:
        """Level 0 at exactly the target scale: pixels are taken as they are."""
        exact = all(abs(extent - self.tile_size) < 1e-6 for extent in self.extent)
        return exact and self.backend.downsamples[self.level] == 1


@dataclass(frozen=True)
class Thumbnail:
    """(h, w, 3) pixels and how many level-0 pixels one of them covers, (x, y)."""

    pixels: RGB
    downsample: tuple[float, float]


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
    out = np.empty((height, width, 3), dtype=np.uint8)
    cell = max(1, min(_THUMB_CELL, int(2048 / factor)))
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            bottom, right = min(height, top + cell), min(width, left + cell)
            exact = (left * step_x, top * step_y, right * step_x, bottom * step_y)
            try:
                out[top:bottom, left:right] = _shrunk(backend, level, exact, (right - left, bottom - top))
            except RegionUnreadable as fault:
                message = f"{name}: its overview is unreadable at level {level} ({fault})"
                raise UnreadableInput(message, remedy="copy it again from the scanner") from fault
    slide_width, slide_height = backend.levels[0]
    return Thumbnail(out, (slide_width / width, slide_height / height))


def _shrunk(backend: SlideBackend, level: int, exact: tuple[float, float, float, float], size: tuple[int, int]) -> RGB:
    x0, y0, x1, y1 = math.floor(exact[0]), math.floor(exact[1]), math.ceil(exact[2] - 1e-9), math.ceil(exact[3] - 1e-9)
    pixels = backend.read(level, x0, y0, x1 - x0, y1 - y0)
    box = (exact[0] - x0, exact[1] - y0, min(exact[2] - x0, x1 - x0), min(exact[3] - y0, y1 - y0))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX, box=box))


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
