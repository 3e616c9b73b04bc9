"""Philips iSyntax through pyisyntax (libisyntax), an extra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from umedfeat.contract import RegionUnreadable
from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.slides.backends import Block, on_white
from umedfeat.readers.slides.pieces import PieceBackend, PieceLevel
from umedfeat.readers.slides.planes import Component, Planes, choose_planes
from umedfeat.readers.slides.tiff import Choice

__all__ = ["IsyntaxBackend", "cut_isyntax", "is_isyntax"]

#: An iSyntax file begins with XML that holds one of these; Philips TIFF holds them too, further back.
_TEXTS = (b"DPUfsImport", b"DPScannedImage")
_END, _LARGEST_HEADER = b"\x04", 64 << 20
_PIECE = 512
_REMEDY = (
    "pip install 'umedfeat[isyntax]'; or convert it to OME-TIFF (isyntax2raw and raw2ometiff), or export DICOM or TIFF"
)


def is_isyntax(head: bytes) -> bool:
    """Does a file begin as iSyntax does?"""
    return head.lstrip()[:1] == b"<" and any(text in head for text in _TEXTS)


def cut_isyntax(path: Path) -> bool:
    """Is the header not whole? It ends with the sign for that, before the pixels."""
    with path.open("rb") as file:
        return _END not in file.read(_LARGEST_HEADER)


class IsyntaxBackend(PieceBackend):
    """The scan of a file; label and macro are never read.

    Raises:
        UnsupportedInput: pyisyntax is not installed.
        UnreadableInput: it cannot be opened.
    """

    def __init__(self, path: Path, name: str, choice: Choice) -> None:
        self._slide = slide = _opened(path, name)
        levels = [
            PieceLevel((int(width), int(height)), (_PIECE, _PIECE), float(factor))
            for (width, height), factor in zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        ]
        chosen = choose_planes(Planes(()), name, channel=choice.channel, focus=choice.focus)
        profile = slide.read_icc_profile()
        told = {"scanner.mpp-x": repr(float(slide.mpp_x)), "scanner.mpp-y": repr(float(slide.mpp_y))}
        super().__init__(
            levels,
            chosen,
            contents={"planes": 1, "planes_read": 1, "levels": len(levels), "levels_read": len(levels)},
            properties={key: value for key, value in told.items() if math.isfinite(float(value)) and float(value) > 0},
            vendor="philips",
            icc=bytes(profile) if profile else None,
        )

    def decoder(self, level: int) -> str:
        """See ``SlideBackend.decoder``."""
        return "libisyntax"

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._slide.close()

    def _decode(self, level: int, index: int, parts: Sequence[Component]) -> Block:
        width, height = self._held[level].size
        row, column = divmod(index, -(-width // _PIECE))
        x, y = column * _PIECE, row * _PIECE
        wide, high = min(_PIECE, width - x), min(_PIECE, height - y)
        try:
            pixels = self._slide.read_region(x, y, wide, high, level)
        except MemoryError:  # a lack here, no damage there
            raise
        except Exception as error:  # the library raises its own kinds
            message = f"the region at {x}, {y} of level {level} is damaged ({type(error).__name__})"
            raise RegionUnreadable(message) from error
        return on_white(Image.fromarray(np.asarray(pixels)))


def _opened(path: Path, name: str) -> Any:
    try:
        import isyntax
    except ImportError as error:
        raise UnsupportedInput(f"{name}: a Philips iSyntax slide, which needs pyisyntax", remedy=_REMEDY) from error
    try:
        return isyntax.ISyntax.open(path)
    except Exception as error:  # the library raises its own kinds
        message = f"{name}: its iSyntax structure is damaged ({type(error).__name__})"
        raise UnreadableInput(message, remedy="copy it again from the scanner") from error
