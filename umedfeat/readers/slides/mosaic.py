"""One level of a slide as a mosaic of pieces (tiles or strips): each is decoded once while its neighbours need it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from umedfeat.arrays import RGB, Mask
from umedfeat.readers.slides.backends import Block

__all__ = ["Mosaic"]


#: Room for the lowest tiles of a row across 100,000 pixels, which the next row of regions begins with.
CACHE_BYTES = 128 << 20
#: Neighbouring regions overlap by what the resampling reaches beyond them.
_MARGIN = 16


class Mosaic:
    """Reads rectangles of one level and keeps the decoded pieces that the next rectangles begin with.

    Args:
        size: (width, height) of the level in pixels.
        piece: (width, height) of its pieces, which lie row by row from the top left corner.
        decode: number of a piece → its pixels, at most as large as a piece; what it raises comes through ``read``.
    """

    def __init__(self, size: tuple[int, int], piece: tuple[int, int], decode: Callable[[int], Block]) -> None:
        self.size, self.piece = size, piece
        self._decode = decode
        self._columns = -(-size[0] // piece[0])
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Block] = OrderedDict()
        self._room = max(4, CACHE_BYTES // (3 * piece[0] * piece[1]))

    def read(self, x: int, y: int, width: int, height: int) -> Block:
        """A rectangle, which may reach beyond the level; white there and where pieces hold nothing."""
        level_width, level_height = self.size
        piece_width, piece_height = self.piece
        left, top, right, bottom = max(0, x), max(0, y), min(level_width, x + width), min(level_height, y + height)
        inside = (right - left, bottom - top) == (width, height)
        out: RGB = np.empty((height, width, 3), np.uint8) if inside else np.full((height, width, 3), 255, np.uint8)
        scanned: Mask | None = None if inside else np.zeros((height, width), bool)
        if right <= left or bottom <= top:
            return Block(out, scanned)
        for row in range(top // piece_height, -(-bottom // piece_height)):
            for column in range(left // piece_width, -(-right // piece_width)):
                x0, y0 = column * piece_width, row * piece_height
                x1, y1 = min(right, x0 + piece_width), min(bottom, y0 + piece_height)
                used_up = x1 < right - _MARGIN and y1 < bottom - _MARGIN
                block = self._piece(row * self._columns + column, used_up=used_up)
                part = np.s_[max(top, y0) - y0 : y1 - y0, max(left, x0) - x0 : x1 - x0]
                place = np.s_[max(top, y0) - y : y1 - y, max(left, x0) - x : x1 - x]
                out[place] = block.rgb[part]
                if scanned is None and block.scanned is not None:
                    scanned = np.ones((height, width), bool)
                if scanned is not None:
                    scanned[place] = True if block.scanned is None else block.scanned[part]
        return Block(out, None if scanned is None or scanned.all() else scanned)

    def clear(self) -> None:
        """Forget all pieces."""
        self._cache.clear()

    def _piece(self, index: int, *, used_up: bool) -> Block:
        """A decoded piece. Those that no neighbour to the right or below will ask for again are the first to go."""
        with self._lock:
            block = self._cache.get(index)
        if block is None:
            block = self._decode(index)
        with self._lock:
            self._cache[index] = block
            self._cache.move_to_end(index, last=not used_up)
            while len(self._cache) > self._room:
                self._cache.popitem(last=False)
        return block
