"""OME-Zarr slides through zarr, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import UnsupportedInput
from umedfeat.readers.slides.backends import Block
from umedfeat.readers.slides.grid import believed_factors
from umedfeat.readers.slides.ome_zarr import STORE_FAULTS, ArrayPlace, damaged_store, store_layout
from umedfeat.readers.slides.pieces import PieceBackend, PieceLevel, refuse_deep_pixels, refuse_large_piece
from umedfeat.readers.slides.planes import Component, Planes, choose_planes
from umedfeat.readers.slides.tiff import Choice
from umedfeat.readers.slides.tiff_layout import Layout, Picture

__all__ = ["ZarrBackend"]


class ZarrBackend(PieceBackend):
    """One picture of a store.

    Args:
        marker: the file that stands for the store.
        name: for messages.
        max_pixels: of one chunk.
        choice: picture, channel and focal plane.

    Raises:
        UnsupportedInput: zarr is not installed; pixels of another kind; a choice is missing.
        UnreadableInput: the attributes are malformed.
    """

    def __init__(self, marker: Path, name: str, max_pixels: int, choice: Choice) -> None:
        self._name, self._folder = name, marker.parent
        try:
            layout = store_layout(marker.parent, name)
            picture = layout.pictures[choice.picture]
            self._arrays = _opened(marker.parent, [level.planes[0] for level in picture.levels], name)
        except STORE_FAULTS as error:
            raise damaged_store(name, error) from error
        planes = Planes(picture.axes, 1, picture.channels, picture.fluorescent)
        chosen = choose_planes(planes, name, channel=choice.channel, focus=choice.focus)
        factors = _factors(picture)
        kept = [k for k, factor in enumerate(factors) if factor]
        self._places: list[ArrayPlace] = [picture.levels[k].planes[0] for k in kept]
        self._arrays = [self._arrays[k] for k in kept]
        self._shape = [n for _, n in picture.axes]
        levels = [self._level(k, name, max_pixels, factors[kept[k]] or 1.0) for k in range(len(kept))]
        contents = _contents(layout, picture, len(kept), {part.plane for focal in chosen.focal for part in focal})
        super().__init__(levels, chosen, contents=contents, properties=picture.scale, vendor="ome-zarr")

    def decoder(self, level: int) -> str:
        """See ``SlideBackend.decoder``."""
        return "zarr"

    def _level(self, level: int, name: str, max_pixels: int, factor: float) -> PieceLevel:
        array, place = self._arrays[level], self._places[level]
        refuse_deep_pixels(str(array.dtype), name)
        x, y = place.axes.index("x"), place.axes.index("y")
        piece = (int(array.chunks[x]), int(array.chunks[y]))
        refuse_large_piece(piece, name, max_pixels)
        return PieceLevel((int(array.shape[x]), int(array.shape[y])), piece, factor, place.corner)

    def _decode(self, level: int, index: int, parts: Sequence[Component]) -> Block:
        held = self._held[level]
        row, column = divmod(index, -(-held.size[0] // held.piece[0]))
        left, top = column * held.piece[0], row * held.piece[1]
        try:
            planes = self._planes(level, parts, left, top)
        except MemoryError:  # a lack here, no damage there
            raise
        except Exception as error:  # codecs raise their own kinds
            raise RegionUnreadable(f"chunk {row}, {column} is damaged ({type(error).__name__})") from error
        if planes is None:
            return Block(np.full((held.piece[1], held.piece[0], 3), 255, np.uint8), np.zeros(held.piece[::-1], bool))
        return Block(np.dstack(planes if len(planes) == 3 else planes * 3))

    def _planes(self, level: int, parts: Sequence[Component], left: int, top: int) -> list[Any] | None:
        """(h, w) uint8 of each part, read at once: a chunk may hold them all.

        None where the store lacks a chunk: nothing was scanned there, whatever it says that it is filled with.
        """
        array, axes, held = self._arrays[level], self._places[level].axes, self._held[level]
        places = [np.unravel_index(part.plane, self._shape or [1]) for part in parts]
        outer = [axis for axis in axes if axis not in "xy"]
        spans = {axis: sorted(int(place[k]) for place in places) for k, axis in enumerate(outer)}
        window = {axis: slice(span[0], span[-1] + 1) for axis, span in spans.items()}
        window |= {"x": slice(left, left + held.piece[0]), "y": slice(top, top + held.piece[1])}
        if not all(self._is_stored(level, place, outer, left, top) for place in places):
            return None
        values = np.asarray(array[tuple(window[axis] for axis in axes)])
        if axes.index("x") < axes.index("y"):
            values = values.swapaxes(axes.index("x"), axes.index("y"))
        values = np.moveaxis(values, sorted((axes.index("x"), axes.index("y"))), (-2, -1))
        return [values[tuple(int(place[k]) - spans[axis][0] for k, axis in enumerate(outer))] for place in places]

    def _is_stored(self, level: int, outside: Sequence[Any], outer: Sequence[str], left: int, top: int) -> bool:
        array, place = self._arrays[level], self._places[level]
        at = {"x": left, "y": top} | {axis: int(outside[k]) for k, axis in enumerate(outer)}
        pieces = array.shards or array.chunks
        coordinates = tuple(at[axis] // n for axis, n in zip(place.axes, pieces, strict=True))
        chunk: Path = self._folder / place.path / array.metadata.encode_chunk_key(coordinates)
        return chunk.is_file()


def _opened(folder: Path, places: Sequence[ArrayPlace], name: str) -> list[Any]:
    try:
        import zarr
    except ImportError as error:
        message = f"{name}: an OME-Zarr store, which needs zarr"
        raise UnsupportedInput(message, remedy="pip install 'umedfeat[zarr]' (Python 3.11 or newer)") from error
    return [zarr.open_array(str(folder / place.path), mode="r") for place in places]


def _factors(picture: Picture) -> tuple[float | None, ...]:
    """Factors of all levels, None for those whose scale is not to be believed."""
    places: list[ArrayPlace] = [level.planes[0] for level in picture.levels]
    return believed_factors([level.size for level in picture.levels], [place.factor for place in places])


def _contents(layout: Layout, picture: Picture, levels: int, planes: set[int]) -> dict[str, Json]:
    total = int(np.prod([n for _, n in picture.axes])) if picture.axes else 1
    told: dict[str, Json] = {
        "series": layout.series,
        "series_read": 1,
        "planes": total,
        "planes_read": len(planes),
        "levels": len(picture.levels),
        "levels_read": levels,
    }
    return told | ({"left_out": dict(layout.left_out)} if layout.left_out else {})
