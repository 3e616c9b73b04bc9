"""What every way to open a slide offers, and what they share.

A backend gives levels and reads rectangles of a level as RGB on white. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from umedfeat.arrays import RGB, Mask
from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import UnreadableInput

__all__ = ["Block", "FocalStack", "SlideBackend", "focal_views", "on_white", "refuse_unreadable_corners"]


class Block(NamedTuple):
    """Pixels of a rectangle.

    Attributes:
        rgb: (h, w, 3) uint8; white where the slide holds nothing.
        scanned: (h, w) bool, what the slide holds: neither transparent nor beyond its border; None for all of it.
    """

    rgb: RGB
    scanned: Mask | None = None


class SlideBackend(Protocol):
    """An opened slide.

    Attributes:
        levels: (width, height) of every level, finest first.
        downsamples: level-0 pixels per level pixel, ascending, first 1.0.
        origins: level-0 (x, y) of the top-left corner of every level's first pixel; (0, 0) nearly always.
        aligned: levels of which every rectangle shows the same pixels; of others each is resampled by itself.
        properties: the file's own facts ("openslide.mpp-x", "tiff.XResolution" …).
        vendor: "aperio", "hamamatsu", "ome-tiff", "generic-tiff" …
        icc: the colour profile, or None.
        contents: how many levels and planes (pages, series) the file holds and how many are read; what is left out.
    """

    levels: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    origins: tuple[tuple[float, float], ...]
    aligned: tuple[bool, ...]
    properties: Mapping[str, str]
    vendor: str
    icc: bytes | None
    contents: Mapping[str, Json]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Block:
        """A rectangle of a level; x, y in pixels of that level, it may reach beyond the slide.

        Raises:
            RegionUnreadable: the bytes there are damaged.
        """
        ...

    def decoder(self, level: int) -> str:
        """What decodes the pixels of a level: "openslide", "tifffile", "libjpeg-turbo" or "openjpeg"."""
        ...

    def close(self) -> None:
        """Release handles. Safe to call twice."""
        ...


@runtime_checkable
class FocalStack(SlideBackend, Protocol):
    """A slide of which several focal planes are read."""

    @property
    def focal_planes(self) -> int:
        """How many."""
        ...

    def read_plane(self, plane: int, level: int, x: int, y: int, width: int, height: int) -> Block:
        """``read`` of one of them, from 0."""
        ...


class _View:
    """One focal plane as a slide."""

    def __init__(self, stack: FocalStack, plane: int) -> None:
        self._stack, self._plane = stack, plane
        self.levels, self.downsamples = stack.levels, stack.downsamples
        self.origins, self.aligned = stack.origins, stack.aligned
        self.properties, self.vendor, self.icc, self.contents = (
            stack.properties,
            stack.vendor,
            stack.icc,
            stack.contents,
        )

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Block:
        return self._stack.read_plane(self._plane, level, x, y, width, height)

    def decoder(self, level: int) -> str:
        return self._stack.decoder(level)

    def close(self) -> None:
        self._stack.close()


def focal_views(backend: SlideBackend) -> list[SlideBackend]:
    """Every focal plane that is read as a slide of its own; most slides have one."""
    if isinstance(backend, FocalStack) and backend.focal_planes > 1:
        return [_View(backend, plane) for plane in range(backend.focal_planes)]
    return [backend]


def refuse_unreadable_corners(backend: SlideBackend, name: str) -> None:
    """A look at the corners of the finest and the coarsest level: damage is told before anything else is.

    Raises:
        UnreadableInput: one of them cannot be read.
    """
    for level in sorted({0, len(backend.levels) - 1}):
        width, height = backend.levels[level]
        for x, y in ((0, 0), (max(0, width - 8), max(0, height - 8))):
            try:
                backend.read(level, x, y, min(8, width), min(8, height))
            except RegionUnreadable as fault:
                message = (
                    f"{name}: the file is damaged, its corner at {x}, {y} of level {level} is unreadable ({fault})"
                )
                raise UnreadableInput(message, remedy="copy it again from the scanner") from fault


def on_white(region: Image.Image) -> Block:
    """RGBA on white, alpha honoured."""
    if region.getchannel("A").getextrema()[0] == 255:
        return Block(np.asarray(region.convert("RGB")))
    rgba = np.asarray(region)
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return Block(mixed.astype(np.uint8), rgba[..., 3] >= 128)
