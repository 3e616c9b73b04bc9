"""Images to squares: where an image lies in the square that an encoder sees, antialiased, in float32, no 8-bit step."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from umedfeat.arrays import Floats32

__all__ = ["Placement", "field_placement", "fit_square", "in_square", "placement", "resample", "to_rgb"]

Displayed = npt.NDArray[np.float32] | npt.NDArray[np.uint8]

_ROUNDING = 1e-6  # of a pixel
_STRIP = 256  # rows that are resampled at a time
_FILTER = Image.Resampling.BILINEAR


def to_rgb(image: Floats32) -> Floats32:
    """(H, W) grey or (H, W, 3) colour to (H, W, 3)."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def fit_square(image: Displayed, size: int, fit: str, *, spacing: tuple[float, float] = (1.0, 1.0)) -> Floats32:
    """Resample to a (size, size) square with square pixels, antialiased (triangle filter), in float32.

    Args:
        image: (H, W) or (H, W, 3), float32 in [0, 1] or uint8.
        size: side of the result.
        fit: "pad" (everything visible, letterbox on 0), "squash" (aspect ratio given up) or "crop" (centre square).
        spacing: (row, column) distance of the pixels in any one unit.
    """
    return in_square(image, size, placement(image.shape[:2], size, fit, spacing=spacing))


def in_square(image: Displayed, size: int, place: Placement) -> Floats32:
    """Resample a part of an image into its place in a (size, size) square; the rest of the square is 0."""
    fitted = resample(image, (place.rows, place.cols), place.box)
    if (place.rows, place.cols) == (size, size):
        return fitted
    square = np.zeros((size, size, *image.shape[2:]), np.float32)
    square[place.top : place.top + place.rows, place.left : place.left + place.cols] = fitted
    return square


class Placement(NamedTuple):
    """Which part of an image lies where in a square.

    Attributes:
        box: (left, top, right, bottom) of the part in pixels of the image, fractions allowed.
        top, left, rows, cols: where it lies in the square.
    """

    box: tuple[float, float, float, float]
    top: int
    left: int
    rows: int
    cols: int

    def moved(self, corners: Floats32) -> Floats32:
        """(n, 4) left, top, right, bottom in pixels of the image → in pixels of the square (not clipped)."""
        left, top, right, bottom = self.box
        scale = np.array([self.cols / (right - left), self.rows / (bottom - top)] * 2)
        start = np.array([left, top] * 2)
        moved: Floats32 = ((corners - start) * scale + np.array([self.left, self.top] * 2)).astype(np.float32)
        return moved


def placement(shape: tuple[int, ...], size: int, fit: str, *, spacing: tuple[float, float] = (1.0, 1.0)) -> Placement:
    """Where ``fit_square`` puts an image of (rows, columns) = ``shape``; arguments as there."""
    height, width = shape[0] * spacing[0], shape[1] * spacing[1]
    whole = (0.0, 0.0, float(shape[1]), float(shape[0]))
    if fit == "squash":
        return Placement(whole, 0, 0, size, size)
    if fit == "crop":
        side = min(height, width)
        return Placement(_centre_box(shape, side / spacing[0], side / spacing[1]), 0, 0, size, size)
    scale = size / max(height, width)
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    return Placement(whole, (size - rows) // 2, (size - cols) // 2, rows, cols)


def field_placement(shape: tuple[int, ...], size: int, field: tuple[float, float, float, float]) -> Placement:
    """Where a field of view that may reach beyond an image lies in a square; pixels beyond the image stay black.

    Args:
        shape: (rows, columns) of the image.
        size: side of the square.
        field: (left, top, right, bottom) in pixels of the image, fractions and places outside allowed.

    Raises:
        ValueError: less than one pixel of the square shows the image.
    """
    left, first_col, right, cols = _visible(field[0], field[2], shape[1], size)
    top, first_row, bottom, rows = _visible(field[1], field[3], shape[0], size)
    return Placement((left, top, right, bottom), first_row, first_col, rows, cols)


def _visible(begin: float, end: float, length: int, size: int) -> tuple[float, int, float, int]:
    """Of one side of a field: (begin of the visible part, first pixel in the square, end, number of pixels)."""
    scale = size / (end - begin)
    first = max(0, math.ceil(-begin * scale - _ROUNDING))
    last = min(size, math.floor((length - begin) * scale + _ROUNDING))
    if last <= first:
        raise ValueError("the field of view lies beside the image")
    return max(0.0, begin + first / scale), first, min(float(length), begin + last / scale), last - first


def _centre_box(shape: tuple[int, ...], rows: float, cols: float) -> tuple[float, float, float, float]:
    top, left = (shape[0] - rows) / 2, (shape[1] - cols) / 2
    return max(0.0, left), max(0.0, top), min(shape[1], left + cols), min(shape[0], top + rows)


def resample(image: Displayed, shape: tuple[int, int], box: tuple[float, float, float, float]) -> Floats32:
    """Resample a box of an image, antialiased (triangle filter), in float32.

    Columns come first, in strips of rows, so that no float copy of a large 8-bit image is held.

    Args:
        image: (H, W) or (H, W, 3), float32 in [0, 1] or uint8.
        shape: (rows, columns) of the result.
        box: (left, top, right, bottom) in pixels of the image, fractions allowed; nothing outside is looked at.
    """
    if image.ndim > 2:
        return np.stack([resample(image[..., c], shape, box) for c in range(image.shape[2])], axis=-1)
    height, width = image.shape[:2]
    if shape == (height, width) and box == (0.0, 0.0, width, height):
        return _unit(image)
    left, top, right, bottom = box
    strips = [_narrowed(_unit(image[row : row + _STRIP]), shape[1], left, right) for row in range(0, height, _STRIP)]
    columns = np.concatenate(strips)
    squeezed = Image.fromarray(columns).resize((shape[1], shape[0]), _FILTER, box=(0.0, top, shape[1], bottom))
    return np.clip(np.asarray(squeezed, np.float32), 0, 1)  # the filter's rounding may exceed 1 by one ulp


def _narrowed(strip: Floats32, width: int, left: float, right: float) -> Floats32:
    image = Image.fromarray(np.ascontiguousarray(strip))
    narrowed = image.resize((width, len(strip)), _FILTER, box=(left, 0.0, right, len(strip)))
    values: Floats32 = np.asarray(narrowed, np.float32)
    return values


def _unit(image: Displayed) -> Floats32:
    values: Floats32 = image.astype(np.float32, copy=False)
    return values / np.float32(255) if image.dtype == np.uint8 else values
