"""The sharpest of several focal planes, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from umedfeat.arrays import RGB
from umedfeat.contract import RegionUnreadable
from umedfeat.readers.slides.pixels import TileCutter

__all__ = ["SharpestCutter", "sharpness"]


def sharpness(tile: RGB) -> float:
    """Variance of the Laplacian of the mean of the channels: the usual measure of focus (Pech-Pacheco 2000)."""
    grey = tile.mean(axis=2, dtype=np.float32)
    return float(ndimage.laplace(grey).var())


@dataclass(frozen=True)
class SharpestCutter:
    """Cuts every tile from each focal plane and keeps the sharpest; of equals the first."""

    cutters: Sequence[TileCutter]

    @property
    def level(self) -> int:
        """The level that is read."""
        return self.cutters[0].level

    def cut(
        self, x: Sequence[int], y: Sequence[int], scanned: Sequence[float] | None = None
    ) -> list[RGB | RegionUnreadable]:
        """See ``TileCutter.cut``; a tile that one plane lacks is unreadable: the sharpest might be that one."""
        each = [cutter.cut(x, y, scanned) for cutter in self.cutters]
        return [_sharpest(tiles) for tiles in zip(*each, strict=True)]


def _sharpest(tiles: Sequence[RGB | RegionUnreadable]) -> RGB | RegionUnreadable:
    readable = []
    for tile in tiles:
        if isinstance(tile, RegionUnreadable):
            return tile
        readable.append(tile)
    return max(readable, key=sharpness)
