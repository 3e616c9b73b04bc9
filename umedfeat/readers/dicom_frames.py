"""Where the frames of one enhanced file lie, and which of them make a volume (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom

from umedfeat.errors import UnsupportedInput
from umedfeat.stack import volumes_of

__all__ = ["FrameVolume", "chosen_volume", "functional_group", "volume_count", "volumes_in"]

Origins = npt.NDArray[np.float64]


class FrameVolume(NamedTuple):
    """Frames of one volume, sorted along the normal.

    Attributes:
        frames: for every slice the frames that are averaged, mostly one.
        origins: (slices, 3) LPS millimetres of every slice's first voxel.
        orientation: six direction cosines.
    """

    frames: tuple[tuple[int, ...], ...]
    origins: Origins
    orientation: tuple[float, ...]


class _Placed(NamedTuple):
    frame: int
    origin: Origins
    orientation: tuple[float, ...]
    along: float
    time: tuple[Any, ...]


def functional_group(dataset: pydicom.Dataset, frame: int, sequence: str) -> pydicom.Dataset | None:
    """A frame's own item of a functional group, the shared one, or None."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for holder in [*own[frame : frame + 1], *shared[:1]]:
        if holder.get(sequence):
            found: pydicom.Dataset = holder[sequence].value[0]
            return found
    return None


def volumes_in(dataset: pydicom.Dataset) -> list[FrameVolume]:
    """Every volume of a file: one per orientation, and per time, echo or b-value at the same places.

    An empty list where frames have no place in the patient (a cine, a single image).
    """
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    stacks: defaultdict[tuple[float, ...], list[_Placed]] = defaultdict(list)
    for frame in range(frames):
        placed = _placed(dataset, frame)
        if placed is None:
            return []
        stacks[tuple(round(value, 3) + 0.0 for value in placed.orientation)].append(placed)
    return [volume for key in sorted(stacks) for volume in _in_turn(stacks[key])]


def _placed(dataset: pydicom.Dataset, frame: int) -> _Placed | None:
    position = functional_group(dataset, frame, "PlanePositionSequence")
    orientation = functional_group(dataset, frame, "PlaneOrientationSequence")
    if position is None or orientation is None:
        return None
    origin = np.array([float(value) for value in position.ImagePositionPatient])
    axes = tuple(float(value) for value in orientation.ImageOrientationPatient)
    along = float(np.cross(axes[:3], axes[3:]) @ origin)
    return _Placed(frame, origin, axes, along, _time(dataset, frame))


def _time(dataset: pydicom.Dataset, frame: int) -> tuple[Any, ...]:
    """What orders frames at one place: stack, time, the declared dimensions, and last the stored order."""
    content = functional_group(dataset, frame, "FrameContentSequence")
    if content is None:
        return "", 0, (), frame
    dimensions = content.get("DimensionIndexValues")
    several = isinstance(dimensions, pydicom.multival.MultiValue | list)
    values = tuple(int(value) for value in dimensions) if several else ()
    return str(content.get("StackID", "") or ""), int(content.get("TemporalPositionIndex", 0) or 0), values, frame


def _in_turn(placed: Sequence[_Placed]) -> list[FrameVolume]:
    """The n-th frame of every place makes the n-th volume."""
    places: defaultdict[float, list[_Placed]] = defaultdict(list)
    for entry in placed:
        places[round(entry.along, 3) + 0.0].append(entry)
    volumes: list[list[_Placed]] = [[] for _ in range(max(map(len, places.values())))]
    for place in sorted(places):
        for turn, entry in enumerate(sorted(places[place], key=lambda e: e.time)):
            volumes[turn].append(entry)
    return [
        FrameVolume(tuple((e.frame,) for e in volume), np.array([e.origin for e in volume]), volume[0].orientation)
        for volume in volumes
    ]


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
