"""Where the voxels of an image lie: the grid that a mask is brought to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.readers.stacks.stack import StackFacts

__all__ = ["Grid", "Points", "grid_of"]

#: (n, 3) LPS millimetres.
Points = npt.NDArray[np.float64]


class Grid(NamedTuple):
    """Voxel centres of a stack.

    Attributes:
        affine: (4, 4), (column, row, slice, 1) to LPS millimetres.
        origins: (slices, 3) LPS millimetres of the first voxel of every slice; need not be evenly spaced.
        shape: (columns, rows, slices).
    """

    affine: npt.NDArray[np.float64]
    origins: Points
    shape: tuple[int, int, int]

    def plane(self, k: int) -> npt.NDArray[np.float64]:
        """(4, 4) affine of slice k: (column, row, 0, 1) to LPS millimetres."""
        affine: npt.NDArray[np.float64] = self.affine.copy()
        affine[:3, 3] = self.origins[k]
        return affine

    def voxels(self, points: Points) -> Points:
        """(n, 3) places in voxels along (column, row, slice), fractions kept; between slices by interpolation."""
        exact: Points = (np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(self.affine).T)[:, :3]
        if self.shape[2] > 2:
            normal = np.cross(self.affine[:3, 0], self.affine[:3, 1])
            exact[:, 2] = _between(points @ normal, self.origins @ normal)
        return exact


def grid_of(facts: StackFacts) -> Grid | None:
    """The grid of a stack; None without geometry."""
    if facts.affine is None:
        return None
    steps = np.arange(facts.slices)[:, None] * facts.affine[:3, 2]
    stored = facts.origins if facts.acquired_axis == 2 else None
    origins = facts.affine[:3, 3] + steps if stored is None else stored
    return Grid(facts.affine, origins, facts.shape)


def _between(values: npt.NDArray[np.float64], knots: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fractional index of values among sorted (either way) knots; beyond the ends by the step there."""
    sense = 1.0 if knots[-1] >= knots[0] else -1.0
    rising, sought = knots * sense, values * sense
    left = np.clip(np.searchsorted(rising, sought) - 1, 0, len(rising) - 2)
    found: npt.NDArray[np.float64] = left + (sought - rising[left]) / (rising[left + 1] - rising[left])
    return found
