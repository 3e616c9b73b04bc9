"""Whole slides: OpenSlide formats, DICOM whole-slide series, OME-TIFF and tiled TIFF.

What is a slide: a file that OpenSlide recognises; a TIFF that is tiled, an OME-TIFF, or larger than 5000 pixels on a
side; a DICOM file of the whole-slide class. Any other TIFF, and every PNG or JPEG, is a flat image.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openslide
import tifffile

from umedfeat.contract import Collected, Found, Json, Plan, Reader, RegionUnreadable, Skipped, Source, make_regions
from umedfeat.errors import InputError, ScaleError, TooLarge, UnreadableInput
from umedfeat.naming import Pseudonyms, stem_of
from umedfeat.policy import Policy
from umedfeat.readers.slides.annotations import external_mask
from umedfeat.readers.slides.backends import SlideBackend, refuse_unreadable_corners
from umedfeat.readers.slides.companions import companions_of, is_companion, refuse_missing_companions
from umedfeat.readers.slides.dicom import WSI_CLASS, collect_dicom
from umedfeat.readers.slides.grid import MicronsPerPixel, choose_level, tile_grid
from umedfeat.readers.slides.openslide import OpenSlideBackend
from umedfeat.readers.slides.pixels import ColourProfile, Thumbnail, TileCutter, thumbnail
from umedfeat.readers.slides.scale import scale_of
from umedfeat.readers.slides.tiff import TiffBackend, has_sub_levels
from umedfeat.readers.slides.tissue import tissue_fractions, tissue_mask

__all__ = ["SlideReader", "collect", "open", "sniff"]

RGB = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TEXT_FORMATS = (b"[Virtual Microscope Specimen]", b"[Uncompressed Virtual Microscope Specimen]")
_MAX_FLAT_SIDE = 5000
#: Grids above this are a mistake (tiles of a few pixels, an overlap of nearly a tile), and would fill the memory.
_MAX_TILES = 20_000_000
#: Vendors that store every tile: what OpenSlide gives as transparent there was lost, and is no background.
_WITHOUT_GAPS = ("aperio",)


def sniff(path: Path, head: bytes) -> bool:
    """Is this a slide? TIFF tags are looked at, pixels are not."""
    if head[:4] in _TIFF_MAGIC:
        return _openslide_knows(path) or _tiff_is_slide(path)
    if head[128:132] == b"DICM":
        return WSI_CLASS in head
    if path.suffix.lower() == ".mrxs":  # a JPEG in content: without its folder it must fail, not pass as a picture
        return True
    if head.startswith((*_TEXT_FORMATS, b"ZISRAWFILE")):
        return _openslide_knows(path)
    return is_companion(path)


def collect(found: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
    """One source per slide; companions of MIRAX and VMS slides are listed as such."""
    dicom = [file for file in found if _is_dicom(file.path)]
    collected = collect_dicom(dicom, pseudonyms)
    for file in found:
        if file in dicom:
            continue
        if is_companion(file.path):
            collected.skipped.append(Skipped(file.name, "belongs to the slide beside it"))
            continue
        files = (file.path, *companions_of(file.path))
        source = Source(id=stem_of(file.name), format="slide", path=file.path, files=files, name=file.name)
        collected.sources.append(source)
    return collected


def open(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
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
        self._backend = _backend(source, policy)
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
        self._refuse_upsampling()
        width, height = self._backend.levels[0]
        scale = (MicronsPerPixel(self._scale.x), MicronsPerPixel(self._scale.y))
        self._grid = tile_grid(width, height, scale, MicronsPerPixel(slide.mpp), slide.tile_size, slide.overlap)
        wanted = slide.mpp / max(self._scale.x, self._scale.y)
        level = (
            int(prepared["level"])
            if prepared
            else choose_level(self._backend.downsamples, wanted, slide.level_tolerance)
        )
        self._cutter = TileCutter(self._backend, level, (self._grid.extent_x, self._grid.extent_y), slide.tile_size)
        icc = self._backend.icc
        self._profile = ColourProfile(icc, source.name) if icc is not None and slide.icc == "srgb" else None
        self._thumbnail: Thumbnail | None = None

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

    def _refuse_upsampling(self) -> None:
        slide, finest = self._policy.slide, min(self._scale.x, self._scale.y)
        if finest > slide.mpp * (1 + slide.upsample_tolerance) and not slide.allow_upsample:
            raise ScaleError(
                f"{self._source.name}: scanned at {finest:g} µm per pixel, coarser than the target {slide.mpp:g}",
                remedy=f"choose --mpp {finest:g} or above, or --allow-upsample",
            )

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
            masks.append(tissue_mask(overview.pixels, mpp, overview.scanned, self._policy.tissue))
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
        }
        power = properties.get("openslide.objective-power")
        if power is not None:
            detail["objective"] = power
        if properties.get("tiff.Orientation", "1") != "1":
            detail["orientation"] = f"TIFF orientation {properties['tiff.Orientation']}, pixels as stored"
        if not grid.columns * grid.rows:
            detail["note"] = "smaller than one tile"
        return detail


def _backend(source: Source, policy: Policy) -> SlideBackend:
    if json.loads(source.selector or "{}").get("dicom"):
        return OpenSlideBackend(source.path, source.name)
    refuse_missing_companions(source.path, source.name)
    known = openslide.OpenSlide.detect_format(str(source.path))
    if known is not None and not (known == "generic-tiff" and has_sub_levels(source.path)):
        return OpenSlideBackend(source.path, source.name)
    if _is_tiff(source.path):
        return TiffBackend(source.path, source.name, policy.limits.max_pixels)
    return OpenSlideBackend(source.path, source.name)  # it says best what is missing


def _openslide_knows(path: Path) -> bool:
    return openslide.OpenSlide.detect_format(str(path)) is not None


def _tiff_is_slide(path: Path) -> bool:
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            large = max(page.imagewidth, page.imagelength) > _MAX_FLAT_SIDE
            return bool(page.is_tiled or file.is_ome or large)
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, OSError, struct.error, TypeError):
        return False


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) in _TIFF_MAGIC


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
