"""Slides of several files: which files belong to a MIRAX or Hamamatsu slide, and which of them are missing.

::

    scan.mrxs  + scan/Slidedat.ini, which names Index.dat, Data0000.dat …
    scan.vms   (text), which names its JPEG images, map and macro beside it; scan.vmu likewise
"""

from __future__ import annotations

import configparser
from functools import lru_cache
from pathlib import Path

from umedfeat.disk.regular import open_regular
from umedfeat.errors import UnreadableInput

__all__ = ["companions_of", "is_companion", "refuse_missing_companions"]

_VMS = (".vms", ".vmu")
_VMS_KEYS = ("imagefile", "mapfile", "optimisationfile", "macroimage")
#: OpenSlide does without these.
_VMS_OPTIONAL = ("optimisationfile",)
_LARGEST_TEXT = 1 << 20


def companions_of(path: Path) -> tuple[Path, ...]:
    """The other files of a slide that exist, sorted; none for slides of a single file."""
    return tuple(sorted(file for file in _named_by(path, path.stat().st_mtime_ns) if file.is_file()))


def is_companion(path: Path) -> bool:
    """Does another slide say that this file belongs to it?"""
    folder = path.parent
    if path.suffix.lower() == ".ets":  # of a VSI slide: _name_/stack1/frame_t.ets
        outer = folder.parent
        return outer.name[:1] == outer.name[-1:] == "_" and outer.with_name(f"{outer.name[1:-1]}.vsi").is_file()
    if path.suffix.lower() in {".dat", ".ini"}:
        return any(folder.with_name(folder.name + suffix).is_file() for suffix in (".mrxs", ".MRXS"))
    return path in _of_vms_slides(folder, folder.stat().st_mtime_ns)


def refuse_missing_companions(path: Path, name: str) -> None:
    """Say which file is missing, better than a decoder can.

    Raises:
        UnreadableInput: one of the files that the slide consists of is missing.
    """
    remedy = "copy the slide again with all files that belong to it"
    if path.suffix.lower() == ".mrxs" != path.suffix:
        message = f"{name}: OpenSlide knows MIRAX slides by their suffix in small letters"
        raise UnreadableInput(message, remedy=f"rename it to {path.stem}.mrxs")
    if path.suffix == ".mrxs" and not (path.with_suffix("") / "Slidedat.ini").is_file():
        message = f"{name}: its folder {path.stem}/ with Slidedat.ini is missing"
        raise UnreadableInput(message, remedy=f"copy the folder {path.stem}/ beside it")
    named = _named_by(path, path.stat().st_mtime_ns, optional=False)
    missing = [file for file in named if not file.is_file()]
    if missing:
        shown = ", ".join(file.name for file in missing[:3]) + (" …" if len(missing) > 3 else "")
        raise UnreadableInput(f"{name}: {len(missing)} of its {len(named)} files missing: {shown}", remedy=remedy)


@lru_cache(maxsize=256)
def _of_vms_slides(folder: Path, changed: int) -> frozenset[Path]:
    """What the VMS slides of a folder name; looked up once per state of the folder."""
    slides = [path for path in folder.iterdir() if path.suffix.lower() in _VMS and path.is_file()]
    return frozenset(file for slide in slides for file in _named_by(slide, slide.stat().st_mtime_ns))


@lru_cache(maxsize=4096)
def _named_by(path: Path, changed: int, optional: bool = True) -> tuple[Path, ...]:
    """Files that a slide consists of besides its own, whether they exist or not."""
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        return _named_by_mirax(path.with_suffix(""))
    if suffix not in _VMS:
        return ()
    keys = [key for key in _VMS_KEYS if optional or key not in _VMS_OPTIONAL]
    values = [value for section in _parsed(path) for key, value in section if key.startswith(tuple(keys)) and value]
    return tuple(path.parent / value for value in dict.fromkeys(values))


def _named_by_mirax(folder: Path) -> tuple[Path, ...]:
    table = folder / "Slidedat.ini"
    values = [
        value
        for section in _parsed(table)
        for key, value in section
        if key == "indexfile" or (key.startswith("file_") and key[5:].isdigit())
    ]
    return (table, *(folder / value for value in dict.fromkeys(values)))


def _parsed(path: Path) -> list[list[tuple[str, str]]]:
    """(lower-case key, value) of every section; nothing where the file is no such text."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",), comment_prefixes=("#",))
    try:
        with open_regular(path) as stream:
            parser.read_string(stream.read(_LARGEST_TEXT).decode("utf-8-sig", errors="replace"))
    except (OSError, configparser.Error):
        return []
    return [[(key, (value or "").strip()) for key, value in parser.items(section)] for section in parser.sections()]
