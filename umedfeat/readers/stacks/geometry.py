"""How a stack of slices lies in the patient, and how it is shown: pure arithmetic on affines in LPS millimetres.

LPS: x grows to the patient's left, y to the back (posterior), z to the head (superior), as in DICOM.
A display is decided by the affine alone, so a scan looks the same whatever the order of its axes on disk.
"""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "IN_PLANE",
    "PLANES",
    "View",
    "acquired_axis",
    "orientation",
    "select",
    "shear_degrees",
    "spacings",
    "stored_view",
    "view_of",
]

Affine = npt.NDArray[np.float64]
_Pixel = TypeVar("_Pixel", bound=np.generic)

#: LPS axis along which the slices of a plane are counted.
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}

#: Radiological display: (LPS axis to the right, LPS axis downwards, sign of the latter). Axial: the patient's left on
#: the right, back downwards. Coronal: left on the right, feet downwards. Sagittal: back on the right, feet downwards.
_DISPLAY = {"axial": (0, 1, 1.0), "coronal": (0, 2, -1.0), "sagittal": (1, 2, -1.0)}

#: Array dimensions (rows, columns) of a slice across each storage axis (0 column, 1 row, 2 slice).
IN_PLANE = {2: (1, 0), 1: (2, 0), 0: (2, 1)}


class View(NamedTuple):
    """One way to show a stack.

    Attributes:
        axis: storage axis across which slices are taken: 0 column, 1 row, 2 slice.
        plane: "axial", "coronal", "sagittal" or "stored" (no geometry).
        swap, flip_rows, flip_cols: how a stored slice becomes the displayed one (transpose first, then flips).
        order: (n,) storage index of every displayed slice; from feet to head, front to back, right to left.
        positions: (n,) millimetres of every displayed slice along the slice normal; NaN without geometry.
        spacing: (row, column) millimetres of the displayed pixels.
        step: millimetres between slices (0 for a single slice, NaN without geometry).
    """

    axis: int
    plane: str
    swap: bool
    flip_rows: bool
    flip_cols: bool
    order: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float64]
    spacing: tuple[float, float]
    step: float

    def show(self, image: npt.NDArray[_Pixel]) -> npt.NDArray[_Pixel]:
        """A stored slice (rows, cols) or (rows, cols, 3) as it is displayed."""
        shown = image.swapaxes(0, 1) if self.swap else image
        shown = shown[::-1] if self.flip_rows else shown
        return shown[:, ::-1] if self.flip_cols else shown


def spacings(affine: Affine) -> tuple[float, float, float]:
    """Millimetres per step along (column, row, slice)."""
    return tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))  # type: ignore[return-value]


def orientation(affine: Affine) -> tuple[int, int, int]:
    """Storage axis that runs along each LPS axis: the assignment with the largest sum of direction cosines.

    Ties (45° obliques) are broken by the sense of the rotation, which does not depend on the storage order.

    Raises:
        ValueError: the affine is singular or not finite.
    """
    steps = affine[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(_units(steps))) < 1e-3:
        raise ValueError("the affine is singular")
    cosines = _units(steps)

    def merit(axes: tuple[int, int, int]) -> tuple[float, float]:
        along = np.array([cosines[i, axes[i]] for i in range(3)])
        senses = np.where(along < 0, -1.0, 1.0)
        turned = [senses[i] * cosines[(i + 1) % 3, axes[i]] for i in range(3)]
        return round(float(np.abs(along).sum()), 4), round(float(np.sum(turned)), 4)

    return max(permutations((0, 1, 2)), key=merit)  # type: ignore[arg-type, return-value]


def acquired_axis(affine: Affine, shape: tuple[int, int, int], declared: int | None = None) -> tuple[int, str]:
    """Storage axis across which a scanner took its slices, and what tells so, where a file does not group slices.

    Physical properties decide, so that the answer does not depend on the order of the axes on disk. The first rule
    that singles out one axis wins: an axis of length 1; the spacing that differs while two agree (pixels are square);
    the declared slice direction; the largest spacing; the matrix size that differs while two agree; the axis nearest
    to feet-head.

    Args:
        affine: (4, 4), storage indices to LPS millimetres.
        shape: length of every storage axis.
        declared: storage axis that the header calls the slice direction, or None.
    """
    size = np.array(spacings(affine))
    candidates = (
        (_alone([n == 1 for n in shape]), "single slice"),
        (_odd_one_out(size, 0.005), "spacing"),
        (declared, "declared"),
        (_alone(list(size > 1.005 * np.delete(size, np.argmax(size)).max())), "largest spacing"),
        (_odd_one_out(np.array(shape, float), 0.0), "matrix"),
    )
    for axis, why in candidates:
        if axis is not None:
            return axis, why
    return orientation(affine)[PLANES["axial"]], "axial (isotropic)"


def shear_degrees(affine: Affine, axis: int) -> float:
    """Angle between a storage axis and the normal of the slices across it (gantry tilt); 0 for an upright stack."""
    cosine = abs(float(_normal(affine, axis) @ _units(affine[:3, :3])[:, axis]))
    return float(np.degrees(np.arccos(min(1.0, cosine))))


def view_of(
    affine: Affine,
    shape: tuple[int, int, int],
    plane: str,
    acquired_axis: int,
    origins: npt.NDArray[np.float64] | None = None,
) -> View:
    """The view of a stack in a plane.

    Args:
        affine: (4, 4), (column, row, slice, 1) to LPS millimetres.
        shape: (columns, rows, slices).
        plane: "acquired", or one of PLANES: slices across the storage axis nearest to the plane's normal.
        acquired_axis: storage axis across which the scanner took its slices.
        origins: (n, 3) LPS position of the first voxel of every slice along the acquired axis where the distances vary.
    """
    axes = orientation(affine)
    axis = acquired_axis if plane == "acquired" else axes[PLANES[plane]]
    lps = axes.index(axis)
    name = next(key for key, value in PLANES.items() if value == lps)
    right, down, down_sense = _DISPLAY[name]
    col_axis = IN_PLANE[axis][1]
    normal = _normal(affine, axis)
    normal = normal * (1.0 if normal[lps] >= 0 else -1.0)
    if origins is None or axis != acquired_axis:
        origins = affine[:3, 3] + np.outer(np.arange(shape[axis]), affine[:3, axis])
    positions = origins @ normal
    order = np.argsort(positions, kind="stable")
    size = spacings(affine)
    return View(
        axis=axis,
        plane=name,
        swap=col_axis != axes[right],
        flip_rows=bool(affine[down, axes[down]] * down_sense < 0),
        flip_cols=bool(affine[right, axes[right]] < 0),
        order=order.astype(np.int64),
        positions=positions[order],
        spacing=(size[axes[down]], size[axes[right]]),
        step=float(np.median(np.diff(positions[order]))) if shape[axis] > 1 else 0.0,
    )


def stored_view(count: int, spacing: tuple[float, float]) -> View:
    """Slices without geometry (frames, pages): as stored."""
    nothing = np.full(count, np.nan)
    return View(2, "stored", False, False, False, np.arange(count), nothing, spacing, float("nan"))


def select(count: int, rule: str, positions: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.int64]:
    """Indices of the slices that a rule keeps.

    Args:
        rule: "all", "N" (centres of N equal parts), "every-K" (0, K, 2K …) or "every-Kmm" (the slices next to 0, K,
            2K … millimetres from the first, each once).
        positions: (count,) millimetres of the slices, ascending; for the last rule.

    Raises:
        ValueError: another rule.
    """
    if rule == "all":
        return np.arange(count)
    if rule.startswith("every-") and rule.endswith("mm") and positions is not None:
        return _next_to(positions, float(rule[len("every-") : -len("mm")]))
    step = rule.removeprefix("every-")
    if not step.isdecimal() or int(step) < 1:
        raise ValueError(f"{rule!r} is neither all, N nor every-K")
    if step != rule:
        return np.arange(0, count, int(step))
    wanted = min(int(rule), count)
    return np.floor((np.arange(wanted) + 0.5) * count / wanted).astype(np.int64)


def _next_to(positions: npt.NDArray[np.float64], step: float) -> npt.NDArray[np.int64]:
    """Indices of the slices next to every ``step`` millimetres; the first of two that are equally near."""
    wanted = np.arange(positions[0], positions[-1] + 1e-6, step) if len(positions) else np.empty(0)
    right = np.clip(np.searchsorted(positions, wanted), 1, max(1, len(positions) - 1))
    if len(positions) < 2:
        return np.arange(len(positions))
    nearer_left = wanted - positions[right - 1] <= positions[right] - wanted
    return np.unique(np.where(nearer_left, right - 1, right)).astype(np.int64)


def _alone(marks: list[bool]) -> int | None:
    return marks.index(True) if sum(marks) == 1 else None


def _odd_one_out(sizes: npt.NDArray[np.float64], tolerance: float) -> int | None:
    """The axis whose size differs from the two others, which agree."""
    agree = [abs(sizes[(i + 1) % 3] - sizes[(i + 2) % 3]) <= tolerance * sizes.max() for i in range(3)]
    return _alone(agree)


def _units(steps: Affine) -> Affine:
    lengths = np.linalg.norm(steps, axis=0)
    if not (lengths > 0).all():
        raise ValueError("the affine is singular")
    units: Affine = steps / lengths
    return units


def _normal(affine: Affine, axis: int) -> npt.NDArray[np.float64]:
    row_axis, col_axis = IN_PLANE[axis]
    normal: npt.NDArray[np.float64] = np.cross(affine[:3, col_axis], affine[:3, row_axis])
    normal /= np.linalg.norm(normal)
    return normal
