"""Pages of TIFF files that are no slides, through tifffile: any depth, palettes, CMYK, alpha, orientation."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.images.pixels import (
    DAMAGED,
    MAX_FRAMES,
    SIDEWAYS,
    Header,
    Page,
    Pixels,
    as_unit,
    deep,
    from_cmyk,
    from_lab,
    upright,
)

__all__ = ["is_tiff", "tiff_colours", "tiff_header", "tiff_page"]

_ORIENTATION_TAG = 274

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it logs damaged tags with names of files


def is_tiff(head: bytes) -> bool:
    """Classic or big TIFF, either byte order."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_header(path: Path, name: str) -> Header:
    """Size and pages of a TIFF file.

    Raises:
        UnsupportedInput: an ImageJ stack whose planes have no pages of their own.
        ValueError: its pages form a loop, or are more than MAX_FRAMES.
    """
    with tifffile.TiffFile(path) as tiff:
        first: Any = tiff.pages[0]
        _refuse_hidden_planes(tiff, first, name)
        described = (first.shape, first.dtype, first.photometric)
        pages, left_out = [], 0
        seen: set[int] = set()
        for index, page in enumerate(tiff.pages):
            if page.offset in seen or index >= MAX_FRAMES:
                raise ValueError(f"damaged TIFF: a loop of pages, or more than {MAX_FRAMES}")
            seen.add(page.offset)
            whole: Any = page.aspage() if isinstance(page, tifffile.TiffFrame) else page
            if not index or (described == (whole.shape, whole.dtype, whole.photometric) and not whole.is_reduced):
                pages.append(int(page.offset))
            else:
                left_out += 1
        width, height = int(first.imagewidth), int(first.imagelength)
        turned = _tiff_orientation(first)
        detail: dict[str, str | int] = {"bits": first.bitspersample, "samples": first.samplesperpixel}
        if _is_no_alpha(first):
            detail["extra_samples_ignored"] = 1
    if left_out:
        detail["pages_left_out"] = left_out
    if turned in SIDEWAYS:
        width, height = height, width
    return Header("tiff", width, height, tuple(pages), detail)


def _refuse_hidden_planes(tiff: tifffile.TiffFile, first: Any, name: str) -> None:
    """ImageJ stores stacks above 4 GB (and others on request) behind one page: the first plane alone would be seen."""
    metadata = tiff.imagej_metadata if tiff.is_imagej else None
    planes = int((metadata or {}).get("images", 1))
    if planes > 1 and len(tiff.pages) == 1 and first.dtype is not None:
        plane = math.prod(first.shape) * first.dtype.itemsize
        if planes * plane <= tiff.filehandle.size:
            message = f"{name}: an ImageJ stack of {planes} planes behind a single TIFF page"
            raise UnsupportedInput(message, remedy="save it with a page per plane (ImageJ: File > Save As > OME-TIFF)")


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    return int(tag.value) if tag is not None else 1


def tiff_page(path: Path, offset: int, name: str) -> Page:
    """Decode the page whose directory lies at ``offset``, without walking through those before it."""
    with tifffile.TiffFile(path) as tiff:
        tiff.filehandle.seek(offset)
        page = tifffile.TiffPage(tiff, 0)
        pixels = _samples_last(page, name)
        decoded = tiff_colours(page, pixels, name)
        return decoded._replace(values=upright(decoded.values, _tiff_orientation(page)))


def _samples_last(page: Any, name: str) -> Pixels:
    if page.imagedepth > 1:
        raise UnsupportedInput(f"{name}: a volumetric TIFF page", remedy="save one page per plane")
    if page.dtype is None or page.dtype.kind not in "biuf":
        raise UnsupportedInput(f"{name}: TIFF pixels of type {page.dtype}", remedy="save it as 8, 16 or 32 bit")
    if sum(page.databytecounts) > page.parent.filehandle.size:
        raise UnreadableInput(f"{name}: damaged TIFF: its strips are longer than the file", remedy=DAMAGED)
    pixels: Pixels = page.asarray()
    pixels = pixels.reshape(page.shape)
    if page.samplesperpixel > 1 and page.planarconfig == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim != (2 if page.samplesperpixel == 1 else 3):
        raise UnsupportedInput(f"{name}: TIFF page of shape {page.shape}", remedy="save it as grey or RGB")
    return pixels


def tiff_colours(page: Any, pixels: Pixels, name: str) -> Page:
    """Values as stored, (H, W) or (H, W, samples), to what is displayed.

    Raises:
        UnsupportedInput: of a colour model that is not read.
    """
    kind = int(page.photometric)
    photometric = tifffile.PHOTOMETRIC
    if kind == photometric.PALETTE:
        return Page(_palette(page.colormap)[pixels], displayed=True)
    if kind in (photometric.MINISBLACK, photometric.MINISWHITE) and pixels.ndim == 2:
        inverted = kind == photometric.MINISWHITE
        if pixels.dtype.kind == "b":
            return Page(np.where(pixels ^ inverted, np.uint8(255), np.uint8(0)), displayed=True)
        if pixels.dtype == np.uint8:
            return Page(255 - pixels if inverted else pixels, displayed=False)
        return Page(pixels.astype(np.float32), displayed=False, invert=inverted)
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    if kind == photometric.SEPARATED and samples == 4:
        return Page(from_cmyk(as_unit(pixels)), displayed=True)
    if kind in (photometric.CIELAB, photometric.ICCLAB) and samples == 3 and pixels.dtype == np.uint8:
        return Page(from_lab(pixels, signed=kind == photometric.CIELAB), displayed=True)
    if _is_no_alpha(page):
        pixels, samples = np.ascontiguousarray(pixels[..., :-1]), samples - 1
        if samples == 1:
            return Page(_grey(pixels[..., 0]), displayed=False)
    jpeg = int(page.compression) in (6, 7, 33007)  # decoded to RGB
    rgb = kind == photometric.RGB or (kind == photometric.YCBCR and jpeg) or (samples == 2 and page.extrasamples)
    if rgb and samples in (2, 3, 4):
        _refuse_open_range(pixels, name)
        return deep(pixels, premultiplied=tuple(page.extrasamples[:1]) == (tifffile.EXTRASAMPLE.ASSOCALPHA,))
    raise UnsupportedInput(
        f"{name}: TIFF with {samples} samples of photometric {page.photometric.name}", remedy="save it as grey or RGB"
    )


def _is_no_alpha(page: Any) -> bool:
    """One sample behind grey or RGB that the file does not call alpha: a further channel, often empty."""
    unspecified = tuple(page.extrasamples) == (tifffile.EXTRASAMPLE.UNSPECIFIED,)
    return unspecified and page.samplesperpixel in (2, 4)


def _grey(pixels: Pixels) -> Pixels:
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)


def _refuse_open_range(pixels: Pixels, name: str) -> None:
    """Colours stored as floats are taken as 0 to 1; others would become white, or need a range that nobody declared."""
    if pixels.dtype.kind != "f":
        return
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    if low < -1e-3 or high > 1 + 1e-3:
        message = f"{name}: colours from {low:g} to {high:g} in floating point"
        raise UnsupportedInput(message, remedy="scale them to 0 to 1, or save them as 8 or 16 bit")


def _palette(colormap: Pixels) -> Pixels:
    """(entries, 3) uint8. Writers scale 8-bit colours by 256 or by 257, or forget to."""
    scaled = colormap if colormap.max() < 256 else colormap >> 8
    return np.ascontiguousarray(scaled.T.astype(np.uint8))
