"""A small Olympus VSI slide, written byte by byte: a TIFF thumbnail, a tree of tags, and the pixels in an ETS file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from slide_factory import halved
from vendor_slides import jpeg

RGB = npt.NDArray[np.uint8]

_TILE = 256
_VOLUME, _PROPERTIES, _PICTURE = 0x10000000, 0x10000001, 0x10000002
_BOOL, _INT, _TEXT, _RECTANGLE, _TWO_DOUBLES = 12, 5, 8192, 259, 260
_INLINE, _EXTRA = 0x40000000, 0x08000000


def write_vsi(
    path: Path, pixels: RGB, mpp: float, *, levels: int = 2, compression: int = 2, label: bool = False
) -> Path:
    """``path`` and ``_name_/stack1/frame_t.ets`` beside it.

    Args:
        pixels: (h, w, 3), or (channels, h, w) of grey ones.
        compression: 0 none, 2 JPEG.
        label: a second picture of the stack type of macros.
    """
    height, width = pixels.shape[:2] if pixels.shape[-1] == 3 else pixels.shape[1:]
    stack = path.with_name(f"_{path.stem}_") / "stack1"
    stack.mkdir(parents=True)
    (stack / "frame_t.ets").write_bytes(_ets(pixels, levels, compression))
    pictures = [_picture((width, height), mpp, 0, "scan", 0 if pixels.shape[-1] == 3 else pixels.shape[0])]
    if label:
        other = path.with_name(f"_{path.stem}_") / "stack10001"
        other.mkdir()
        (other / "frame_t.ets").write_bytes(_ets(np.full((300, 400, 3), 7, np.uint8), 1, compression))
        pictures.append(_picture((400, 300), 8.0, 1, "Overview", 0))
    tree = _volume([(_VOLUME, 2000, None, _volume(pictures))])
    thumbnail = np.full((40, 60, 3), 200, np.uint8)
    path.write_bytes(_tiff(tree, thumbnail))
    return path


def _picture(
    size: tuple[int, int], mpp: float, kind: int, name: str, channels: int
) -> tuple[int, int, int | None, bytes]:
    boundary = struct.pack("<4i", 0, 0, *size)
    outside = _volume([(_BOOL | _INLINE, 20005, None, 1), (_RECTANGLE, 2053, None, boundary)])
    frame = _volume([(_PROPERTIES, 2018, None, outside)])
    text = name.encode("utf-16-le") + b"\0\0"
    properties = _volume(
        [
            (_TEXT, 2030, None, text),
            (_INT | _INLINE, 2074, None, kind),
            (_TWO_DOUBLES, 2019, None, struct.pack("<2d", mpp, mpp)),
        ]
    )
    tags: list[tuple[int, int, int | None, bytes | int]] = [
        (_VOLUME, 2002, None, frame),
        (_PROPERTIES, 2005, None, properties),
    ]
    return (_PICTURE, 2001, 0, _volume(tags))


def _volume(tags: list[tuple[int, int, int | None, bytes | int]]) -> bytes:
    """A header and its tags: (type, tag, second tag, content or an inline value)."""
    body, place = b"", 24
    for number, (kind, tag, second, content) in enumerate(tags):
        extra = b"" if second is None else struct.pack("<i", second)
        data = b"" if isinstance(content, int) else content
        size = content if isinstance(content, int) else len(content)
        length = 16 + len(extra) + len(data)
        following = 0 if number == len(tags) - 1 else place + length
        kind |= 0 if second is None else _EXTRA
        body += struct.pack("<Iiii", kind, tag, following, size) + extra + data
        place += length
    return struct.pack("<HHIqII", 24, 21321, 1, 24, len(tags), 0) + body


def _tiff(tree: bytes, pixels: RGB) -> bytes:
    height, width = pixels.shape[:2]
    strip = 8 + len(tree)
    bits = strip + pixels.nbytes
    directory = bits + 6
    entries = [
        (254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, strip), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, pixels.nbytes), (284, 3, 1, 1),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = struct.pack("<2sHI", b"II", 42, directory) + tree + pixels.tobytes() + struct.pack("<3H", 8, 8, 8)
    return head + struct.pack("<H", len(entries)) + table + struct.pack("<I", 0)


def _ets(pixels: RGB, levels: int, compression: int) -> bytes:
    """Header, second header, tiles, and the table of their coordinates (x, y, level) and places."""
    second, body, table = 64, b"", []
    start = second + 228
    for level in range(levels):
        height, width = pixels.shape[:2]
        for y in range(0, height, _TILE):
            for x in range(0, width, _TILE):
                tile = np.full((_TILE, _TILE, 3), 255, np.uint8)
                part = pixels[y : y + _TILE, x : x + _TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                data = jpeg(tile) if compression == 2 else tile[..., ::-1].tobytes()
                table.append(struct.pack("<4x3iqI4x", x // _TILE, y // _TILE, level, start + len(body), len(data)))
                body += data
        pixels = halved(pixels)
    head = struct.pack("<4sIIIQIIQIIQII", b"SIS\0", 64, 2, 3, second, 228, 0, start + len(body), len(table), 0, 0, 0, 0)
    other = struct.pack("<4s9I", b"ETS\0", 0x30001, 2, 3, 4, compression, 90, _TILE, _TILE, 1)
    return (
        head
        + (other + bytes(17 * 4 + 10 * 4) + struct.pack("<II", 0, int(levels > 1))).ljust(228, b"\0")
        + body
        + b"".join(table)
    )
