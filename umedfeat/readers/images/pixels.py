"""Pixels of flat images as they are displayed: alpha on white, CMYK, depths."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

__all__ = [
    "DAMAGED",
    "MAX_FRAMES",
    "SIDEWAYS",
    "Header",
    "Page",
    "Pixels",
    "as_unit",
    "deep",
    "from_cmyk",
    "from_lab",
    "on_white",
    "upright",
]

#: Remedy for damaged files.
DAMAGED = "copy it again from its origin, or remove it"

#: Frames of one animation or pages of one TIFF; more are a damaged count.
MAX_FRAMES = 100_000

#: EXIF and TIFF orientations that swap width and height.
SIDEWAYS = frozenset({5, 6, 7, 8})

Pixels = npt.NDArray[Any]


class Page(NamedTuple):
    """One decoded page, upright.

    Attributes:
        values: colour (H, W, 3) or grey (H, W): uint8, or float32 (colours in [0, 1], greys as stored).
        displayed: a picture to be shown as it is (colours, drawings of 1 bit); greys of more bits get a window.
        invert: grey, and white is stored as the smallest value.
    """

    values: Pixels
    displayed: bool
    invert: bool = False


class Header(NamedTuple):
    """What is known without decoding.

    Attributes:
        format: "png", "jpeg", "bmp", "webp" or "tiff".
        width, height: of an upright page.
        pages: what finds each page that is read: offsets of TIFF directories, numbers of frames.
        detail: facts to store.
    """

    format: str
    width: int
    height: int
    pages: tuple[int, ...]
    detail: dict[str, str | int]


def deep(pixels: Pixels, *, premultiplied: bool = False) -> Page:
    """Grey or colour of any depth, with or without alpha, as it is displayed (full range of the type)."""
    if pixels.ndim == 2:
        return Page(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32), displayed=False)
    if pixels.shape[2] in (2, 4):
        return Page(on_white(pixels, premultiplied=premultiplied), displayed=True)
    return Page(pixels if pixels.dtype == np.uint8 else as_unit(pixels), displayed=True)


def on_white(pixels: Pixels, *, premultiplied: bool = False) -> Pixels:
    """(H, W, 2 or 4) with alpha last, composited on white; uint8 stays uint8.

    Args:
        premultiplied: the colours are multiplied by alpha already ("associated" in TIFF).
    """
    unit = as_unit(pixels)
    alpha = unit[..., -1:]
    colours = np.broadcast_to(unit[..., :-1], (*unit.shape[:2], 3))
    colours = np.minimum((colours if premultiplied else colours * alpha) + (1 - alpha), np.float32(1))
    if pixels.dtype == np.uint8:
        return np.asarray(np.rint(colours * 255), np.uint8)
    return np.asarray(colours, np.float32)


def from_cmyk(unit: npt.NDArray[np.float32]) -> Pixels:
    """(H, W, 4) inks in [0, 1] to (H, W, 3) RGB in [0, 1], without a profile."""
    return ((1 - unit[..., :3]) * (1 - unit[..., 3:])).astype(np.float32)


def from_lab(pixels: Pixels, *, signed: bool) -> Pixels:
    """(H, W, 3) uint8 of CIE L*a*b* to sRGB, by little CMS.

    Args:
        signed: a and b are signed bytes (CIELab of TIFF), else they are offset by 128 (ICCLab).
    """
    stored = pixels if signed else pixels ^ np.array([0, 128, 128], np.uint8)
    height, width = pixels.shape[:2]
    picture = Image.frombytes("LAB", (width, height), np.ascontiguousarray(stored).tobytes(), "raw", "LAB")
    return np.asarray(ImageCms.applyTransform(picture, _lab_to_srgb()))


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def as_unit(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Values of any type to float32 in [0, 1]: integers by the range of their type, floats clipped, NaN as 0."""
    if pixels.dtype.kind == "f":
        return np.clip(np.nan_to_num(pixels.astype(np.float32)), 0, 1)
    if pixels.dtype.kind == "b":
        return pixels.astype(np.float32)
    limits = np.iinfo(pixels.dtype)
    span = np.float32(limits.max - limits.min)
    return np.asarray((pixels.astype(np.float32) - np.float32(limits.min)) / span, np.float32)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF or TIFF orientation (1 to 8)."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    rows = orientation in (3, 4, 7, 8)
    cols = orientation in (2, 3, 6, 7)
    pixels = pixels[::-1] if rows else pixels
    return np.ascontiguousarray(pixels[:, ::-1] if cols else pixels)
