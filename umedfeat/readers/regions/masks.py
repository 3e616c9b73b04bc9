"""One mask file on the grid of one image, whatever its kind.

====================  =====================================================================
NIfTI, MGH, Analyze   numbers on a grid of their own, brought to the image's by nearest voxel
NRRD, MetaImage       the same (``pip install 'umedfeat[itk]'``)
DICOM SEG             segments, by number or name
DICOM RTSTRUCT        contours, by number or name
PNG, TIFF, BMP        numbers, pixel by pixel on a flat image
GeoJSON               polygons in pixels of a flat image, by class
====================  =====================================================================

Millimetres of the patient decide where a mask lies, so it need not share the grid of its image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pydicom

from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.dicom.header import has_preamble
from umedfeat.readers.dicom.load import parsing
from umedfeat.readers.regions.contours import RTSTRUCT, read_structure_set
from umedfeat.readers.regions.flat import FlatMask, looks_flat, read_flat
from umedfeat.readers.regions.grid import Grid, Points, grid_of
from umedfeat.readers.regions.label_volume import LabelVolume
from umedfeat.readers.regions.segmentations import SEGMENTATIONS, read_segmentation
from umedfeat.readers.stacks.stack import StackFacts
from umedfeat.readers.volumes.header import head_of, header_kind, read_header
from umedfeat.readers.volumes.itk import is_itk, read_itk
from umedfeat.readers.volumes.voxels import Voxels

__all__ = ["FlatMask", "Mask", "chosen", "labels_on", "on_image", "open_mask", "refuse_off_image"]

_HEAD_BYTES = 4096
_INSIDE = 0.99
_REACH = 0.5 + 1e-2  # voxels beyond the outermost centres


class Mask(Protocol):
    """Numbered regions in the patient."""

    @property
    def names(self) -> Mapping[int, str]:
        """Number → name, where the file tells."""
        ...

    def numbers(self) -> list[int]:
        """Numbers that there are, without 0."""
        ...

    def only(self, numbers: Collection[int]) -> Mask:
        """The same without other regions, which may lie over these."""
        ...

    def on(self, grid: Grid) -> npt.NDArray[Any]:
        """(slices, rows, columns) of numbers at the voxel centres of a grid; 0 is nothing."""
        ...

    def points(self, numbers: Collection[int]) -> Points:
        """(n, 3) LPS millimetres that span some regions."""
        ...


def open_mask(path: Path, name: str) -> Mask | FlatMask:
    """Read a mask file; content decides its kind.

    Args:
        name: how messages call it.

    Raises:
        UnreadableInput: damaged, or not there.
        UnsupportedInput: of a kind that is not read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        message = f"{name}: the mask cannot be read ({error.strerror or type(error).__name__})"
        raise UnreadableInput(message, remedy="paths of masks are relative to the manifest") from error
    if has_preamble(head):
        return _dicom(path, name)
    if header_kind(head_of(path, head)) is not None:
        return _volume(path, name)
    if is_itk(head):
        return _itk(path, name)
    if looks_flat(head):
        return read_flat(path, name)
    raise UnsupportedInput(
        f"{name}: no mask that is read here", remedy="NIfTI, NRRD, DICOM SEG, RTSTRUCT, PNG or GeoJSON"
    )


def labels_on(path: Path, facts: StackFacts, name: str) -> npt.NDArray[Any]:
    """(slices, rows, columns) of numbers: a mask file on the voxels of an image.

    Raises:
        UnreadableInput: damaged, not there, or another size (flat masks).
        UnsupportedInput: of a kind that is not read, or the image has no geometry to bring a volume to.
    """
    return on_image(open_mask(path, name), facts, name)


def on_image(mask: Mask | FlatMask, facts: StackFacts, name: str) -> npt.NDArray[Any]:
    """The same for a mask that is open already."""
    if isinstance(mask, FlatMask):
        return mask.on_pixels(facts.shape, name)
    grid = grid_of(facts)
    if grid is None:
        message = f"{name}: the mask lies in the patient, and the image does not tell where it lies"
        raise UnsupportedInput(message, remedy="a PNG of the image's size")
    return mask.on(grid)


def chosen(mask: Mask | FlatMask, wanted: str, name: str) -> list[int]:
    """Numbers that a text means: "" all, else a number or a name.

    Raises:
        UnsupportedInput: there is no such region.
    """
    numbers = mask.numbers()
    if not wanted:
        return numbers
    named = [number for number, told in mask.names.items() if told == wanted]
    found = named or [number for number in numbers if str(number) == wanted]
    if not found:
        told = ", ".join(str(number) for number in numbers[:10]) or "none"
        raise UnsupportedInput(f"{name}: no such region in the mask", remedy=f"by number ({told}), or by its name")
    return found


def refuse_off_image(mask: Mask, numbers: Collection[int], facts: StackFacts, name: str) -> None:
    """A mask of another patient, or of another frame of reference, does not lie in the image.

    Raises:
        UnreadableInput: more than one percent of the region lies outside.
    """
    grid, points = grid_of(facts), mask.points(numbers)
    if grid is None or not len(points):
        return
    voxels = grid.voxels(points)
    inside = ((voxels >= -_REACH) & (voxels <= np.array(grid.shape) - 1 + _REACH)).all(axis=1).mean()
    if inside < _INSIDE:
        message = f"{name}: {1 - inside:.0%} of the region of interest lies outside of the image"
        raise UnreadableInput(message, remedy="check that the mask was drawn on this image")


def _dicom(path: Path, name: str) -> Mask:
    with parsing(name):
        dataset = pydicom.dcmread(path)
        kind = str(dataset.get("SOPClassUID", ""))
        if kind == RTSTRUCT:
            return read_structure_set(dataset, name)
        if kind in SEGMENTATIONS:
            return read_segmentation(dataset, name)
    raise UnsupportedInput(f"{name}: a DICOM file that is no mask", remedy="export a SEG or an RTSTRUCT")


def _itk(path: Path, name: str) -> LabelVolume:
    volume = read_itk(path, name)
    if volume.values.ndim != 3:
        raise UnsupportedInput(f"{name}: several numbers per voxel", remedy="one layer of numbers (3D Slicer: export)")
    planes = [_whole(plane, 1.0, 0.0, name) for plane in volume.values]
    names = {
        int(volume.tags[f"Segment{k}_LabelValue"]): volume.tags.get(f"Segment{k}_Name", "")
        for k in range(len(volume.tags))
        if volume.tags.get(f"Segment{k}_LabelValue", "").isdecimal()
    }
    return LabelVolume(np.stack(planes), volume.affine, names)


def _volume(path: Path, name: str) -> LabelVolume:
    header = read_header(path, name)
    if header.dtype.kind not in "iuf" or header.volumes > 1:
        raise UnsupportedInput(f"{name}: a mask is one volume of whole numbers", remedy="convert it to uint8")
    voxels = Voxels(header, name, 0, 1)
    try:
        planes = [_whole(voxels.plane(k, 0), header.slope, header.inter, name) for k in range(header.shape[2])]
    finally:
        voxels.close()
    return LabelVolume(np.stack(planes), header.affine)


def _whole(plane: npt.NDArray[Any], slope: float, inter: float, name: str) -> npt.NDArray[np.int32]:
    values = plane.astype(np.float64) * slope + inter
    whole = np.rint(values)
    if not np.isfinite(values).all() or np.abs(values - whole).max(initial=0) > 1e-3:
        raise UnsupportedInput(f"{name}: a mask holds whole numbers, this one does not", remedy="threshold it first")
    return whole.astype(np.int32)
