"""The one Reader of everything that has slices: CT, MR, PET, NIfTI, cine, pages.

A format supplies a SliceStack: stored slices, in physical units, with an affine. VolumeReader decides the plane, the
display orientation, which slices, the intensity limits of the whole volume, and the square that the encoder sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats32, Mask
from umedfeat.contract import Json, Plan, RegionUnreadable, make_regions
from umedfeat.errors import EmptyImage, NotPlanned, TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.policy import Policy, VolumePolicy
from umedfeat.readers.stacks.geometry import IN_PLANE, View, select, shear_degrees, spacings, stored_view, view_of
from umedfeat.readers.stacks.intensity import (
    Range,
    Statistics,
    fit_square,
    percentile_statistics,
    placement,
    through_voi,
    to_rgb,
    to_unit,
)
from umedfeat.readers.stacks.spool import Spool
from umedfeat.readers.stacks.stack import SliceStack, StackFacts, volumes_of
from umedfeat.readers.stacks.windows import Percentiles, choose_window, percentile_range

__all__ = ["SliceStack", "StackFacts", "VolumeReader", "volumes_of"]


_MAX_SLICES = 1_000_000
_LIKE_CT = "values look like Hounsfield units: declare modality CT (--modality, manifest) to window them"
_KEPT_BYTES = 64 << 20
_BELOW_FAT = -200.0  # Hounsfield units: lung and air lie below, tissue does not
_SAMPLE = 16  # pixels apart


class VolumeReader:
    """items.Reader over a SliceStack.

    Args:
        stack: owned from here on; closed with the reader.
        policy: plane, slices, windows, size and fit.
        prepared: ``Plan.prepared`` of an earlier plan, or None.

    Raises:
        TooLarge: a slice has more pixels than ``policy.limits.max_pixels``.
        UnsupportedInput: the plane cannot be had from this stack.
        UnreadableInput: the geometry is broken.
    """

    def __init__(self, stack: SliceStack, policy: Policy, prepared: Mapping[str, Any] | None = None) -> None:
        self._stack = stack
        self._facts = stack.facts
        self._policy = policy.sized()
        self._view = _view(self._facts, policy)
        self._prepared: dict[str, Any] = dict(prepared or {})
        self._planned = prepared is not None
        self._spool: Spool | None = None
        self._last: tuple[int, Floats32, Mask | None] | None = None
        _check_size(self._facts, self._view, policy)

    def plan(self) -> Plan:
        """One region per selected slice, in display order."""
        facts, view, image = self._facts, self._view, self._policy.image
        kept = self._selected()
        intensity = self._decide_intensity()
        self._planned = True
        cols, rows = self._displayed_shape()
        detail: dict[str, Json] = {
            **facts.detail,
            **({} if facts.calibrated or facts.modality != "CT" else {"hounsfield": False}),
            "plane": view.plane,
            "intensity": intensity,
            "fit": image.fit,
            "slices_selected": len(kept),
            "slices_total": len(view.order),
        }
        return Plan(
            regions=make_regions(0, 0, kept, position=view.positions[kept]),
            shape=(image.size, image.size),
            dtype="float32",
            format=facts.format,
            modality=facts.modality,
            width=cols,
            height=rows,
            depth=len(view.order),
            spacing=_spacing_text(view, facts),
            detail=detail,
            prepared={**self._prepared, "stack": dict(facts.carry)},
            part=facts.part,
        )

    def read(self, regions: npt.NDArray[np.void]) -> Sequence[npt.NDArray[np.generic] | RegionUnreadable]:
        """The (size, size, 3) float32 square of every row."""
        return [self._read_one(int(row["slice"])) for row in regions]

    def displayed(self, index: int) -> Floats32 | npt.NDArray[np.uint8]:
        """Slice ``index`` of the display order, windowed and upright, before it is fitted to a square.

        Raises:
            RegionUnreadable: this slice cannot be decoded.
            EmptyImage: the only slice is constant.
            NotPlanned: the limits of the whole volume are not known yet.
        """
        if not self._planned:
            message = f"{self._facts.name}: read() before plan(), which finds the intensity limits of the whole input"
            raise NotPlanned(message, remedy="call plan() first, or open it with Plan.prepared of an earlier plan")
        k = int(self._view.order[index])
        shown = self._view.show(self._window(*self._across(k), k=k))
        if len(self._view.order) == 1 and shown.min() == shown.max():
            raise _constant(self._facts, "as displayed")
        return shown

    @property
    def facts(self) -> StackFacts:
        """What is known about the stack without its pixels."""
        return self._facts

    def aligned(self, index: int, grid: npt.NDArray[Any]) -> Floats32:
        """A map on the stack's own grid (a mask), shown and fitted as slice ``index`` is: (size, size) float32.

        Args:
            grid: (slices, rows, columns) as stored, values in [0, 1].
        """
        k = int(self._view.order[index])
        stored = np.take(grid, k, axis=2 - self._view.axis).astype(np.float32)
        image = self._policy.image
        return fit_square(self._view.show(stored), image.size, image.fit, spacing=self._view.spacing)

    def placed(self, corners: Floats32) -> Floats32:
        """Boxes (n, 4) left, top, right, bottom in pixels of the displayed image → in pixels of the square."""
        cols, rows = self._displayed_shape()
        image = self._policy.image
        return placement((rows, cols), image.size, image.fit, spacing=self._view.spacing).moved(corners)

    def close(self) -> None:
        """Close the stack and remove temporary files."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self._last = None
        self._stack.close()

    def _read_one(self, index: int) -> npt.NDArray[np.generic] | RegionUnreadable:
        try:
            shown = self.displayed(index)
        except RegionUnreadable as fault:
            return fault
        image = self._policy.image
        return to_rgb(fit_square(shown, image.size, image.fit, spacing=self._view.spacing))

    def _across(self, k: int) -> tuple[Floats32, Mask | None]:
        """Slice k across the view's axis, as stored."""
        if self._view.axis == 2:
            return self._slice(k)
        if self._spool is None:
            channels = 3 if self._facts.colour else 1
            self._spool = Spool(self._padded_slice, self._facts.shape, self._view.axis, channels, self._facts.name)
        return self._spool.slice(k), None

    def _slice(self, k: int) -> tuple[Floats32, Mask | None]:
        """Stored slice k; what lies below the Hounsfield scale is padding in every format.

        The last small one is kept: a single image is counted, looked at and shown one after the other.
        """
        if self._last is None or self._last[0] != k:
            values, padding = self._stack.slice(k)
            offset = self._policy.intensity.hu_offset
            if offset and self._facts.modality == "CT" and not self._facts.units_told:
                values = values + np.float32(offset)
            if self._facts.modality == "CT" and self._facts.calibrated and not self._facts.colour:
                below = values < self._policy.intensity.ct_air
                padding = below if padding is None else padding | below
            if values.nbytes > _KEPT_BYTES:
                return values, padding
            self._last = (k, values, padding)
        return self._last[1:]

    def _padded_slice(self, k: int) -> Floats32:
        try:
            values, padding = self._slice(k)
        except RegionUnreadable as fault:
            message = f"{self._facts.name}: slice {k} is unreadable ({fault}); it would cross every resliced image"
            raise UnreadableInput(message, remedy="--plane acquired") from fault
        return values if padding is None else np.where(padding, np.float32(np.nan), values)

    def _window(self, values: Floats32, padding: Mask | None, k: int) -> Floats32:
        if self._facts.colour:
            return values if values.dtype == np.uint8 else np.nan_to_num(values, nan=0.0)
        if self._prepared["voi"]:
            voi = self._stack.stored_voi(k if self._view.axis == 2 else self._facts.slices // 2)
            if voi is None:
                raise RegionUnreadable("this slice has no stored window")
            return through_voi(values, voi, padding, invert=self._facts.invert)
        limits = Range(self._prepared["low"], self._prepared["high"], "")
        return to_unit(values, limits, padding, invert=self._facts.invert)

    def _selected(self) -> npt.NDArray[np.int64]:
        volume = self._policy.volume
        rule = volume.slices if self._facts.affine is not None else volume.frames
        return select(len(self._view.order), rule)

    def _decide_intensity(self) -> Json:
        """Fix the limits in ``prepared`` and say what was done."""
        if self._facts.colour:
            self._refuse_constant("colour")
            return {"window": "full range"}
        window, setting = choose_window(self._policy.intensity, self._facts)
        if setting == "ct_window" and not self._facts.units_told and self._policy.intensity.hu_offset is None:
            self._refuse_without_air()
        said: dict[str, Json] = {"setting": setting}
        if isinstance(window, Percentiles) or self._facts.floating:
            counted = window if isinstance(window, Percentiles) else self._policy.intensity.percentiles
            statistics = percentile_statistics(self._readable_slices, counted)
            said |= {"nonfinite": statistics.nonfinite, **_hint(self._facts, statistics)}
            if isinstance(window, Percentiles):
                said |= _not_in_suv(self._facts, window)
                window = percentile_range(statistics, window, self._facts.name)
        if isinstance(window, Range):
            self._prepared = {"voi": False, "low": window.low, "high": window.high}
            self._refuse_constant(f"window {window.how}: {window.low:g} to {window.high:g}")
            return {"window": window.how, "low": window.low, "high": window.high, **said}
        self._require_stored_voi()
        self._prepared = {"voi": True}
        self._refuse_constant("the stored window")
        return {"window": "file", **said}

    def _readable_slices(self) -> Iterator[tuple[Floats32, Mask | None]]:
        faults: list[RegionUnreadable] = []
        for k in range(self._facts.slices):
            try:
                yield self._slice(k)
            except RegionUnreadable as fault:
                faults.append(fault)
        if len(faults) == self._facts.slices:
            raise _unreadable(self._facts, faults)

    def _refuse_without_air(self) -> None:
        """Hounsfield units that were only declared: a CT without anything below −200 is shifted, or has no air."""
        lowest = np.inf
        for k in sorted(range(self._facts.slices), key=lambda k: abs(k - self._facts.slices // 2)):
            values, _ = self._slice(k)
            lowest = min(lowest, float(np.nanmin(values, initial=np.inf)))
            if lowest < _BELOW_FAT:
                return
        message = f"{self._facts.name}: declared as CT, but no value lies below {_BELOW_FAT:g} (lowest {lowest:g})"
        remedy = "--hu-offset -1024 if the values are shifted, --hu-offset 0 if they are Hounsfield units"
        raise UnsupportedInput(message, remedy=remedy)

    def _require_stored_voi(self) -> None:
        if self._stack.stored_voi(self._facts.slices // 2) is None:
            message = f"{self._facts.name}: no window is stored in the file"
            raise UnsupportedInput(message, remedy="--window percentile, a preset, or LO,HI")

    def _refuse_constant(self, how: str) -> None:
        """Refuse a volume that is one grey; one varied slice (looked for from the centre outwards) is enough."""
        count = self._facts.slices
        faults: list[RegionUnreadable] = []
        low, high = np.inf, -np.inf
        for k in sorted(range(count), key=lambda k: abs(k - count // 2)):
            try:
                values, padding = self._slice(k)
                if self._varies(values, padding, k):
                    return
            except RegionUnreadable as fault:
                faults.append(fault)
                continue
            kept = values[np.isfinite(values) if padding is None else np.isfinite(values) & ~padding]
            if kept.size:
                low, high = min(low, float(kept.min())), max(high, float(kept.max()))
        if len(faults) == count:
            raise _unreadable(self._facts, faults)
        raise _constant(self._facts, how, (low, high))

    def _varies(self, values: Floats32, padding: Mask | None, k: int) -> bool:
        """Does a slice show more than one grey? A sample that varies is proof enough."""
        for step in (_SAMPLE, 1):
            part = (slice(None, None, step), slice(None, None, step))
            shown = self._window(values[part], None if padding is None else padding[part], k)
            if shown.min() != shown.max():
                return True
        return False

    def _displayed_shape(self) -> tuple[int, int]:
        rows, cols = (self._facts.shape[i] for i in IN_PLANE[self._view.axis])
        return (rows, cols) if self._view.swap else (cols, rows)


def _hint(facts: StackFacts, statistics: Statistics) -> dict[str, Json]:
    """Air and bone in Hounsfield units are hard to mistake, but a modality is declared, never guessed."""
    like_ct = facts.modality == "unknown" and -4096 <= statistics.minimum <= -900 and statistics.maximum >= 200
    return {"hint": _LIKE_CT} if like_ct else {}


def _not_in_suv(facts: StackFacts, window: Percentiles) -> dict[str, Json]:
    """PET that should be shown in SUV says why it is not."""
    told = facts.detail.get("suv")
    missing = told.get("missing") if isinstance(told, dict) else None
    return {"hint": f"PET not in SUV ({missing}): shown up to the {window.high:g}th percentile"} if missing else {}


def _constant(facts: StackFacts, how: str, values: tuple[float, float] | None = None) -> EmptyImage:
    """``values``: lowest and highest value outside padding, (inf, -inf) where there is none."""
    what = "every slice" if facts.slices > 1 else "the image"
    low, high = values or (0.0, 1.0)
    if low > high:
        return EmptyImage(f"{facts.name}: {what} is nothing but padding ({how})", remedy="leave it out")
    told = f"; its values are {low:g} to {high:g}" if values and low < high else ""
    remedy = "choose another window, or leave it out" if low < high else "leave it out"
    return EmptyImage(f"{facts.name}: {what} is constant ({how}{told})", remedy=remedy)


def _unreadable(facts: StackFacts, faults: Sequence[RegionUnreadable]) -> UnreadableInput:
    which = f"none of {facts.slices} slices can be read" if facts.slices > 1 else "its only slice cannot be read"
    return UnreadableInput(f"{facts.name}: {which}: {faults[0]}", remedy="export or copy it again from its origin")


def _view(facts: StackFacts, policy: Policy) -> View:
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


def _out_of_step(origins: npt.NDArray[np.float64]) -> float:
    steps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    usual = float(np.median(steps))
    return float(np.abs(steps / usual - 1).max()) if usual > 0 else np.inf


def _refuse_plane(facts: StackFacts, plane: str, why: str) -> NoReturn:
    raise UnsupportedInput(f"{facts.name}: no {plane} slices: {why}", remedy="--plane acquired")


def _check_size(facts: StackFacts, view: View, policy: Policy) -> None:
    if max(facts.shape) > _MAX_SLICES:
        raise UnsupportedInput(f"{facts.name}: {facts.shape} voxels", remedy="no side may exceed 1,000,000")
    pixels = max(facts.rows * facts.cols, int(np.prod([facts.shape[i] for i in IN_PLANE[view.axis]])))
    if pixels > policy.limits.max_pixels:
        message = f"{facts.name}: a slice has {pixels} pixels, more than {policy.limits.max_pixels}"
        raise TooLarge(message, remedy="raise --max-pixels if this is right")


def _spacing_text(view: View, facts: StackFacts) -> str:
    if facts.affine is None and facts.pixel_spacing == (1.0, 1.0):
        return ""
    step = view.step if facts.affine is not None else 0.0
    if facts.affine is not None and step == 0.0:
        step = spacings(facts.affine)[view.axis]
    return "\\".join(f"{value:.6g}" for value in (step, *view.spacing))
