"""Olympus VSI slides, tile by tile from their .ets files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import simplejpeg

from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import UnsupportedInput
from umedfeat.readers.jpeg import colours_of_stream
from umedfeat.readers.slides.backends import Block
from umedfeat.readers.slides.pieces import PieceBackend, PieceLevel, refuse_deep_pixels, refuse_large_piece
from umedfeat.readers.slides.planes import Component, Planes, choose_planes
from umedfeat.readers.slides.shared_file import SharedFile
from umedfeat.readers.slides.streams import JpegDecoder
from umedfeat.readers.slides.tiff import Choice
from umedfeat.readers.slides.tiff_layout import Layout, Picture
from umedfeat.readers.slides.vsi_layout import VSI_FAULTS, EtsFile, VsiPlace, damaged_vsi, vsi_layout

__all__ = ["VsiBackend"]

Pixels = npt.NDArray[np.uint8]

_REMEDY = "convert it to OME-TIFF (bioformats2raw and raw2ometiff, or QuPath: File > Export images)"
_RAW, _JPEG, _JPEG_2000, _PNG = 0, 2, 3, 8
_CODECS = {_RAW: "none needed", _JPEG: "libjpeg-turbo", _JPEG_2000: "openjpeg", _PNG: "libpng"}
_TYPES = {1: "int8", 2: "uint8", 3: "int16", 4: "uint16", 5: "int32", 6: "uint32", 9: "float32", 10: "float64"}
_BGR = 4


class VsiBackend(PieceBackend):
    """One picture of a VSI.

    Raises:
        UnreadableInput: damaged.
        UnsupportedInput: pixels of another kind, or a choice is missing.
    """

    def __init__(self, path: Path, name: str, max_pixels: int, choice: Choice) -> None:
        try:
            layout = vsi_layout(path)
            picture = layout.pictures[choice.picture]
        except VSI_FAULTS as error:
            raise damaged_vsi(path, name, error) from error
        self._places: list[VsiPlace] = [level.planes[0] for level in picture.levels]
        self._ets = ets = self._places[0].file
        _refuse_unknown_pixels(ets, name)
        refuse_large_piece(ets.tile, name, max_pixels)
        planes = Planes(picture.axes, 1, picture.channels, picture.fluorescent)
        chosen = choose_planes(planes, name, channel=choice.channel, focus=choice.focus)
        self._lengths = [n for _, n in picture.axes]
        self._file = SharedFile(ets.path)
        self._decoded = _decoder(ets, self._file)
        read = {part.plane for focal in chosen.focal for part in focal}
        levels = [_level(place, level.size) for place, level in zip(self._places, picture.levels, strict=True)]
        contents = _contents(layout, picture, len(read))
        super().__init__(levels, chosen, contents=contents, properties=picture.scale, vendor="olympus")

    def decoder(self, level: int) -> str:
        """See ``SlideBackend.decoder``."""
        return _CODECS[self._ets.compression]

    def read_plane(self, plane: int, level: int, x: int, y: int, width: int, height: int) -> Block:
        """See ``PieceBackend.read_plane``; the first tile may begin before the picture does."""
        left, top = _shift(self._places[level])
        return super().read_plane(plane, level, x + left, y + top, width, height)

    def close(self) -> None:
        """Close the file of pixels."""
        super().close()
        self._file.close()

    def _decode(self, level: int, index: int, parts: Sequence[Component]) -> Block:
        held = self._held[level]
        columns = -(-self._mosaic_size(level)[0] // held.piece[0])
        place = (index % columns, index // columns)
        planes = [self._tile(level, place, part) for part in parts]
        found = [pixels for pixels in planes if pixels is not None]
        if len(found) < len(planes):  # nothing was scanned there
            return Block(np.full((held.piece[1], held.piece[0], 3), 255, np.uint8), np.zeros(held.piece[::-1], bool))
        return Block(found[0] if len(found) == 1 else np.dstack([pixels[..., 0] for pixels in found]))

    def _mosaic_size(self, level: int) -> tuple[int, int]:
        (width, height), (left, top) = self._held[level].size, _shift(self._places[level])
        return width + left, height + top

    def _tile(self, level: int, place: tuple[int, int], part: Component) -> Pixels | None:
        outer = tuple(int(k) for k in np.unravel_index(part.plane, self._lengths)) if self._lengths else ()
        stored = self._ets.tiles.get((self._places[level].level, outer), {}).get(place)
        if stored is None:
            return None
        try:
            data = self._file.bytes_at(stored.offset, stored.length)
            if len(data) < stored.length:
                raise ValueError("cut off")
            return self._decoded(data)
        except MemoryError:  # a lack here, no damage there
            raise
        except Exception as error:  # codecs raise their own kinds
            message = f"tile {place[0]}, {place[1]} of level {level} is damaged ({type(error).__name__})"
            raise RegionUnreadable(message) from error


def _shift(place: VsiPlace) -> tuple[int, int]:
    """Where the picture begins in the mosaic of its tiles, in pixels of the level."""
    x, y = (round(-origin / 2**place.level) for origin in place.origin)
    return x, y


def _level(place: VsiPlace, size: tuple[int, int]) -> PieceLevel:
    factor = float(2**place.level)
    x, y = (shift * factor + origin for shift, origin in zip(_shift(place), place.origin, strict=True))
    return PieceLevel(size, place.file.tile, factor, (x, y))


def _decoder(ets: EtsFile, file: SharedFile) -> Callable[[bytes], Pixels]:
    """Bytes of a tile → (h, w, 3) RGB."""
    width, height = ets.tile
    if ets.compression == _JPEG and ets.samples == 3:
        first = next(iter(next(iter(ets.tiles.values())).values()))
        said = colours_of_stream(file.bytes_at(first.offset, min(first.length, 65536)))
        return JpegDecoder(ets.tile, b"", ycbcr=said is not False)

    def decode(data: bytes) -> Pixels:
        if ets.compression == _JPEG:
            values = simplejpeg.decode_jpeg(data, "GRAY", strict=True)
        elif ets.compression == _JPEG_2000:
            values = imagecodecs.jpeg2k_decode(data, numthreads=1)
        elif ets.compression == _PNG:
            values = imagecodecs.png_decode(data)
        else:
            values = np.frombuffer(data, np.uint8)
        if values.dtype != np.uint8 or values.size != width * height * ets.samples:
            raise ValueError("pixels of another shape")
        values = values.reshape(height, width, ets.samples)
        if ets.samples == 1:
            return np.repeat(values, 3, axis=2)
        return np.ascontiguousarray(values[..., ::-1] if (ets.compression, ets.colours) == (_RAW, _BGR) else values)

    return decode


def _refuse_unknown_pixels(ets: EtsFile, name: str) -> None:
    refuse_deep_pixels(_TYPES.get(ets.pixel, f"type {ets.pixel}"), name)
    if ets.samples not in (1, 3) or ets.compression not in _CODECS:
        message = f"{name}: VSI tiles of {ets.samples} samples in compression {ets.compression} are not read"
        raise UnsupportedInput(message, remedy=_REMEDY)


def _contents(layout: Layout, picture: Picture, planes_read: int) -> dict[str, Json]:
    told: dict[str, Json] = {
        "series": layout.series,
        "series_read": 1,
        "planes": int(np.prod([n for _, n in picture.axes])) if picture.axes else 1,
        "planes_read": planes_read,
        "levels": len(picture.levels),
        "levels_read": len(picture.levels),
    }
    return told | ({"left_out": dict(layout.left_out)} if layout.left_out else {})
