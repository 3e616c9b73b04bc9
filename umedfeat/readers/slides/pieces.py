"""Backends that read their levels piece by piece: what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from umedfeat.contract import Json
from umedfeat.errors import TooLarge, UnsupportedInput
from umedfeat.readers.slides.backends import Block
from umedfeat.readers.slides.mosaic import Mosaic
from umedfeat.readers.slides.planes import Chosen, Component

__all__ = ["MosaicBackend", "PieceBackend", "PieceLevel", "refuse_deep_pixels", "refuse_large_piece"]


class PieceLevel(NamedTuple):
    """A level: (width, height) of it and of its pieces; level-0 pixels per pixel and its corner there, (x, y)."""

    size: tuple[int, int]
    piece: tuple[int, int]
    factor: float
    corner: tuple[float, float] = (0.0, 0.0)


class MosaicBackend:
    """Focal planes of a slide, every level of each a mosaic of pieces; a subclass makes the mosaics (``_mosaic_of``).

    Args:
        chosen: which planes are read.
    """

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self._mosaics: dict[tuple[int, int], Mosaic] = {}

    @property
    def focal_planes(self) -> int:
        """Focal planes that are read: 1, or all of them where the sharpest is looked for."""
        return len(self._chosen.focal)

    @property
    def unused(self) -> tuple[str, ...]:
        """Options that chose nothing."""
        return self._chosen.unused

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Block:
        """See ``SlideBackend.read``; of several focal planes the middle one."""
        return self.read_plane((self.focal_planes - 1) // 2, level, x, y, width, height)

    def read_plane(self, plane: int, level: int, x: int, y: int, width: int, height: int) -> Block:
        """The same of one focal plane, from 0."""
        key = (plane, level)
        if key not in self._mosaics:
            self._mosaics[key] = self._mosaic_of(level, self._chosen.focal[plane])
        return self._mosaics[key].read(x, y, width, height)

    def close(self) -> None:
        """Forget all pieces."""
        self._mosaics.clear()

    def _mosaic_of(self, level: int, parts: Sequence[Component]) -> Mosaic:
        """A level of one plane, or of three that are red, green and blue."""
        raise NotImplementedError


class PieceBackend(MosaicBackend):
    """A slide of which a subclass decodes pieces (``_decode``); see ``SlideBackend``.

    Args:
        levels: finest first.
        chosen: which planes are read.
        contents, properties, vendor, icc: see ``SlideBackend``.
    """

    def __init__(
        self,
        levels: Sequence[PieceLevel],
        chosen: Chosen,
        *,
        contents: Mapping[str, Json],
        properties: Mapping[str, str],
        vendor: str,
        icc: bytes | None = None,
    ) -> None:
        super().__init__(chosen)
        self._held = levels
        self.levels = tuple(level.size for level in levels)
        self.downsamples = tuple(level.factor for level in levels)
        self.origins = tuple(level.corner for level in levels)
        self.aligned = (True,) * len(levels)
        self.properties, self.vendor, self.icc = properties, vendor, icc
        self.contents: Mapping[str, Json] = dict(contents) | chosen.told

    def _mosaic_of(self, level: int, parts: Sequence[Component]) -> Mosaic:
        return Mosaic(self._mosaic_size(level), self._held[level].piece, self._decoder_of(level, parts))

    def _mosaic_size(self, level: int) -> tuple[int, int]:
        """(width, height) of the pieces of a level together, as far as they are wanted."""
        return self._held[level].size

    def _decoder_of(self, level: int, parts: Sequence[Component]) -> Callable[[int], Block]:
        return lambda index: self._decode(level, index, parts)

    def _decode(self, level: int, index: int, parts: Sequence[Component]) -> Block:
        """A piece of a level, of one plane or of three that are red, green and blue.

        Raises:
            RegionUnreadable: it is damaged.
        """
        raise NotImplementedError


def refuse_deep_pixels(kind: str, name: str) -> None:
    """Only 8-bit pixels are shown without a guess.

    Raises:
        UnsupportedInput: ``kind`` is not uint8.
    """
    if kind != "uint8":
        remedy = "export an 8-bit RGB pyramid with the contrast that you want"
        raise UnsupportedInput(f"{name}: {kind} pixels: only 8-bit slides are read", remedy=remedy)


def refuse_large_piece(piece: tuple[int, int], name: str, max_pixels: int) -> None:
    """A piece is decoded as a whole.

    Raises:
        TooLarge: it has more than ``max_pixels``.
    """
    if piece[0] * piece[1] > max_pixels:
        message = f"{name}: one piece has {piece[0] * piece[1]} pixels"
        raise TooLarge(message, remedy="raise --max-pixels, or save it with smaller pieces")
