"""What crosses the rooms of the pipeline, and what each room must be able to do (no torch here).

::

    inputs ─ discovery (Format.sniff, Format.collect) ─→ Source, Skipped, Failure
    Source ─ Job ──→ Workers (Format.open → Reader.plan) ─→ Planned: Plan (which regions, in which order)
    Plan ── Batch ─→ Workers (Reader.read, into Slots) ───→ Read: pixels of regions of many sources
    Read ── Batch ─→ Devices (Encoder, one each) ─────────→ Embedded: a vector per region
    Source, Plan, vectors, Dropped ───────────────────────→ Sink: the feature file

The loop (``umedfeat.engine.loop``) hands out and scatters; it knows Workers, Devices and the Sink by the Protocols
of ``umedfeat.engine.protocols``, so that a cluster's workers, or a file of another kind, need no other loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.remote.fetch import RemoteFile

if TYPE_CHECKING:
    import torch

__all__ = [
    "REGION",
    "ArrayEncoder",
    "Collected",
    "Dropped",
    "Encoder",
    "EncoderFacts",
    "Failure",
    "Format",
    "Found",
    "Plan",
    "Reader",
    "RegionUnreadable",
    "Roi",
    "Skipped",
    "SlideTiles",
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


class Roi(NamedTuple):
    """A region of interest that a manifest row names: a mask, a box or a point.

    Attributes:
        mask: file of numbered regions, or None.
        label: number or name of the region in the mask; "" all of them.
        box: two corners in LPS millimetres (six numbers), of a flat image in millimetres from its top-left corner
            (four numbers).
        point: the same of one point (three or two numbers).
    """

    mask: Path | None = None
    label: str = ""
    box: tuple[float, ...] = ()
    point: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        """What tells it from other regions of the same image and mask."""
        return " ".join([self.label, *(f"{number:g}" for number in (*self.box, *self.point))]).strip()


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
        study, series, accession: keyed pseudonyms of what the input belongs to, or "".
        modality: what was declared (manifest or DICOM) or "" for "decide when planning".
        mpp: declared micrometres per pixel (manifest) or None.
        meta: the manifest's further columns (label, centre, split …), stored under /items/meta/<name>.
        selector: what tells this source from others in the same files (a series key as JSON); "" if nothing does.
        roi: the region of interest that is cut out, or None for the whole.
        remote: its files that lie at URLs, and are only here while it is read.
        holds: what keeps its files where they are (scratch space of an archive); stays in the process that found it.
    """

    id: str
    format: str
    path: Path
    files: tuple[Path, ...]
    name: str
    patient: str = ""
    study: str = ""
    series: str = ""
    accession: str = ""
    modality: str = ""
    mpp: float | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    selector: str = ""
    roi: Roi | None = None
    holds: tuple[object, ...] = field(default=(), repr=False, compare=False)
    remote: tuple[RemoteFile, ...] = ()

    @property
    def content(self) -> tuple[Path, ...]:
        """The files that decide what it is: its own, and the mask of its region of interest."""
        mask = self.roi.mask if self.roi else None
        return self.files if mask is None else (*self.files, mask)

    @property
    def cut(self) -> str:
        """What of these files is cut out, besides what a mask says; "" for the whole."""
        return self.roi.text if self.roi else ""

    @property
    def kept_meta(self) -> Mapping[str, str]:
        """``meta`` without the path of a mask, which may name people."""
        return self.meta if self.roi is None else {key: value for key, value in self.meta.items() if key != "mask"}


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
        tile_extent: width of one region in source pixels (level 0), 0 where regions are whole images.
        pixel_aspect: height of a source pixel by its width, where tiles are square in micrometres.
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
    pixel_aspect: float = 1.0
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

    def open_source(self, source: Source, policy: Policy, prepared: Mapping[str, Any] | None = None) -> Reader:
        """Open one source; ``prepared`` is ``Plan.prepared`` when another process has planned it already."""
        ...


class EncoderFacts(Protocol):
    """What a run must know of its encoder besides the numbers it gives.

    Attributes:
        name: as given to ``--encoder``.
        dim: length of what it gives of one image: the embedding, and with ``tokens`` among the settings (rows, columns,
            C) the grid behind it.
        image_size: side in pixels that it was made for (default of ``--image-size`` and ``--tile-size``).
        device: where it computes ("cpu", "cuda:0").
        precision: "fp32", "bf16" or "fp16": what it computes in; the output is float32 always.
        settings: JSON-able; everything that decides the numbers (weights sha256, pool order, precision, runtime …).
            Part of the fingerprint of the feature file.
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...


class Encoder(EncoderFacts, Protocol):
    """A frozen encoder on one device: RGB squares to vectors."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Embed (N, 3, H, W) float32 RGB in [0, 1], no mean/std applied; N ≥ 0. Returns (N, D) float32 on the CPU.

        Row i depends on image i alone, bit for bit, whatever N and the position (fp32 on one CPU).
        """
        ...


@runtime_checkable
class ArrayEncoder(EncoderFacts, Protocol):
    """An encoder on the CPU that takes pixels as they were read: no torch between them and the vectors."""

    def prepare(self, height: int, width: int) -> None:
        """Images of this size will come: do what takes long (compile) now. May be left out."""
        ...

    def embed(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Embed (N, H, W, 3) RGB, uint8 or float32 in [0, 1]; N ≥ 0. Returns (N, D) float32, as its call does."""
        ...


class SlideTiles(NamedTuple):
    """All tiles of one slide, as a slide encoder takes them (``umedfeat.encoders.slides``).

    Attributes:
        features: (n, D) float32, n ≥ 1, in stored order (rows of tiles from the top).
        coords: (n, 2) int64, x and y of each tile's top-left corner in pixels of level 0.
        extent: side of a tile in pixels of level 0.
        mpp: micrometres per pixel of level 0, the mean of both axes; NaN where the slide does not tell.
    """

    features: npt.NDArray[np.float32]
    coords: npt.NDArray[np.int64]
    extent: float
    mpp: float


def make_regions(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    slices: npt.ArrayLike = 0,
    tissue: npt.ArrayLike = 1.0,
    position: npt.ArrayLike = np.nan,
) -> npt.NDArray[np.void]:
    """Build a REGION array from columns (scalars are broadcast)."""
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c)) for c in (x, y, slices, tissue, position)))
    regions = np.zeros(columns[0].shape, dtype=REGION)
    for name, column in zip(("x", "y", "slice", "tissue", "position"), columns, strict=True):
        regions[name] = column
    return regions
