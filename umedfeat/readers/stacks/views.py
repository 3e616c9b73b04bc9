"""Which view of a stack a policy asks for, and whether the stack can give it."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from umedfeat.arrays import Floats
from umedfeat.errors import TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.policy import Policy, VolumePolicy
from umedfeat.readers.stacks.geometry import IN_PLANE, View, shear_degrees, spacings, stored_view, view_of
from umedfeat.readers.stacks.stack import StackFacts

__all__ = ["check_size", "displayed_shape", "planned_view", "spacing_text"]

_MAX_SLICES = 1_000_000


def planned_view(facts: StackFacts, policy: Policy) -> View:
    """The view of the policy's plane.

    Raises:
        UnsupportedInput: the plane cannot be had from this stack.
        UnreadableInput: the geometry is broken.
    """
    plane = policy.volume.plane
    if facts.affine is None:
        if plane != "acquired":
            _refuse_plane(facts, plane, "its orientation in the patient is unknown")
        return stored_view(facts.slices, facts.pixel_spacing)
    try:
        view = view_of(facts.affine, facts.shape, plane, facts.acquired_axis, facts.origins)
    except ValueError as error:
        raise UnreadableInput(f"{facts.name}: {error}", remedy="repair the header's orientation") from error
    if view.axis != facts.acquired_axis:
        _check_reslicing(facts, policy.volume)
    return view


def _check_reslicing(facts: StackFacts, policy: VolumePolicy) -> None:
    plane = policy.plane
    if facts.affine is None or facts.shape[facts.acquired_axis] < 2:
        _refuse_plane(facts, plane, "it has a single slice")
    tilt = shear_degrees(facts.affine, facts.acquired_axis)
    if tilt > policy.max_shear:
        _refuse_plane(facts, plane, f"its slices are sheared by {tilt:.1f} degrees (gantry tilt)")
    if facts.origins is not None and _out_of_step(facts.origins) > policy.max_step_error:
        _refuse_plane(facts, plane, "its slices are not evenly spaced (missing slices?)")


def _out_of_step(origins: Floats) -> float:
    steps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    usual = float(np.median(steps))
    return float(np.abs(steps / usual - 1).max()) if usual > 0 else np.inf


def _refuse_plane(facts: StackFacts, plane: str, why: str) -> NoReturn:
    raise UnsupportedInput(f"{facts.name}: no {plane} slices: {why}", remedy="--plane acquired")


def check_size(facts: StackFacts, view: View, policy: Policy) -> None:
    """Refuse what would not fit into memory.

    Raises:
        UnsupportedInput, TooLarge: more slices or pixels than the limits allow.
    """
    if max(facts.shape) > _MAX_SLICES:
        raise UnsupportedInput(f"{facts.name}: {facts.shape} voxels", remedy="no side may exceed 1,000,000")
    pixels = max(facts.rows * facts.cols, int(np.prod([facts.shape[i] for i in IN_PLANE[view.axis]])))
    if pixels > policy.limits.max_pixels:
        message = f"{facts.name}: a slice has {pixels} pixels, more than {policy.limits.max_pixels}"
        raise TooLarge(message, remedy="raise --max-pixels if this is right")


def displayed_shape(facts: StackFacts, view: View) -> tuple[int, int]:
    """(columns, rows) of a displayed slice."""
    rows, cols = (facts.shape[i] for i in IN_PLANE[view.axis])
    return (rows, cols) if view.swap else (cols, rows)


def spacing_text(view: View, facts: StackFacts) -> str:
    """Millimetres as "slices\\rows\\columns", or "" without a scale."""
    if facts.affine is None and facts.pixel_spacing == (1.0, 1.0):
        return ""
    step = view.step if facts.affine is not None else 0.0
    if facts.affine is not None and step == 0.0:
        step = spacings(facts.affine)[view.axis]
    return "\\".join(f"{value:.6g}" for value in (step, *view.spacing))
