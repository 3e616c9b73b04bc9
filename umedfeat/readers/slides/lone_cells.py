"""Cytology and smears: stained cells that lie alone on glass, each smaller than what a tissue mask keeps.

A cell of 10 to 20 µm is a few pixels of the thumbnail. What tells it from dust and noise is colour, far above that of
the glass around it; what tells it from a fibre or a drop of ink is its size. A few are dirt, many are a smear.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from umedfeat.arrays import RGB, Floats32, Mask
from umedfeat.readers.slides.optics import Glass, density_of, most_of

__all__ = ["LoneCells", "shining_cells", "stained_cells"]


#: A cell with its rim, or a few that touch: at most this many square micrometres.
_LARGEST = 4000.0
#: Around a cell everything within this many micrometres is its field: a tile of 112 µm that holds the cell then has a
#: quarter of its area in the field, even where the cell lies in a corner.
_AROUND = 64.0
#: Colour (difference of optical densities) of a cell is this far above what it varies by on the glass, and above this.
#: Light of one is so many grey values above the dark ground.
_DEVIATIONS, _LEAST_COLOUR, _LEAST_LIGHT = 8.0, 0.05, 12.0
#: Dust is a little coloured too: a stain's colour is at least this share of its density.
_STAINED = 0.15
#: Colour of the surroundings is taken off over this many micrometres: tinted and vignetted glass is no cell.
_NEAR = 96.0


class LoneCells(NamedTuple):
    """(H, W) bool of what lies within reach of a cell; their number; their own area in square micrometres."""

    field: Mask
    number: int
    area: float


def stained_cells(thumbnail: RGB, mpp: float, glass: Glass, elsewhere: Mask) -> LoneCells:
    """Cells that stand out by colour.

    Args:
        thumbnail: (H, W, 3); ``mpp``: micrometres per pixel.
        glass: the empty slide.
        elsewhere: (H, W) bool, where no cell is looked for: tissue and ink with their surroundings.
    """
    density = [density_of(thumbnail[..., c].astype(np.float32), white) for c, white in enumerate(glass.white)]
    most = np.maximum(np.maximum(density[0], density[1]), density[2])
    colour = most - np.minimum(np.minimum(density[0], density[1]), density[2])
    return _standing_out(colour, mpp, _LEAST_COLOUR, elsewhere, colour >= _STAINED * most)


def shining_cells(thumbnail: RGB, mpp: float, elsewhere: Mask) -> LoneCells:
    """Cells that stand out by light on dark ground; arguments as of ``stained_cells``."""
    light = most_of(thumbnail.astype(np.float32))
    return _standing_out(light, mpp, _LEAST_LIGHT, elsewhere, light >= 0)


def _standing_out(signal: Floats32, mpp: float, least: float, elsewhere: Mask, possible: Mask) -> LoneCells:
    near = _odd(_NEAR / mpp)
    signal = signal - ndimage.uniform_filter(ndimage.minimum_filter(ndimage.uniform_filter(signal, 3), 3), near)
    middle = float(np.median(signal))
    spread = 1.4826 * float(np.median(np.abs(signal - middle)))
    least = middle + max(least, _DEVIATIONS * spread)
    labels, count = ndimage.label((signal > least) & possible & ~elsewhere, np.ones((3, 3)))
    if not count:
        return LoneCells(np.zeros(labels.shape, bool), 0, 0.0)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    peaks = np.concatenate([[0.0], ndimage.maximum(signal, labels, np.arange(1, count + 1))])
    cells = (sizes <= max(2.0, _LARGEST / mpp**2)) & ((peaks > 2 * least) | (sizes > 1))
    cells[0] = False
    found = cells[labels]
    field = ndimage.distance_transform_edt(~found) <= _AROUND / mpp if found.any() else found
    return LoneCells(np.asarray(field & ~elsewhere, bool), int(cells.sum()), float(found.sum()) * mpp**2)


def _odd(pixels: float) -> int:
    return 2 * round(pixels / 2) + 1
