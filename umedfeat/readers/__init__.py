"""The readers: who recognises a file, who groups files into inputs, who opens an input.

One table, one interface; nobody outside this package branches on a format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from umedfeat.items import Failure, Reader, Skipped, Source
from umedfeat.policy import Policy
from umedfeat.privacy import Pseudonyms

__all__ = ["READERS", "Collected", "Format", "Found", "open_reader", "sniff"]


class Found(NamedTuple):
    """One file under the input root. ``name``: relative path with "/". ``row``: its manifest row, if any."""

    path: Path
    name: str
    row: Mapping[str, str]


class Collected(NamedTuple):
    """What a format made of its files: every file ends in exactly one of the three lists.

    ``folders``: relative folders that are named after identifiers → how they are called in outputs. Other files that
    lie there are renamed alike.
    """

    sources: list[Source]
    skipped: list[Skipped]
    failures: list[Failure]
    folders: Mapping[str, str] = MappingProxyType({})


class Format(Protocol):
    """A module of this package is a Format: three functions, no state."""

    def sniff(self, path: Path, head: bytes) -> bool:
        """Is this file ours? ``head`` holds its first 4096 bytes. Content decides, never the suffix."""
        ...

    def collect(self, found: Sequence[Found], policy: Policy, pseudonyms: Pseudonyms) -> Collected:
        """Group files into sources (a DICOM series, a slide with companions), list what is not an input."""
        ...

    def open(self, source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
        """Open one source; ``prepared`` is ``Plan.prepared`` when another process has planned it already."""
        ...


#: In the order in which they are asked. Slides before DICOM (a whole-slide DICOM is a slide) and before flat images
#: (a pyramidal TIFF is a slide).
READERS: dict[str, str] = {
    "slide": "umedfeat.readers.slide",
    "dicom": "umedfeat.readers.dicom",
    "nifti": "umedfeat.readers.nifti",
    "raster": "umedfeat.readers.raster",
}


def reader_format(name: str) -> Format:
    """The module that implements a key of READERS (imported on first use)."""
    module: Any = import_module(READERS[name])
    found: Format = module
    return found


def sniff(path: Path, head: bytes) -> str | None:
    """Key of READERS whose format recognises the file, or None."""
    return next((name for name in READERS if reader_format(name).sniff(path, head)), None)


def open_reader(source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
    """Open a source with the reader of its format.

    Raises:
        InputError: the source cannot be opened.
    """
    opener: Callable[..., Reader] = reader_format(source.format).open
    return opener(source, policy, prepared)
