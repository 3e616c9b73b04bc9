"""What the positions of slices tell: their distance, missing slices, gantry tilt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from umedfeat.arrays import Floats
from umedfeat.contract import Json

__all__ = ["steps_told"]

_GAP = 1.5  # a step this many times the usual one means that slices are missing
_TILT_DEGREES = 0.5


def steps_told(
    origins: Floats, orientation: Sequence[float], thicknesses: Sequence[float] | None = None
) -> dict[str, Json]:
    """Facts to store about a stack.

    Args:
        origins: (slices, 3) LPS millimetres, sorted along the normal.
        orientation: six direction cosines.
        thicknesses: (slices,) millimetres, 0 where a slice does not tell. Where they vary (a head CT with thin slices
            through the skull base), the usual step is taken among neighbours of the same thickness.
    """
    if len(origins) < 2:
        return {}
    normal = np.cross(orientation[:3], orientation[3:])
    steps = np.abs(np.diff(origins @ normal))
    said: dict[str, Json] = {"slice_step_mm": round(float(np.median(steps)), 4)}
    pairs = _pairs(thicknesses or [0.0] * len(origins))
    if len(set(pairs)) > 1:
        said["slice_thickness_mm"] = " to ".join(f"{end(pairs):g}" for end in (min, max))
    missing = sum(_missing(steps[[pair == kind for pair in pairs]]) for kind in set(pairs))
    if missing:
        said["missing_slices"] = missing
    whole = origins[-1] - origins[0]
    cosine = abs(float(whole @ normal)) / max(1e-9, float(np.linalg.norm(whole)))
    tilt = float(np.degrees(np.arccos(min(1.0, cosine))))
    if tilt > _TILT_DEGREES:
        said["gantry_tilt_degrees"] = round(tilt, 2)
    return said


def _pairs(thicknesses: Sequence[float]) -> list[float]:
    """Thickness of the thicker one of every two neighbours."""
    return [round(max(a, b), 3) for a, b in pairwise(thicknesses)]


def _missing(steps: Floats) -> int:
    usual = float(np.median(steps))
    return int(sum(round(step / usual) - 1 for step in steps if usual > 0 and step > _GAP * usual))
