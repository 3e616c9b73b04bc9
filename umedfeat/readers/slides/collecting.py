"""Which files are slides, and which inputs they make.

A slide is what OpenSlide knows as a scanner's format, a DICOM file of the whole-slide class, an OME-TIFF, or a TIFF of
several pages or levels, or with a believable scale (its own, the manifest's, or ``--source-mpp``). Any other TIFF, and
every PNG or JPEG, is a flat image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import openslide
import tifffile

from umedfeat.contract import Collected, Found, Skipped, Source
from umedfeat.naming import Pseudonyms, stem_of
from umedfeat.policy import Policy
from umedfeat.readers.scale import believable_header
from umedfeat.readers.slides.companions import companions_of, is_companion
from umedfeat.readers.slides.dicom import WSI_CLASS, collect_dicom
from umedfeat.readers.slides.foreign import is_foreign, refusal_of
from umedfeat.readers.slides.isyntax_backend import is_isyntax
from umedfeat.readers.slides.ome_zarr import is_store
from umedfeat.readers.slides.opening import is_tiff, scanner_of
from umedfeat.readers.slides.pictures import picture_sources, skipped_pictures
from umedfeat.readers.slides.stores import collect_isyntax, collect_store, collect_vsi
from umedfeat.readers.slides.tiff import TIFF_FAULTS, properties_of
from umedfeat.readers.slides.tiff_layout import companions_of_set, kind_of, layout_of
from umedfeat.readers.slides.vsi_layout import is_vsi

__all__ = ["collect", "sniff"]

_TEXT_FORMATS = (b"[Virtual Microscope Specimen]", b"[Uncompressed Virtual Microscope Specimen]")
_OTHER_MAGIC = (b"ZISRAWFILE", b"SQLite format 3\0")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Side in pixels above which a TIFF is looked at as a slide, whatever it says.
_LARGE_SIDE = 5000
#: Pages of a TIFF that are looked at before it is opened; a label comes first or soon.
_FIRST_PAGES = 8
#: A tile where the encoder's own size is not known yet.
_USUAL_TILE = 224


def sniff(path: Path, head: bytes) -> bool:
    """Is this a slide, or might it be one? TIFF tags are looked at, pixels are not."""
    if is_foreign(path, head) or is_store(path) or is_vsi(path) or is_isyntax(head):
        return True
    if head[:4] in _TIFF_MAGIC:
        return scanner_of(path) is not None or _tiff_might_be(path)
    if head[128:132] == b"DICM":
        return WSI_CLASS in head
    if path.suffix.lower() == ".mrxs":  # a JPEG in content: without its folder it must fail, not pass as a picture
        return True
    if head.startswith((*_TEXT_FORMATS, *_OTHER_MAGIC)):
        return openslide.OpenSlide.detect_format(str(path)) is not None
    return is_companion(path)


def collect(found: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
    """One source per picture of tissue; companions of MIRAX, VMS and OME-TIFF slides are listed as such."""
    dicom = [file for file in found if _is_dicom(file.path)]
    collected = collect_dicom(dicom, pseudonyms)
    sets: set[Path] = set()
    for file in found:
        if file in dicom:
            continue
        if is_companion(file.path) or file.path in sets:
            collected.skipped.append(Skipped(file.name, "belongs to the slide beside it"))
        elif is_store(file.path):
            collect_store(file, collected)
        elif is_vsi(file.path):
            collect_vsi(file, collected)
        elif _is_isyntax(file.path):
            collect_isyntax(file, collected)
        elif (refusal := refusal_of(file.path, file.name)) is not None:
            collected.failures.append(refusal)
        elif is_tiff(file.path) and scanner_of(file.path) is None:
            facts = _tiff_facts(file.path, file.path.stat().st_mtime_ns)
            sets.update(facts.companions)
            collected.sources.extend(_of_tiff(file, facts, policy))
            collected.skipped.extend(skipped_pictures(file, facts.left_out))
        else:
            files = (file.path, *companions_of(file.path))
            collected.sources.append(Source(stem_of(file.name), "slide", file.path, files, file.name))
    return collected


class _Facts(NamedTuple):
    """What decides about a TIFF.

    Attributes:
        pictures: how many pictures of tissue it holds; 1 where its structure is damaged: it fails when it is opened.
        plain: one page and nothing else, so that it might be a flat image.
        mpp: a believable scale of the header, or None.
        size: (width, height) of the largest picture.
    """

    pictures: int = 1
    plain: bool = False
    mpp: float | None = None
    size: tuple[int, int] = (0, 0)
    left_out: tuple[str, ...] = ()
    companions: tuple[Path, ...] = ()


@lru_cache(maxsize=4096)
def _tiff_facts(path: Path, changed: int) -> _Facts:
    try:
        with tifffile.TiffFile(path) as file:
            layout = layout_of(file)
            if not layout.pictures:
                return _Facts()
            first = layout.pictures[0]
            page = first.levels[0].planes[0]
            plain = layout.pages == 1 and not file.is_ome and not page.subifds
            scale = believable_header({**properties_of(page), **first.scale})
            named = tuple(kind for kind in layout.left_out if " " not in kind)
            others = companions_of_set(path, file)
            return _Facts(len(layout.pictures), plain, scale.x if scale else None, first.size, named, others)
    except TIFF_FAULTS:
        return _Facts()


def _of_tiff(file: Found, facts: _Facts, policy: Policy) -> Iterator[Source]:
    """A source for every picture of tissue, or a flat image."""
    stem, files = stem_of(file.name), (file.path, *facts.companions)
    if facts.plain and not _has_tiles(file, facts, policy):
        yield Source(stem, "raster", file.path, (file.path,), file.name)
        return
    yield from picture_sources(file, files, facts.pictures)


def _has_tiles(file: Found, facts: _Facts, policy: Policy) -> bool:
    """Is its scale known, and is it at least as large as a tile?"""
    mpp = _manifest_mpp(file) or facts.mpp or policy.slide.source_mpp
    if not mpp:
        return False
    return min(facts.size) * mpp >= (policy.slide.tile_size or _USUAL_TILE) * policy.slide.mpp - mpp


def _manifest_mpp(file: Found) -> float | None:
    try:
        return float(file.row.get("mpp") or 0) or None
    except ValueError:
        return None  # the manifest's reader says so


def _tiff_might_be(path: Path) -> bool:
    try:
        with tifffile.TiffFile(path) as file:
            if file.is_ome:
                return True
            pages = [page.aspage() for page in file.pages[:_FIRST_PAGES]]
            if any(page.is_tiled or max(page.imagewidth, page.imagelength) > _LARGE_SIDE for page in pages):
                return True
            if any(page.is_reduced or page.subifds or kind_of(page) for page in pages):
                return True
            one = len(file.pages) == 1 and pages[0].dtype == "uint8"
            return bool(one and believable_header(properties_of(pages[0])))
    except TIFF_FAULTS:
        return False


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _is_isyntax(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_isyntax(stream.read(4096))
