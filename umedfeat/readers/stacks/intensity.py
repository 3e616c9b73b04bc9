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
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = ((values.astype(kind) - kind(limits.low)) / kind(span)).astype(np.float32)
    return _displayed(scaled, ~np.isfinite(values), padding, invert)


def through_voi(values: Floats32, voi: StoredVoi, padding: Mask | None = None, *, invert: bool = False) -> Floats32:
    """Like ``to_unit`` with a stored window or look-up table instead of limits."""
    background = ~np.isfinite(values)
    return _displayed(voi(np.where(background, np.float32(0), values)), background, padding, invert)


def linear_voi(low: float, high: float) -> StoredVoi:
    """A stored linear window as a StoredVoi."""
    limits = Range(low, high, "file")
    return lambda values: to_unit(values, limits)


def _displayed(scaled: Floats32, background: Mask, padding: Mask | None, invert: bool) -> Floats32:
    image = np.clip(scaled, np.float32(0), np.float32(1))
    if invert:
        image = np.float32(1) - image
    image[background] = 0
    if padding is not None:
        image[padding] = 0
    return image
