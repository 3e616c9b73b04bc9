"""How many focal planes a scanner's file holds: OpenSlide shows one of them and does not tell."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import tifffile

from umedfeat.readers.slides.tiff import TIFF_FAULTS

__all__ = ["scanner_planes"]

_NDPI_OBJECTIVE, _NDPI_DEPTH = 65421, 65424
_MIRAX_FOCUS = "microscope focus level"


def scanner_planes(path: Path, properties: Mapping[str, str], sizes: Sequence[tuple[int, int]]) -> int:
    """Focal planes, 1 where the file tells of none.

    Args:
        properties: OpenSlide's. ``sizes``: of its levels, finest first.
    """
    vendor = properties.get("openslide.vendor", "")
    if vendor == "hamamatsu" and path.suffix.lower() == ".ndpi":
        return _ndpi(path)
    if vendor == "sakura":
        return _sakura(path)
    if vendor == "aperio":
        return sizes.count(sizes[0])  # further planes look like levels of the same size
    told = {"hamamatsu": "hamamatsu.NoLayers", "ventana": "ventana.Z-layers"}.get(vendor, "")
    if vendor == "mirax":
        names = (f"mirax.HIERARCHICAL.HIER_{k}" for k in range(16))
        told = next((f"{name}_COUNT" for name in names if _says_focus(properties, name)), "")
    return _number(properties.get(told, ""))


def _says_focus(properties: Mapping[str, str], name: str) -> bool:
    return properties.get(f"{name}_NAME", "").strip().lower() == _MIRAX_FOCUS


def _number(text: str) -> int:
    return max(1, int(text)) if text.strip().isdecimal() else 1


def _ndpi(path: Path) -> int:
    """Different depths among the pages that an objective took; maps and macros have none."""
    try:
        with tifffile.TiffFile(path) as file:
            pages = [page.aspage() for page in file.pages]
            lenses = [page.tags.get(_NDPI_OBJECTIVE) for page in pages]
            depths = [page.tags.get(_NDPI_DEPTH) for page in pages]
            scans = [d for lens, d in zip(lenses, depths, strict=True) if lens is not None and lens.value > 0]
            return max(1, len({depth.value for depth in scans if depth is not None}))
    except TIFF_FAULTS:
        return 1


def _sakura(path: Path) -> int:
    """The fifth number of the header in the table that the database names."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            ((table,),) = base.execute("SELECT TableName FROM DataManagerSQLiteConfigXPO")
            quoted = str(table).replace('"', '""')
            ((header,),) = base.execute(f"SELECT data FROM \"{quoted}\" WHERE id = 'Header'")
        return max(1, int.from_bytes(header[16:20], "little"))
    except (sqlite3.Error, ValueError, TypeError):
        return 1
