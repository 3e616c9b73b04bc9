"""Pure arithmetic of slides: which level to read, how to resample, where the tiles lie. No I/O.

A slide has a scale at level 0, levels with downsample factors, and a target scale. One tile covers exactly
``tile_size · target`` micrometres; its corner is rounded to a whole level-0 pixel (at most half a pixel off), its
extent is not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

import numpy as np
import numpy.typing as npt

from umedfeat.policy import SlidePolicy

__all__ = [
    "Level0Pixels",
    "MicronsPerPixel",
    "TileGrid",
    "believed_factors",
    "choose_level",
    "tile_grid",
    "true_downsamples",
]

MicronsPerPixel = NewType("MicronsPerPixel", float)
Level0Pixels = NewType("Level0Pixels", float)

#: A declared spacing is rounded to a few digits: it may differ by this share from what the sizes say.
_SPACING_TOLERANCE = 0.01
#: Sides of tiles and of compression blocks that levels are filled up to.
_ALMOST = 0.03
_PADDING = (8, 16, 32, 64, 128, 240, 256, 512, 1024, 2048, 4096)

Size = tuple[int, int]


@dataclass(frozen=True)
class TileGrid:
    """Tiles of one slide, row-major.

    Attributes:
        extent_x, extent_y: side of a tile in level-0 pixels (fractional).
        step_x, step_y: distance of neighbours in level-0 pixels (fractional).
        columns, rows: tiles that fit; those that would stick out are left out.
    """

    extent_x: Level0Pixels
    extent_y: Level0Pixels
    step_x: Level0Pixels
    step_y: Level0Pixels
    columns: int
    rows: int

    def corners(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(x, y) of every tile's top-left corner in whole level-0 pixels, each (rows · columns,), row-major.

        Every corner is rounded from its own exact multiple of the step, so the grid does not drift.
        """
        x = np.rint(np.arange(self.columns) * self.step_x).astype(np.int64)
        y = np.rint(np.arange(self.rows) * self.step_y).astype(np.int64)
        return np.tile(x, self.rows), np.repeat(y, self.columns)


def choose_level(downsamples: Sequence[float], wanted: float, tolerance: float = SlidePolicy.level_tolerance) -> int:
    """The coarsest level that is still at least as fine as wanted; level 0 if none is.

    Args:
        downsamples: of the levels, ascending, first 1.0.
        wanted: level-0 pixels per target pixel.
        tolerance: share by which a level may be coarser: stored downsamples are not exact (4.0003 for 4), and 1 % is
            far below what resampling by the next finer level would cost.
    """
    fine = [number for number, factor in enumerate(downsamples) if factor <= wanted * (1 + tolerance)]
    return max(fine, key=lambda number: downsamples[number]) if fine else 0


def true_downsamples(levels: Sequence[tuple[int, int]], told: Sequence[float] | None = None) -> tuple[float, ...]:
    """Level-0 pixels per pixel of every level.

    A level of 4003 pixels halved twice has 1000, of which the ratio of the sizes makes 4.003. But whole factors are
    what scanners reduce by, and cut or pad what is left: at the far end of a level the ratio is up to a pixel wrong.
    So a whole factor is taken wherever the sizes allow it, a power of two before others.

    Args:
        levels: (width, height), finest first.
        told: factors to fall back on (default: the mean of the ratios of the sides).
    """
    width, height = levels[0]
    if told is None:
        told = [(width / w + height / h) / 2 for w, h in levels]
    return tuple(_whole((width, height), level, float(factor)) for level, factor in zip(levels, told, strict=True))


def _whole(full: tuple[int, int], level: tuple[int, int], told: float) -> float:
    """The whole factor between two sizes that are rounded up or down, or what was told."""
    low = max(side / (reduced + 1) for side, reduced in zip(full, level, strict=True))
    high = min(side / (reduced - 1) if reduced > 1 else math.inf for side, reduced in zip(full, level, strict=True))
    power = 2.0 ** max(0, math.ceil(math.log2(told) - 0.5))
    fitting = [factor for factor in (power, max(1.0, float(round(told)))) if low < factor < high]
    return fitting[0] if fitting else told


def believed_factors(
    levels: Sequence[Size], declared: Sequence[float | None] | None = None, piece: Size | None = None
) -> tuple[float | None, ...]:
    """Level-0 pixels per pixel of every level, None for a level whose scale is not to be believed.

    Some writers fill their levels up to whole tiles, or cut what is no whole tile. The ratio of the sizes then is no
    scale: places drift by hundreds of pixels. So a level counts only where its sides agree with each other and with
    what the file declares, and no padding explains its size better; or where the file declares a factor and padding
    by whole tiles explains the size exactly. A level that is left out costs time, never truth: a finer one is read.

    Args:
        levels: (width, height), finest first.
        declared: level-0 pixels per pixel by each level's own spacing; None where a level declares none.
        piece: (width, height) of the tiles in which the levels are stored, if any.
    """
    told = declared or [None] * len(levels)
    factors: list[float | None] = [1.0]
    for level, own in zip(levels[1:], told[1:], strict=True):
        factor = _believed(levels[0], level, own, piece)
        coarsest = max(known for known in factors if known is not None)
        factors.append(factor if factor is not None and factor > coarsest else None)
    return tuple(factors)


def _believed(full: Size, level: Size, declared: float | None, piece: Size | None) -> float | None:
    if min(level) < 1 or max(level[0] - full[0], level[1] - full[1]) > 0:
        return None
    by_size = _by_size(full, level)
    if by_size is not None and (declared is None or abs(declared / by_size - 1) <= _SPACING_TOLERANCE):
        power = by_size == 2.0 ** round(math.log2(by_size))
        doubtful = _almost_a_power(by_size) or _explained_by_padding(full, level, by_size, piece)
        return by_size if power or declared is not None or not doubtful else None
    if declared is not None and declared >= 1:
        whole = float(round(declared))
        near = abs(declared / whole - 1) <= _SPACING_TOLERANCE
        return whole if near and _is_padded(full, level, whole, piece, up_only=True) else None
    return None


def _almost_a_power(ratio: float) -> bool:
    """Near a power of two, and not one but for rounding: the level was cut or filled up by some pixels."""
    return abs(ratio / 2.0 ** round(math.log2(ratio)) - 1) <= _ALMOST


def _by_size(full: Size, level: Size) -> float | None:
    """The factor in which both sides agree but for rounding, a whole one where it fits; None if they disagree."""
    low = max(side / (reduced + 1) for side, reduced in zip(full, level, strict=True))
    high = min(side / (reduced - 1) if reduced > 1 else math.inf for side, reduced in zip(full, level, strict=True))
    if low >= high:
        return None
    ratio = sum(side / reduced for side, reduced in zip(full, level, strict=True)) / 2
    return _whole(full, level, min(max(ratio, low), high))


def _explained_by_padding(full: Size, level: Size, ratio: float, piece: Size | None) -> bool:
    """Is there a whole factor near the ratio whose level, filled up or cut to whole tiles, has this size?"""
    candidates = range(max(2, math.floor(ratio / 2)), math.ceil(2 * ratio) + 1)
    return any(_is_padded(full, level, float(k), piece) for k in candidates if abs(k - ratio) > 1e-9)


def _is_padded(full: Size, level: Size, factor: float, piece: Size | None, *, up_only: bool = False) -> bool:
    """Is ``level`` what a level of this factor becomes when its sides are filled up (or cut) to whole tiles?"""
    units = [piece] if piece is not None else []
    units += [(unit, unit) for unit in _PADDING]
    for unit in units:
        sides = list(zip(full, level, unit, strict=True))
        if all(stored == math.ceil(side / factor / part) * part for side, stored, part in sides):
            return True
        if not up_only and all(stored == math.floor(side / factor / part) * part for side, stored, part in sides):
            return True
    return False


def tile_grid(
    width: int,
    height: int,
    mpp: tuple[MicronsPerPixel, MicronsPerPixel],
    target: MicronsPerPixel,
    tile_size: int,
    overlap: int = 0,
) -> TileGrid:
    """The grid of tiles of ``tile_size`` pixels at ``target`` micrometres per pixel over a slide.

    Args:
        width, height: of level 0 in pixels.
        mpp: (x, y) of level 0.
        overlap: pixels at the target scale that neighbours share, below ``tile_size``.
    """
    factor_x, factor_y = target / mpp[0], target / mpp[1]
    step = tile_size - overlap
    return TileGrid(
        extent_x=Level0Pixels(tile_size * factor_x),
        extent_y=Level0Pixels(tile_size * factor_y),
        step_x=Level0Pixels(step * factor_x),
        step_y=Level0Pixels(step * factor_y),
        columns=_count(width, tile_size * factor_x, step * factor_x),
        rows=_count(height, tile_size * factor_y, step * factor_y),
    )


def _count(length: int, extent: float, step: float) -> int:
    """Tiles that lie inside; half a pixel may stick out, since corners are rounded."""
    if extent > length + 0.5:
        return 0
    return 1 + math.floor((length + 0.5 - extent) / step + 1e-9)
