"""What a JPEG stream says of itself before its pixels begin (ISO/IEC 10918-1 Annex B)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["NoJpeg", "colours_of_stream", "segments"]

_FRAMES = (0xC0, 0xC1, 0xC2)
_SOI, _EOI, _SOS = b"\xff\xd8", b"\xff\xd9", 0xDA


class NoJpeg(Exception):
    """Not the header of a JPEG stream."""


def colours_of_stream(data: bytes) -> bool | None:
    """Is a JPEG stream in YCbCr (True) or RGB (False), as its own marker says? None where it says nothing.

    As libjpeg takes it: a JFIF marker means YCbCr; else Adobe's tells its transform; components R, G and B are RGB.
    """
    jfif = adobe = named = None
    try:
        for marker, segment in segments(data):
            if marker == 0xE0 and segment[4:9] == b"JFIF\0":
                jfif = True
            elif marker == 0xEE and segment[4:9] == b"Adobe" and len(segment) >= 16:
                adobe = segment[15] == 1
            elif marker in _FRAMES and len(segment) >= 19 and segment[9] == 3:
                named = False if bytes(segment[10:19:3]) == b"RGB" else None
    except NoJpeg:
        return None
    return next((said for said in (jfif, adobe, named) if said is not None), None)


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of each segment of a JPEG header, up to its first scan or its end.

    Raises:
        NoJpeg: where it is none.
    """
    if data[:2] != _SOI:
        raise NoJpeg("no JPEG")
    place = 2
    while data[place : place + 2] != _EOI:
        if len(data) < place + 4 or data[place] != 0xFF:
            raise NoJpeg("no marker")
        marker, length = struct.unpack(">BH", data[place + 1 : place + 4])
        segment = data[place : place + 2 + length]
        if length < 2 or len(segment) < 2 + length or marker in (0x00, 0x01, *range(0xD0, 0xD9)):
            raise NoJpeg("no segment")
        yield marker, segment
        if marker == _SOS:
            return
        place += len(segment)
