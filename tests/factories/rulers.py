"""Discs at known micrometres, and where tiles show them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

#: (x, y) micrometres of discs of 10 µm radius.
DISCS = [(60.0, 70.0), (150.0, 130.0), (235.0, 60.0), (330.0, 200.0), (90.0, 310.0), (300.0, 330.0)]
SIDE = 400.0


@cache
def ruled(mpp: float, multiple: int = 16) -> npt.NDArray[np.uint8]:
    """Dark discs on white, drawn with partial pixels (4 × 4 samples a pixel), so that halves stay true.

    Args:
        multiple: what the sides in pixels are rounded up to.
    """
    side = -(-round(SIDE / mpp) // multiple) * multiple
    fine = (np.arange(side * 4) + 0.5) * mpp / 4
    reach = int(10 / mpp) + 2
    image = np.full((side, side), 255, dtype=np.uint8)
    for x, y in DISCS:
        columns, rows = (np.clip((int(c / mpp) - reach, int(c / mpp) + reach), 0, side) for c in (x, y))
        across, down = fine[4 * columns[0] : 4 * columns[1]], fine[4 * rows[0] : 4 * rows[1]]
        inside = (across[None, :] - x) ** 2 + (down[:, None] - y) ** 2 < 100
        share = inside.reshape(len(down) // 4, 4, len(across) // 4, 4).mean(axis=(1, 3))
        image[slice(*rows), slice(*columns)][share > 0.5] = 0
    return np.repeat(image[..., None], 3, axis=2)


def centroids(
    plan: Any, tiles: list[Any], mpp: float, target: float, origin: tuple[float, float] = (0.0, 0.0)
) -> dict[tuple[float, float], tuple[float, float]]:
    """Where each disc lies (µm), by the coordinates of the plan, from the last tile that holds it wholly.

    Args:
        mpp, target: micrometres per pixel of level 0 and of the tiles.
        origin: micrometres at which the ruled area lies on the slide.
    """
    found = {}
    for region, tile in zip(plan.regions, tiles, strict=True):
        left, top = region["x"] * mpp - origin[0], region["y"] * mpp - origin[1]
        side = tile.shape[0] * target
        for cx, cy in DISCS:
            if left + 14 < cx < left + side - 14 and top + 14 < cy < top + side - 14:
                x, y = _centre_of_dark(tile, (cx - left) / target, (cy - top) / target, 14 / target)
                found[(cx, cy)] = x * target + left, y * target + top
    return found


def _centre_of_dark(tile: npt.NDArray[np.uint8], x: float, y: float, reach: float) -> tuple[float, float]:
    """Of what lies around a point, in pixels."""
    rows, columns = (slice(max(0, int(c - reach)), int(c + reach) + 2) for c in (y, x))
    dark = 255.0 - tile[rows, columns].sum(axis=2, dtype=np.uint16) / 3
    down, across = (
        np.arange(part.start, part.start + n) + 0.5 for part, n in zip((rows, columns), dark.shape, strict=True)
    )
    weight = dark * (np.hypot(across[None] - x, down[:, None] - y) < reach)
    return float(np.average(across, weights=weight.sum(axis=0))), float(np.average(down, weights=weight.sum(axis=1)))
