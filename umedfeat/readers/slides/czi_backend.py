"""Zeiss CZI that OpenSlide does not read: grey channels (fluorescence), focal planes, JPEG and LZW."""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import simplejpeg

from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.slides.backends import Block
from umedfeat.readers.slides.czi_layout import CZI_FAULTS, CziLayout, SubBlock, czi_layout
from umedfeat.readers.slides.pieces import PieceBackend, PieceLevel, refuse_deep_pixels, refuse_large_piece
from umedfeat.readers.slides.planes import Component, Planes, choose_planes
from umedfeat.readers.slides.shared_file import SharedFile
from umedfeat.readers.slides.tiff import Choice

__all__ = ["CziBackend"]

Pixels = npt.NDArray[np.uint8]

_CACHE_BYTES = 128 << 20
_GREY, _BGR = 0, 3
_PIXELS = {0: "uint8", 1: "uint16", 2: "float32", 3: "uint8", 4: "uint16", 8: "float32", 9: "BGRA", 12: "uint32"}
_RAW, _JPEG, _LZW, _JPEG_XR, _ZSTD, _ZSTD_HEADED = 0, 1, 2, 4, 5, 6


class CziBackend(PieceBackend):
    """All scenes of a file on one canvas, as they lie on the slide.

    Raises:
        UnsupportedInput: pixels of another kind, or a choice is missing.
        UnreadableInput: the structure is damaged.
    """

    def __init__(self, path: Path, name: str, max_pixels: int, choice: Choice) -> None:
        try:
            layout = czi_layout(path)
        except CZI_FAULTS as error:
            message = f"{name}: the CZI structure is damaged ({type(error).__name__})"
            raise UnreadableInput(message, remedy="copy it again from the scanner") from error
        blocks = [block for held in layout.levels.values() for block in held]
        _refuse_unknown_pixels(blocks, name)
        largest = max((block.stored for block in blocks), key=lambda stored: stored[0] * stored[1])
        refuse_large_piece(largest, name, max_pixels)
        planes = Planes(layout.axes, 1, layout.channels, layout.fluorescent)
        chosen = choose_planes(planes, name, channel=choice.channel, focus=choice.focus)
        width, height = layout.size
        levels = [
            PieceLevel((max(1, width // factor), max(1, height // factor)), largest, float(factor))
            for factor in layout.levels
        ]
        self._lengths = [n for _, n in layout.axes]
        self._axes = [axis for axis, _ in layout.axes]
        self._blocks = [_by_plane(held) for held in layout.levels.values()]
        self._factors = list(layout.levels)
        self._file = SharedFile(path)
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Pixels] = OrderedDict()
        properties = {}
        if layout.mpp is not None:
            properties = {"scanner.mpp-x": repr(layout.mpp[0]), "scanner.mpp-y": repr(layout.mpp[1])}
        read = {part.plane for focal in chosen.focal for part in focal}
        contents = _contents(layout, len(read))
        super().__init__(levels, chosen, contents=contents, properties=properties, vendor="zeiss")

    def decoder(self, level: int) -> str:
        """See ``SlideBackend.decoder``."""
        kinds = {block.compression for held in self._blocks[level].values() for block in held}
        names = {_RAW: "none needed", _JPEG: "libjpeg-turbo", _JPEG_XR: "jxrlib", _LZW: "lzw"}
        return " and ".join(sorted({names.get(kind, "zstd") for kind in kinds}))

    def read_plane(self, plane: int, level: int, x: int, y: int, width: int, height: int) -> Block:
        """See ``PieceBackend.read_plane``; white where no sub-block lies."""
        parts = [self._painted(level, part, x, y, width, height) for part in self._chosen.focal[plane]]
        scanned = np.logical_and.reduce([held for _, held in parts])
        colours = [pixels for pixels, _ in parts]
        rgb = colours[0] if len(colours) == 1 else np.dstack([pixels[..., 0] for pixels in colours])
        return Block(np.ascontiguousarray(rgb), None if scanned.all() else scanned)

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._cache.clear()
        self._file.close()

    def _painted(
        self, level: int, part: Component, x: int, y: int, width: int, height: int
    ) -> tuple[Pixels, npt.NDArray[np.bool_]]:
        rgb, scanned = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool)
        at = np.unravel_index(part.plane, self._lengths or [1])
        place = {axis: int(index) for axis, index in zip(self._axes, at, strict=False)}
        key = (place.get("C", 0), place.get("Z", 0), place.get("T", 0))
        factor = self._factors[level]
        for block in self._blocks[level].get(key, ()):
            left, top = round(block.corner[0] / factor) - x, round(block.corner[1] / factor) - y
            right, bottom = min(width, left + block.stored[0]), min(height, top + block.stored[1])
            if right <= max(0, left) or bottom <= max(0, top):
                continue
            inner = np.s_[max(0, top) - top : bottom - top, max(0, left) - left : right - left]
            outer = np.s_[max(0, top) : bottom, max(0, left) : right]
            rgb[outer] = self._pixels(block)[inner]
            scanned[outer] = True
        return rgb, scanned

    def _pixels(self, block: SubBlock) -> Pixels:
        """(h, w, 3) of a sub-block.

        Raises:
            RegionUnreadable: it is damaged.
        """
        with self._lock:
            held = self._cache.get(block.place)
        if held is None:
            try:
                held = _decoded(block, self._stored(block))
            except MemoryError:  # a lack here, no damage there
                raise
            except Exception as error:  # codecs raise their own kinds
                message = f"the sub-block at {block.corner[0]}, {block.corner[1]} is damaged ({type(error).__name__})"
                raise RegionUnreadable(message) from error
        with self._lock:
            self._cache[block.place] = held
            self._cache.move_to_end(block.place)
            while len(self._cache) > 4 and sum(one.nbytes for one in self._cache.values()) > _CACHE_BYTES:
                self._cache.popitem(last=False)
        return held

    def _stored(self, block: SubBlock) -> bytes:
        head = self._file.bytes_at(block.place, 80)
        metadata, _, length = struct.unpack("<iiq", head[32:48])
        (dimensions,) = struct.unpack("<i", head[76:80])
        if not head.startswith(b"ZISRAWSUBBLOCK") or not 0 < length <= 6 * block.stored[0] * block.stored[1] + 65536:
            raise ValueError("no sub-block")
        data = self._file.bytes_at(block.place + 32 + max(256, 16 + 32 + 20 * dimensions) + metadata, length)
        if len(data) < length:
            raise ValueError("cut off")
        return data


def _by_plane(blocks: Sequence[SubBlock]) -> dict[tuple[int, int, int], list[SubBlock]]:
    planes: dict[tuple[int, int, int], list[SubBlock]] = {}
    for block in blocks:
        planes.setdefault((block.channel, block.depth, block.moment), []).append(block)
    return planes


def _decoded(block: SubBlock, data: bytes) -> Pixels:
    """(h, w, 3) RGB; JPEG and JPEG XR give colours in order, the others as stored: blue first."""
    width, height = block.stored
    samples = 1 if block.pixel == _GREY else 3
    swapped = samples == 3 and block.compression not in (_JPEG, _JPEG_XR)
    if block.compression == _JPEG:
        values = simplejpeg.decode_jpeg(data, "GRAY" if samples == 1 else "RGB", strict=True)
    elif block.compression == _JPEG_XR:
        values = imagecodecs.jpegxr_decode(data)
    else:
        values = np.frombuffer(_unpacked(block.compression, data), np.uint8)
    if values.dtype != np.uint8 or values.size != width * height * samples:
        raise ValueError("pixels of another shape")
    values = values.reshape(height, width, samples)
    return np.repeat(values, 3, axis=2) if samples == 1 else np.ascontiguousarray(values[..., :: -1 if swapped else 1])


def _unpacked(compression: int, data: bytes) -> bytes:
    if compression == _RAW:
        return data
    if compression == _LZW:
        return bytes(imagecodecs.lzw_decode(data))
    return bytes(imagecodecs.zstd_decode(data[data[0] :] if compression == _ZSTD_HEADED else data))


def _refuse_unknown_pixels(blocks: Sequence[SubBlock], name: str) -> None:
    kinds = {_PIXELS.get(block.pixel, f"type {block.pixel}") for block in blocks}
    for kind in sorted(kinds):
        refuse_deep_pixels(kind, name)
    if len({block.pixel for block in blocks}) > 1:
        message = f"{name}: grey and coloured pictures in one CZI"
        raise UnsupportedInput(message, remedy="export each as a file of its own")
    unknown = {b.compression for b in blocks} - {_RAW, _JPEG, _LZW, _JPEG_XR, _ZSTD, _ZSTD_HEADED}
    if unknown:
        message = f"{name}: CZI compression {min(unknown)} is not read"
        raise UnsupportedInput(message, remedy="save it from ZEN with JPEG XR, or export OME-TIFF")


def _contents(layout: CziLayout, planes_read: int) -> dict[str, Json]:
    planes = int(np.prod([n for _, n in layout.axes])) if layout.axes else 1
    levels = len(layout.levels)
    return {
        "scenes": layout.scenes,
        "scenes_read": layout.scenes,
        "planes": planes,
        "planes_read": planes_read,
        "levels": levels + layout.left_out,
        "levels_read": levels,
    }
