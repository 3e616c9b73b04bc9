"""DICOMDIR: the index of a file set (PS3.10 8, PS3.3 F): which files there should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pydicom

from umedfeat.readers.dicom.header import DICOMDIR, has_preamble
from umedfeat.readers.dicom.load import parsing
from umedfeat.readers.dicom.numbers import texts_of

__all__ = ["Indexed", "indexed_files", "is_dicomdir"]

_NAME = "DICOMDIR"


class Indexed(NamedTuple):
    """Files that an index lists: those that are there, and how many are not."""

    present: list[Path]
    missing: int


def is_dicomdir(path: Path) -> bool:
    """An index by its name and its first bytes (the meta header tells the class)?"""
    if not path.name.upper().startswith(_NAME):
        return False
    with path.open("rb") as stream:
        head = stream.read(1024)
    return has_preamble(head) and DICOMDIR.encode() in head


def indexed_files(path: Path, name: str) -> Indexed:
    """The files that an index refers to, in its order; letters of either case and a version (";1") do not matter.

    Raises:
        UnreadableInput: the index is damaged.
    """
    with parsing(name):
        records = pydicom.dcmread(path, specific_tags=["DirectoryRecordSequence"]).get("DirectoryRecordSequence") or []
        names = [parts for record in records if (parts := texts_of(record, "ReferencedFileID"))]
    places = [_found_below(path.parent, parts) for parts in names]
    present = list(dict.fromkeys(place for place in places if place is not None))
    return Indexed(present, sum(place is None for place in places))


def _found_below(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """The file of an index entry; never outside of the folder."""
    place: Path | None = folder
    for number, part in enumerate(parts):
        if place is None or part in ("", ".", "..") or "/" in part or "\\" in part:
            return None
        last = number == len(parts) - 1
        place = next((one for one in _spelled(place, part) if (one.is_file() if last else one.is_dir())), None)
    return place


def _spelled(folder: Path, part: str) -> Iterator[Path]:
    for spelling in (part, part.lower(), part.upper()):
        yield folder / spelling
        yield folder / f"{spelling};1"
