"""The one Reader of everything that has slices: CT, MR, PET, NIfTI, cine, pages.

A format supplies a SliceStack: stored slices, in physical units, with an affine. VolumeReader decides the plane, the
display orientation, which slices, the intensity limits of the whole volume, and the square that the encoder sees::

    StoredSlices ─ Levels (window) ─ View (upright) ─ Box (field of view) ─→ square
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats32, Mask
from umedfeat.contract import Json, Plan, RegionUnreadable, Roi, make_regions
from umedfeat.errors import NotPlanned
from umedfeat.policy import Policy
from umedfeat.readers.stacks.field import Box, Reach, box_of, field_of, place_of
from umedfeat.readers.stacks.geometry import select
from umedfeat.readers.stacks.intensity import in_square, placement, to_rgb
from umedfeat.readers.stacks.levels import Levels, constant_image
from umedfeat.readers.stacks.spool import Spool
from umedfeat.readers.stacks.stack import SliceStack, StackFacts, volumes_of
from umedfeat.readers.stacks.stored import StoredSlices
from umedfeat.readers.stacks.views import check_size, displayed_shape, planned_view, spacing_text

__all__ = ["Overview", "SliceStack", "StackFacts", "VolumeReader", "volumes_of"]

_NEIGHBOURS = (-1, 0, 1)


class Overview(NamedTuple):
    """A whole slice for the eye.

    Attributes:
        picture: (side, side, 3) float32 in [0, 1].
        mask: (side, side) bool of the region of interest, or None.
        field: (4,) left, top, right, bottom of what the encoder gets, in pixels of the picture; None for all of it.
    """

    picture: Floats32
    mask: Mask | None
    field: Floats32 | None


class VolumeReader:
    """items.Reader over a SliceStack.

    Args:
        stack: owned from here on; closed with the reader.
        policy: plane, slices, windows, size and fit.
        prepared: ``Plan.prepared`` of an earlier plan, or None.
        roi: the region of interest that is cut out, or None.

    Raises:
        TooLarge: a slice has more pixels than ``policy.limits.max_pixels``.
        UnsupportedInput: the plane cannot be had from this stack.
        UnreadableInput: the geometry is broken.
    """

    def __init__(
        self, stack: SliceStack, policy: Policy, prepared: Mapping[str, Any] | None = None, roi: Roi | None = None
    ) -> None:
        self._stack = stack
        self._facts = stack.facts
        self._policy = policy.sized()
        self._roi = roi
        self._view = planned_view(self._facts, policy)
        told = dict(prepared or {})
        self._planned = prepared is not None
        self._neighbours = policy.intensity.rgb == "neighbours" and not self._facts.colour
        self._slices = StoredSlices(stack, policy.intensity, len(_NEIGHBOURS) if self._neighbours else 1)
        self._levels = Levels(stack, self._slices, policy.intensity, told)
        self._field = Box(*told["field"]) if told.get("field") else None
        self._spool: Spool | None = None
        self._marks: Mask | None = None
        check_size(self._facts, self._view, policy)

    def plan(self) -> Plan:
        """One region per selected slice, in display order."""
        facts, view, image = self._facts, self._view, self._policy.image
        holding, region = self._region()
        kept = self._selected(holding)
        intensity = self._levels.decide()
        self._planned = True
        cols, rows = displayed_shape(facts, view)
        detail: dict[str, Json] = {
            **facts.detail,
            **({} if facts.calibrated or facts.modality != "CT" else {"hounsfield": False}),
            "plane": view.plane,
            "intensity": intensity,
            **({"channels": "the slices before, at and behind"} if self._neighbours else {}),
            **region,
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
            spacing=spacing_text(view, facts),
            detail=detail,
            prepared={**self._levels.prepared, "field": self._field, "stack": dict(facts.carry)},
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
        voi_slice = k if self._view.axis == 2 else self._facts.slices // 2
        shown = self._view.show(self._levels.apply(*self._across(k), voi_slice))
        if len(self._view.order) == 1 and shown.min() == shown.max():
            raise constant_image(self._facts, "as displayed")
        return shown

    @property
    def facts(self) -> StackFacts:
        """What is known about the stack without its pixels."""
        return self._facts

    def overview(self, index: int, side: int) -> Overview:
        """Displayed slice ``index`` as a whole in a square of ``side`` pixels, with its region of interest.

        Raises:
            RegionUnreadable: this slice cannot be decoded.
            InputError: the mask cannot be read.
        """
        cols, rows = displayed_shape(self._facts, self._view)
        place = placement((rows, cols), side, "pad", spacing=self._view.spacing)
        stored = None if self._roi is None else self._marks_across(int(self._view.order[index]))
        mask = None if stored is None else in_square(self._view.show(stored).astype(np.float32), side, place) >= 0.5
        field = None if self._field is None else place.moved(np.array([self._field], np.float32))[0]
        return Overview(to_rgb(in_square(self.displayed(index), side, place)), mask, field)

    def aligned(self, index: int, grid: npt.NDArray[Any]) -> Floats32:
        """A map on the stack's own grid (a mask), shown and fitted as slice ``index`` is: (size, size) float32.

        Args:
            grid: (slices, rows, columns) as stored, values in [0, 1].
        """
        k = int(self._view.order[index])
        stored = np.take(grid, k, axis=2 - self._view.axis).astype(np.float32)
        return self._in_square(self._view.show(stored))

    def placed(self, corners: Floats32) -> Floats32:
        """Boxes (n, 4) left, top, right, bottom in pixels of the displayed image → in pixels of the square."""
        return place_of(self._field, self._facts, self._view, self._policy).moved(corners)

    def close(self) -> None:
        """Close the stack and remove temporary files."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self._slices.close()

    def _read_one(self, index: int) -> npt.NDArray[np.generic] | RegionUnreadable:
        try:
            if not self._neighbours:
                return to_rgb(self._in_square(self.displayed(index)))
            last = len(self._view.order) - 1
            beside = [self.displayed(min(max(0, index + step), last)) for step in _NEIGHBOURS]
            channels: Floats32 = np.stack(beside, axis=-1)
            return self._in_square(channels)
        except RegionUnreadable as fault:
            return fault

    def _in_square(self, shown: Floats32 | npt.NDArray[np.uint8]) -> Floats32:
        place = place_of(self._field, self._facts, self._view, self._policy)
        return in_square(shown, self._policy.image.size, place)

    def _across(self, k: int) -> tuple[Floats32, Mask | None]:
        """Slice k across the view's axis, as stored."""
        if self._view.axis == 2:
            return self._slices(k)
        if self._spool is None:
            channels = 3 if self._facts.colour else 1
            self._spool = Spool(
                self._slices.without_padding, self._facts.shape, self._view.axis, channels, self._facts.name
            )
        return self._spool.slice(k), None

    def _marks_across(self, k: int) -> Mask | None:
        """(rows, columns) of the mask in slice k across the view's axis, as stored; None without a mask."""
        if self._marks is None and self._roi is not None:
            from umedfeat.readers.regions.extent import marks_of

            self._marks = marks_of(self._roi, self._facts)
        return None if self._marks is None else np.take(self._marks, k, axis=2 - self._view.axis)

    def _region(self) -> tuple[npt.NDArray[np.int64], dict[str, Json]]:
        """(displayed slices that hold the region of interest, facts to store); sets the field of view."""
        facts, view = self._facts, self._view
        every = np.arange(len(view.order))
        said: dict[str, Json] = {"fit": self._policy.image.fit}
        box: Box | None = None
        if self._roi is not None:
            from umedfeat.readers.regions.extent import extent_of  # readers of masks, where there is one

            extent = extent_of(self._roi, facts)
            every = every[np.isin(view.order, extent.holds[view.axis])]
            box = box_of(Reach(extent.low, extent.high), facts, view)
            said["region"] = extent.told
        self._field = field_of(box, facts, view, self._policy)
        if self._field is not None:
            side = (self._field.right - self._field.left) * view.spacing[1]
            said["fit"] = f"field of view {side:.4g} {'mm' if facts.in_millimetres else 'px'}"
            place_of(self._field, facts, view, self._policy)  # refuses a field beside the image
        return every, said

    def _selected(self, holding: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of the displayed slices that the policy takes."""
        volume = self._policy.volume
        rule = volume.slices if self._facts.affine is not None else volume.frames
        return holding[select(len(holding), rule, self._view.positions[holding])]
