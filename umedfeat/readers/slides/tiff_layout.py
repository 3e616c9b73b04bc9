"""What a TIFF holds: which of its pages are pictures of tissue, which are their levels and planes, which are neither.

Every page is looked at before one is read. Labels, macros and thumbnails are never read: they carry names. Of the rest
the largest picture is the slide; others of like size are inputs of their own.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tifffile

from umedfeat.readers.slides.ome import OmeImage, ome_images

__all__ = ["MAX_DIRECTORIES", "Layout", "Level", "Picture", "companions_of_set", "kind_of", "layout_of", "sorted_out"]

# tifffile logs every oddity of a damaged file; the reader's own message says what matters.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

#: A picture of at least this share of the largest one's area is an input of its own.
_LIKE_SIZE = 0.5
#: More directories are a loop.
MAX_DIRECTORIES = 100_000
_NO_TISSUE = ("label", "macro", "overview", "thumbnail", "barcode")
_NAMED = re.compile(rf"(?im)^\W*(?:slide\s+|scanned\s+)?({'|'.join(_NO_TISSUE)})\b")
_QPTIFF_KIND = re.compile(r"<ImageType>\s*(\w+)\s*</ImageType>")
_QPTIFF_NAME = re.compile(r"<Name>\s*([^<]{1,80}?)\s*</Name>")
_PAGE_NAME = 285
_REDUCED = 1

Size = tuple[int, int]


class Level(NamedTuple):
    """One level of a picture: (width, height), and a page for every plane."""

    size: Size
    planes: tuple[Any, ...]


class Picture(NamedTuple):
    """One picture of the file.

    Attributes:
        name: as the file calls it; "" if it does not.
        levels: finest first.
        axes: (letter, length) of what its planes differ in, outermost first: C, Z, T, or I where nothing is said.
        channels: names of the channels; "" where one has none.
        scale: "ome.PhysicalSizeX" … of this picture.
        fluorescent: the file says that its channels are emitted light.
    """

    name: str
    levels: tuple[Level, ...]
    axes: tuple[tuple[str, int], ...] = ()
    channels: tuple[str, ...] = ()
    scale: dict[str, str] = {}  # noqa: RUF012 - never changed
    fluorescent: bool = False

    @property
    def size(self) -> Size:
        """(width, height) of the finest level."""
        return self.levels[0].size

    @property
    def area(self) -> int:
        """Pixels of the finest level."""
        return self.size[0] * self.size[1]


class Layout(NamedTuple):
    """The pictures that are inputs, largest first; how much more the file holds, and why that is no input.

    Attributes:
        pages: directories of the file, those of sub-levels among them.
        series: pictures in the file, the left-out ones among them.
        left_out: what is not read → how often ("label", "smaller picture" …).
        missing: names of files that hold planes of it and are not there.
    """

    pictures: tuple[Picture, ...]
    pages: int
    series: int
    left_out: dict[str, int]
    missing: tuple[str, ...] = ()


def layout_of(file: tifffile.TiffFile) -> Layout:
    """Look at every page of an opened TIFF; no pixels are read.

    Raises:
        tifffile.TiffFileError, ValueError, LookupError …: the structure is damaged.
    """
    if file.is_ome and (images := ome_images(file.ome_metadata or "")):
        found = list(_ome_pictures(file, images))
        pictures = [one for one in found if isinstance(one, Picture)]
        missing = tuple(one for one in found if isinstance(one, str))
        pages = sum(len(level.planes) for picture in pictures for level in picture.levels)
        return sorted_out(pictures, pages, Counter({"picture in a missing file": len(missing)}), missing)
    directories = [_page(file, number) for number in range(_count(file))]
    left_out: Counter[str] = Counter()
    tissue = []
    for page in directories:
        kind = kind_of(page)
        if kind:
            left_out[kind] += 1
        else:
            tissue.append(page)
    pictures, loose = _plain_pictures(tissue)
    left_out += loose
    total = len(directories) + sum(len(page.subifds or ()) for page in directories)
    return sorted_out(pictures, total, left_out, ())


def sorted_out(pictures: Sequence[Picture], pages: int, left_out: Counter[str], missing: tuple[str, ...]) -> Layout:
    """The slide and its equals; pictures that are called labels, and smaller ones, are counted."""
    left_out = Counter(left_out)
    series = len(pictures)
    tissue = []
    for picture in pictures:
        kind = _no_tissue(picture.name)
        left_out.update([kind] if kind else [])
        tissue += [] if kind else [picture]
    largest = max((picture.area for picture in tissue), default=0)
    kept = [picture for picture in tissue if picture.area >= _LIKE_SIZE * largest]
    left_out["smaller picture"] += len(tissue) - len(kept)
    return Layout(tuple(kept), pages, series, dict(+left_out), missing)


def _no_tissue(name: str) -> str:
    """What a name says that a picture is instead of tissue, or ""."""
    lowered = name.lower()
    return next((kind for kind in _NO_TISSUE if re.search(rf"(?<![a-z]){kind}(?![a-z])", lowered)), "")


def kind_of(page: Any) -> str:
    """What a page says that it is instead of tissue, by its own tags; "" for tissue."""
    name = page.tags.get(_PAGE_NAME)
    if name is not None and (kind := _no_tissue(str(name.value))):
        return kind
    text = str(page.description or "")[:4000]
    qptiff = _QPTIFF_KIND.search(text)
    if qptiff is not None:
        return _no_tissue(qptiff[1])
    if text.startswith("Aperio") and int(page.subfiletype) == 9:
        return "macro"
    said = _NAMED.search(text[:300])
    return said[1].lower() if said else ""


def _count(file: tifffile.TiffFile) -> int:
    count = len(file.pages)
    if count > MAX_DIRECTORIES:
        raise ValueError("a loop of directories")
    return count


def _page(file: tifffile.TiffFile, number: int) -> Any:
    page: Any = file.pages[number]
    return page.aspage() if isinstance(page, tifffile.TiffFrame) else page


def _size(page: Any) -> Size:
    return int(page.imagewidth), int(page.imagelength)


def _plain_pictures(pages: Sequence[Any]) -> tuple[list[Picture], Counter[str]]:
    """Pictures of a file that names none: pages of one size are planes, smaller ones of their kind are levels."""
    left_out: Counter[str] = Counter()
    whole = [page for page in pages if not int(page.subfiletype) & _REDUCED] or list(pages)
    largest = max((page.imagewidth * page.imagelength for page in whole), default=0)
    bases = [page for page in whole if page.imagewidth * page.imagelength >= _LIKE_SIZE * largest]
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for page in bases:
        groups.setdefault(_make(page, _size(page)), []).append(page)
    rest = [page for page in pages if not any(page is base for base in bases)]
    pictures = []
    for planes in groups.values():
        levels = [Level(_size(planes[0]), tuple(planes)), *_sub_levels(planes)]
        own = [page for page in rest if _could_be_level(page, planes[0])] if len(groups) == 1 else []
        levels += _reduced_levels(own, len(planes))
        held = {id(page) for level in levels for page in level.planes}
        rest = [page for page in rest if id(page) not in held]
        pictures.append(Picture("", tuple(_descending(levels)), *_axes_of(planes)))
    left_out["reduced or smaller page"] += len(rest)
    return pictures, +left_out


def _make(page: Any, size: Size) -> tuple[Any, ...]:
    return (size, str(page.dtype), int(page.samplesperpixel), bool(page.is_tiled))


def _could_be_level(page: Any, base: Any) -> bool:
    """Smaller, of the same kind of pixels, stored alike."""
    alike = _make(page, (0, 0)) == _make(base, (0, 0))
    return bool(alike and page.imagewidth <= base.imagewidth and page.imagelength <= base.imagelength)


def _reduced_levels(pages: Sequence[Any], planes: int) -> list[Level]:
    sizes: dict[Size, list[Any]] = {}
    for page in pages:
        sizes.setdefault(_size(page), []).append(page)
    return [Level(size, tuple(group)) for size, group in sizes.items() if len(group) == planes]


def _sub_levels(planes: Sequence[Any]) -> list[Level]:
    """Levels in the sub-directories of the pages."""
    each = [list(page.pages) if page.subifds else [] for page in planes]
    depth = min(len(subs) for subs in each)
    levels = []
    for number in range(depth):
        pages = [subs[number] for subs in each]
        whole = tuple(page.aspage() if isinstance(page, tifffile.TiffFrame) else page for page in pages)
        levels.append(Level(_size(whole[0]), whole))
    return levels


def _descending(levels: Sequence[Level]) -> list[Level]:
    return sorted(levels, key=lambda level: -level.size[0] * level.size[1])


def _axes_of(planes: Sequence[Any]) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
    """What the planes of a file without OME-XML differ in: channels where they are named, else unknown."""
    if len(planes) == 1:
        return (), ()
    names = tuple(_channel_name(page) for page in planes)
    return (("C" if all(names) else "I", len(planes)),), names


def _channel_name(page: Any) -> str:
    qptiff = _QPTIFF_NAME.search(str(page.description or "")[:4000])
    name = page.tags.get(_PAGE_NAME)
    return qptiff[1] if qptiff else str(name.value).strip() if name is not None else ""


def _ome_pictures(file: tifffile.TiffFile, images: Sequence[OmeImage]) -> Iterator[Picture | str]:
    """Each picture of OME-XML, or the names of files that it lacks."""
    series = list(file.series)
    for number, one in enumerate(series):
        told = images[number] if len(images) == len(series) else next((i for i in images if i.name == one.name), None)
        levels = _ome_levels(one)
        if not levels:
            folder = Path(file.filehandle.dirname)
            lacking = [name for name in (told.files if told else ()) if not (folder / Path(name).name).is_file()]
            yield ", ".join(lacking) or "a file of the set"
            continue
        yield Picture(
            one.name or (told.name if told else ""),
            tuple(levels),
            _ome_axes(one, len(levels[0].planes), int(levels[0].planes[0].samplesperpixel)),
            told.channels if told else (),
            told.scale if told else {},
            bool(told and told.fluorescent),
        )


def _ome_levels(series: Any) -> list[Level]:
    """Finest first; none where planes of the finest lie in files that are missing."""
    levels: list[Level] = []
    for level in series.levels:
        pages = list(level.pages)
        if any(page is None for page in pages):
            return levels
        whole = tuple(page.aspage() if isinstance(page, tifffile.TiffFrame) else page for page in pages)
        if not levels or len(whole) == len(levels[0].planes):
            levels.append(Level(_size(whole[0]), whole))
    return levels


def _ome_axes(series: Any, pages: int, samples: int) -> tuple[tuple[str, int], ...]:
    """Axes along which pages lie; samples within a page are none."""
    axes = [(axis, int(n)) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS" and n > 1]
    total = math.prod(n for _, n in axes)
    if total != pages:
        axes = [(axis, n) for axis, n in axes if not (n == samples and total == pages * n)]
        total = math.prod(n for _, n in axes)
    return tuple(axes) if total == pages else (("I", pages),)


def companions_of_set(path: Path, file: tifffile.TiffFile) -> tuple[Path, ...]:
    """Other files that hold planes of an OME-TIFF, sorted."""
    if not file.is_ome:
        return ()
    pages = (page for series in file.series for level in series.levels for page in level.pages if page is not None)
    names = {str(page.parent.filehandle.name) for page in pages} - {path.name}
    return tuple(sorted(path.with_name(name) for name in names))
