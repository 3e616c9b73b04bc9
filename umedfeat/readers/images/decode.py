"""One page of a flat image to an array: colours as they are displayed, greys with all their bits.

Pillow decodes PNG, JPEG, BMP and WebP, tifffile TIFF, imagecodecs 16-bit colour PNG (which Pillow would cut to 8 bit).
Greys are not scaled here: they go through the intensity policy, as DICOM does.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from umedfeat.errors import TooLarge, UnreadableInput
from umedfeat.readers.faults import fault_line
from umedfeat.readers.images.pixels import DAMAGED, MAX_FRAMES, SIDEWAYS, Header, Page, deep, on_white, upright
from umedfeat.readers.images.tiff import is_tiff, tiff_header, tiff_page

__all__ = ["decode", "read_header"]

#: What Pillow, tifffile, imagecodecs and zlib raise on damaged files.
FAULTS = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError, tifffile.TiffFileError,
)  # fmt: skip

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_PLUGINS = (BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)  # imported: Pillow registers them
_ORIENTATION_TAG = 274
_START_OF_SCAN = b"\xff\xda"
#: More than encoders make (some 10), and than the few of thumbnails and pictures within pictures add.
_MOST_SCANS = 500


def read_header(path: Path, name: str, max_pixels: int) -> Header:
    """Size and pages of an image file.

    Raises:
        UnreadableInput: damaged.
        TooLarge: more than ``max_pixels``.
    """
    with _faults(name):
        header = tiff_header(path, name) if _is_tiff_file(path) else _pillow_header(path, name, max_pixels)
    _check_size(header.width, header.height, name, max_pixels)
    if header.format == "png":
        with _faults(name), Image.open(path, formats=("PNG",)) as image:
            image.verify()  # the checksum of every chunk: a flipped bit would decode to other pixels
    if not header.pages or min(header.width, header.height) < 1 or len(header.pages) > MAX_FRAMES:
        raise UnreadableInput(f"{name}: {len(header.pages)} pages of {header.width}x{header.height}", remedy=DAMAGED)
    return header


def decode(path: Path, header: Header, index: int, name: str) -> Page:
    """Page ``index`` of ``header.pages``.

    Raises:
        UnreadableInput: damaged or truncated.
        UnsupportedInput: a kind of pixel that is not read.
    """
    with _faults(name):
        page = (
            tiff_page(path, header.pages[index], name) if header.format == "tiff" else _pillow_page(path, header, index)
        )
    if page.values.shape[:2] != (header.height, header.width):
        raise UnreadableInput(
            f"{name}: page {index} is {page.values.shape[:2]} instead of its header's size", remedy=DAMAGED
        )
    return _grey_if_equal(page)


@contextmanager
def _faults(name: str) -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before anything is decoded
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FAULTS as error:
        raise UnreadableInput(f"{name}: {fault_line(error)}", remedy=DAMAGED) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        message = f"{name}: {width}x{height} pixels, more than {max_pixels}"
        raise TooLarge(message, remedy="raise --max-pixels if this is right")


def _refuse_many_scans(path: Path, name: str) -> None:
    """Every scan of a progressive JPEG is a pass over all pixels, and may be a few bytes long."""
    scans, before = 0, b""
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            scans += (before + block).count(_START_OF_SCAN)  # the marker cannot occur within coded data
            before = block[-1:]
    if scans > _MOST_SCANS:
        raise UnreadableInput(f"{name}: a JPEG of {scans} scans, usual are 10", remedy=DAMAGED)


def _is_tiff_file(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_tiff(stream.read(4))


def _pillow_header(path: Path, name: str, max_pixels: int) -> Header:
    with Image.open(path, formats=_FORMATS) as image:
        _check_size(image.width, image.height, name, max_pixels)  # before anything below decodes
        if image.format in ("JPEG", "MPO"):
            _refuse_many_scans(path, name)
        format_name = (image.format or "").lower().replace("mpo", "jpeg")
        frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1  # MPO: previews behind the picture
        turned = _orientation(image, path)
        width, height = image.size if turned not in SIDEWAYS else image.size[::-1]
        detail: dict[str, str | int] = {"mode": image.mode}
        if turned != 1:
            detail["exif_orientation"] = turned
        if "icc_profile" in image.info:
            detail["icc"] = "kept as is"
    return Header(format_name, width, height, tuple(range(min(frames, MAX_FRAMES + 1))), detail)


def _pillow_page(path: Path, header: Header, index: int) -> Page:
    if header.format == "png" and _is_deep_colour_png(path):
        page = deep(imagecodecs.png_decode(path.read_bytes()))
    else:
        with Image.open(path, formats=_FORMATS) as image:
            if index:
                image.seek(index)
            page = _from_pillow(image)
    return page._replace(values=upright(page.values, int(header.detail.get("exif_orientation", 1))))


def _orientation(image: Image.Image, path: Path) -> int:
    """EXIF orientation, 1 to 8 (1 where it says nothing sensible)."""
    if image.format == "PNG":
        exif = Image.Exif()
        exif.load(_png_exif(path))
    else:
        exif = image.getexif()
    turned = exif.get(_ORIENTATION_TAG, 1)
    return int(turned) if turned in range(1, 9) else 1


def _png_exif(path: Path) -> bytes:
    """The eXIf chunk, wherever it stands; Pillow would decode the pixels to find it."""
    with path.open("rb") as stream:
        stream.seek(8)
        while len(start := stream.read(8)) == 8 and start[4:] != b"IEND":
            length = int.from_bytes(start[:4], "big")
            if start[4:] == b"eXIf":
                return stream.read(length)
            stream.seek(length + 4, os.SEEK_CUR)
    return b""


def _is_deep_colour_png(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(26)
    return head[24] == 16 and head[25] != 0


def _from_pillow(image: Image.Image) -> Page:
    if image.mode == "1":
        return Page(np.asarray(image.convert("L")), displayed=True)
    if image.mode.startswith(("I", "F")):
        return Page(np.asarray(image).astype(np.float32), displayed=False)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return Page(on_white(np.asarray(image.convert("RGBA"))), displayed=True)
    if image.mode == "L":
        return Page(np.asarray(image), displayed=False)
    return Page(np.asarray(image.convert("RGB")), displayed=True)


def _grey_if_equal(page: Page) -> Page:
    """A colour image whose channels are equal everywhere (a radiograph saved as RGB) is grey, and gets a window."""
    values = page.values
    if values.ndim != 3 or not all(np.array_equal(values[..., 0], values[..., c]) for c in (1, 2)):
        return page
    return Page(np.ascontiguousarray(values[..., 0]), displayed=False)
