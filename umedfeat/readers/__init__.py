"""The readers: who recognises a file, who groups files into inputs, who opens an input.

One table, one interface; nobody outside this package branches on a format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from umedfeat.contract import Format, Reader, Source
from umedfeat.errors import UnsupportedInput
from umedfeat.policy import Policy

__all__ = ["READERS", "STORE_MARKERS", "open_reader", "reader_format", "settled", "sniff"]


#: In the order in which they are asked. Slides before DICOM (a whole-slide DICOM is a slide) and before flat images
#: (a pyramidal TIFF is a slide).
READERS: dict[str, str] = {
    "slide": "umedfeat.readers.slides.reader",
    "dicom": "umedfeat.readers.dicom.reader",
    "nifti": "umedfeat.readers.volumes.reader",
    "array": "umedfeat.readers.volumes.arrays",
    "raster": "umedfeat.readers.images.reader",
}


def reader_format(name: str) -> Format:
    """The module that implements a key of READERS (imported on first use)."""
    module: Any = import_module(READERS[name])
    found: Format = module
    return found


#: Files that make their folder one input (a Zarr store), and stand for it; the first that is there.
STORE_MARKERS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")

#: (suffix, first bytes) that only one format claims: the others need not be imported to say no. Of files with other
#: suffixes all are asked: parts of slides hold PNG and JPEG too.
_SIGNATURES = {(".png", b"\x89PNG\r\n\x1a\n"): "raster"}


def sniff(path: Path, head: bytes) -> str | None:
    """Key of READERS whose format recognises the file, or None."""
    for (suffix, signature), name in _SIGNATURES.items():
        if path.suffix.lower() == suffix and head.startswith(signature):
            return name if reader_format(name).sniff(path, head) else None
    return next((name for name in READERS if reader_format(name).sniff(path, head)), None)


def open_reader(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
    """Open a source with the reader of its format.

    Raises:
        InputError: the source cannot be opened.
    """
    if source.roi is not None and source.format == "slide":
        message = f"{source.name}: a region of interest of a slide is no column of the manifest"
        raise UnsupportedInput(message, remedy="--mask-dir takes masks and GeoJSON of slides")
    opener: Callable[..., Reader] = reader_format(source.format).open_source
    return opener(source, policy, prepared)


def settled(policy: Policy, side: int) -> Policy:
    """A policy with all that only an encoder and files can tell: open sizes, and the identity of external masks.

    Args:
        policy: as the user gave it.
        side: of the encoder's images, in pixels.

    Raises:
        SetupError: no such folder of masks, or an overlap that is not below the side of a tile.
    """
    policy = policy.sized(side)
    if not policy.limits.mask_dir:
        return policy
    from umedfeat.readers.slides.annotations import masks_digest

    return replace(policy, slide=replace(policy.slide, masks_sha256=masks_digest(policy.limits.mask_dir)))
