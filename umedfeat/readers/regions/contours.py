"""Contours of a DICOM structure set (RTSTRUCT, PS3.3 C.8.8): planar polygons in millimetres of the patient."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom

from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.dicom.numbers import numbers_of, whole_of
from umedfeat.readers.regions.grid import Grid, Points
from umedfeat.readers.slides.polygons import fill_polygon
from umedfeat.readers.stacks.geometry import IN_PLANE

__all__ = ["RTSTRUCT", "Contours", "read_structure_set"]

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
_AREAS = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
_PARALLEL = 0.999  # cosine between a contour's normal and the slices'
_SAME_PLANE = 0.01  # millimetres
_ROUNDING = 1e-3


class Contour(NamedTuple):
    """One closed polygon. ``number``: of its region; ``points``: (n, 3) LPS millimetres."""

    number: int
    points: Points


@dataclass(frozen=True, eq=False)
class Contours:
    """The areas of a structure set. ``names``: number → name of a region."""

    contours: tuple[Contour, ...]
    names: Mapping[int, str]
    file: str

    def numbers(self) -> list[int]:
        """Numbers of the regions."""
        return sorted(self.names)

    def only(self, numbers: Collection[int]) -> Contours:
        """The same without other regions, which may lie over these."""
        return replace(self, contours=tuple(contour for contour in self.contours if contour.number in numbers))

    def points(self, numbers: Collection[int]) -> Points:
        """(n, 3) LPS millimetres of all corners of some regions."""
        own = [contour.points for contour in self.contours if contour.number in numbers]
        return np.concatenate(own) if own else np.empty((0, 3))

    def on(self, grid: Grid) -> npt.NDArray[np.uint16]:
        """(slices, rows, columns): the region at every voxel centre, the highest number where regions overlap.

        A slice takes the contours of the plane next to it, at most half a distance of slices or of planes away. Where
        contours of one plane lie within each other the inner one is a hole (even-odd rule).

        Raises:
            UnsupportedInput: contours that lie across every axis of the grid.
        """
        found = np.zeros(grid.shape[::-1], np.uint16)
        for number in self.numbers():
            own = [contour.points for contour in self.contours if contour.number == number]
            if own:
                found[_filled(own, grid, self.file)] = number
        return found


def read_structure_set(dataset: pydicom.Dataset, name: str) -> Contours:
    """The closed planar contours of a structure set; points and open lines enclose nothing and are left out.

    Raises:
        UnreadableInput: a region has coordinates that are no numbers.
    """
    told = {
        whole_of(one, "ROINumber"): str(one.get("ROIName", "")) for one in dataset.get("StructureSetROISequence", [])
    }
    contours = [
        Contour(number, _points(one, name))
        for holder in dataset.get("ROIContourSequence", [])
        if (number := whole_of(holder, "ReferencedROINumber")) in told and number is not None
        for one in holder.get("ContourSequence") or []
        if str(one.get("ContourGeometricType", "CLOSED_PLANAR")) in _AREAS
    ]
    return Contours(tuple(contours), {number: label for number, label in told.items() if number is not None}, name)


def _points(contour: pydicom.Dataset, name: str) -> Points:
    numbers = numbers_of(contour, "ContourData")
    if len(numbers) < 9 or len(numbers) % 3:
        raise UnreadableInput(f"{name}: a contour of {len(numbers)} coordinates", remedy="export it again")
    return np.array(numbers).reshape(-1, 3)


def _filled(contours: list[Points], grid: Grid, name: str) -> npt.NDArray[np.bool_]:
    """(slices, rows, columns) bool: the inside of one region's contours."""
    axis = _axis_across(max(contours, key=len), grid, name)
    centred = [grid.voxels(points) for points in contours]
    places = np.array([float(voxels[:, axis].mean()) for voxels in centred])
    planes = _planes(places, _SAME_PLANE / float(np.linalg.norm(grid.affine[:3, axis])))
    row_axis, col_axis = IN_PLANE[axis]
    shape = (grid.shape[row_axis], grid.shape[col_axis])
    half = max(1.0, float(np.median(np.diff(list(planes)))) if len(planes) > 1 else 1.0) / 2 + _ROUNDING
    inside = np.zeros(grid.shape[::-1], bool)
    across = np.moveaxis(inside, 2 - axis, 0)  # (index along the axis, rows, columns) of IN_PLANE: a view
    for k in range(grid.shape[axis]):
        nearest = min(planes, key=lambda place: abs(place - k))
        if abs(nearest - k) <= half:
            rings = [centred[i][:, [col_axis, row_axis]] + 0.5 for i in planes[nearest]]
            across[k] = fill_polygon(rings, shape)
    return inside


def _axis_across(points: Points, grid: Grid, name: str) -> int:
    """Storage axis along the normal of a contour."""
    normal = np.linalg.svd(points - points.mean(axis=0))[2][2]
    for axis, (row_axis, col_axis) in IN_PLANE.items():
        plane = np.cross(grid.affine[:3, col_axis], grid.affine[:3, row_axis])
        if abs(float(normal @ plane)) >= _PARALLEL * float(np.linalg.norm(plane)):
            return axis
    message = f"{name}: its contours lie askew in this image"
    raise UnsupportedInput(message, remedy="export them as a DICOM segmentation or NIfTI mask")


def _planes(places: npt.NDArray[np.float64], tolerance: float) -> dict[float, list[int]]:
    """Place of a plane → its contours, in order of place."""
    planes: dict[float, list[int]] = {}
    last = -np.inf
    for index in np.argsort(places, kind="stable"):
        if places[index] - last > tolerance:
            last = float(places[index])
            planes[last] = []
        planes[last].append(int(index))
    return planes
