"""Masks of flat images: pictures of numbers, and QuPath's polygons in pixels."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from umedfeat.errors import TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.readers.faults import fault_line
from umedfeat.readers.slides.annotations import NOT_REGIONS
from umedfeat.readers.slides.geojson import read_areas
from umedfeat.readers.slides.polygons import Polygon, fill_polygons

__all__ = ["FlatMask", "looks_flat", "read_flat"]

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"BM")
_INDEX_MODES = frozenset({"1", "L", "P", "I", "I;16"})


@dataclass(frozen=True, eq=False)
class FlatMask:
    """Numbers of one picture, or polygons that are painted when its size is known.

    Attributes:
        values: (rows, columns) numbers, or None where there are polygons.
        polygons: number → polygons in pixels of the image.
        names: number → class, of polygons.
    """

    values: npt.NDArray[np.int64] | None = None
    polygons: Mapping[int, list[Polygon]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)

    def numbers(self) -> list[int]:
        """Numbers that occur, without 0."""
        return sorted(self.polygons) if self.values is None else sorted(set(np.unique(self.values).tolist()) - {0})

    def only(self, numbers: Collection[int]) -> FlatMask:
        """The same without other classes, whose polygons may lie over these."""
        return replace(self, polygons={n: polygons for n, polygons in self.polygons.items() if n in numbers})

    def on_pixels(self, shape: tuple[int, int, int], name: str) -> npt.NDArray[np.int64]:
        """(1, rows, columns) of numbers.

        Args:
            shape: (columns, rows, slices) of the image.

        Raises:
            UnsupportedInput: the image has several slices.
            UnreadableInput: the mask has another size.
        """
        cols, rows, slices = shape
        if slices != 1:
            raise UnsupportedInput(f"{name}: a flat mask for {slices} slices", remedy="a mask with a third dimension")
        if self.values is None:
            return _painted(self.polygons, (rows, cols))[None]
        if self.values.shape != (rows, cols):
            own = f"{self.values.shape[1]}x{self.values.shape[0]}"
            message = f"{name}: a mask of {own} pixels for an image of {cols}x{rows}"
            raise UnreadableInput(message, remedy="draw it on this image")
        return self.values[None]


def looks_flat(head: bytes) -> bool:
    """A picture, or JSON?"""
    return head.startswith(_PICTURES) or head.lstrip()[:1] in (b"{", b"[")


def read_flat(path: Path, name: str) -> FlatMask:
    """Read a picture of numbers (one channel, or a palette), or GeoJSON.

    Raises:
        UnreadableInput: damaged, or colours.
    """
    with path.open("rb") as stream:
        picture = stream.read(8).startswith(_PICTURES)
    return _picture(path, name) if picture else _outlines(path, name)


def _picture(path: Path, name: str) -> FlatMask:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "TIFF", "BMP")) as image:
                if image.mode not in _INDEX_MODES:
                    raise UnsupportedInput(
                        f"{name}: {image.mode} pixels", remedy="one channel of numbers, or a palette"
                    )
                return FlatMask(np.asarray(image).astype(np.int64))
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{name}: too large for a mask", remedy="crop it") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnreadableInput(f"{name}: not a readable mask: {fault_line(error)}", remedy="a PNG of numbers") from error


def _outlines(path: Path, name: str) -> FlatMask:
    """Classes get numbers from 1, in alphabetical order."""
    drawn = [(area.label, area.polygon) for area in read_areas(path) if area.kind not in NOT_REGIONS]
    if not drawn:
        raise UnreadableInput(f"{name}: no area among its annotations", remedy="draw one, or leave the image out")
    classes = sorted({label for label, _ in drawn})
    numbers = {label: number for number, label in enumerate(classes, start=1)}
    polygons: dict[int, list[Polygon]] = {number: [] for number in numbers.values()}
    for label, polygon in drawn:
        polygons[numbers[label]].append(polygon)
    return FlatMask(None, polygons, {number: label for label, number in numbers.items()})


def _painted(polygons: Mapping[int, list[Polygon]], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """The highest number where classes overlap."""
    values = np.zeros(shape, np.int64)
    for number in sorted(polygons):
        values[fill_polygons(polygons[number], shape)] = number
    return values
