"""What crosses the rooms of the pipeline: a Source is found, a Plan is made of it, its Regions are read.

::

    Source (what was found) → Plan (which regions, in which order) → region arrays → features
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy

__all__ = [
    "REGION",
    "Collected",
    "Dropped",
    "Failure",
    "Format",
    "Found",
    "Plan",
    "Reader",
    "RegionUnreadable",
    "Skipped",
    "Source",
    "make_regions",
]

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

#: One row = one square that the encoder sees.
#: ``x, y``: top-left corner in pixels of the source image (level 0 of a slide, columns/rows of a slice).
#: ``slice``: slice of a volume, frame of a cine, page of a TIFF; 0 for flat images.
#: ``tissue``: tissue fraction 0..1; 1 where no mask applies.
#: ``position``: millimetres along the slice normal, NaN if none.
REGION = np.dtype([("x", "<i8"), ("y", "<i8"), ("slice", "<i4"), ("tissue", "<f4"), ("position", "<f4")])


@dataclass(frozen=True)
class Source:
    """One input that will become one item of the feature file.

    Attributes:
        id: unique, stable; relative path without suffix, the manifest's id, or folder + series pseudonym.
        format: key of ``umedfeat.readers.READERS``.
        path: the file (or the folder / first file of a series).
        files: every file it is made of, in a deterministic order; ``(path,)`` for single files.
        name: path relative to the input root with ``/`` separators: the only path that is stored or logged.
        patient: keyed pseudonym or "" (never the raw identifier, unless ``--keep-ids``).
        study: keyed pseudonym or "".
        modality: what was declared (manifest or DICOM) or "" for "decide when planning".
        mpp: declared micrometres per pixel (manifest) or None.
        meta: the manifest's further columns (label, centre, split …), stored under /items/meta/<name>.
        selector: what tells this source from others in the same files (a series key as JSON); "" if nothing does.
    """

    id: str
    format: str
    path: Path
    files: tuple[Path, ...]
    name: str
    patient: str = ""
    study: str = ""
    modality: str = ""
    mpp: float | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    selector: str = ""


@dataclass(frozen=True)
class Skipped:
    """A file that was looked at and is not an input, with the reason. ``name`` is relative to the input root."""

    name: str
    reason: str


@dataclass(frozen=True)
class Failure:
    """An input that should have been embedded and was not. ``stage``: discover, plan, read, encode or write."""

    source: str
    stage: str
    error: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Dropped:
    """One planned region that could not be read; never replaced by invented pixels."""

    x: int
    y: int
    slice: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """Which regions of one source are embedded, in stored order, and the facts about the source.

    Attributes:
        regions: structured array of dtype REGION; may be empty (a slide without tissue).
        shape: (height, width) of every array that ``Reader.read`` returns for this plan.
        dtype: "uint8" for 8-bit sources, "float32" in [0, 1] otherwise.
        format: what the file is ("aperio", "dicom-ct", "nifti", "png" …).
        modality: "WSI", "CT", "MR", "PT", "CR", "DX", "MG", "US", "XA", "NM", "OT", "photo", "histology" …
        width, height, depth: of the source in pixels / slices.
        mpp: (x, y) micrometres per pixel of the source image or None; ``mpp_source`` says where it comes from
            (``header:<key>``, ``manifest``, ``flag``).
        spacing: "z\\y\\x" in millimetres, or "".
        tile_extent: side of one region in source pixels (level 0), 0 where regions are whole images.
        detail: further facts, JSON-able, free of identifiers (decoder, vendor, windows, flags, missing slices …).
        prepared: small picklable state that spares other processes the planning (intensity limits, level …).
        part: which part of its files the source is, where they hold several (one volume of a 4-D file); "" for all.
        content_sha256, files_sha256, files_stat: see ``umedfeat.naming.Identity``; not the reader's business.
    """

    regions: npt.NDArray[np.void]
    shape: tuple[int, int]
    dtype: Literal["uint8", "float32"]
    format: str
    modality: str
    width: int
    height: int
    depth: int = 1
    mpp: tuple[float, float] | None = None
    mpp_source: str = ""
    spacing: str = ""
    tile_extent: float = 0.0
    detail: Mapping[str, Json] = field(default_factory=dict)
    prepared: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    content_sha256: str = ""
    files_sha256: str = ""
    files_stat: str = ""

    @property
    def hint(self) -> str:
        """What the reader would rather be told about this input (a CT that is not declared), or ""."""
        intensity = self.detail.get("intensity")
        own = str(self.detail.get("hint", ""))
        return own or (str(intensity.get("hint", "")) if isinstance(intensity, dict) else "")


class RegionUnreadable(Exception):
    """Raised by ``Reader.read`` for one bad region; the pipeline records it as Dropped and goes on."""


class Reader(Protocol):
    """An opened source. ``plan`` is called once, in one process; ``read`` in any process, given the plan's rows.

    Errors: ``InputError`` for the whole source, ``RegionUnreadable`` for one region, ``NotPlanned`` where pixels are
    asked for before the plan is made or given; nothing else escapes.
    """

    def plan(self) -> Plan:
        """Decide which regions are embedded. Deterministic: same bytes and policy, same plan."""
        ...

    def read(self, regions: npt.NDArray[np.void]) -> Sequence[npt.NDArray[np.generic] | RegionUnreadable]:
        """Read the given rows of ``Plan.regions``: one (H, W, 3) array of the plan's shape and dtype per row, in order.

        A row that cannot be read yields a RegionUnreadable in its place. Rows come in plan order and mostly
        consecutive, so that a reader may fetch neighbouring tiles in one block.
        """
        ...

    def close(self) -> None:
        """Release handles. Safe to call twice."""
        ...


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


def make_regions(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    slice: npt.ArrayLike = 0,
    tissue: npt.ArrayLike = 1.0,
    position: npt.ArrayLike = np.nan,
) -> npt.NDArray[np.void]:
    """Build a REGION array from columns (scalars are broadcast)."""
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c)) for c in (x, y, slice, tissue, position)))
    regions = np.zeros(columns[0].shape, dtype=REGION)
    for name, column in zip(("x", "y", "slice", "tissue", "position"), columns, strict=True):
        regions[name] = column
    return regions
