"""Light through glass and what lies on it: blocks, optical densities, the colour and the noise of the empty slide."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from umedfeat.arrays import Floats32, Mask

__all__ = ["Glass", "block_means", "density_of", "drop_small", "find_glass", "least_of", "most_of"]


class Glass(NamedTuple):
    """The empty slide: its colour, and the colour difference (optical density) that its noise reaches."""

    white: npt.NDArray[np.float64]
    noise: float


def find_glass(blocks: Floats32, scale: float) -> Glass:
    """Colour and noise of the glass: bright, flat over 200 µm, neutral or tinted but not pink. Ideal white without.

    Args:
        blocks: (h, w, 3) mean colours. ``scale``: micrometres per block.
    """
    coarse = block_means(blocks, max(1, round(64.0 / scale)))
    least, most = least_of(coarse), most_of(coarse)
    pink = np.minimum(coarse[..., 0], coarse[..., 2]) - coarse[..., 1]
    flat = (_range(most) <= 5) & (_range(least) <= 5)
    candidates = coarse[flat & (least >= 165) & (most - least <= 32) & (pink <= 8)]
    enough = max(4, 0.003 * least.size)
    scanned = candidates[candidates.min(axis=1) < 254.5]  # pure white is also what was never scanned
    candidates = scanned if len(scanned) >= enough else candidates
    if len(candidates) < enough:
        return Glass(np.full(3, 246.0), 0.03)
    luminance = np.clip(np.rint(candidates.mean(axis=1)), 0, 255).astype(np.intp)
    counts = np.convolve(np.bincount(luminance, minlength=256), np.ones(3), "same")
    brightest = int(np.flatnonzero(counts >= 0.2 * counts.max())[-1])
    white = np.median(candidates[np.abs(luminance - brightest) <= 5], axis=0)
    step = max(1, min(blocks.shape[:2]) // 512)
    offset = blocks[::step, ::step] - white.astype(np.float32)
    near = offset[most_of(np.abs(offset)) <= 8]
    spread = (most_of(near) - least_of(near)) / white.max()
    return Glass(white, float(np.clip(2.0 * np.percentile(spread, 75) + 0.01, 0.03, 0.06)))


def _range(values: Floats32) -> Floats32:
    """Largest minus smallest value among the 3 × 3 neighbours."""
    return np.asarray(ndimage.maximum_filter(values, 3) - ndimage.minimum_filter(values, 3))


def density_of(values: Floats32, white: float) -> Floats32:
    """Optical density (natural logarithm) against the glass; black is held at 16 of 255."""
    density = np.float32(np.log(white)) - np.log(np.maximum(values, np.float32(16.0)))
    return np.asarray(np.maximum(density, np.float32(0.0)))


def drop_small(mask: Mask, area: float) -> Mask:
    """Without the connected parts smaller than ``area`` pixels."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    keep = np.bincount(labels.ravel()) >= area
    keep[0] = False
    return np.asarray(keep[labels], bool)


def most_of(image: Floats32) -> Floats32:
    """The brightest of three channels; plane by plane, which is several times faster than a reduction."""
    return np.asarray(np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2]))


def least_of(image: Floats32) -> Floats32:
    """The darkest of three channels."""
    return np.asarray(np.minimum(np.minimum(image[..., 0], image[..., 1]), image[..., 2]))


def block_means(image: npt.NDArray[np.generic], factor: int) -> Floats32:
    """Mean over factor × factor blocks of an (H, W, C) image; the last ones are completed by repeating the edge."""
    if factor == 1:
        return image.astype(np.float32)
    pad = ((0, -image.shape[0] % factor), (0, -image.shape[1] % factor), (0, 0))
    whole: npt.NDArray[Any] = np.pad(image, pad, mode="edge") if pad[0][1] or pad[1][1] else image
    narrow = image.dtype == np.uint8 and factor <= 16
    rows: npt.NDArray[Any] = whole[::factor].astype(np.uint16 if narrow else np.float32)
    for k in range(1, factor):
        rows += whole[k::factor]
    total = rows[:, ::factor].astype(np.float32)
    for k in range(1, factor):
        total += rows[:, k::factor]
    return np.asarray(total / np.float32(factor * factor))
