"""The overlay of a region of interest: whole slices with the outline of the mask and the square that is cut out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from umedfeat.contract import RegionUnreadable
from umedfeat.readers.stacks.volume import Overview, VolumeReader
from umedfeat.report.preview.contact import Region, evenly, sheet
from umedfeat.report.preview.drawing import ORANGE, SKY, as_image, to_rgb8

__all__ = ["REGION_CAPTION", "draw_overview", "region_sheet"]

REGION_CAPTION = "Whole slices: the mask is outlined in blue, what the encoder gets lies in the orange square."
_SIDE = 320
_MOST = 6


def region_sheet(reader: VolumeReader, slices: Sequence[int]) -> Image.Image:
    """At most six of the slices that are embedded, evenly spread.

    Raises:
        InputError: the mask cannot be read.
    """
    shown = [slices[k] for k in evenly(len(slices), _MOST)]
    pictures = [_drawn(reader, index) for index in shown]
    return sheet(pictures, [f"slice {index + 1}" for index in shown], columns=3)


def _drawn(reader: VolumeReader, index: int) -> Region:
    try:
        return draw_overview(reader.overview(index, _SIDE))
    except RegionUnreadable as fault:
        return fault


def draw_overview(overview: Overview) -> Region:
    """(side, side, 3) uint8: a slice, the outline of its mask (SKY) and the border of the field of view (ORANGE)."""
    pixels = to_rgb8(overview.picture).copy()
    if overview.mask is not None:
        outline = ndimage.binary_dilation(overview.mask) & ~overview.mask
        pixels[outline] = SKY
    picture = as_image(pixels)
    if overview.field is not None:
        corners = [float(value) for value in np.clip(overview.field, 0, pixels.shape[0] - 1)]
        ImageDraw.Draw(picture).rectangle(corners, outline=ORANGE, width=2)
    return np.asarray(picture)
