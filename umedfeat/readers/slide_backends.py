"""What opens a slide file: OpenSlide for everything it knows, tifffile for the TIFFs that it refuses.

A backend gives levels and reads rectangles of a level as RGB on white. It decides nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import openslide
import tifffile
from PIL import Image

from umedfeat.errors import TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.items import RegionUnreadable
from umedfeat.readers.slide_scale import ome_scale

__all__ = ["OpenSlideBackend", "SlideBackend", "TiffBackend", "has_sub_levels", "refuse_unreadable_corners"]

# tifffile logs every oddity of a damaged file; the reader's own message says what matters.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

RGB = npt.NDArray[np.uint8]

#: Decoded tiles that OpenSlide keeps per process.
_CACHE_BYTES = 128 << 20
_TIFF_CACHE_TILES = 256
#: What tifffile raises where tags are missing or of another type than they should be.
_TIFF_FAULTS = (
    tifffile.TiffFileError,
    ValueError,
    LookupError,
    OSError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
)
_JPEG = (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG)


class SlideBackend(Protocol):
    """An opened slide.

    Attributes:
        levels: (width, height) of every level, finest first.
        downsamples: level-0 pixels per level pixel, ascending, first 1.0.
        properties: the file's own facts ("openslide.mpp-x", "tiff.XResolution" …).
        vendor: "aperio", "hamamatsu", "ome-tiff", "generic-tiff" …
        icc: the colour profile, or None.
    """

    levels: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    properties: Mapping[str, str]
    vendor: str
    icc: bytes | None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        """(height, width, 3) of a level; x, y in pixels of that level; outside of the slide is white.

        Raises:
            RegionUnreadable: the bytes there are damaged.
        """
        ...

    def close(self) -> None: ...


class OpenSlideBackend:
    """A slide through OpenSlide. After an error its handle is poisoned, so it is opened anew."""

    properties: Mapping[str, str]

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._slide = self._open()
        try:
            self._learn()
        except (openslide.OpenSlideError, KeyError, ValueError) as error:  # the handle was poisoned by its opening
            self._slide.close()
            message = f"{name}: its header is damaged ({type(error).__name__} after opening)"
            raise UnreadableInput(message, remedy="copy it again from the scanner") from error
        if self.vendor == "generic-tiff":
            _refuse_deep_pixels(path, name)
            self.properties = {**self.properties, "tiff.Orientation": _orientation_of(path)}

    def _learn(self) -> None:
        """Levels, properties and colour profile."""
        self.levels = tuple(self._slide.level_dimensions)
        self.downsamples = tuple(float(factor) for factor in self._slide.level_downsamples)
        self.properties = dict(self._slide.properties)
        self.vendor = str(self.properties.get(openslide.PROPERTY_NAME_VENDOR, "openslide"))
        profile = self._slide.color_profile
        self.icc = profile.tobytes() if profile is not None else None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        factor = self.downsamples[level]
        place = (round(x * factor), round(y * factor))
        try:
            region = self._slide.read_region(place, level, (width, height))
        except openslide.OpenSlideError as error:
            self._reopen()
            raise RegionUnreadable(_without_names(error, self._path)) from error
        return _on_white(region)

    def close(self) -> None:
        self._slide.close()

    def _open(self) -> Any:
        try:
            slide = openslide.OpenSlide(str(self._path))
        except (openslide.OpenSlideError, OSError) as error:
            message = f"{self._name}: OpenSlide cannot open it ({_without_names(error, self._path)})"
            raise UnreadableInput(message, remedy="copy it again from the scanner, with its companion files") from error
        slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
        return slide

    def _reopen(self) -> None:
        self._slide.close()
        self._slide = self._open()


class TiffBackend:
    """A TIFF or OME-TIFF through tifffile: pyramids in sub-IFDs or pages, tiled or in strips, 8-bit RGB or grey."""

    def __init__(self, path: Path, name: str, max_pixels: int) -> None:
        self._name = name
        self._max_pixels = max_pixels
        with contextlib.ExitStack() as on_error:
            try:
                self._file = on_error.enter_context(tifffile.TiffFile(path))
                self._pages = _pyramid_of(self._file)
                self._refuse_unknown_pixels(self._pages[0])
                self._refuse_short_tables()
                self._learn()
            except _TIFF_FAULTS as error:
                message = f"{name}: the TIFF structure is damaged ({type(error).__name__})"
                raise UnreadableInput(message, remedy="copy it again from its origin") from error
            on_error.pop_all()
        self._cache: OrderedDict[tuple[int, int], RGB] = OrderedDict()

    def _learn(self) -> None:
        """Levels, properties and colour profile."""
        self.levels = tuple((page.imagewidth, page.imagelength) for page in self._pages)
        width, height = self.levels[0]
        self.downsamples = tuple((width / w + height / h) / 2 for w, h in self.levels)
        self.properties: Mapping[str, str] = _tiff_properties(self._file, self._pages[0])
        self.vendor = "ome-tiff" if self._file.is_ome else "tiff"
        profile = self._pages[0].tags.get("InterColorProfile")
        self.icc = profile.value if profile is not None else None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        page = self._pages[level]
        out = np.full((height, width, 3), 255, dtype=np.uint8)
        tile_height, tile_width = _segment_shape(page)
        columns = -(-page.imagewidth // tile_width)
        left, top = max(0, x), max(0, y)
        right, bottom = min(page.imagewidth, x + width), min(page.imagelength, y + height)
        for row in range(top // tile_height, -(-bottom // tile_height)):
            for column in range(left // tile_width, -(-right // tile_width)):
                tile = self._segment(level, row * columns + column)
                x0, y0 = column * tile_width, row * tile_height
                x1, y1 = min(right, x0 + tile.shape[1]), min(bottom, y0 + tile.shape[0])
                part = tile[max(top, y0) - y0 : y1 - y0, max(left, x0) - x0 : x1 - x0]
                out[max(top, y0) - y : y1 - y, max(left, x0) - x : x1 - x] = part
        return out

    def close(self) -> None:
        self._file.close()

    def _refuse_unknown_pixels(self, page: tifffile.TiffPage) -> None:
        if page.dtype != np.uint8 or page.samplesperpixel not in (1, 3, 4) or page.planarconfig != 1:
            kind = f"{page.dtype}, {page.samplesperpixel} channels"
            remedy = "export an 8-bit RGB pyramid, or choose the channels before"
            raise UnsupportedInput(f"{self._name}: {kind}: only 8-bit grey or RGB slides are read", remedy=remedy)
        tile_height, tile_width = _segment_shape(page)
        if tile_height * tile_width > self._max_pixels:
            remedy = "raise --max-pixels, or save it with tiles"
            raise TooLarge(f"{self._name}: one piece has {tile_height * tile_width} pixels", remedy=remedy)

    def _refuse_short_tables(self) -> None:
        """A file cut within its directory has no places for some of its pieces."""
        for level, page in enumerate(self._pages):
            height, width = _segment_shape(page)
            pieces = -(-page.imagelength // height) * -(-page.imagewidth // width)
            if min(len(page.dataoffsets), len(page.databytecounts)) < pieces:
                message = f"{self._name}: the TIFF structure is damaged (level {level} lacks places of its pieces)"
                raise UnreadableInput(message, remedy="copy it again from its origin")

    def _segment(self, level: int, index: int) -> RGB:
        key = (level, index)
        if key not in self._cache:
            while len(self._cache) >= _TIFF_CACHE_TILES:
                self._cache.popitem(last=False)
            self._cache[key] = self._decode(self._pages[level], index)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _decode(self, page: tifffile.TiffPage, index: int) -> RGB:
        try:
            handle = self._file.filehandle
            handle.seek(page.dataoffsets[index])
            data = handle.read(page.databytecounts[index])
            _refuse_cut_piece(page, data, index)
            tables = page.tags.get("JPEGTables")
            segment, _, shape = page.decode(data, index, jpegtables=tables.value if tables is not None else None)
        except RegionUnreadable:
            raise
        except Exception as error:  # codecs raise their own kinds
            raise RegionUnreadable(f"{type(error).__name__} in piece {index}") from error
        if segment is None:
            raise RegionUnreadable(f"piece {index} is missing")
        pixels = segment[0][: shape[1], : shape[2]]
        return _to_rgb(pixels, inverted=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE)


def has_sub_levels(path: Path) -> bool:
    """Are the levels in sub-IFDs (OME-TIFF), of pixels that TiffBackend reads? OpenSlide sees only the first level."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0].aspage()
            plain = page.dtype == np.uint8 and page.planarconfig == 1
            return bool(plain and page.subifds and len(file.series[0].levels) > 1)
    except _TIFF_FAULTS:
        return False


def refuse_unreadable_corners(backend: SlideBackend, name: str) -> None:
    """A look at the corners of the finest and the coarsest level: damage is told before anything else is.

    Raises:
        UnreadableInput: one of them cannot be read.
    """
    for level in sorted({0, len(backend.levels) - 1}):
        width, height = backend.levels[level]
        for x, y in ((0, 0), (max(0, width - 8), max(0, height - 8))):
            try:
                backend.read(level, x, y, min(8, width), min(8, height))
            except RegionUnreadable as fault:
                message = (
                    f"{name}: the file is damaged, its corner at {x}, {y} of level {level} is unreadable ({fault})"
                )
                raise UnreadableInput(message, remedy="copy it again from the scanner") from fault


def _refuse_cut_piece(page: Any, data: bytes, index: int) -> None:
    """A JPEG without its end would be filled up with grey by the decoder."""
    if len(data) < page.databytecounts[index] or not data:
        raise RegionUnreadable(f"piece {index} is cut off ({len(data)} of {page.databytecounts[index]} bytes)")
    if page.compression in _JPEG and (data[:2] != b"\xff\xd8" or b"\xff\xd9" not in data[-64:]):
        raise RegionUnreadable(f"piece {index} is no whole JPEG")


def _refuse_deep_pixels(path: Path, name: str) -> None:
    """OpenSlide reduces 16 bits to 8 without a word; that is for the user to decide."""
    with tifffile.TiffFile(path) as file:
        kind = file.pages[0].dtype
    if kind != np.uint8:
        remedy = "export an 8-bit RGB pyramid with the contrast that you want"
        raise UnsupportedInput(f"{name}: {kind} pixels: only 8-bit slides are read", remedy=remedy)


def _orientation_of(path: Path) -> str:
    with tifffile.TiffFile(path) as file:
        return _orientation(file.pages[0])


def _orientation(page: Any) -> str:
    """The tag's number, "1" where it is absent: row 0 at the top, column 0 at the left."""
    tag = page.tags.get("Orientation")
    return str(int(tag.value)) if tag is not None else "1"


def _pyramid_of(file: tifffile.TiffFile) -> list[Any]:
    series = file.series[0]
    pages = [level.pages[0] if level.pages[0] is not None else level.keyframe for level in series.levels]
    pages = [page.aspage() if hasattr(page, "aspage") else page for page in pages]
    return sorted(pages, key=lambda page: -page.imagewidth)


def _segment_shape(page: Any) -> tuple[int, int]:
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return int(min(page.rowsperstrip, page.imagelength)), int(page.imagewidth)


def _tiff_properties(file: tifffile.TiffFile, page: Any) -> dict[str, str]:
    properties = {}
    for name in ("XResolution", "YResolution", "ResolutionUnit"):
        tag = page.tags.get(name)
        if tag is not None:
            value = tag.value
            text = (
                f"{value[0] / value[1]:.9g}"
                if isinstance(value, tuple) and value[1]
                else str(getattr(value, "name", value))
            )
            properties[f"tiff.{name}"] = text
    properties["tiff.Orientation"] = _orientation(page)
    if file.is_ome and file.ome_metadata:
        properties |= ome_scale(file.ome_metadata)
    return properties


def _to_rgb(pixels: npt.NDArray[Any], *, inverted: bool) -> RGB:
    pixels = 255 - pixels if inverted else pixels
    if pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.shape[-1] == 4:
        return _on_white(Image.fromarray(pixels))
    return pixels


def _on_white(region: Image.Image) -> RGB:
    """RGBA on white, alpha honoured."""
    if region.getchannel("A").getextrema()[0] == 255:
        return np.asarray(region.convert("RGB"))
    rgba = np.asarray(region)
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8)


def _without_names(error: Exception, path: Path) -> str:
    """What OpenSlide says, without the files that it quotes: their names may be a patient's, ours stands before it."""
    text = str(error).splitlines()[0].replace(str(path.parent) + os.sep, "")
    with contextlib.suppress(OSError):
        for name in sorted((entry.name for entry in path.parent.iterdir()), key=len, reverse=True):
            text = text.replace(name, "it")
    return text[:80]
