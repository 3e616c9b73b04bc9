"""Flat images cut into squares (``policy.image.tile``): crops of cohorts such as histology patches larger than a tile.

Without a declared scale a tile is ``slide.tile_size`` pixels of the image. With one (``mpp`` in the manifest, or
``slide.source_mpp``) it is ``tile_size`` pixels at ``slide.mpp``, resampled exactly; upsampling as for slides. The grid
is row-major, overlap as for slides, tiles that stick out are dropped. An image smaller than one tile becomes one
region, the whole image, fitted as ``policy.image.fit`` says. Every tile is kept: no tissue mask is applied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Plan, RegionUnreadable, Source, make_regions
from umedfeat.policy import Policy
from umedfeat.readers.scale import Scale, refuse_upsampling, scale_note, scale_of
from umedfeat.readers.slides.grid import MicronsPerPixel, tile_grid
from umedfeat.readers.stacks.intensity import fit_square, resample, to_rgb
from umedfeat.readers.stacks.volume import SliceStack, VolumeReader

__all__ = ["TileReader"]


class TileReader:
    """items.Reader over the tiles of every page of a stack.

    Raises:
        ScaleError: the declared scale is coarser than the target.
    """

    def __init__(self, stack: SliceStack, source: Source, policy: Policy, prepared: Mapping[str, Any] | None) -> None:
        self._whole = VolumeReader(stack, policy, prepared)
        self._facts, self._policy = stack.facts, policy.sized()
        self._scale = _scale(source, self._policy)
        self._side = self._side_of(source.name)
        self._page: tuple[int, npt.NDArray[Any]] | None = None

    def plan(self) -> Plan:
        """Tiles of all selected pages, row-major."""
        whole = self._whole.plan()
        x, y = (grid.ravel() for grid in np.meshgrid(self._starts(self._facts.cols), self._starts(self._facts.rows)))
        pages = whole.regions["slice"]
        regions = make_regions(np.tile(x, len(pages)), np.tile(y, len(pages)), np.repeat(pages, len(x)))
        size = self._policy.slide.tile_size
        return Plan(
            regions=regions,
            shape=(size, size),
            dtype="uint8" if self._facts.colour else "float32",
            format=whole.format,
            modality=whole.modality,
            width=whole.width,
            height=whole.height,
            depth=whole.depth,
            mpp=self._scale[:2] if self._scale else None,
            mpp_source=self._scale.source if self._scale else "",
            tile_extent=self._side if self._fits() else 0.0,
            detail={**whole.detail, "tiled": True, **self._hint()},
            prepared=whole.prepared,
        )

    def read(self, regions: npt.NDArray[np.void]) -> Sequence[npt.NDArray[np.generic] | RegionUnreadable]:
        """The (tile_size, tile_size, 3) square of every row."""
        return [self._read_one(int(row["x"]), int(row["y"]), int(row["slice"])) for row in regions]

    def close(self) -> None:
        """Close the stack."""
        self._page = None
        self._whole.close()

    def _read_one(self, x: int, y: int, k: int) -> npt.NDArray[np.generic] | RegionUnreadable:
        try:
            page = self._displayed(k)
        except RegionUnreadable as fault:
            return fault
        size = self._policy.slide.tile_size
        if not self._fits():
            return self._delivered(fit_square(page, size, self._policy.image.fit))
        reach = math.ceil(self._side)
        tile = page[y : y + reach, x : x + reach]
        if self._side == size and tile.dtype == np.uint8:
            return np.ascontiguousarray(to_rgb(tile))
        return self._delivered(resample(tile, (size, size), (0.0, 0.0, self._side, self._side)))

    def _displayed(self, k: int) -> npt.NDArray[Any]:
        if self._page is None or self._page[0] != k:
            self._page = (k, self._whole.displayed(k))
        return self._page[1]

    def _delivered(self, square: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        colours = to_rgb(square)
        return np.rint(colours * 255).astype(np.uint8) if self._facts.colour else colours

    def _hint(self) -> dict[str, str]:
        note = scale_note({}, self._scale, self._policy.slide.source_mpp) if self._scale else ""
        return {"hint": note} if note else {}

    def _side_of(self, name: str) -> float:
        """Side of a tile in pixels of the image."""
        slide = self._policy.slide
        if self._scale is None:
            return float(slide.tile_size)
        side = slide.tile_size * slide.mpp / self._scale.x
        scale = (MicronsPerPixel(self._scale.x), MicronsPerPixel(self._scale.y))
        size = (self._facts.cols, self._facts.rows)
        grid = tile_grid(*size, scale, MicronsPerPixel(slide.mpp), slide.tile_size, slide.overlap)
        refuse_upsampling(self._scale.x, self._policy, name, grid.columns * grid.rows)
        return side

    def _fits(self) -> bool:
        return min(self._facts.cols, self._facts.rows) >= math.ceil(self._side)

    def _starts(self, length: int) -> npt.NDArray[np.int64]:
        """Top-left corners along one side, rounded to whole pixels; their distance does not drift."""
        if not self._fits():
            return np.zeros(1, np.int64)
        slide = self._policy.slide
        step = self._side * (1 - slide.overlap / slide.tile_size)
        count = int((length - math.ceil(self._side)) / step) + 1
        starts: npt.NDArray[np.int64] = np.rint(np.arange(count) * step).astype(np.int64)
        return starts


def _scale(source: Source, policy: Policy) -> Scale | None:
    """The scale that was declared for the image, as for slides; what its own header says of dots per inch is none."""
    if source.mpp is None and policy.slide.source_mpp is None:
        return None
    return scale_of({}, source.name, manifest=source.mpp, flag=policy.slide.source_mpp)
