"""Masks that are volumes of numbers: NIfTI, MGH, Analyze, NRRD, MetaImage and DICOM segmentations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.readers.regions.grid import Grid, Points

__all__ = ["LabelVolume"]


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """Numbers on a grid of their own.

    Attributes:
        values: (slices, rows, columns) whole numbers; 0 is nothing.
        affine: (4, 4), (column, row, slice, 1) to LPS millimetres.
        names: number → name, where the file tells.
        painted: the values of some numbers alone, of a file whose regions may overlap; None where they cannot.
    """

    values: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    names: Mapping[int, str] = field(default_factory=dict)
    painted: Callable[[Collection[int]], npt.NDArray[Any]] | None = None

    def numbers(self) -> list[int]:
        """Numbers that occur or have a name, without 0."""
        return sorted({int(value) for value in np.unique(self.values)} - {0} | set(self.names))

    def only(self, numbers: Collection[int]) -> LabelVolume:
        """The same without other regions, which may lie over these."""
        return self if self.painted is None else replace(self, values=self.painted(numbers))

    def on(self, grid: Grid) -> npt.NDArray[Any]:
        """(slices, rows, columns): the number at every voxel centre of a grid (nearest voxel), 0 beside the mask."""
        cols, rows, slices = grid.shape
        found = np.zeros((slices, rows, cols), self.values.dtype)
        inverse = np.linalg.inv(self.affine)
        for k in range(slices):
            found[k] = self._looked_up(inverse @ grid.plane(k), (rows, cols))
        return found

    def points(self, numbers: Collection[int]) -> Points:
        """(n, 3) LPS millimetres of the first and last voxel in every row of voxels with one of the numbers."""
        marked = np.isin(self.values, list(numbers))
        lines = np.argwhere(marked.any(axis=2))
        first = marked.argmax(axis=2)[tuple(lines.T)]
        last = marked.shape[2] - 1 - marked[..., ::-1].argmax(axis=2)[tuple(lines.T)]
        ends = np.concatenate([np.column_stack([column, lines[:, 1], lines[:, 0]]) for column in (first, last)])
        return np.asarray(ends @ self.affine[:3, :3].T + self.affine[:3, 3])

    def _looked_up(self, place: npt.NDArray[np.float64], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Numbers of one slice; ``place``: (column, row, 0, 1) of the slice to indices of the mask."""
        across, down = np.arange(shape[1])[None, :], np.arange(shape[0])[:, None]
        indices = [np.rint(place[i, 3] + place[i, 0] * across + place[i, 1] * down).astype(np.int64) for i in range(3)]
        sizes = self.values.shape[::-1]
        inside = np.logical_and.reduce([(i >= 0) & (i < n) for i, n in zip(indices, sizes, strict=True)])
        column, row, plane = (np.where(inside, i, 0) for i in indices)
        return np.where(inside, self.values[plane, row, column], self.values.dtype.type(0))
