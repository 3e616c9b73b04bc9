"""TIFF slides through tifffile: those that OpenSlide refuses, and OME-TIFF with its levels in sub-IFDs."""

from __future__ import annotations

import contextlib
import logging
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import tifffile
from PIL import Image

from umedfeat.contract import RegionUnreadable
from umedfeat.errors import TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.readers.slides.backends import Block, on_white
from umedfeat.readers.slides.grid import true_downsamples
from umedfeat.readers.slides.scale import ome_scale
from umedfeat.readers.slides.streams import Damaged, JpegDecoder, Unusual

__all__ = ["TIFF_FAULTS", "TiffBackend", "has_sub_levels", "orientation_of"]

# tifffile logs every oddity of a damaged file; the reader's own message says what matters.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_TIFF_CACHE_TILES = 256
#: More are a loop.
_MAX_DIRECTORIES = 100_000
#: What tifffile raises where tags are missing or of another type than they should be.
TIFF_FAULTS = (
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


class TiffBackend:
    """A TIFF or OME-TIFF through tifffile: pyramids in sub-IFDs or pages, tiled or in strips, 8-bit RGB or grey."""

    def __init__(self, path: Path, name: str, max_pixels: int) -> None:
        self._name = name
        self._max_pixels = max_pixels
        with contextlib.ExitStack() as on_error:
            try:
                self._file = on_error.enter_context(tifffile.TiffFile(path))
                _refuse_cut_chain(self._file, name)
                self._pages = _pyramid_of(self._file)
                self._refuse_unknown_pixels(self._pages[0])
                self._refuse_short_tables()
                self._learn()
            except TIFF_FAULTS as error:
                message = f"{name}: the TIFF structure is damaged ({type(error).__name__})"
                raise UnreadableInput(message, remedy="copy it again from its origin") from error
            on_error.pop_all()
        self._cache: OrderedDict[tuple[int, int], Block] = OrderedDict()

    def _learn(self) -> None:
        """Levels, properties and colour profile."""
        self.levels = tuple((page.imagewidth, page.imagelength) for page in self._pages)
        self.downsamples = true_downsamples(self.levels)
        self.origins = ((0.0, 0.0),) * len(self.levels)
        self.aligned = (True,) * len(self.levels)
        self.properties: Mapping[str, str] = _tiff_properties(self._file, self._pages[0])
        self.vendor = "ome-tiff" if self._file.is_ome else "tiff"
        profile = self._pages[0].tags.get("InterColorProfile")
        self.icc = profile.value if profile is not None else None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Block:
        page = self._pages[level]
        out = np.full((height, width, 3), 255, dtype=np.uint8)
        scanned = np.zeros((height, width), dtype=bool)
        tile_height, tile_width = _segment_shape(page)
        columns = -(-page.imagewidth // tile_width)
        left, top = max(0, x), max(0, y)
        right, bottom = min(page.imagewidth, x + width), min(page.imagelength, y + height)
        for row in range(top // tile_height, -(-bottom // tile_height)):
            for column in range(left // tile_width, -(-right // tile_width)):
                tile = self._segment(level, row * columns + column)
                x0, y0 = column * tile_width, row * tile_height
                x1, y1 = min(right, x0 + tile.rgb.shape[1]), min(bottom, y0 + tile.rgb.shape[0])
                inside = np.s_[max(top, y0) - y0 : y1 - y0, max(left, x0) - x0 : x1 - x0]
                place = np.s_[max(top, y0) - y : y1 - y, max(left, x0) - x : x1 - x]
                out[place] = tile.rgb[inside]
                scanned[place] = True if tile.scanned is None else tile.scanned[inside]
        return Block(out, None if scanned.all() else scanned)

    def decoder(self, level: int) -> str:
        return "tifffile"

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

    def _segment(self, level: int, index: int) -> Block:
        key = (level, index)
        if key not in self._cache:
            while len(self._cache) >= _TIFF_CACHE_TILES:
                self._cache.popitem(last=False)
            self._cache[key] = self._decode(self._pages[level], index)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _decode(self, page: tifffile.TiffPage, index: int) -> Block:
        try:
            handle = self._file.filehandle
            handle.seek(page.dataoffsets[index])
            data = handle.read(page.databytecounts[index])
            _refuse_cut_piece(page, data, index)
            strict = self._strictly(page, data)
            if strict is not None:
                return Block(strict)
            tables = page.tags.get("JPEGTables")
            shared = bytes(tables.value) if tables is not None else None
            if page.compression in _JPEG:
                _refuse_damaged_jpeg(data, shared, index)
            segment, _, shape = page.decode(data, index, jpegtables=shared)
        except RegionUnreadable:
            raise
        except Damaged as error:
            raise RegionUnreadable(f"piece {index} is damaged ({error})") from error
        except Exception as error:  # codecs raise their own kinds
            raise RegionUnreadable(f"{type(error).__name__} in piece {index}") from error
        if segment is None:
            raise RegionUnreadable(f"piece {index} is missing")
        pixels = segment[0][: shape[1], : shape[2]]
        return _to_rgb(pixels, inverted=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE)

    def _strictly(self, page: tifffile.TiffPage, data: bytes) -> npt.NDArray[np.uint8] | None:
        """Whole tiles of JPEG in three colours, which tifffile's decoder would fill up where they are damaged."""
        if not page.is_tiled or page.compression != tifffile.COMPRESSION.JPEG or page.samplesperpixel != 3:
            return None
        tables = page.tags.get("JPEGTables")
        ycbcr = page.photometric == tifffile.PHOTOMETRIC.YCBCR or page.is_jfif  # a JFIF stream is believed
        size = int(page.tilewidth), int(page.tilelength)
        try:
            return JpegDecoder(size, bytes(tables.value) if tables is not None else b"", ycbcr=ycbcr)(data)
        except Damaged:
            raise
        except Unusual:
            return None


def has_sub_levels(path: Path) -> bool:
    """Are the levels in sub-IFDs (OME-TIFF), of pixels that TiffBackend reads? OpenSlide sees only the first level."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0].aspage()
            plain = page.dtype == np.uint8 and page.planarconfig == 1
            return bool(plain and page.subifds and len(file.series[0].levels) > 1)
    except TIFF_FAULTS:
        return False


def _refuse_cut_chain(file: tifffile.TiffFile, name: str) -> None:
    """Each directory of a TIFF points to the next. A scanner's slide that was cut behind its first image would else be
    read without its scale, which OpenSlide knows and this reader does not.
    """
    tiff, handle = file.tiff, file.filehandle
    place, seen = (8 if tiff.is_bigtiff else 4), 0
    while True:
        handle.seek(place)
        offset = int.from_bytes(handle.read(tiff.offsetsize), "little" if tiff.byteorder == "<" else "big")
        if offset == 0 and handle.tell() == place + tiff.offsetsize:
            return
        handle.seek(offset)
        entries = int.from_bytes(handle.read(tiff.tagnosize), "little" if tiff.byteorder == "<" else "big")
        place, seen = offset + tiff.tagnosize + entries * tiff.tagsize, seen + 1
        if place + tiff.offsetsize > handle.size or seen > _MAX_DIRECTORIES:
            message = f"{name}: the TIFF structure is damaged (directory {seen} lies beyond the end: the file was cut)"
            raise UnreadableInput(message, remedy="copy it again from its origin")


def _refuse_cut_piece(page: Any, data: bytes, index: int) -> None:
    """A JPEG without its end would be filled up with grey by the decoder."""
    if len(data) < page.databytecounts[index] or not data:
        raise RegionUnreadable(f"piece {index} is cut off ({len(data)} of {page.databytecounts[index]} bytes)")
    if page.compression in _JPEG and (data[:2] != b"\xff\xd8" or b"\xff\xd9" not in data[-64:]):
        raise RegionUnreadable(f"piece {index} is no whole JPEG")


def orientation_of(path: Path) -> str:
    with tifffile.TiffFile(path) as file:
        return _orientation(file.pages[0])


def _orientation(page: Any) -> str:
    """The tag's number, "1" where it is absent: row 0 at the top, column 0 at the left."""
    tag = page.tags.get("Orientation")
    return str(int(tag.value)) if tag is not None else "1"


def _refuse_damaged_jpeg(data: bytes, shared: bytes | None, index: int) -> None:
    """libjpeg fills what it cannot decode with grey, and tifffile's codec does not pass its warning on."""
    whole = data if shared is None else data[:2] + shared[2:-2] + data[2:]
    try:
        simplejpeg.decode_jpeg(whole, "RGB", fastdct=True, fastupsample=True, strict=True)
    except ValueError as error:
        with contextlib.suppress(ValueError):  # of a kind that this codec does not know: not for it to judge
            simplejpeg.decode_jpeg(whole, "RGB", fastdct=True, fastupsample=True, strict=False)
            raise RegionUnreadable(f"piece {index} is damaged ({error})") from error


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


def _to_rgb(pixels: npt.NDArray[Any], *, inverted: bool) -> Block:
    pixels = 255 - pixels if inverted else pixels
    if pixels.shape[-1] == 1:
        return Block(np.repeat(pixels, 3, axis=-1))
    if pixels.shape[-1] == 4:
        return on_white(Image.fromarray(pixels))
    return Block(pixels)
