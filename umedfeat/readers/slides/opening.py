"""Which reader opens a slide: OpenSlide where it shows all that there is, else the TIFF or DICOM reader here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import openslide
import tifffile

from umedfeat.contract import Source
from umedfeat.errors import InputError, UnsupportedInput
from umedfeat.policy import Policy
from umedfeat.readers.jpeg import colours_of_stream
from umedfeat.readers.slides.backends import SlideBackend
from umedfeat.readers.slides.companions import refuse_missing_companions
from umedfeat.readers.slides.czi_backend import CziBackend
from umedfeat.readers.slides.dicom_backend import DicomBackend, contradiction_of, read_instances, spacings_of
from umedfeat.readers.slides.isyntax_backend import IsyntaxBackend, is_isyntax
from umedfeat.readers.slides.ome_zarr import is_store
from umedfeat.readers.slides.openslide import OpenSlideBackend
from umedfeat.readers.slides.planes import PlanesNotChosen
from umedfeat.readers.slides.tiff import TIFF_FAULTS, Choice, TiffBackend
from umedfeat.readers.slides.vsi_backend import VsiBackend
from umedfeat.readers.slides.vsi_layout import is_vsi
from umedfeat.readers.slides.zarr_backend import ZarrBackend

__all__ = ["is_tiff", "open_backend", "scanner_of"]

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_backend(source: Source, policy: Policy) -> SlideBackend:
    """Open a slide.

    Raises:
        InputError: damaged, of an unknown kind, or there is a choice of planes and none was made.
    """
    selector = json.loads(source.selector or "{}")
    if selector.get("dicom"):
        return _dicom(source, policy)
    choice = Choice(int(selector.get("picture", 0)), policy.slide.channel, policy.slide.focus)
    if is_store(source.path):
        return ZarrBackend(source.path, source.name, policy.limits.max_pixels, choice)
    if is_vsi(source.path):
        return VsiBackend(source.path, source.name, policy.limits.max_pixels, choice)
    refuse_missing_companions(source.path, source.name)
    if not is_tiff(source.path):
        return _not_tiff(source, policy, choice)
    scanner = scanner_of(source.path)
    if scanner is None or _colours_differ(source.path):
        return TiffBackend(source.path, source.name, policy.limits.max_pixels, choice)
    pages = scanner == "aperio"  # whose focal planes are pages, any of which can be read
    try:
        return OpenSlideBackend(source.path, source.name, focus="" if pages else choice.focus)
    except PlanesNotChosen:
        if not pages:
            raise
        return TiffBackend(source.path, source.name, policy.limits.max_pixels, choice)
    except UnsupportedInput as refusal:
        try:  # JPEG XL, WebP, LERC and others that libtiff lacks
            return TiffBackend(source.path, source.name, policy.limits.max_pixels, choice)
        except InputError:
            raise refusal from None


def _not_tiff(source: Source, policy: Policy, choice: Choice) -> SlideBackend:
    """OpenSlide says best what is missing; of CZI it does not read all kinds, of iSyntax none."""
    if _starts(source.path, is_isyntax):
        return IsyntaxBackend(source.path, source.name, choice)
    try:
        return OpenSlideBackend(source.path, source.name, focus=choice.focus)
    except PlanesNotChosen:
        raise
    except UnsupportedInput:
        if not _starts(source.path, lambda head: head.startswith(b"ZISRAWFILE")):
            raise
        return CziBackend(source.path, source.name, policy.limits.max_pixels, choice)


def _starts(path: Path, known: Callable[[bytes], bool]) -> bool:
    with path.open("rb") as stream:
        return known(stream.read(4096))


def is_tiff(path: Path) -> bool:
    """Classic or big TIFF, either byte order."""
    with path.open("rb") as stream:
        return stream.read(4) in _TIFF_MAGIC


def scanner_of(path: Path) -> str | None:
    """The scanner's format that OpenSlide knows; None for a TIFF of nobody's own, of which it shows the first page."""
    known = openslide.OpenSlide.detect_format(str(path))
    return None if known == "generic-tiff" else known


def _dicom(source: Source, policy: Policy) -> SlideBackend:
    slide = policy.slide
    instances = read_instances(source.files, source.name)
    grey = int(instances[0].header.get("SamplesPerPixel", 3)) == 1
    if grey or instances[0].several or contradiction_of(instances[0]):
        return DicomBackend(instances, source.name, channel=slide.channel, focus=slide.focus)
    try:
        return OpenSlideBackend(source.path, source.name, spacings_of(instances), focus=slide.focus)
    except UnsupportedInput as refusal:
        try:
            return DicomBackend(instances, source.name, channel=slide.channel, focus=slide.focus)
        except InputError:
            raise refusal from None


def _colours_differ(path: Path) -> bool:
    """Does the first JPEG stream of a scanner's TIFF tell other colours than the TIFF, which OpenSlide believes?"""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0].aspage()
            if page.compression != tifffile.COMPRESSION.JPEG or page.samplesperpixel != 3:
                return False
            place = next((k for k, length in enumerate(page.databytecounts) if length), None)
            if place is None:
                return False
            file.filehandle.seek(page.dataoffsets[place])
            said = colours_of_stream(file.filehandle.read(min(page.databytecounts[place], 65536)))
            return said is not None and said != (page.photometric == tifffile.PHOTOMETRIC.YCBCR)
    except TIFF_FAULTS:
        return False
