"""DICOM segmentations (SEG, PS3.3 C.8.20): binary, fractional and label maps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom

from umedfeat.errors import UnreadableInput, UnsupportedInput
from umedfeat.readers.dicom.facts import positive_pair
from umedfeat.readers.dicom.frames import functional_group
from umedfeat.readers.dicom.numbers import number_of, numbers_of, whole_of
from umedfeat.readers.regions.label_volume import LabelVolume

__all__ = ["SEGMENTATIONS", "read_segmentation"]

SEGMENTATIONS = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
_REMEDY = "export it again, or as NIfTI"
_UNEVEN = 0.1  # of a step
_SAME = 1e-3


class _Frame(NamedTuple):
    segment: int
    origin: npt.NDArray[np.float64]
    axes: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float


def read_segmentation(dataset: pydicom.Dataset, name: str) -> LabelVolume:
    """The segments of a file, numbered as in the file; the highest number where segments overlap.

    Raises:
        UnreadableInput: frames without a place.
        UnsupportedInput: frames in several directions, or at uneven distances.
    """
    frames = [_frame(dataset, k, name) for k in range(whole_of(dataset, "NumberOfFrames") or 1)]
    first = frames[0]
    if any(not np.allclose([*f.axes, *f.spacing], [*first.axes, *first.spacing], atol=_SAME) for f in frames):
        raise UnsupportedInput(f"{name}: its frames lie in several directions", remedy=_REMEDY)
    places, affine, count = _stacked(frames, name)
    pixels = dataset.pixel_array.reshape(len(frames), int(dataset.Rows), int(dataset.Columns))
    names = {whole_of(one, "SegmentNumber") or 0: str(one.get("SegmentLabel", "")) for one in dataset.SegmentSequence}
    order = sorted(range(len(frames)), key=lambda k: frames[k].segment)
    layered = str(dataset.get("SegmentationType", "BINARY")) != "LABELMAP"

    def painted(numbers: Collection[int]) -> npt.NDArray[np.uint16]:
        values = np.zeros((count, *pixels.shape[1:]), np.uint16)
        for k in order:
            if not layered or frames[k].segment in numbers:
                _paint(values[places[k]], pixels[k], frames[k].segment, dataset)
        return values

    every = {frame.segment for frame in frames}
    named = {number: label for number, label in names.items() if number}
    return LabelVolume(painted(every), affine, named, painted if layered else None)


def _paint(plane: npt.NDArray[np.uint16], pixels: npt.NDArray[Any], segment: int, dataset: pydicom.Dataset) -> None:
    kind = str(dataset.get("SegmentationType", "BINARY"))
    if kind == "LABELMAP":
        np.maximum(plane, pixels.astype(np.uint16), out=plane)
        return
    full = whole_of(dataset, "MaximumFractionalValue") or 1
    plane[pixels.astype(np.int64) * 2 >= full if kind == "FRACTIONAL" else pixels > 0] = segment


def _frame(dataset: pydicom.Dataset, k: int, name: str) -> _Frame:
    groups = {
        kind: functional_group(dataset, k, f"{kind}Sequence")
        for kind in ("PlanePosition", "PlaneOrientation", "PixelMeasures", "SegmentIdentification")
    }
    position, orientation, measures, identification = groups.values()
    if position is None or orientation is None or measures is None:
        raise UnreadableInput(f"{name}: frame {k + 1} has no place in the patient", remedy=_REMEDY)
    origin, axes = numbers_of(position, "ImagePositionPatient"), numbers_of(orientation, "ImageOrientationPatient")
    spacing = positive_pair(numbers_of(measures, "PixelSpacing"))
    if len(origin) != 3 or len(axes) != 6 or spacing is None:
        raise UnreadableInput(f"{name}: frame {k + 1} has no place in the patient", remedy=_REMEDY)
    thickness = number_of(measures, "SpacingBetweenSlices") or number_of(measures, "SliceThickness") or 1.0
    segment = 0 if identification is None else whole_of(identification, "ReferencedSegmentNumber") or 0
    return _Frame(segment, np.array(origin), axes, spacing, abs(thickness))


def _stacked(frames: Sequence[_Frame], name: str) -> tuple[list[int], npt.NDArray[np.float64], int]:
    """(slice of every frame, affine, number of slices); frames without a segment may be left out of a file."""
    first = frames[0]
    across, down = np.array(first.axes[:3]), np.array(first.axes[3:])
    normal = np.cross(across, down)
    along = np.array([float(frame.origin @ normal) for frame in frames])
    distances = np.diff(np.unique(np.round(along, 3)))
    step = float(distances.min()) if len(distances) else first.thickness
    if len(distances) and first.thickness < step:  # frames in between hold nothing and were left out
        step /= max(1, round(step / first.thickness))
    exact = (along - along.min()) / step
    places = np.rint(exact).astype(int)
    if np.abs(exact - places).max() > _UNEVEN:
        raise UnsupportedInput(f"{name}: its frames are not evenly spaced", remedy=_REMEDY)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across * first.spacing[1], down * first.spacing[0], normal * step
    affine[:3, 3] = frames[int(along.argmin())].origin
    return places.tolist(), affine, int(places.max()) + 1
