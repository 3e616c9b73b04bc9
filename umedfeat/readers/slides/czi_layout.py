"""Zeiss CZI (ZISRAW): which sub-blocks a file holds, where they lie, what they show; no pixels.

A sub-block is a picture of some place, channel, focal plane and moment at some factor; later ones lie on earlier ones.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

__all__ = ["CZI_FAULTS", "CziLayout", "SubBlock", "czi_layout"]

#: What a damaged structure raises.
CZI_FAULTS = (OSError, ValueError, LookupError, TypeError, ArithmeticError, struct.error, ElementTree.ParseError)

_HEADER = struct.Struct("<iiii32xiqqi")
_ENTRY = struct.Struct("<2siqiiBB4xi")
_DIMENSION = struct.Struct("<4siifi")
_MOST_BLOCKS = 5_000_000
_LARGEST_TEXT = 256 << 20
#: Blocks with shorter sides are rounded too much to tell the factor.
_TELLING_SIDE = 64
_CELLS = 256
_EMISSION = ("Fluor", "EmissionWavelength", "ExcitationWavelength", "DyeName")


class SubBlock(NamedTuple):
    """One entry of the directory.

    Attributes:
        place: of its segment in the file.
        pixel: code of its pixel type; ``compression``: how it is stored.
        corner, extent: (x, y), (width, height) in level-0 pixels; ``stored``: (width, height) as stored.
        channel, depth, moment: which plane.
        order: among those that overlap.
    """

    place: int
    pixel: int
    compression: int
    corner: tuple[int, int]
    extent: tuple[int, int]
    stored: tuple[int, int]
    channel: int
    depth: int
    moment: int
    scene: int
    order: int


class CziLayout(NamedTuple):
    """What a file holds.

    Attributes:
        size: (width, height) of all scenes together in level-0 pixels, whose first one is (0, 0).
        levels: factor → its sub-blocks in the order in which they are painted, finest first.
        axes: (letter, length): channels, focal planes, moments; those of more than one.
        mpp: (x, y) micrometres per pixel, or None.
        left_out: levels that do not show all that level 0 shows.
    """

    size: tuple[int, int]
    levels: dict[int, list[SubBlock]]
    axes: tuple[tuple[str, int], ...]
    scenes: int
    channels: tuple[str, ...]
    fluorescent: bool
    mpp: tuple[float, float] | None
    left_out: int


def czi_layout(path: Path) -> CziLayout:
    """Read the directory and the XML.

    Raises:
        ``CZI_FAULTS``: they are damaged, or the file is a part of several.
    """
    with path.open("rb") as file:
        kind, _ = _segment(file, 0)
        part, directory, metadata = _HEADER.unpack(file.read(_HEADER.size))[4:7]
        if kind != "ZISRAWFILE" or part:
            raise ValueError("not the first part of a CZI")
        blocks = _directory(file, directory)
        xml = _text(file, metadata)
    if not blocks:
        raise ValueError("no sub-blocks")
    blocks, size = _from_corner(blocks)
    levels = _levels(blocks)
    whole = {factor: held for factor, held in levels.items() if factor == 1 or _covers(held, levels[1], size)}
    lengths = (("C", "channel"), ("Z", "depth"), ("T", "moment"))
    axes = tuple((axis, 1 + max(getattr(block, name) for block in blocks)) for axis, name in lengths)
    names, fluorescent = _channels(xml, dict(axes)["C"])
    return CziLayout(
        size,
        whole,
        tuple((axis, n) for axis, n in axes if n > 1),
        1 + max(block.scene for block in blocks),
        names,
        fluorescent,
        _scale(xml),
        len(levels) - len(whole),
    )


def _segment(file: BinaryIO, place: int) -> tuple[str, int]:
    """Name of a segment and the length of its content, at which the file stands then."""
    file.seek(place)
    name, _, used = struct.unpack("<16sqq", file.read(32))
    return name.rstrip(b"\0").decode("ascii", errors="replace"), used


def _directory(file: BinaryIO, place: int) -> list[SubBlock]:
    kind, _ = _segment(file, place)
    if kind != "ZISRAWDIRECTORY":
        raise ValueError("no directory of sub-blocks")
    (count,) = struct.unpack("<i124x", file.read(128))
    if not 0 <= count <= _MOST_BLOCKS:
        raise ValueError("a directory of absurd length")
    return [_block(file, number) for number in range(count)]


def _block(file: BinaryIO, number: int) -> SubBlock:
    schema, pixel, place, _, compression, _, _, dimensions = _ENTRY.unpack(file.read(_ENTRY.size))
    if schema != b"DV" or not 0 <= dimensions <= 40:
        raise ValueError("an entry of another kind")
    told = {}
    for _ in range(dimensions):
        name, start, extent, _, stored = _DIMENSION.unpack(file.read(_DIMENSION.size))
        told[name.rstrip(b"\0").decode("ascii")] = (start, extent, stored or extent)
    (x, width, stored_width), (y, height, stored_height) = told["X"], told["Y"]
    if min(width, height, stored_width, stored_height) < 1:
        raise ValueError("an empty sub-block")
    channel, depth, moment, scene = (told.get(axis, (0,))[0] for axis in "CZTS")
    return SubBlock(
        place, pixel, compression, (x, y), (width, height), (stored_width, stored_height),
        channel, depth, moment, scene, told.get("M", (number,))[0],
    )  # fmt: skip


def _from_corner(blocks: list[SubBlock]) -> tuple[list[SubBlock], tuple[int, int]]:
    """The same with level 0's first pixel at (0, 0), and its size."""
    finest = [block for block in blocks if block.extent == block.stored]
    left, top = (min(block.corner[axis] for block in finest) for axis in (0, 1))
    right, bottom = (max(block.corner[axis] + block.extent[axis] for block in finest) for axis in (0, 1))
    moved = [block._replace(corner=(block.corner[0] - left, block.corner[1] - top)) for block in blocks]
    return moved, (right - left, bottom - top)


def _levels(blocks: list[SubBlock]) -> dict[int, list[SubBlock]]:
    """Factor → sub-blocks. Those with short sides belong to the nearest factor of the others."""
    telling = {_factor(block) for block in blocks if min(block.stored) >= _TELLING_SIDE}
    factors = sorted({round(factor) for factor in telling if abs(factor - round(factor)) < 0.02 * factor} | {1})
    levels: dict[int, list[SubBlock]] = {factor: [] for factor in factors}
    for block in sorted(blocks, key=lambda one: one.order):
        nearest = min(factors, key=lambda factor: abs(math.log(_factor(block) / factor)))
        levels[nearest].append(block)
    return {factor: held for factor, held in levels.items() if held}


def _factor(block: SubBlock) -> float:
    return max(extent / stored for extent, stored in zip(block.extent, block.stored, strict=True))


def _covers(level: list[SubBlock], finest: list[SubBlock], size: tuple[int, int]) -> bool:
    """Does a level show all places (and planes) that level 0 shows?"""
    planes = {(block.channel, block.depth, block.moment) for block in finest}
    if planes - {(block.channel, block.depth, block.moment) for block in level}:
        return False
    return not (_cells(finest, size, inner=True) & ~_cells(level, size, inner=False)).any()


def _cells(blocks: list[SubBlock], size: tuple[int, int], *, inner: bool) -> npt.NDArray[np.bool_]:
    """Cells of a coarse grid that blocks fill (inner) or touch."""
    cells = np.zeros((_CELLS, _CELLS), bool)
    begin, end = (math.ceil, math.floor) if inner else (math.floor, math.ceil)
    for block in blocks:
        (x0, y0), (width, height) = block.corner, block.extent
        rows = slice(max(0, begin(y0 * _CELLS / size[1])), max(0, end((y0 + height) * _CELLS / size[1])))
        columns = slice(max(0, begin(x0 * _CELLS / size[0])), max(0, end((x0 + width) * _CELLS / size[0])))
        cells[rows, columns] = True
    return cells


def _text(file: BinaryIO, place: int) -> ElementTree.Element | None:
    if place <= 0 or _segment(file, place)[0] != "ZISRAWMETADATA":
        return None
    length, _ = struct.unpack("<ii248x", file.read(256))
    if not 0 < length <= _LARGEST_TEXT:
        return None
    return ElementTree.fromstring(file.read(length))


def _scale(xml: ElementTree.Element | None) -> tuple[float, float] | None:
    """The scale is told in metres."""
    if xml is None:
        return None
    told = {node.get("Id"): node.findtext("Value") for node in xml.iter("Distance")}
    x, y = told.get("X"), told.get("Y")
    return (float(x) * 1e6, float(y) * 1e6) if x and y else None


def _channels(xml: ElementTree.Element | None, count: int) -> tuple[tuple[str, ...], bool]:
    """Names of the channels, and whether they are emitted light."""
    nodes = [] if xml is None else xml.findall(".//Information/Image/Dimensions/Channels/Channel")
    emitted = any(node.find(kind) is not None for node in nodes for kind in _EMISSION)
    if len(nodes) != count:
        return (), emitted
    return tuple(node.get("Name", "") for node in nodes), emitted
