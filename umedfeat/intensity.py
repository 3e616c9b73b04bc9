"""Stored values to [0, 1] and images to squares: pure numpy and Pillow's float resampling, no 8-bit step.

::

    values + padding → Range (window or percentiles) → to_unit → fit_square → to_rgb
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from umedfeat.errors import EmptyImage, SetupError
from umedfeat.policy import CT_WINDOWS, IntensityPolicy

__all__ = [
    "Range",
    "Statistics",
    "StoredVoi",
    "fit_square",
    "linear_voi",
    "parse_window",
    "percentile_range",
    "percentile_statistics",
    "through_voi",
    "to_rgb",
    "to_unit",
    "window_name",
]

Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: A window or look-up table stored with the image: values of one slice to [0, 1] (before inversion).
StoredVoi = Callable[[Values], Values]

_WHOLE = 1 << 20  # integers up to this magnitude are counted one by one
_HALF = 1 << 16


class Range(NamedTuple):
    """Values that become 0 and 1; ``how`` says where they come from."""

    low: float
    high: float
    how: str


class Statistics(NamedTuple):
    """Percentiles and extremes of the finite values that are not padding; counts of what was left out."""

    low: float
    high: float
    minimum: float
    maximum: float
    counted: int
    nonfinite: int


def window_name(policy: IntensityPolicy, modality: str, *, calibrated: bool = True) -> str:
    """Which window a modality gets: ``ct_window`` for CT in Hounsfield units, ``window`` for every other grey image.

    ``calibrated=False``: the values are not in the modality's units (a CT without rescale): "percentile".
    """
    if modality != "CT":
        return policy.window
    return policy.ct_window if calibrated or policy.ct_window == "file" else "percentile"


def parse_window(text: str) -> Range | Literal["percentile", "file"]:
    """A name of CT_WINDOWS, "LO,HI", "percentile" or "file".

    Raises:
        SetupError: none of these, or LO is not below HI.
    """
    if text == "percentile":
        return "percentile"
    if text == "file":
        return "file"
    if text in CT_WINDOWS:
        return Range(*CT_WINDOWS[text], how=text)
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        remedy = f"one of {', '.join(CT_WINDOWS)}, LO,HI, percentile, file"
        raise SetupError(f"window {text!r} is unknown", remedy=remedy) from error
    if not (np.isfinite([low, high]).all() and low < high):
        raise SetupError(f"window {text!r}: LO must be below HI", remedy="for example -160,240")
    return Range(low, high, f"{low:g},{high:g}")


def percentile_range(statistics: Statistics, percentiles: tuple[float, float], name: str) -> Range:
    """The range between two percentiles; the full range where they coincide (an object of a few pixels on black).

    Raises:
        EmptyImage: nothing but padding, or constant.
    """
    if not statistics.counted:
        raise EmptyImage(f"{name}: nothing but padding or non-finite values", remedy="leave it out")
    if statistics.minimum == statistics.maximum:
        raise EmptyImage(f"{name}: constant, every value is {statistics.minimum:g}", remedy="leave it out")
    if statistics.low < statistics.high:
        return Range(statistics.low, statistics.high, "p{:g}-p{:g}".format(*percentiles))
    return Range(statistics.minimum, statistics.maximum, "min-max (p{:g} equals p{:g})".format(*percentiles))


def percentile_statistics(
    slices: Callable[[], Iterable[tuple[Values, Mask | None]]], percentiles: tuple[float, float]
) -> Statistics:
    """Exact percentiles of a volume that is never held as a whole.

    The result equals ``numpy.percentile(values, percentiles)`` (linear interpolation between order statistics) of all
    finite values outside padding. Whole numbers up to 2**20 are counted one by one in one pass; other values are
    counted by the upper 16 bits of their float32 pattern, and a second pass resolves the lower 16 bits.

    Args:
        slices: starts a pass over (values float32, padding mask or None) of every slice; called once or twice.
        percentiles: low and high, 0..100.
    """
    counts = _WholeCounts()
    fine: _PatternCounts | None = None
    for values in (_kept(*item, counts) for item in slices()):
        if fine is None and not counts.add(values):
            fine = _PatternCounts.taking_over(counts)
        if fine is not None:
            fine.add(values)
    if not counts.total:
        return Statistics(np.nan, np.nan, np.nan, np.nan, 0, counts.nonfinite)
    ranks = [p / 100 * (counts.total - 1) for p in percentiles]
    if fine is None:
        low, high = (_interpolated(rank, counts.at) for rank in ranks)
    else:
        fine.refine((_finite(*item) for item in slices()), ranks)
        low, high = (_interpolated(rank, fine.at) for rank in ranks)
    return Statistics(low, high, counts.minimum, counts.maximum, counts.total, counts.nonfinite)


def to_unit(values: Values, limits: Range, padding: Mask | None = None, *, invert: bool = False) -> Values:
    """Values to [0, 1] float32: linear between the limits, clipped; inverted for MONOCHROME1.

    Padding and non-finite values become 0 (background), inverted or not.
    """
    span = limits.high - limits.low
    kind = np.float32 if 1e-30 < span < 1e30 else np.float64  # narrower or wider spans leave float32
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values.astype(kind) - kind(limits.low)) / kind(span)
    return _displayed(scaled.astype(np.float32), ~np.isfinite(values), padding, invert)


def through_voi(values: Values, voi: StoredVoi, padding: Mask | None = None, *, invert: bool = False) -> Values:
    """Like ``to_unit`` with a stored window or look-up table instead of limits."""
    background = ~np.isfinite(values)
    return _displayed(voi(np.where(background, np.float32(0), values)), background, padding, invert)


def linear_voi(low: float, high: float) -> StoredVoi:
    """A stored linear window as a StoredVoi."""
    limits = Range(low, high, "file")
    return lambda values: to_unit(values, limits)


def to_rgb(image: Values) -> Values:
    """(H, W) grey or (H, W, 3) colour to (H, W, 3)."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def fit_square(image: Values, size: int, fit: str, *, spacing: tuple[float, float] = (1.0, 1.0)) -> Values:
    """Resample to a (size, size) square with square pixels, antialiased (triangle filter), in float32.

    Args:
        image: (H, W) or (H, W, 3) float32 in [0, 1].
        size: side of the result.
        fit: "pad" (everything visible, letterbox on 0), "squash" (aspect ratio given up) or "crop" (centre square).
        spacing: (row, column) distance of the pixels in any one unit.

    Raises:
        SetupError: unknown ``fit``.
    """
    height, width = image.shape[0] * spacing[0], image.shape[1] * spacing[1]
    whole = (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    if fit == "squash":
        return _resized(image, (size, size), whole)
    if fit == "crop":
        side = min(height, width)
        return _resized(image, (size, size), _centre_box(image.shape[:2], side / spacing[0], side / spacing[1]))
    if fit != "pad":
        raise SetupError(f"fit {fit!r} is unknown", remedy="pad, squash or crop")
    scale = size / max(height, width)
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    square = np.zeros((size, size, *image.shape[2:]), np.float32)
    top, left = (size - rows) // 2, (size - cols) // 2
    square[top : top + rows, left : left + cols] = _resized(image, (rows, cols), whole)
    return square


def _displayed(scaled: Values, background: Mask, padding: Mask | None, invert: bool) -> Values:
    image = np.clip(scaled, np.float32(0), np.float32(1))
    if invert:
        image = np.float32(1) - image
    image[background] = 0
    if padding is not None:
        image[padding] = 0
    return image


def _centre_box(shape: tuple[int, ...], rows: float, cols: float) -> tuple[float, float, float, float]:
    top, left = (shape[0] - rows) / 2, (shape[1] - cols) / 2
    return max(0.0, left), max(0.0, top), min(shape[1], left + cols), min(shape[0], top + rows)


def _resized(image: Values, shape: tuple[int, int], box: tuple[float, float, float, float]) -> Values:
    if image.ndim > 2:
        return np.stack([_resized(image[..., c], shape, box) for c in range(image.shape[2])], axis=-1)
    if shape == image.shape[:2] and box == (0.0, 0.0, image.shape[1], image.shape[0]):
        return image.astype(np.float32, copy=False)
    plane = Image.fromarray(np.ascontiguousarray(image, np.float32))
    resized = plane.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box)
    return np.clip(np.asarray(resized, np.float32), 0, 1)  # the filter's rounding may exceed 1 by one ulp


def _finite(values: Values, padding: Mask | None) -> Values:
    kept = values.ravel() if padding is None else values[~padding]
    finite: Values = kept[np.isfinite(kept)] + np.float32(0)  # -0 becomes +0
    return finite


def _kept(values: Values, padding: Mask | None, counts: _WholeCounts) -> Values:
    kept = _finite(values, padding)
    counts.nonfinite += int(values.size - (0 if padding is None else padding.sum()) - kept.size)
    if kept.size:
        counts.minimum = min(counts.minimum, float(kept.min()))
        counts.maximum = max(counts.maximum, float(kept.max()))
        counts.total += kept.size
    return kept


def _interpolated(rank: float, at: Callable[[int], float]) -> float:
    below = int(np.floor(rank))
    low = at(below)
    return low if rank == below else low + (at(below + 1) - low) * (rank - below)


class _WholeCounts:
    """One counter per whole number in ±2**20, plus the extremes and totals of everything seen."""

    def __init__(self) -> None:
        self.counts = np.zeros(2 * _WHOLE + 1, np.int64)
        self.minimum, self.maximum = np.inf, -np.inf
        self.total = self.nonfinite = 0

    def add(self, values: Values) -> bool:
        """Count; False (nothing counted) where a value is no whole number in the range."""
        if not values.size:
            return True
        first, last = float(values.min()), float(values.max())
        if first < -_WHOLE or last > _WHOLE or not np.array_equal(values, np.rint(values)):
            return False
        counted = np.bincount((values - np.float32(first)).astype(np.int64))
        start = int(first) + _WHOLE
        self.counts[start : start + len(counted)] += counted
        return True

    def at(self, rank: int) -> float:
        return float(np.searchsorted(np.cumsum(self.counts), rank, side="right") - _WHOLE)


class _PatternCounts:
    """Counters by the upper half of an order-preserving integer image of float32, refined where ranks fall."""

    def __init__(self) -> None:
        self.coarse = np.zeros(_HALF, np.int64)
        self.fine: dict[int, npt.NDArray[np.int64]] = {}

    @classmethod
    def taking_over(cls, whole: _WholeCounts) -> _PatternCounts:
        counts = cls()
        seen = np.flatnonzero(whole.counts)
        np.add.at(counts.coarse, _ordered((seen - _WHOLE).astype(np.float32)) >> 16, whole.counts[seen])
        return counts

    def add(self, values: Values) -> None:
        self.coarse += np.bincount(_ordered(values) >> 16, minlength=_HALF)

    def refine(self, passes: Iterable[Values], ranks: Iterable[float]) -> None:
        """Count the lower halves in the few buckets that hold the ranks."""
        edges = np.cumsum(self.coarse)
        whole = [int(f(rank)) for rank in ranks for f in (np.floor, np.ceil)]
        needed = {int(np.searchsorted(edges, rank, side="right")) for rank in whole}
        self.fine = {bucket: np.zeros(_HALF, np.int64) for bucket in needed}
        for values in passes:
            patterns = _ordered(values)
            for bucket, counts in self.fine.items():
                counts += np.bincount(patterns[patterns >> 16 == bucket] & (_HALF - 1), minlength=_HALF)

    def at(self, rank: int) -> float:
        edges = np.cumsum(self.coarse)
        bucket = int(np.searchsorted(edges, rank, side="right"))
        before = int(edges[bucket] - self.coarse[bucket])
        low = int(np.searchsorted(np.cumsum(self.fine[bucket]), rank - before, side="right"))
        return _value((bucket << 16) | low)


def _ordered(values: Values) -> npt.NDArray[np.int64]:
    """float32 bit patterns as integers 0..2**32-1 in the order of the values."""
    bits = values.view(np.uint32).astype(np.int64)
    return np.where(bits >> 31, 0xFFFFFFFF - bits, bits + 0x80000000)


def _value(pattern: int) -> float:
    bits = 0xFFFFFFFF - pattern if pattern < 0x80000000 else pattern - 0x80000000
    return float(np.array(bits, np.uint32).view(np.float32))
