"""Where the frames of one enhanced file lie, and which of them make a volume (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

from umedfeat.arrays import Floats
from umedfeat.errors import UnsupportedInput
from umedfeat.readers.dicom.numbers import number_of, numbers_of, texts_of, whole_of
from umedfeat.readers.dicom.repeats import Spot, alike, volumes_at_places
from umedfeat.readers.stacks.stack import volumes_of

__all__ = [
    "FrameVolume",
    "NoPlace",
    "chosen_volume",
    "functional_group",
    "functional_groups",
    "volume_count",
    "volumes_in",
]


class NoPlace(Exception):
    """The place of a frame is told, but not in finite numbers."""


class FrameVolume(NamedTuple):
    """Frames of one volume, sorted along the normal.

    Attributes:
        frames: for every slice the frames that are averaged, mostly one.
        origins: (slices, 3) LPS millimetres of every slice's first voxel.
        orientation: six direction cosines.
        parted_by: what tells it from other volumes at the same places, see ``volumes_at_places``.
    """

    frames: tuple[tuple[int, ...], ...]
    origins: Floats
    orientation: tuple[float, ...]
    parted_by: str = ""


class _Placed(NamedTuple):
    frame: int
    origin: Floats
    orientation: tuple[float, ...]
    stack: str
    spot: Spot


#: What tells frames at one place apart: (functional group, attribute), the most telling first.
_MARKS = (
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("MRImageFrameTypeSequence", "FrameType"),
    ("CTImageFrameTypeSequence", "FrameType"),
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ("CTReconstructionSequence", "ConvolutionKernel"),
)
_SAME_DIRECTION = 2e-3  # direction cosines
_NEAR_MM = 1e-2


def functional_group(dataset: pydicom.Dataset, frame: int, sequence: str) -> pydicom.Dataset | None:
    """A frame's own item of a functional group, the shared one, or None."""
    return next(iter(functional_groups(dataset, frame, sequence)), None)


def functional_groups(dataset: pydicom.Dataset, frame: int, sequence: str) -> list[pydicom.Dataset]:
    """All items of a functional group: a frame's own, else the shared ones."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for holder in [*own[frame : frame + 1], *shared[:1]]:
        if holder.get(sequence):
            return list(holder[sequence].value)
    return []


def volumes_in(dataset: pydicom.Dataset) -> list[FrameVolume]:
    """Every volume of a file: one per stack and orientation, and per time, echo or b-value at the same places.

    An empty list where frames have no place in the patient (a cine, a single image).

    Raises:
        NotParted: several frames at one place, and nothing tells which of them belong together.
        NoPlace: a place that is told, but not in finite numbers.
    """
    if tomographic := _reconstructed(dataset):
        return [tomographic]
    placed: list[_Placed] = []
    for frame in range(int(dataset.get("NumberOfFrames", 1) or 1)):
        one = _placed(dataset, frame)
        if one is None:
            return []
        placed.append(one)
    directions = alike([one.orientation for one in placed], _SAME_DIRECTION)
    stacks: defaultdict[tuple[str, int], list[_Placed]] = defaultdict(list)
    for one, direction in zip(placed, directions, strict=True):
        stacks[one.stack, direction].append(one)
    return [volume for key in sorted(stacks) for volume in _volumes_of(stacks[key])]


def _reconstructed(dataset: pydicom.Dataset) -> FrameVolume | None:
    """A reconstructed NM volume: the first frame's place and the signed step of frames (PS3.3 C.8.4.11, C.8.4.15)."""
    detectors = dataset.get("DetectorInformationSequence") or []
    step = number_of(dataset, "SpacingBetweenSlices")
    recon = "RECON TOMO" in " ".join(texts_of(dataset, "ImageType")).upper()
    if not (recon and len(detectors) == 1 and step):
        return None
    origin, axes = (numbers_of(detectors[0], f"Image{what}Patient") for what in ("Position", "Orientation"))
    if len(origin) != 3 or len(axes) != 6:
        return None
    frames = np.arange(whole_of(dataset, "NumberOfFrames") or 1)
    origins = np.asarray(origin) + frames[:, None] * step * np.cross(axes[:3], axes[3:])
    order = frames if step > 0 else frames[::-1]
    return FrameVolume(tuple((int(frame),) for frame in order), origins[order], axes)


def _volumes_of(stack: Sequence[_Placed]) -> list[FrameVolume]:
    volumes, parted_by = volumes_at_places(stack, lambda one: one.spot, _NEAR_MM)
    return [
        FrameVolume(tuple((e.frame,) for e in one), np.array([e.origin for e in one]), one[0].orientation, parted_by)
        for one in volumes
    ]


def _placed(dataset: pydicom.Dataset, frame: int) -> _Placed | None:
    position = functional_group(dataset, frame, "PlanePositionSequence")
    orientation = functional_group(dataset, frame, "PlaneOrientationSequence")
    if position is None or orientation is None:
        return None
    origin = np.array(_told(position, "ImagePositionPatient", 3, frame))
    axes = _told(orientation, "ImageOrientationPatient", 6, frame)
    along = float(np.cross(axes[:3], axes[3:]) @ origin)
    stack, dimensions = _content(dataset, frame)
    marks = {attribute: _value(dataset, frame, group, attribute) for group, attribute in _MARKS}
    marks |= {f"dimension {k + 1}": str(value) for k, value in enumerate(dimensions)}
    return _Placed(frame, origin, axes, stack, Spot(along, marks, frame))


def _told(holder: pydicom.Dataset, keyword: str, count: int, frame: int) -> tuple[float, ...]:
    numbers = numbers_of(holder, keyword)
    if len(numbers) != count:
        raise NoPlace(f"{keyword} of frame {frame + 1} is not {count} finite numbers")
    return numbers


def _value(dataset: pydicom.Dataset, frame: int, group: str, attribute: str) -> str:
    found = functional_group(dataset, frame, group)
    value = None if found is None else found.get(attribute)
    return "" if value is None else str(value)


def _content(dataset: pydicom.Dataset, frame: int) -> tuple[str, tuple[int, ...]]:
    """The stack of a frame, and its place among the declared dimensions."""
    content = functional_group(dataset, frame, "FrameContentSequence")
    if content is None:
        return "", ()
    dimensions = content.get("DimensionIndexValues")
    several = isinstance(dimensions, pydicom.multival.MultiValue | list)
    return str(content.get("StackID", "") or ""), tuple(int(value) for value in dimensions) if several else ()


def chosen_volume(volumes: Sequence[FrameVolume], rule: str, name: str) -> FrameVolume:
    """The volume that ``policy.volume.volume_index`` asks for: "N", or the "mean" of all.

    Raises:
        UnsupportedInput: several volumes and no rule, no such volume, or a mean of volumes at different places.
    """
    chosen = [volumes[k] for k in volumes_of(len(volumes), rule, name)]
    first = chosen[0]
    for other in chosen[1:]:
        same = first.origins.shape == other.origins.shape and np.allclose(first.origins, other.origins, atol=1e-2)
        if not (same and np.allclose(first.orientation, other.orientation, atol=1e-3)):
            message = f"{name}: no mean of {len(volumes)} volumes at different places"
            raise UnsupportedInput(message, remedy="--volume-index N, or all (an item per volume)")
    frames = tuple(sum(together, ()) for together in zip(*(volume.frames for volume in chosen), strict=True))
    return first._replace(frames=frames)


def volume_count(path: Path) -> int:
    """How many volumes a file holds; 1 where it has none or cannot be parsed (which is reported when it is read)."""
    try:
        return max(1, len(volumes_in(pydicom.dcmread(path, stop_before_pixels=True, force=True))))
    except Exception:  # noqa: BLE001 - pydicom raises whatever damaged bytes lead to
        return 1
