"""Olympus VSI (cellSens): a tree of tags in the .vsi, pixels in .ets files of the folder ``_name_`` beside it.

The tags tell size, scale and kind of every picture, an .ets file how its tiles are stored. Which belongs to which is
told by their sizes.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from umedfeat.errors import UnreadableInput
from umedfeat.readers.slides.tiff_layout import Layout, Level, Picture, sorted_out

__all__ = ["VSI_FAULTS", "EtsFile", "EtsTile", "VsiPlace", "damaged_vsi", "ets_files", "is_vsi", "vsi_layout"]

#: What a damaged structure raises.
VSI_FAULTS = (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError, struct.error)

_VOLUME = struct.Struct("<HHIqII")
_TAG = struct.Struct("<Iiii")
_MAIN = struct.Struct("<4sIIIQIIQIIQII")
_PIXELS = struct.Struct("<4s9I")
_MAGIC, _MOST_TAGS, _DEEPEST, _MOST_TILES = 21321, 1_000_000, 40, 20_000_000
_NESTED, _EXTRA, _INLINE = 0x10000000, 0x08000000, 0x40000000
#: Tags: a picture; within it its frame, what lies outside, properties and dimensions.
_COLLECTION, _PICTURE, _FRAME, _OUTSIDE, _PROPERTIES, _DIMENSION, _MEANING = 2000, 2001, 2002, 2018, 2005, 2007, 2008
_IS_OUTSIDE, _BOUNDARY, _ORIGIN, _NAME, _KIND, _SCALE, _AXIS, _CHANNEL = 20005, 2053, 2410, 2030, 2074, 2019, 2023, 2419
#: Kinds of pictures that are no tissue; 0 is the scan.
_KINDS = {1: "overview", 2: "sample mask", 4: "focus image", 256: "macro"}
_AXES = {1: "Z", 2: "T", 4: "C"}


class EtsTile(NamedTuple):
    """Where the bytes of a tile lie."""

    offset: int
    length: int


class EtsFile(NamedTuple):
    """One file of pixels.

    Attributes:
        pixel: code of the type of a sample (2: 8 bits without a sign); ``samples`` of a pixel.
        colours: 1 grey, 3 RGB, 4 BGR; ``compression``: 0 none, 2 JPEG, 3 JPEG 2000, 8 PNG.
        tile: (width, height).
        tiles: (level, outer coordinates) → (column, row) → place.
    """

    path: Path
    pixel: int
    samples: int
    colours: int
    compression: int
    tile: tuple[int, int]
    tiles: dict[tuple[int, tuple[int, ...]], dict[tuple[int, int], EtsTile]]

    @property
    def grid(self) -> tuple[int, int]:
        """Columns and rows of the finest level."""
        finest = [place for (level, _), places in self.tiles.items() if level == 0 for place in places]
        return 1 + max(column for column, _ in finest), 1 + max(row for _, row in finest)


class VsiPlace(NamedTuple):
    """A level of a picture: its file, its number there, and the place of the first tile in level-0 pixels."""

    file: EtsFile
    level: int
    origin: tuple[int, int]


class _Told(NamedTuple):
    """What the tags say of a picture."""

    size: tuple[int, int]
    origin: tuple[int, int]
    scale: tuple[float, float] | None
    kind: int
    name: str
    axes: dict[int, str]
    channels: tuple[str, ...]


def is_vsi(path: Path) -> bool:
    """Is this a VSI whose pixels lie beside it?"""
    return path.suffix.lower() == ".vsi" and bool(ets_files(path))


def ets_files(path: Path) -> tuple[Path, ...]:
    """The files of pixels of a VSI, those of the first stack first."""
    found = path.with_name(f"_{path.stem}_").glob("stack*/*.ets")
    return tuple(sorted(found, key=lambda file: (len(file.parent.name), file.parent.name, file.name)))


def damaged_vsi(path: Path, name: str, error: Exception) -> UnreadableInput:
    """What to say of a VSI whose structure is damaged, or of a kind that nobody has seen here."""
    message = f"{name}: an Olympus VSI slide whose structure is damaged or unknown ({type(error).__name__})"
    remedy = f"copy it again with its folder _{path.stem}_, or convert it to OME-TIFF (bioformats2raw and raw2ometiff)"
    return UnreadableInput(message, remedy=remedy)


def vsi_layout(path: Path) -> Layout:
    """Every picture with its levels; no pixels are read.

    Raises:
        ``VSI_FAULTS``: damaged, or pixels without their tags.
    """
    with path.open("rb") as file:
        told = list(_told(_children(file, 8, 0)[0]))
    left_out: Counter[str] = Counter()
    pictures = []
    for ets in map(_ets, ets_files(path)):
        own = next((one for one in told if _fits(one, ets)), None)
        if own is None:
            raise ValueError("pixels of a picture that the tags do not tell of")
        told.remove(own)
        if own.kind:
            left_out[_KINDS.get(own.kind, "derived picture")] += 1
        else:
            pictures.append(_picture(own, ets))
    return sorted_out(pictures, len(pictures), left_out, ())


def _picture(told: _Told, ets: EtsFile) -> Picture:
    numbers = sorted({level for level, _ in ets.tiles})
    width, height = told.size
    levels = [
        Level((max(1, width >> number), max(1, height >> number)), (VsiPlace(ets, number, told.origin),))
        for number in numbers
    ]
    scale = {}
    if told.scale is not None:
        scale = {"scanner.mpp-x": repr(told.scale[0]), "scanner.mpp-y": repr(told.scale[1])}
    outer = {coordinates for _, coordinates in ets.tiles}
    lengths = [1 + max(values) for values in zip(*outer, strict=True)]
    axes = tuple((told.axes.get(k, "I"), n) for k, n in enumerate(lengths))
    return Picture(told.name, tuple(levels), axes, told.channels, scale, fluorescent=ets.samples == 1)


def _fits(told: _Told, ets: EtsFile) -> bool:
    """Does a picture end within the last row and column of tiles?"""
    sides = zip(told.size, told.origin, ets.grid, ets.tile, strict=True)
    return all((count - 1) * side < length - origin <= count * side for length, origin, count, side in sides)


class _Tag(NamedTuple):
    """A tag with its content: bytes, or a number that stands in its place, or tags."""

    tag: int
    second: int
    content: bytes | int
    children: Sequence[_Tag]


def _children(file: BinaryIO, place: int, depth: int) -> tuple[list[_Tag], int]:
    """The tags of the volume at a place, and where it ends; none where no volume lies there."""
    if depth > _DEEPEST:
        raise ValueError("tags too deep")
    file.seek(place)
    head = file.read(_VOLUME.size)
    if len(head) < _VOLUME.size:
        return [], place
    size, magic, _, first, flags, _ = _VOLUME.unpack(head)
    count = flags & 0x0FFFFFFF
    if (size, magic) != (24, _MAGIC) or first < 0 or count > _MOST_TAGS:
        return [], place
    tags, at, end = [], place + first, place + size
    for _ in range(count):
        tag, following, end = _one(file, at, depth)
        if tag is None:
            break
        tags.append(tag)
        if following <= 0:
            break
        at = place + following
    return tags, end


def _one(file: BinaryIO, at: int, depth: int) -> tuple[_Tag | None, int, int]:
    """A tag, where the next one lies (from its volume; 0: it is the last), and where it ends."""
    file.seek(at)
    kind, tag, following, size = _TAG.unpack(file.read(_TAG.size))
    second = struct.unpack("<i", file.read(4))[0] if kind & _EXTRA else -1
    here = file.tell()
    if tag < 0:
        return None, 0, here
    if kind & _NESTED:
        children = list(_nested(file, here, size, kind & 0xFFFFFF, depth))
        return _Tag(tag, second, b"", children), following, here + max(0, size)
    if kind & _INLINE:
        return _Tag(tag, second, size, ()), following, here
    content = file.read(min(max(0, size), 1 << 16))
    return _Tag(tag, second, content, ()), following, here + max(0, size)


def _nested(file: BinaryIO, here: int, size: int, kind: int, depth: int) -> Iterator[_Tag]:
    """Tags of one volume, or of all that follow each other in a collection (kind 0)."""
    end, at = here + max(0, size), here
    while True:
        children, after = _children(file, at, depth + 1)
        yield from children
        if kind != 0 or after <= at or after >= end:
            return
        at = after


def _told(tags: Sequence[_Tag]) -> Iterator[_Told]:
    """The pictures whose pixels lie outside the .vsi."""
    for picture in _below(_below(tags, _COLLECTION), _PICTURE, whole=True):
        outside = _below(_below(picture.children, _FRAME), _OUTSIDE)
        values = {tag.tag: tag for tag in (*outside, *_below(picture.children, _PROPERTIES))}
        if _BOUNDARY not in values or not _number(values.get(_IS_OUTSIDE)):
            continue
        *_, width, height = struct.unpack("<4i", _bytes(values[_BOUNDARY])[:16])
        scale = struct.unpack("<2d", _bytes(values[_SCALE])[:16]) if _SCALE in values else None
        origin = struct.unpack("<2i", _bytes(values[_ORIGIN])[:8]) if _ORIGIN in values else (0, 0)
        name = _text(values[_NAME]) if _NAME in values else ""
        axes, channels = _dimensions(picture)
        yield _Told((width, height), origin, scale, _number(values.get(_KIND)), name, axes, channels)


def _dimensions(picture: _Tag) -> tuple[dict[int, str], tuple[str, ...]]:
    """Which outer coordinate is which axis, and the names of channels."""
    axes, names = {}, {}
    for dimension in picture.children:
        if dimension.tag != _DIMENSION:
            continue
        for part in dimension.children:
            for tag in part.children if part.tag == _MEANING else ():
                if tag.tag == _AXIS and _number(tag) in _AXES:
                    axes[max(0, dimension.second)] = _AXES[_number(tag)]
                if tag.tag == _CHANNEL:
                    names[max(0, part.second)] = _text(tag)
    return axes, tuple(names[k] for k in sorted(names))


def _below(tags: Sequence[_Tag], number: int, *, whole: bool = False) -> list[Any]:
    """Tags within the tags of a number, or these themselves."""
    found = [tag for tag in tags if tag.tag == number]
    return found if whole else [child for tag in found for child in tag.children]


def _bytes(tag: _Tag) -> bytes:
    return tag.content if isinstance(tag.content, bytes) else struct.pack("<i", tag.content)


def _number(tag: _Tag | None) -> int:
    return 0 if tag is None else int.from_bytes(_bytes(tag)[:4], "little", signed=True)


def _text(tag: _Tag) -> str:
    return _bytes(tag).decode("utf-16-le", errors="replace").rstrip("\0")


def _ets(path: Path) -> EtsFile:
    """Headers and table of a file of pixels."""
    with path.open("rb") as file:
        magic, size, _, axes, second, _, _, table, count, *_ = _MAIN.unpack(file.read(_MAIN.size))
        file.seek(second)
        inner, _, pixel, samples, colours, compression, _, width, height, depth = _PIXELS.unpack(file.read(40))
        file.seek(second + 40 + 17 * 4 + 10 * 4 + 4)
        (pyramid,) = struct.unpack("<I", file.read(4))
        sound = (magic, size, inner) == (b"SIS\0", 64, b"ETS\0") and 2 <= axes <= 12 and min(width, height) > 0
        if not sound or depth > 1 or not 0 < count <= _MOST_TILES:
            raise ValueError("no ETS file of flat tiles")
        file.seek(table)
        record = struct.Struct(f"<4x{axes}iqI4x")
        entries = file.read(record.size * count)
    tiles: dict[tuple[int, tuple[int, ...]], dict[tuple[int, int], EtsTile]] = {}
    for *place, offset, length in record.iter_unpack(entries):
        level = place.pop() if pyramid and axes > 2 else 0
        column, row, *outer = place
        if min(place) < 0 or level < 0 or offset < 0:
            raise ValueError("a tile at an absurd place")
        tiles.setdefault((level, tuple(outer)), {})[column, row] = EtsTile(offset, length)
    if len(entries) < record.size * count or not any(level == 0 for level, _ in tiles):
        raise ValueError("a table of tiles that was cut")
    return EtsFile(path, pixel, samples, colours, compression, (width, height), tiles)
