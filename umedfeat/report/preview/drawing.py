"""Colours, type and the scale bar shared by all pictures. Colours are Okabe and Ito's, told apart by everybody."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from umedfeat.arrays import RGB

__all__ = [
    "BLUE",
    "GREEN",
    "INK",
    "MUTED",
    "ORANGE",
    "PAPER",
    "SHEET",
    "SKY",
    "ScaleBar",
    "as_image",
    "draw_text",
    "font",
    "scale_bar",
    "to_rgb8",
]

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
#: Between tiles: glass is white, and must not run into the paper.
SHEET: Colour = (206, 211, 216)
INK: Colour = (32, 36, 42)
MUTED: Colour = (118, 124, 132)
GREEN: Colour = (0, 158, 115)
BLUE: Colour = (0, 114, 178)
#: Instead of blue on dark pictures.
SKY: Colour = (86, 180, 233)
ORANGE: Colour = (213, 94, 0)


class ScaleBar(NamedTuple):
    """A bar of a round length. ``pixels``: its length in the picture; ``label``: "500 µm" or "2 mm"."""

    pixels: float
    label: str


def scale_bar(mpp: float, width: int) -> ScaleBar:
    """The largest bar of 1, 2 or 5 times a power of ten that fits a fifth of the picture.

    Args:
        mpp: micrometres per pixel of the picture.
        width: of the picture in pixels.
    """
    longest = mpp * width / 5
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return ScaleBar(length / mpp, label)


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib and knows µ; the same on every machine."""
    matplotlib = find_spec("matplotlib")
    if matplotlib is not None and matplotlib.origin:
        path = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def draw_text(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, size: int, colour: Colour, anchor: str = "lm"
) -> float:
    """Text whose anchor (Pillow's codes) is at a point; returns its width in pixels."""
    draw.text(at, text, fill=colour, font=font(size), anchor=anchor)
    return draw.textlength(text, font=font(size))


def to_rgb8(image: npt.NDArray[np.generic]) -> RGB:
    """What the encoder gets, for the eye: uint8 as it is, float32 in [0, 1] rounded to 8 bits."""
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    return np.asarray(np.clip(np.rint(np.asarray(image, np.float32) * 255), 0, 255), np.uint8)


def as_image(pixels: RGB) -> Image.Image:
    """An RGB image that owns its memory."""
    return Image.fromarray(np.ascontiguousarray(pixels), "RGB")
