"""Tissue on a thumbnail: which of its pixels belong to the specimen.

Stained tissue differs from glass in *colour*; dust, coverslip edges, shadows and black borders do not. So the mask
asks for optical density that differs between the channels, measured against the slide's own glass, and then removes
ink (smooth, saturated, of hues that stains do not have) and specks. A slide with a dark background (fluorescence) is
asked for light instead. Plain numpy and scipy; no learned weights, no state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["tissue_fractions", "tissue_mask"]

Rgb = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.float32]

#: Micrometres per pixel of the grid on which shapes are judged (closing, specks, ink).
SHAPE_MPP = 16.0
#: Gaps narrower than this are part of the tissue (fat cells, tears), in micrometres.
CLOSING = 96.0
#: Smaller islands are debris, smaller holes are filled: square micrometres.
SPECK, HOLE = 15_000.0, 40_000.0


def tissue_mask(thumbnail: Rgb, mpp: float) -> Mask:
    """Tissue of a slide.

    Args:
        thumbnail: (H, W, 3) uint8 RGB; about 8 µm/px is what the numbers were chosen on, 4 to 32 work.
        mpp: micrometres per pixel of the thumbnail.

    Returns:
        (H, W) bool; all False for an empty slide.
    """
    height, width = thumbnail.shape[:2]
    if height == 0 or width == 0:
        return np.zeros((height, width), bool)
    return _emission(thumbnail, mpp) if is_dark_field(thumbnail) else _absorption(thumbnail, mpp)


def tissue_fractions(mask: Mask, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Share of each box that is tissue; exact for boxes with fractional corners.

    Args:
        mask: (H, W) bool.
        boxes: (n, 4) as x0, y0, x1, y1 in pixels of the mask (x1, y1 exclusive). What lies outside is no tissue.

    Returns:
        (n,) float32 in 0..1; 0 for boxes without area.
    """
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    table[1:, 1:] = mask.cumsum(0, dtype=np.int64).cumsum(1)
    inside = _table_at(table, x1, y1) - _table_at(table, x0, y1) - _table_at(table, x1, y0) + _table_at(table, x0, y0)
    area = np.maximum((x1 - x0) * (y1 - y0), 0.0)
    share = np.divide(inside, area, out=np.zeros_like(area), where=area > 0)
    return np.asarray(np.clip(share, 0.0, 1.0), np.float32)


def _table_at(
    table: npt.NDArray[np.float64], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The integral image at fractional corners: bilinear, which is exact for piecewise constant masks."""
    x = np.clip(x, 0, table.shape[1] - 1)
    y = np.clip(y, 0, table.shape[0] - 1)
    i = np.minimum(y.astype(np.intp), table.shape[0] - 2)
    j = np.minimum(x.astype(np.intp), table.shape[1] - 2)
    v, u = y - i, x - j
    upper = table[i, j] * (1 - u) + table[i, j + 1] * u
    lower = table[i + 1, j] * (1 - u) + table[i + 1, j + 1] * u
    return upper * (1 - v) + lower * v  # type: ignore[no-any-return]


def is_dark_field(thumbnail: Rgb) -> bool:
    """Fluorescence: mostly dark, and what is not dark is not glass either (a black border beside glass is)."""
    sample = thumbnail[:: max(1, thumbnail.shape[0] // 512), :: max(1, thumbnail.shape[1] // 512)]
    brightest = sample.max(axis=2)
    lit = sample[brightest > 60]
    if lit.size == 0:
        return True
    glass = float((lit.min(axis=1) > 150).mean())
    return float((brightest <= 60).mean()) > 0.4 and glass < 0.25


def _emission(thumbnail: Rgb, mpp: float) -> Mask:
    """Tissue that shines on black: light above the dark level and its noise, gathered over cells."""
    light = _shrink(thumbnail.max(axis=2), _factor(mpp))
    scale = mpp * _factor(mpp)
    smooth = ndimage.gaussian_filter(light, 24.0 / scale)
    dark = float(np.percentile(smooth, 5))
    noise = 1.4826 * float(np.median(np.abs(smooth[smooth <= np.median(smooth)] - dark)))
    lit = smooth > dark + max(4.0, 3.0 * noise)
    return _grow(_shape(lit, scale), _factor(mpp), thumbnail.shape[:2])


class Glass(NamedTuple):
    """The empty slide: its colour, and the colour difference (optical density) that its noise reaches."""

    white: npt.NDArray[np.float64]
    noise: float


def _absorption(thumbnail: Rgb, mpp: float) -> Mask:
    """Tissue that absorbs light: coloured against the glass, without ink."""
    factor = _factor(mpp)
    glass = find_glass(thumbnail)
    density = [_shrink(_density_table(white)[thumbnail[..., c]], factor) for c, white in enumerate(glass.white)]
    most = np.maximum(np.maximum(density[0], density[1]), density[2])
    least = np.minimum(np.minimum(density[0], density[1]), density[2])
    colour = most - least
    scale = mpp * factor
    stained = (colour > glass.noise) & (colour > 0.08 * most)
    ink = _ink(density, colour, scale)
    return _grow(_shape(stained & ~ink, scale) & ~ink, factor, thumbnail.shape[:2])


def find_glass(thumbnail: Rgb) -> Glass:
    """Colour and noise of the glass from bright, nearly neutral pixels; ideal white where there are none."""
    sample = thumbnail[:: max(1, thumbnail.shape[0] // 1024), :: max(1, thumbnail.shape[1] // 1024)].reshape(-1, 3)
    least, most = sample.min(axis=1), sample.max(axis=1)
    bright = sample[(least >= 170) & (most - least <= 30)]
    if len(bright) < 0.005 * len(sample):
        return Glass(np.full(3, 245.0), 0.06)
    luminance = bright.mean(axis=1).astype(np.int64)
    counts = np.bincount(luminance, minlength=256)
    peaks = np.flatnonzero(counts >= 0.25 * counts.max())
    near = bright[np.abs(luminance - peaks[-1]) <= 4]
    white = np.median(near, axis=0)
    spread = np.abs(near - white).max(axis=1) / white.max()
    return Glass(white, float(np.clip(4.0 * np.median(spread) + 0.02, 0.035, 0.06)))


def _density_table(white: float) -> Grey:
    """Optical density (natural logarithm) of the 256 grey values against glass; black is held at 16 of 255."""
    values = np.maximum(np.arange(256, dtype=np.float64), 16.0)
    return np.maximum(np.log(white / values), 0.0).astype(np.float32)


def _ink(density: list[Grey], colour: Grey, scale: float) -> Mask:
    """Felt-pen ink on the glass: saturated green, blue or red of a hue that no routine stain has."""
    red, green, blue = density
    greenish = (red - green > 0.08) & (blue - green > -0.02) & (colour > 0.10)
    bluish = (red - blue > 0.55) & (green < 0.85 * red) & (green > blue)
    reddish = (green - red > 0.6) & (blue > 0.85 * green) & (red < 0.3 * green)
    core = ndimage.binary_opening(greenish | bluish | reddish, iterations=1)
    wide = round(48.0 / scale)
    return np.asarray(ndimage.binary_dilation(core, iterations=max(1, wide)), bool) & (colour > 0)


def _shape(evidence: Mask, scale: float) -> Mask:
    """Join what belongs together, drop specks, fill small holes. ``scale``: micrometres per pixel."""
    support = ndimage.uniform_filter(evidence.astype(np.float32), 5, mode="nearest")
    tissue = _close(evidence & (support >= 0.16), round(CLOSING / 2 / scale))
    tissue = _drop_small(tissue, SPECK / scale**2)
    return ~_drop_small(~tissue, HOLE / scale**2)


def _close(mask: Mask, radius: int) -> Mask:
    """Closing with a square; the border of the image neither attracts nor erodes."""
    if radius < 1:
        return mask
    size = 2 * radius + 1
    grown = ndimage.maximum_filter(mask.view(np.uint8), size, mode="constant", cval=0)
    return np.asarray(ndimage.minimum_filter(grown, size, mode="constant", cval=1), np.uint8).view(np.bool_)


def _drop_small(mask: Mask, area: float) -> Mask:
    """Without the connected parts smaller than ``area`` pixels."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    keep = np.bincount(labels.ravel()) >= area
    keep[0] = False
    return np.asarray(keep[labels], bool)


def _factor(mpp: float) -> int:
    """Pixels of the thumbnail per pixel of the shape grid."""
    return max(1, round(SHAPE_MPP / mpp))


def _shrink(values: npt.NDArray[np.generic], factor: int) -> Grey:
    """Mean over factor × factor blocks; the last ones are completed by repeating the edge."""
    height, width = values.shape
    if factor == 1:
        return values.astype(np.float32)
    pad = ((0, -height % factor), (0, -width % factor))
    blocks = np.pad(values, pad, mode="edge") if any(p[1] for p in pad) else values
    total = np.zeros((blocks.shape[0] // factor, blocks.shape[1] // factor), np.float32)
    for i in range(factor):
        for j in range(factor):
            total += blocks[i::factor, j::factor]
    return np.asarray(total / np.float32(factor * factor))


def _grow(mask: Mask, factor: int, shape: tuple[int, int]) -> Mask:
    """Inverse of the shape grid: every block back to its pixels."""
    return np.repeat(np.repeat(mask, factor, axis=0), factor, axis=1)[: shape[0], : shape[1]]
