"""TIFF slides through tifffile: OME-TIFF, generic TIFF, and scanners' TIFFs that OpenSlide cannot open."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from umedfeat.contract import Json
from umedfeat.errors import TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.naming import printable
from umedfeat.readers.slides.grid import believed_factors
from umedfeat.readers.slides.mosaic import Mosaic
from umedfeat.readers.slides.pieces import MosaicBackend
from umedfeat.readers.slides.planes import Chosen, Component, Planes, choose_planes
from umedfeat.readers.slides.tiff_layout import MAX_DIRECTORIES, Layout, Level, Picture, layout_of
from umedfeat.readers.slides.tiff_pieces import Files, PagePieces, joined, piece_shape, refuse_unknown_pixels

__all__ = ["TIFF_FAULTS", "Choice", "TiffBackend", "properties_of"]

#: What tifffile raises where tags are missing or of another type than they should be.
TIFF_FAULTS = (
    tifffile.TiffFileError,
    ValueError,
    LookupError,
    OSError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
)
_APERIO_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.,]+)")
_QPTIFF_MPP = re.compile(r"<PixelSizeMicrons>\s*([0-9.,]+)\s*</PixelSizeMicrons>")
_GREYS = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)


class Choice(NamedTuple):
    """Which of several pictures, channels and focal planes is read; see ``choose_planes``."""

    picture: int = 0
    channel: str = ""
    focus: str = ""


class TiffBackend(MosaicBackend):
    """One picture of a TIFF: pyramids in sub-IFDs or pages, tiled or in strips, of any codec, shown as 8-bit RGB.

    Attributes:
        focal_planes: how many focal planes are read; ``at`` gives each of them.
    """

    def __init__(self, path: Path, name: str, max_pixels: int, choice: Choice = Choice()) -> None:  # noqa: B008 - immutable
        self._name, self._max_pixels = name, max_pixels
        self._files = Files()
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._files.close)
            try:
                self._file = on_error.enter_context(tifffile.TiffFile(path))
                _refuse_cut_chain(self._file, name)
                layout = layout_of(self._file)
                self._picture = _picture_of(layout, choice.picture, name)
                self._refuse_unreadable_levels()
                super().__init__(_chosen(self._picture, choice, name))
                self._learn(layout)
            except TIFF_FAULTS as error:
                message = f"{name}: the TIFF structure is damaged ({type(error).__name__})"
                raise UnreadableInput(message, remedy="copy it again from its origin") from error
            on_error.pop_all()

    def _learn(self, layout: Layout) -> None:
        """Levels, properties, colour profile, and what the file holds besides."""
        first = self._picture.levels[0].planes[0]
        piece = piece_shape(first) if first.is_tiled else None
        sizes = [level.size for level in self._picture.levels]
        factors = believed_factors(sizes, _declared(self._picture.levels), piece)
        held = [(level, factor) for level, factor in zip(self._picture.levels, factors, strict=True) if factor]
        self._levels = [level for level, _ in held]
        self.levels = tuple(level.size for level in self._levels)
        self.downsamples = tuple(factor for _, factor in held)
        self.origins = ((0.0, 0.0),) * len(self.levels)
        self.aligned = (True,) * len(self.levels)
        self.properties: Mapping[str, str] = properties_of(first) | self._picture.scale
        self.vendor = "ome-tiff" if self._file.is_ome else "generic-tiff" if not self._file.is_svs else "aperio"
        profile = first.tags.get("InterColorProfile")
        self.icc = profile.value if profile is not None else None
        self._decoders: dict[int, str] = {}
        self.contents: Mapping[str, Json] = self._contents(layout)

    def _contents(self, layout: Layout) -> dict[str, Json]:
        planes = len({part.plane for focal in self._chosen.focal for part in focal})
        told: dict[str, Json] = {
            "pages": layout.pages,
            "pages_read": planes * len(self.levels),
            "series": layout.series,
            "series_read": 1,
            "planes": len(self._picture.levels[0].planes),
            "planes_read": planes,
            "levels": len(self._picture.levels),
            "levels_read": len(self.levels),
        }
        if layout.left_out:
            told["left_out"] = dict(layout.left_out)
        contradiction = self._pieces(0, self._chosen.focal[0][0]).contradiction
        if contradiction:
            told["colours"] = contradiction
        return told | self._chosen.told

    def decoder(self, level: int) -> str:
        """See ``SlideBackend.decoder``."""
        if level not in self._decoders:
            self._decoders[level] = self._pieces(level, self._chosen.focal[0][0]).decoder
        return self._decoders[level]

    def close(self) -> None:
        """Close all files."""
        super().close()
        self._files.close()
        self._file.close()

    def _mosaic_of(self, level: int, parts: Sequence[Component]) -> Mosaic:
        decode = joined([self._pieces(level, part) for part in parts])
        return Mosaic(self.levels[level], piece_shape(self._levels[level].planes[0]), decode)

    def _pieces(self, level: int, part: Component) -> PagePieces:
        return PagePieces(self._levels[level].planes[part.plane], self._files, part.sample, self._name)

    def _refuse_unreadable_levels(self) -> None:
        """Unknown pixels, pieces beyond the limit, and files cut within their directory."""
        for number, level in enumerate(self._picture.levels):
            for page in level.planes:
                refuse_unknown_pixels(page, self._name)
                width, height = piece_shape(page)
                if width * height > self._max_pixels:
                    remedy = "raise --max-pixels, or save it with tiles"
                    raise TooLarge(f"{self._name}: one piece has {width * height} pixels", remedy=remedy)
                pieces = -(-page.imagelength // height) * -(-page.imagewidth // width)
                pieces *= int(page.samplesperpixel) if page.planarconfig == 2 else 1
                if min(len(page.dataoffsets), len(page.databytecounts)) < pieces:
                    message = f"{self._name}: the TIFF structure is damaged (level {number} lacks places of its pieces)"
                    raise UnreadableInput(message, remedy="copy it again from its origin")


def _picture_of(layout: Layout, number: int, name: str) -> Picture:
    if layout.missing and not layout.pictures:
        message = f"{name}: planes of it lie in files that are missing ({printable(layout.missing[0])[:100]})"
        raise UnreadableInput(message, remedy="copy the other files of the set beside it")
    if not layout.pictures:
        left = ", ".join(layout.left_out) or "nothing"
        raise UnsupportedInput(f"{name}: no picture of tissue in it ({left})", remedy="look for the file of the slide")
    if number >= len(layout.pictures):
        raise UnreadableInput(f"{name}: picture {number + 1} of {len(layout.pictures)}", remedy="look for inputs anew")
    return layout.pictures[number]


def _chosen(picture: Picture, choice: Choice, name: str) -> Chosen:
    page = picture.levels[0].planes[0]
    samples = int(page.samplesperpixel)
    plain = page.photometric not in _GREYS or samples < 3
    planes = Planes(picture.axes, 1 if plain else samples, picture.channels, picture.fluorescent)
    return choose_planes(planes, name, channel=choice.channel, focus=choice.focus)


def _declared(levels: Sequence[Level]) -> list[float | None]:
    """Level-0 pixels per pixel of every level, by its own resolution tags; None where they say nothing of it."""
    scales = [_per_unit(level.planes[0]) for level in levels]
    factors: list[float | None] = []
    for scale in scales:
        told = scale is not None and scales[0] is not None and scale[1] == scales[0][1] and scale[0] > 0
        factor = scales[0][0] / scale[0] if told and scale and scales[0] else 1.0
        factors.append(factor if abs(factor - 1) > 0.01 else None)
    return factors


def _per_unit(page: Any) -> tuple[float, str] | None:
    """Pixels per unit along x, and the unit."""
    tag, unit = page.tags.get("XResolution"), page.tags.get("ResolutionUnit")
    if tag is None or not isinstance(tag.value, tuple) or not tag.value[1]:
        return None
    return tag.value[0] / tag.value[1], str(unit.value) if unit is not None else ""


def _refuse_cut_chain(file: tifffile.TiffFile, name: str) -> None:
    """Each directory of a TIFF points to the next. A scanner's slide that was cut behind its first image would else be
    read without its scale, which OpenSlide knows and this reader does not.
    """
    tiff, handle = file.tiff, file.filehandle
    place, seen = (8 if tiff.is_bigtiff else 4), 0
    while True:
        handle.seek(place)
        offset = int.from_bytes(handle.read(tiff.offsetsize), "little" if tiff.byteorder == "<" else "big")
        if offset == 0 and handle.tell() == place + tiff.offsetsize:
            return
        handle.seek(offset)
        entries = int.from_bytes(handle.read(tiff.tagnosize), "little" if tiff.byteorder == "<" else "big")
        place, seen = offset + tiff.tagnosize + entries * tiff.tagsize, seen + 1
        if place + tiff.offsetsize > handle.size or seen > MAX_DIRECTORIES:
            message = f"{name}: the TIFF structure is damaged (directory {seen} lies beyond the end: the file was cut)"
            raise UnreadableInput(message, remedy="copy it again from its origin")


def properties_of(page: Any) -> dict[str, str]:
    """What scales are learned from, and the orientation: row 0 at the top, column 0 at the left where none is said."""
    properties = {}
    for name in ("XResolution", "YResolution", "ResolutionUnit"):
        tag = page.tags.get(name)
        if tag is None:
            continue
        value = tag.value
        ratio = isinstance(value, tuple) and value[1]
        properties[f"tiff.{name}"] = f"{value[0] / value[1]:.9g}" if ratio else str(getattr(value, "name", value))
    text = str(page.description or "")[:10_000]
    for pattern, key in ((_APERIO_MPP, "aperio.MPP"), (_QPTIFF_MPP, "qptiff.PixelSizeMicrons")):
        if said := pattern.search(text):
            properties[key] = said[1]
    tag = page.tags.get("Orientation")
    properties["tiff.Orientation"] = str(int(tag.value)) if tag is not None else "1"
    return properties
