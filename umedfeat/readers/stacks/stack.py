"""What a format with slices supplies: facts known without pixels, and the stored slices in physical units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats32, Mask
from umedfeat.contract import Json
from umedfeat.errors import UnsupportedInput
from umedfeat.readers.stacks.intensity import StoredVoi

__all__ = ["SliceStack", "StackFacts", "volumes_of"]


@dataclass(frozen=True, eq=False)
class StackFacts:
    """What a format knows about a stack without reading pixels.

    Attributes:
        name: the source's relative name, for messages.
        format: what the file is ("dicom-ct", "nifti" …), stored.
        modality: "CT", "MR", "PT", "US" …; decides the intensity policy.
        cols, rows, slices: stored shape.
        affine: (4, 4) float64, (column, row, slice, 1) of voxel centres to LPS millimetres; None without geometry
            (cine frames, pages): stored orientation and order, positions NaN, ``policy.volume.frames`` selects.
        origins: (slices, 3) LPS millimetres of every slice's first voxel where the distances vary (missing slices).
        acquired_axis: storage axis across which the scanner took its slices: 0 column, 1 row, 2 slice.
        pixel_spacing: (row, column) distance of the pixels where there is no affine; their ratio counts.
        measured: it is in millimetres (with an affine everything is).
        colour: slices are displayed as they are: (rows, cols, 3) or (rows, cols), uint8 or float32 in [0, 1].
        invert: MONOCHROME1: inverted after the window.
        calibrated: values are in the modality's units (False: a CT without HU; falls back to percentiles, recorded).
        units_told: the file itself tells that a CT is in Hounsfield units; else this was only declared.
        suv: values are standardised uptake values by body weight.
        bolus: one phase of a series with contrast agent: its brightest voxels are what matters.
        floating: values may be NaN or infinite; they are counted in a pass over the volume.
        detail: further facts to store, free of identifiers.
        carry: small picklable state that spares other processes work; comes back as ``prepared["stack"]``.
        part: which part of its files the stack is, where they hold several (one volume of a 4-D file); "" for all.
    """

    name: str
    format: str
    modality: str
    cols: int
    rows: int
    slices: int
    affine: npt.NDArray[np.float64] | None = None
    origins: npt.NDArray[np.float64] | None = None
    acquired_axis: int = 2
    pixel_spacing: tuple[float, float] = (1.0, 1.0)
    measured: bool = False
    colour: bool = False
    invert: bool = False
    calibrated: bool = True
    units_told: bool = True
    suv: bool = False
    bolus: bool = False
    floating: bool = False
    detail: Mapping[str, Json] = field(default_factory=dict)
    carry: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(columns, rows, slices)."""
        return self.cols, self.rows, self.slices

    @property
    def in_millimetres(self) -> bool:
        """Is the size of the pixels known?"""
        return self.affine is not None or self.measured


class SliceStack(Protocol):
    """Stored slices of one source. Slices are mostly asked for in ascending or descending order."""

    @property
    def facts(self) -> StackFacts:
        """Size, geometry and meaning of the values."""
        ...

    def slice(self, k: int) -> tuple[Floats32, Mask | None]:
        """Stored slice k: (rows, cols) float32 in physical units (colours: see StackFacts); padding mask or None.

        Raises:
            RegionUnreadable: this slice cannot be decoded.
        """
        ...

    def stored_voi(self, k: int) -> StoredVoi | None:
        """The window or look-up table stored with slice k, or None."""
        ...

    def close(self) -> None:
        """Release handles. Safe to call twice."""
        ...


def volumes_of(count: int, rule: str, name: str) -> range:
    """Volumes of a 4-D file that ``policy.volume.volume_index`` ("N" or "mean") asks for; every 3-D file has one.

    Raises:
        UnsupportedInput: several volumes and no rule, or an index that is not there.
    """
    if count == 1:
        return range(1)
    if rule == "mean":
        return range(count)
    if not rule.isdecimal():
        raise UnsupportedInput(
            f"{name}: 4-D with {count} volumes", remedy="--volume-index N, mean, or all (an item per volume)"
        )
    if int(rule) >= count:
        raise UnsupportedInput(f"{name}: no volume {rule} among {count}", remedy=f"--volume-index 0 to {count - 1}")
    return range(int(rule), int(rule) + 1)
