"""Frames of a whole-slide DICOM instance: where they lie in the file, which tile, focal plane and path they show."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pydicom
from pydicom.encaps import parse_fragments

from umedfeat.errors import UnreadableInput

__all__ = ["Frames", "Instance", "frames_of", "read_instance"]

_ITEM, _HEADER = 8, 12
_UNDEFINED = 0xFFFFFFFF


class Instance(NamedTuple):
    """One file of a slide, without its pixels.

    Attributes:
        header: without pixel data.
        size: (width, height) of the total pixel matrix; ``tile`` of a frame.
        begin: place of the pixel data in the file.
    """

    path: Path
    header: pydicom.Dataset
    size: tuple[int, int]
    tile: tuple[int, int]
    begin: int

    @property
    def syntax(self) -> str:
        """UID of the transfer syntax."""
        return str(self.header.file_meta.TransferSyntaxUID)

    @property
    def spacing(self) -> float | None:
        """Micrometres per pixel along x, or None."""
        try:
            measures = self.header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
            return float(measures.PixelSpacing[1]) * 1000
        except (AttributeError, IndexError, TypeError, ValueError):
            return None

    @property
    def several(self) -> bool:
        """Does the header tell of several focal planes or optical paths?"""
        return (
            _number(self.header, "TotalPixelMatrixFocalPlanes") > 1 or _number(self.header, "NumberOfOpticalPaths") > 1
        )

    def first_frame(self, most: int = 65536) -> bytes:
        """The begin of the first frame's bytes, at most that many."""
        with self.path.open("rb") as file:
            file.seek(self.begin + 8)
            if file.read(4) != _UNDEFINED.to_bytes(4, "little"):
                return file.read(most)
            table = file.read(_ITEM)
            file.seek(int.from_bytes(table[4:8], "little"), 1)
            item = file.read(_ITEM)
            return file.read(min(most, int.from_bytes(item[4:8], "little")))


class FramesMissing(Exception):
    """Some of a level's frames lie elsewhere, or nowhere."""


class Frames(NamedTuple):
    """Where the frames lie: (path, plane, number of the tile) → (offset, length); how many planes and paths."""

    places: dict[tuple[int, int, int], tuple[int, int]]
    planes: int
    paths: int


def read_instance(path: Path, name: str) -> Instance:
    """The header of a file.

    Raises:
        UnreadableInput: it is damaged.
    """
    with _faults(name), path.open("rb") as file:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        size = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
        return Instance(path, header, size, (int(header.Columns), int(header.Rows)), file.tell())


def frames_of(one: Instance, name: str) -> Frames:
    """The places of all frames.

    Raises:
        UnreadableInput: it is damaged, or its frames cannot be told apart.
    """
    try:
        with _faults(name):
            keys = _keys(one.header, one.size, one.tile)
            places = _places(one)
            if len(places) < len(keys):
                raise FramesMissing(f"{len(places)} of {len(keys)} frames are in the file")
            if _number(one.header, "InConcatenationTotalNumber") > 1:
                raise FramesMissing("a part of a concatenation of several files")
    except FramesMissing as error:
        raise UnreadableInput(f"{name}: {error}", remedy="copy all its files again from the scanner") from error
    planes, paths = (1 + max((key[axis] for key in keys), default=0) for axis in (1, 0))
    return Frames(dict(zip(keys, places, strict=False)), planes, paths)


@contextlib.contextmanager
def _faults(name: str) -> Iterator[None]:
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, EOFError, OSError, struct.error) as error:
        message = f"{name}: the DICOM structure is damaged ({type(error).__name__})"
        raise UnreadableInput(message, remedy="copy it again from the scanner") from error


def _number(header: pydicom.Dataset, key: str) -> int:
    return int(header.get(key, 1) or 1)


def _places(one: Instance) -> list[tuple[int, int]]:
    """(offset, length) of every frame."""
    count = _number(one.header, "NumberOfFrames")
    with one.path.open("rb") as file:
        file.seek(one.begin + 8)
        length = struct.unpack("<I", file.read(4))[0]
        if length != _UNDEFINED:
            each = length // count
            return [(one.begin + _HEADER + k * each, each) for k in range(count)]
        table = file.read(_ITEM)
        file.seek(struct.unpack("<I", table[4:8])[0], 1)
        fragments = _fragments(file)
    if len(fragments) != count:
        raise ValueError(f"{count} frames in {len(fragments)} fragments")
    return fragments


def _fragments(file: BinaryIO) -> list[tuple[int, int]]:
    """(offset, length) of the fragments' bytes; the file stands at the first."""
    _, starts = parse_fragments(file)
    places = []
    for start in starts:
        file.seek(start + 4)
        places.append((start + _ITEM, struct.unpack("<I", file.read(4))[0]))
    return places


def _keys(header: pydicom.Dataset, size: tuple[int, int], tile: tuple[int, int]) -> list[tuple[int, int, int]]:
    """(path, plane, number of the tile) of every frame, in their order."""
    columns, rows = -(-size[0] // tile[0]), -(-size[1] // tile[1])
    count = _number(header, "NumberOfFrames")
    full = str(header.get("DimensionOrganizationType", "")) == "TILED_FULL"
    if full or "PerFrameFunctionalGroupsSequence" not in header:
        tiles = columns * rows
        paths, planes = _number(header, "NumberOfOpticalPaths"), _number(header, "TotalPixelMatrixFocalPlanes")
        if count != paths * planes * tiles:
            planes = max(1, count // (tiles * paths))
        if count != paths * planes * tiles:
            raise FramesMissing(f"{count} of {paths * planes * tiles} frames are in the file")
        return [(k // (tiles * planes), k // tiles % planes, k % tiles) for k in range(count)]
    return _sparse(header, tile, columns)


def _sparse(header: pydicom.Dataset, tile: tuple[int, int], columns: int) -> list[tuple[int, int, int]]:
    found = []
    for group in header.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSlideSequence[0]
        x, y = int(place.ColumnPositionInTotalImagePixelMatrix) - 1, int(place.RowPositionInTotalImagePixelMatrix) - 1
        depth = float(place.get("ZOffsetInSlideCoordinateSystem", 0) or 0)
        if x % tile[0] or y % tile[1]:
            raise ValueError("tiles off the grid")
        path = ""
        if "OpticalPathIdentificationSequence" in group:
            path = str(group.OpticalPathIdentificationSequence[0].OpticalPathIdentifier)
        found.append((path, depth, y // tile[1] * columns + x // tile[0]))
    paths = {path: number for number, path in enumerate(dict.fromkeys(path for path, _, _ in found))}
    depths = {depth: number for number, depth in enumerate(sorted({depth for _, depth, _ in found}))}
    return [(paths[path], depths[depth], number) for path, depth, number in found]
