"""Whole slides: OpenSlide formats, DICOM whole-slide series, OME-TIFF and TIFF. See ``collecting`` for what is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import RGB, Mask
from umedfeat.contract import Json, Plan, Reader, RegionUnreadable, Source, make_regions
from umedfeat.errors import InputError, ScaleError, TooLarge, UnreadableInput
from umedfeat.policy import Policy
from umedfeat.readers.scale import refuse_upsampling, scale_note, scale_of
from umedfeat.readers.slides.annotations import external_mask
from umedfeat.readers.slides.backends import focal_views, refuse_unreadable_corners
from umedfeat.readers.slides.collecting import collect, sniff
from umedfeat.readers.slides.focus import SharpestCutter
from umedfeat.readers.slides.grid import MicronsPerPixel, choose_level, tile_grid
from umedfeat.readers.slides.opening import open_backend
from umedfeat.readers.slides.pixels import ColourProfile, Thumbnail, TileCutter, thumbnail
from umedfeat.readers.slides.tissue import find_tissue, tissue_fractions

__all__ = ["SlideReader", "collect", "open_source", "sniff"]


#: Grids above this are a mistake (tiles of a few pixels, an overlap of nearly a tile), and would fill the memory.
_MAX_TILES = 20_000_000
#: Vendors that store every tile: what OpenSlide gives as transparent there was lost, and is no background.
_WITHOUT_GAPS = ("aperio",)


def open_source(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
    """Open a slide.

    Raises:
        InputError: damaged, of an unknown pixel type, or without a believable scale.
    """
    return SlideReader(source, policy, prepared)


class SlideReader:
    """Reader of one slide; see ``items.Reader``."""

    def __init__(self, source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> None:
        self._source = source
        self._policy = policy.sized()
        self._backend = open_backend(source, policy)
        try:
            self._prepare(prepared)
        except InputError:
            self._backend.close()
            raise

    def _prepare(self, prepared: Mapping[str, Any] | None) -> None:
        """Scale, grid and level; the backend is closed by the caller if this fails."""
        source, slide = self._source, self._policy.slide
        try:
            self._scale = scale_of(self._backend.properties, source.name, manifest=source.mpp, flag=slide.source_mpp)
        except ScaleError:
            refuse_unreadable_corners(self._backend, source.name)  # damage must not hide behind a missing scale
            raise
        width, height = self._backend.levels[0]
        scale = (MicronsPerPixel(self._scale.x), MicronsPerPixel(self._scale.y))
        self._grid = tile_grid(width, height, scale, MicronsPerPixel(slide.mpp), slide.tile_size, slide.overlap)
        tiles = self._grid.columns * self._grid.rows
        refuse_upsampling(min(self._scale.x, self._scale.y), self._policy, source.name, tiles)
        wanted = slide.mpp / max(self._scale.x, self._scale.y)
        level = (
            int(prepared["level"])
            if prepared
            else choose_level(self._backend.downsamples, wanted, slide.level_tolerance)
        )
        extent = (self._grid.extent_x, self._grid.extent_y)
        cutters = [TileCutter(view, level, extent, slide.tile_size) for view in focal_views(self._backend)]
        self._cutter = cutters[0] if len(cutters) == 1 else SharpestCutter(cutters)
        icc = self._backend.icc
        self._profile = ColourProfile(icc, source.name) if icc is not None and slide.icc == "srgb" else None
        self._thumbnail: Thumbnail | None = None
        self._tissue_by = ""

    def plan(self) -> Plan:
        """All tiles of the grid with enough tissue, row-major."""
        slide, size = self._policy.slide, self._policy.slide.tile_size
        self._refuse_too_many_tiles()
        x, y = self._grid.corners()
        tissue = self._tissue_of(x, y)
        kept = tissue >= slide.min_tissue if self._uses_mask else np.ones(len(x), dtype=bool)
        width, height = self._backend.levels[0]
        return Plan(
            regions=make_regions(x[kept], y[kept], tissue=tissue[kept]),
            shape=(size, size),
            dtype="uint8",
            format=self._backend.vendor,
            modality=self._source.modality or "WSI",
            width=width,
            height=height,
            mpp=(self._scale.x, self._scale.y),
            mpp_source=self._scale.source,
            tile_extent=self._grid.extent_x,
            pixel_aspect=self._grid.extent_x / self._grid.extent_y,
            detail=self._detail(int(kept.sum())),
            prepared={"level": self._cutter.level},
        )

    def read(self, regions: npt.NDArray[np.void]) -> Sequence[npt.NDArray[np.generic] | RegionUnreadable]:
        """The (tile_size, tile_size, 3) uint8 tile of every row."""
        tiles = self._cutter.cut(regions["x"].tolist(), regions["y"].tolist(), self._must_hold(regions["tissue"]))
        if self._profile is None:
            return tiles
        return [tile if isinstance(tile, RegionUnreadable) else self._profile.to_srgb(tile) for tile in tiles]

    def thumbnail(self, max_side: int = 1600) -> tuple[RGB, float]:
        """The whole slide, at most ``max_side`` pixels, and how many level-0 pixels one of them covers."""
        made = thumbnail(self._backend, max(self._backend.levels[0]) / max_side, self._source.name)
        return made.pixels, made.downsample[0]

    def mask(self) -> tuple[Mask, float] | None:
        """The mask that the plan uses and its downsample, or None where everything is kept."""
        if not self._uses_mask:
            return None
        overview = self._overview()
        return self._mask(overview), overview.downsample[0]

    def close(self) -> None:
        """Close the file."""
        self._backend.close()

    @property
    def _uses_mask(self) -> bool:
        return self._policy.slide.tissue != "none" or bool(self._policy.limits.mask_dir)

    def _refuse_too_many_tiles(self) -> None:
        count = self._grid.columns * self._grid.rows
        if count > _MAX_TILES:
            remedy = "choose a larger --tile-size or --mpp, or a smaller --overlap"
            raise TooLarge(f"{self._source.name}: the grid has {count:,} tiles", remedy=remedy)

    def _overview(self) -> Thumbnail:
        if self._thumbnail is None:
            downsample = max(1.0, self._policy.tissue.thumbnail_mpp / self._scale.x)
            self._thumbnail = thumbnail(self._backend, downsample, self._source.name)
            if not self._thumbnail.scanned.any():
                message = f"{self._source.name}: it holds no pixels, every stored tile of its overview is missing"
                raise UnreadableInput(message, remedy="copy it again from the scanner")
        return self._thumbnail

    def _mask(self, overview: Thumbnail) -> Mask:
        """Annotations where they are given, tissue within them unless that is switched off."""
        slide, mask_dir = self._policy.slide, self._policy.limits.mask_dir
        width, height = self._backend.levels[0]
        shape = overview.pixels.shape[:2]
        masks = []
        if mask_dir:
            masks.append(external_mask(self._source, mask_dir, width, height, (shape[0], shape[1])))
        if slide.tissue != "none":
            mpp = self._scale.x * overview.downsample[0]
            tissue = find_tissue(overview.pixels, mpp, overview.scanned, self._policy.tissue)
            self._tissue_by = tissue.by
            masks.append(tissue.mask)
        mask: Mask = np.logical_and.reduce([overview.scanned, *masks])
        if self._backend.vendor in _WITHOUT_GAPS:
            mask |= ~overview.scanned  # planned, so that each loss is found and recorded
        return mask

    def _tissue_of(self, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        if not self._uses_mask or not len(x):
            return np.ones(len(x), dtype=np.float32)
        overview = self._overview()
        fx, fy = overview.downsample
        grid = self._grid
        boxes = np.stack([x / fx, y / fy, (x + grid.extent_x) / fx, (y + grid.extent_y) / fy], axis=1)
        return tissue_fractions(self._mask(overview), boxes)

    def _must_hold(self, tissue: npt.NDArray[np.float32]) -> list[float] | None:
        """The least share of each tile that its level must hold: as much as the overview shows as tissue.

        The overview is right to about two of its pixels; without a mask nothing is known. Of a slide without gaps all
        must be there, but for what rounding leaves off a side.
        """
        if self._backend.vendor in _WITHOUT_GAPS:
            level_pixels = self._grid.extent_x / self._backend.downsamples[self._cutter.level]
            return [1.0 - 1.5 / max(2.0, level_pixels)] * len(tissue)
        if not self._uses_mask:
            return None
        slack = 0.02 + 2 * self._policy.tissue.thumbnail_mpp / (self._grid.extent_x * self._scale.x)
        return np.maximum(0.0, tissue - slack).tolist()  # type: ignore[no-any-return]

    def _detail(self, kept: int) -> dict[str, Json]:
        properties, grid = self._backend.properties, self._grid
        level = self._cutter.level
        resample = grid.extent_x / self._backend.downsamples[level] / self._policy.slide.tile_size
        detail: dict[str, Json] = {
            "level": level,
            "levels": len(self._backend.levels),
            "downsample": self._backend.downsamples[level],
            "resample": round(resample, 6),
            "decoder": self._backend.decoder(level),
            "grid": {"step": grid.step_x, "columns": grid.columns, "rows": grid.rows, "kept": kept},
            "icc": ("srgb" if self._profile else "kept") if self._backend.icc is not None else "none",
            "contents": dict(self._backend.contents),
        }
        if self._tissue_by:
            detail["tissue"] = self._tissue_by
        if hint := self._hint(kept):
            detail["hint"] = hint
        power = properties.get("openslide.objective-power")
        if power is not None:
            detail["objective"] = power
        if properties.get("tiff.Orientation", "1") != "1":
            detail["orientation"] = f"TIFF orientation {properties['tiff.Orientation']}, pixels as stored"
        if not grid.columns * grid.rows:
            detail["note"] = "smaller than one tile"
        return detail

    def _hint(self, kept: int) -> str:
        """What the user should know of this slide: a scale that was overridden, an option that chose nothing."""
        hints = [scale_note(self._backend.properties, self._scale, self._policy.slide.source_mpp)]
        unused = getattr(self._backend, "unused", ())
        hints += [f"{option} chose nothing: there is one plane" for option in unused]
        if self._tissue_by == "density" and kept:
            hints.append("no colour on this slide: tissue was told by density and texture, look at a preview")
        if self._tissue_by == "cells" and kept:
            hints.append("lone cells: what lies within 64 µm of one counts as tissue, look at a preview")
        return "; ".join(hint for hint in hints if hint)
