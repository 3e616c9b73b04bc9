"""Stored values to [0, 1] and images to squares: pure numpy and Pillow's float resampling, no 8-bit step.

::

    values + padding → Range (window or percentiles) → to_unit → fit_square → to_rgb
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from umedfeat.arrays import Floats32, Mask
from umedfeat.readers.stacks.percentiles import Statistics, percentile_statistics
from umedfeat.squares import Placement, field_placement, fit_square, in_square, placement, resample, to_rgb

__all__ = [
    "Placement",
    "Range",
    "Statistics",
    "StoredVoi",
    "field_placement",
    "fit_square",
    "in_square",
    "linear_voi",
    "percentile_statistics",
    "placement",
    "resample",
    "through_voi",
    "to_rgb",
    "to_unit",
]

_BLOCK = 1 << 16  # values
#: A window or look-up table stored with the image: values of one slice to [0, 1] (before inversion).
StoredVoi = Callable[[Floats32], Floats32]


class Range(NamedTuple):
    """Values that become 0 and 1; ``how`` says where they come from."""

    low: float
    high: float
    how: str


def to_unit(values: Floats32, limits: Range, padding: Mask | None = None, *, invert: bool = False) -> Floats32:
    """Values to [0, 1] float32: linear between the limits, clipped; inverted for MONOCHROME1.

    Padding and non-finite values become 0 (background), inverted or not.
    """
    span = limits.high - limits.low
    kind = np.float32 if 1e-30 < span < 1e30 else np.float64  # narrower or wider spans leave float32
    low, width = kind(limits.low), kind(span)

    def scaled(block: Floats32) -> Floats32:
        shown = block.astype(kind)
        shown -= low
        shown /= width
        return shown.astype(np.float32, copy=False)

    with np.errstate(over="ignore", invalid="ignore"):
        return _displayed(values, scaled, padding, invert)


def through_voi(values: Floats32, voi: StoredVoi, padding: Mask | None = None, *, invert: bool = False) -> Floats32:
    """Like ``to_unit`` with a stored window or look-up table instead of limits."""
    return _displayed(values, voi, padding, invert)


def linear_voi(low: float, high: float) -> StoredVoi:
    """A stored linear window as a StoredVoi."""
    limits = Range(low, high, "file")
    return lambda values: to_unit(values, limits)


def _displayed(values: Floats32, shown_as: StoredVoi, padding: Mask | None, invert: bool) -> Floats32:
    """Block by block: what one step leaves in the processor's caches, the next one finds there."""
    image = np.empty(values.shape, np.float32)
    rows = max(1, _BLOCK // max(1, values[:1].size))
    for begin in range(0, len(values), rows):
        part = slice(begin, begin + rows)
        finite = np.isfinite(values[part])
        whole = bool(finite.all())
        block = image[part]
        np.clip(shown_as(values[part] if whole else np.where(finite, values[part], np.float32(0))), 0, 1, out=block)
        if invert:
            np.subtract(np.float32(1), block, out=block)
        if not whole:
            block[~finite] = 0
        if padding is not None:
            block[padding[part]] = 0
    return image
