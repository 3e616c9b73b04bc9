"""Slides through OpenSlide: Aperio, Hamamatsu, Leica, MIRAX, Philips, Sakura, Trestle, Ventana, Zeiss, DICOM."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openslide

from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import InputError, UnreadableInput, UnsupportedInput
from umedfeat.readers.slides.backends import Block, on_white
from umedfeat.readers.slides.direct import DirectLevel, open_direct
from umedfeat.readers.slides.grid import believed_factors, true_downsamples
from umedfeat.readers.slides.planes import reference_plane
from umedfeat.readers.slides.scanner_planes import scanner_planes
from umedfeat.readers.slides.streams import Unusual

__all__ = ["OpenSlideBackend"]

#: Decoded tiles that OpenSlide keeps per process.
_CACHE_BYTES = 128 << 20
#: Parts of what OpenSlide says of sound files that it does not decode.
_UNSUPPORTED = ("not supported", "unsupported", "unrecognized", "nonzero subblock", "cannot handle", "dissimilar")


#: Formats of which OpenSlide knows the levels by the ratio of their sizes only.
_BY_SIZE = ("aperio", "generic-tiff", "dicom")


class OpenSlideBackend:
    """A slide through OpenSlide, plain tiles decoded directly where that gives the same pixels.

    After an error OpenSlide's handle is poisoned, so it is opened anew.

    Args:
        spacings: (width, height) of levels → their own micrometres per pixel, where the file declares them.
        focus: see ``reference_plane``.
    """

    properties: Mapping[str, str]

    def __init__(
        self, path: Path, name: str, spacings: Mapping[tuple[int, int], float] | None = None, *, focus: str = ""
    ) -> None:
        self._path = path
        self._name = name
        self._spacings = spacings or {}
        self._direct: dict[int, DirectLevel | None] = {}
        self._slide = self._open()
        try:
            self._learn()
            self._refuse_deep_pixels()
            self._count(focus)
        except UnsupportedInput:
            self._slide.close()
            raise
        except (openslide.OpenSlideError, KeyError, ValueError) as error:  # the handle was poisoned by its opening
            self._slide.close()
            message = f"{name}: its header is damaged ({type(error).__name__} after opening)"
            raise UnreadableInput(message, remedy="copy it again from the scanner") from error

    def _learn(self) -> None:
        """Levels, properties and colour profile."""
        self.properties = dict(self._slide.properties)
        self.vendor = str(self.properties.get(openslide.PROPERTY_NAME_VENDOR, "openslide"))
        sizes = tuple(self._slide.level_dimensions)
        factors = self._factors(sizes)
        self._numbers = [number for number, factor in enumerate(factors) if factor is not None]
        self.levels = tuple(sizes[number] for number in self._numbers)
        self._told = tuple(float(self._slide.level_downsamples[number]) for number in self._numbers)
        self.downsamples = tuple(factor for factor in factors if factor is not None)
        profile = self._slide.color_profile
        self.icc = profile.tobytes() if profile is not None else None
        self._area = self._leica_area()
        self.aligned = tuple(bool(self._area != (0, 0) or factor == round(factor)) for factor in self._told)
        self.origins = tuple((self._area[0] % factor, self._area[1] % factor) for factor in self.downsamples)

    def _count(self, focus: str) -> None:
        """How much the file holds, and how much of it is read."""
        sizes = tuple(self._slide.level_dimensions)
        planes = scanner_planes(self._path, self.properties, sizes)
        levels = len(dict.fromkeys(sizes))
        areas = sum(key.startswith("openslide.region[") and key.endswith("].x") for key in self.properties)
        told: dict[str, Json] = {"levels": levels, "levels_read": len(self.levels), "planes": planes, "planes_read": 1}
        if areas:
            told |= {"scenes": areas, "scenes_read": areas}
        told |= reference_plane(planes, self._name, focus)
        self.contents: Mapping[str, Json] = told | {"left_out": dict.fromkeys(sorted(self._slide.associated_images), 1)}
        self.unused = ("--focus",) if focus and planes == 1 else ()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Block:
        direct = self._direct_level(level)
        if direct is not None:
            with contextlib.suppress(Unusual):  # OpenSlide says what is wrong there
                return direct.read(x, y, width, height)
        return self._painted(level, x, y, width, height)

    def decoder(self, level: int) -> str:
        direct = self._direct_level(level)
        return "openslide" if direct is None else direct.decoder

    def close(self) -> None:
        for direct in self._direct.values():
            if direct is not None:
                direct.close()
        self._direct.clear()
        self._slide.close()

    def _direct_level(self, level: int) -> DirectLevel | None:
        if level not in self._direct:
            self._direct[level] = open_direct(
                self._path,
                self.vendor,
                self.levels[level],
                self._told[level],
                lambda *box: self._painted(level, *box),
            )
        return self._direct[level]

    def _painted(self, level: int, x: int, y: int, width: int, height: int) -> Block:
        """What OpenSlide reads; between the pixels of a level that is no whole factor smaller, it blends them."""
        left, top = min(width, max(0, -x)), min(height, max(0, -y))
        if not left and not top:
            return self._inside(level, x, y, width, height)
        # Asked for pixels before its border, OpenSlide shifts the picture by up to a pixel of the level.
        rgb, scanned = np.full((height, width, 3), 255, np.uint8), np.zeros((height, width), bool)
        if left < width and top < height:
            part = self._inside(level, x + left, y + top, width - left, height - top)
            rgb[top:, left:] = part.rgb
            scanned[top:, left:] = True if part.scanned is None else part.scanned
        return Block(rgb, scanned)

    def _inside(self, level: int, x: int, y: int, width: int, height: int) -> Block:
        """``read`` for x, y ≥ 0."""
        place = (self._place(level, 0, x), self._place(level, 1, y))
        try:
            region = self._slide.read_region(place, self._numbers[level], (width, height))
        except openslide.OpenSlideError as error:
            self._reopen()
            raise RegionUnreadable(_without_names(error, self._path)) from error
        return on_white(region)

    def _factors(self, sizes: Sequence[tuple[int, int]]) -> Sequence[float | None]:
        """Level-0 pixels per pixel of each of OpenSlide's levels; None where that is not to be believed."""
        if self.vendor not in _BY_SIZE:
            return true_downsamples(sizes, [float(factor) for factor in self._slide.level_downsamples])
        finest = self._spacings.get(sizes[0])
        declared = [self._spacings[size] / finest if finest and size in self._spacings else None for size in sizes]
        piece = tuple(int(self.properties.get(f"openslide.level[0].tile-{side}", "0")) for side in ("width", "height"))
        return believed_factors(sizes, declared, (piece[0], piece[1]) if min(piece) > 0 else None)

    def _leica_area(self) -> tuple[int, int]:
        """Level-0 corner of the (first) scanned area, if OpenSlide places its levels by whole pixels: Leica's."""
        if self.vendor != "leica":
            return 0, 0
        corner = (f"openslide.region[0].{axis}" for axis in "xy")
        x, y = (int(self.properties.get(key, "0")) for key in corner)
        return x, y

    def _place(self, level: int, axis: int, at: int) -> int:
        """The level-0 coordinate at which OpenSlide gives the level's pixel ``at``.

        OpenSlide divides by its own downsample. Of a Leica slide it takes off the scanned area's corner in whole pixels
        of the level then, and cuts the fraction towards that corner: so the middle of the wanted pixel is asked for.
        """
        if level == 0 or self._area == (0, 0):
            return round(at * self._told[level])
        middle = 0.5 if at >= self._area[axis] // self.downsamples[level] else -0.5
        return round((at + middle) * self._told[level])

    def _refuse_deep_pixels(self) -> None:
        """OpenSlide reduces 16 bits to 8 without a word; that is for the user to decide."""
        if "48" in self.properties.get("zeiss.Information.Image.PixelType", ""):
            remedy = "export an 8-bit RGB pyramid with the contrast that you want"
            raise UnsupportedInput(f"{self._name}: uint16 pixels: only 8-bit slides are read", remedy=remedy)

    def _open(self) -> Any:
        try:
            slide = openslide.OpenSlide(str(self._path))
        except (openslide.OpenSlideError, OSError) as error:
            message = f"{self._name}: OpenSlide cannot open it ({_without_names(error, self._path)})"
            raise _refusal(error, message) from error
        slide.set_cache(openslide.OpenSlideCache(_CACHE_BYTES))
        return slide

    def _reopen(self) -> None:
        self._slide.close()
        self._slide = self._open()


def _refusal(error: Exception, message: str) -> InputError:
    """A sound file of a kind that OpenSlide does not decode is no damaged one."""
    known = not isinstance(error, openslide.OpenSlideUnsupportedFormatError)
    if known and any(part in str(error).lower() for part in _UNSUPPORTED):
        return UnsupportedInput(message, remedy="export it as OME-TIFF or DICOM, 8-bit RGB")
    return UnreadableInput(message, remedy="copy it again from the scanner, with its companion files")


#: Of a patient's images; those of the standard (syntaxes, classes) are nobody's.
_UID = re.compile(r"\b(?!1\.2\.840\.10008\.)[0-9]+(?:\.[0-9]+){3,}")


def _without_names(error: Exception, path: Path) -> str:
    """What OpenSlide says, without files and UIDs that it quotes: they may be a patient's, ours stands before it."""
    text = str(error).splitlines()[0].replace(str(path.parent) + os.sep, "")
    with contextlib.suppress(OSError):
        for name in sorted((entry.name for entry in path.parent.iterdir()), key=len, reverse=True):
            text = text.replace(name, "it")
    return _UID.sub("a UID", text)[:80]
