"""Tiles of a TIFF slide, decoded straight from the file where that gives the very pixels of OpenSlide.

OpenSlide paints every tile through a canvas with alpha, which takes several times as long as decoding a JPEG. Here the
same streams go to the same codecs and from there into the region. A level is read so only if it is plain (a whole table
of JPEG or JPEG 2000 tiles, three colours, nothing missing) and a few probes agree with OpenSlide in every pixel.
Whatever is out of the ordinary later, a damaged tile above all, is left to OpenSlide, which says what is wrong with it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from umedfeat.contract import RegionUnreadable
from umedfeat.readers.slides.backends import Block
from umedfeat.readers.slides.mosaic import Mosaic
from umedfeat.readers.slides.shared_file import SharedFile
from umedfeat.readers.slides.streams import Jpeg2000Decoder, JpegDecoder, Unusual

__all__ = ["DirectLevel", "open_direct"]

Box = tuple[int, int, int, int]
Reference = Callable[[int, int, int, int], Block]

#: Vendors whose levels are TIFF pages as they stand: no overlaps, no offsets, no empty places by design.
_VENDORS = ("aperio",)
_MAX_DIRECTORIES = 64
_MIN_TILE_SIDE, _MAX_TILE_SIDE = 16, 4096
_PROBE = 32
#: OpenSlide copies pixels where it is asked for a place this near to a whole pixel of the level, else it blends.
_WHOLE = 1 / 512
_JPEG, _JPEG_2000 = tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.APERIO_JP2000_RGB
_FAULTS = (tifffile.TiffFileError, ValueError, LookupError, OSError, TypeError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class _Table:
    """One level as its directory tells it: size, tile size, places and lengths of the streams, who decodes them."""

    size: tuple[int, int]
    tile: tuple[int, int]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    decode: JpegDecoder | Jpeg2000Decoder

    @property
    def columns(self) -> int:
        return -(-self.size[0] // self.tile[0])


def open_direct(
    path: Path, vendor: str, size: tuple[int, int], factor: float, reference: Reference
) -> DirectLevel | None:
    """The level of this size, or None where OpenSlide must read it.

    Args:
        vendor: as OpenSlide names it.
        size: (width, height) of the level in pixels.
        factor: level-0 pixels per pixel of the level, as OpenSlide rounds it.
        reference: (x, y, width, height) in level pixels → what OpenSlide reads there; may raise RegionUnreadable.
    """
    if vendor not in _VENDORS:
        return None
    try:
        table = _table_of(path, size)
        level = DirectLevel(path, table)
    except (Unusual, struct.error, *_FAULTS):
        return None
    try:
        if all(_alike(level.read(*box), reference(*box)) for box in _probes(table, factor)):
            return level
    except (Unusual, RegionUnreadable):
        pass
    level.close()
    return None


class DirectLevel:
    """Reads rectangles of one level from its streams."""

    def __init__(self, path: Path, table: _Table) -> None:
        self._table = table
        self.decoder = table.decode.name
        self._file = SharedFile(path)
        # no bound method: a cycle would keep the decoded tiles until the garbage collector comes by
        self._mosaic = Mosaic(table.size, table.tile, partial(_decode, self._file, table))

    def read(self, x: int, y: int, width: int, height: int) -> Block:
        """A rectangle of the level, which may reach beyond the slide.

        Raises:
            Unusual: a tile there is damaged or of another make than the first ones.
        """
        return self._mosaic.read(x, y, width, height)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._mosaic.clear()


def _decode(file: SharedFile, table: _Table, index: int) -> Block:
    length = int(table.lengths[index])
    try:
        data = file.bytes_at(int(table.offsets[index]), length)
        if len(data) < length:
            raise Unusual("cut off")
    except (ValueError, OSError) as error:
        raise Unusual(str(error)) from error
    tile = table.decode(data)
    width, height = table.tile
    if tile.shape != (height, width, 3) or tile.dtype != np.uint8:
        raise Unusual("pixels of another shape")
    return Block(tile)


def _table_of(path: Path, size: tuple[int, int]) -> _Table:
    with tifffile.TiffFile(path) as file:
        page = _page_of(file, size)
        _refuse_unusual(page)
        table = _Table(
            size=size,
            tile=(int(page.tilewidth), int(page.tilelength)),
            offsets=np.array(page.dataoffsets, dtype=np.int64),
            lengths=np.array(page.databytecounts, dtype=np.int64),
            decode=_decoder_of(page),
        )
    rows = -(-size[1] // table.tile[1])
    if len(table.offsets) != table.columns * rows or len(table.lengths) != len(table.offsets):
        raise Unusual("a table of another length")
    most = 6 * table.tile[0] * table.tile[1] + 65536  # no stream is twice as long as its pixels
    if table.offsets.min() <= 0 or table.lengths.min() <= 0 or table.lengths.max() > most:
        raise Unusual("missing tiles")
    return table


def _page_of(file: tifffile.TiffFile, size: tuple[int, int]) -> Any:
    """The only tiled page of that size."""
    pages = []
    for index in range(_MAX_DIRECTORIES):
        try:
            page = file.pages[index].aspage()
        except IndexError:
            break
        if page.is_tiled and (page.imagewidth, page.imagelength) == size:
            pages.append(page)
    if len(pages) != 1:
        raise Unusual("not one page of that size")
    return pages[0]


def _decoder_of(page: Any) -> JpegDecoder | Jpeg2000Decoder:
    size = int(page.tilewidth), int(page.tilelength)
    if page.compression == _JPEG_2000:
        return Jpeg2000Decoder(size)
    tables = page.tags.get("JPEGTables")
    shared = bytes(tables.value) if tables is not None else b""
    return JpegDecoder(size, shared, ycbcr=page.photometric == tifffile.PHOTOMETRIC.YCBCR)


def _refuse_unusual(page: Any) -> None:
    plain = (
        page.compression in (_JPEG, _JPEG_2000)
        and page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
        and page.dtype == np.uint8
        and page.samplesperpixel == 3
        and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        and page.imagedepth == 1
        and min(page.tilewidth, page.tilelength) >= _MIN_TILE_SIDE
        and max(page.tilewidth, page.tilelength) <= _MAX_TILE_SIDE
    )
    if not plain:
        raise Unusual("no plain tiles")


def _probes(table: _Table, factor: float) -> Iterator[Box]:
    """Corners, a crossing of four tiles, and the tile with most in it, at places that OpenSlide does not blend."""
    (width, height), (tile_width, tile_height) = table.size, table.tile
    middle_x = max(tile_width, width // 2 // tile_width * tile_width)
    middle_y = max(tile_height, height // 2 // tile_height * tile_height)
    row, column = divmod(int(table.lengths.argmax()), table.columns)
    for left, top, right, bottom in (
        (0, 0, _PROBE, _PROBE),
        (width - _PROBE, height - _PROBE, width + 8, height + 8),
        (middle_x - _PROBE, middle_y - _PROBE, middle_x + _PROBE, middle_y + _PROBE),
        (column * tile_width, row * tile_height, (column + 1) * tile_width, (row + 1) * tile_height),
    ):
        x, y = _whole(left, factor), _whole(top, factor)
        yield x, y, right - x, bottom - y


def _alike(one: Block, other: Block) -> bool:
    if one.scanned is None or other.scanned is None:
        return one.scanned is other.scanned and np.array_equal(one.rgb, other.rgb)
    return np.array_equal(one.rgb, other.rgb) and np.array_equal(one.scanned, other.scanned)


def _whole(place: int, factor: float) -> int:
    """The last place up to this one that lies at a whole level-0 pixel."""
    place = max(0, place)
    while abs(round(place * factor) / factor - place) > _WHOLE:
        place -= 1
    return place
