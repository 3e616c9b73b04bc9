"""Streams of single tiles: headers checked before anything is decoded, damage an error and never grey.

What a stream claims is compared with the tile that it should be. Whatever does not fit is ``Unusual``: not to be
decoded here, and for others to judge.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import imagecodecs
import simplejpeg  # the common JPEG decoders fill damaged streams up; this one refuses them

from umedfeat.arrays import RGB
from umedfeat.readers.jpeg import NoJpeg, segments

__all__ = ["Damaged", "Jpeg2000Decoder", "JpegDecoder", "Unusual"]


#: Marker segments that a decoder needs; those that name colours (JFIF, Adobe) are replaced by the TIFF's word.
_NEEDED = (0xC0, 0xC1, 0xC4, 0xDB, 0xDD)
_FRAMES = (0xC0, 0xC1)
_START, _SCAN = b"\xff\xd8", 0xDA
#: Three components of eight bits without a sign, each at full size.
_PLAIN_COMPONENTS = bytes([0, 3, 7, 1, 1, 7, 1, 1, 7, 1, 1])


class Unusual(Exception):
    """Not to be decoded here; whether it is a fault of the file, others say."""


class Damaged(Unusual):
    """As it should be in its header, but not to its end."""


class JpegDecoder:
    """libjpeg-turbo, exact transform and smooth chroma, for streams that may lack the tables which all tiles share.

    Args:
        size: (width, height) of every tile.
        shared: the TIFF's JPEGTables, or nothing.
        ycbcr: are the colours YCbCr? What the streams say is not asked here (see ``readers.jpeg``).

    Raises:
        Unusual: the tables are damaged.
    """

    name = "libjpeg-turbo"

    def __init__(self, size: tuple[int, int], shared: bytes, *, ycbcr: bool) -> None:
        self._size = size
        self._start = _START + _adobe(ycbcr)
        if shared:
            self._start += b"".join(segment for marker, segment in _segments(shared) if marker in _NEEDED)
        self._seen, self._made = b"", b""

    def __call__(self, data: bytes) -> RGB:
        """(height, width, 3).

        Raises:
            Damaged: libjpeg-turbo complains of anything.
            Unusual: no baseline JPEG of three colours and of the tile's size.
        """
        try:
            tile: RGB = simplejpeg.decode_jpeg(self._whole(data), "RGB", strict=True)
        except ValueError as error:
            raise Damaged(str(error)) from error
        return tile

    def _whole(self, data: bytes) -> bytes:
        """The stream with its tables, and with colours named as the TIFF names them."""
        seen = len(self._seen)
        if not seen or data[:seen] != self._seen:  # mostly alike from tile to tile
            self._learn(data)
            seen = len(self._seen)
        return self._made + data[seen:]

    def _learn(self, data: bytes) -> None:
        kept, end, frames = [], len(_START), 0
        for marker, segment in _segments(data):
            end += len(segment)
            if marker in _FRAMES:
                frames += 1
                self._refuse_other_size(segment)
            if marker == _SCAN:
                break
            if marker in _NEEDED:
                kept.append(segment)
        else:
            raise Unusual("no scan")
        if frames != 1:
            raise Unusual("no baseline frame")
        self._seen, self._made = data[:end], self._start + b"".join(kept) + segment

    def _refuse_other_size(self, segment: bytes) -> None:
        precision, height, width, colours = struct.unpack(">BHHB", segment[4:10])
        if (precision, (width, height), colours) != (8, self._size, 3):
            raise Unusual("a frame of another size or kind")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    try:
        yield from segments(data)
    except NoJpeg as error:
        raise Unusual(str(error)) from error


def _adobe(ycbcr: bool) -> bytes:
    """The marker that tells a decoder which colours it finds."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([ycbcr])


class Jpeg2000Decoder:
    """OpenJPEG for bare codestreams in RGB."""

    name = "openjpeg"

    def __init__(self, size: tuple[int, int]) -> None:
        width, height = size
        # SOC, then SIZ: length, capabilities, size and origin of the image, size and origin of its only tile
        self._first = b"\xff\x4f\xff\x51" + struct.pack(">H", 47)
        self._places = struct.pack(">8I", width, height, 0, 0, width, height, 0, 0) + _PLAIN_COMPONENTS

    def __call__(self, data: bytes) -> RGB:
        """(height, width, 3).

        Raises:
            Damaged: OpenJPEG refuses it.
            Unusual: no codestream of three 8-bit colours and of the tile's size.
        """
        if data[:6] != self._first or data[8 : 8 + len(self._places)] != self._places:
            raise Unusual("no codestream of the tile's size")
        try:
            tile: RGB = imagecodecs.jpeg2k_decode(data, numthreads=1)
        except (imagecodecs.Jpeg2kError, ValueError) as error:
            raise Damaged(str(error)) from error
        return tile
