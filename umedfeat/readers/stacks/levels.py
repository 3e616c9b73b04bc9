"""Which values of a stack become black and white: decided once for the whole stack, applied to every slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from umedfeat.arrays import Floats32, Mask
from umedfeat.contract import Json, RegionUnreadable
from umedfeat.errors import EmptyImage, UnsupportedInput
from umedfeat.policy import IntensityPolicy
from umedfeat.readers.stacks.intensity import Range, Statistics, percentile_statistics, through_voi, to_unit
from umedfeat.readers.stacks.stack import SliceStack, StackFacts
from umedfeat.readers.stacks.stored import StoredSlices, none_readable
from umedfeat.readers.stacks.windows import Percentiles, choose_window, percentile_range, shows_windows, windows_as_rgb

__all__ = ["Levels", "constant_image"]

_LIKE_CT = "values look like Hounsfield units: declare modality CT (--modality, manifest) to window them"
_NO_UNIT = "its file does not tell the unit"
_BELOW_FAT = -200.0  # Hounsfield units: lung and air lie below, tissue does not
_SAMPLE = 16  # pixels apart


class Levels:
    """The window of a stack.

    Args:
        stack: whose stored windows may be asked for.
        slices: of the stack.
        policy: which window.
        prepared: what ``decide`` has left in ``prepared`` in an earlier plan, or nothing.
    """

    def __init__(
        self, stack: SliceStack, slices: StoredSlices, policy: IntensityPolicy, prepared: Mapping[str, Any]
    ) -> None:
        self._stack, self._slices, self._policy, self._facts = stack, slices, policy, stack.facts
        self.prepared = dict(prepared)

    def decide(self) -> Json:
        """Fix the window of the whole stack and say what was done.

        Raises:
            EmptyImage: the stack would be one grey.
            UnsupportedInput: no such window in the file, or a CT without air whose unit nobody told.
            UnreadableInput: no slice can be read.
        """
        if self._facts.colour:
            self._refuse_constant("colour")
            return {"window": "full range"}
        if shows_windows(self._policy, self._facts):
            return self._three_windows()
        window, setting = choose_window(self._policy, self._facts)
        if setting == "ct_window":
            self._refuse_untold_without_air()
        said: dict[str, Json] = {"setting": setting}
        if isinstance(window, Percentiles) or self._facts.floating:
            counted = window if isinstance(window, Percentiles) else self._policy.percentiles
            statistics = percentile_statistics(self._slices.readable, counted)
            said |= {"nonfinite": statistics.nonfinite, **_hint(self._facts, statistics)}
            if isinstance(window, Percentiles):
                said |= _not_in_suv(self._facts, window)
                window = percentile_range(statistics, window, self._facts.name)
        if isinstance(window, Range):
            self.prepared = {"voi": False, "low": window.low, "high": window.high}
            self._refuse_constant(f"window {window.how}: {window.low:g} to {window.high:g}")
            return {"window": window.how, "low": window.low, "high": window.high, **said}
        self._require_stored_voi()
        self.prepared = {"voi": True}
        self._refuse_constant("the stored window")
        return {"window": "file", **said}

    def apply(self, values: Floats32, padding: Mask | None, voi_slice: int) -> Floats32:
        """Values to [0, 1]: (H, W), or (H, W, 3) for colours and three windows.

        Args:
            voi_slice: stored slice whose own window counts, where the stored ones do.

        Raises:
            RegionUnreadable: that slice has no stored window.
        """
        if self._facts.colour:
            return values if values.dtype == np.uint8 else np.nan_to_num(values, nan=0.0)
        invert = self._facts.invert
        if self.prepared["voi"]:
            voi = self._stack.stored_voi(voi_slice)
            if voi is None:
                raise RegionUnreadable("this slice has no stored window")
            return through_voi(values, voi, padding, invert=invert)
        if "channels" in self.prepared:
            ranges = [Range(low, high, "") for low, high in self.prepared["channels"]]
            return np.stack([to_unit(values, one, padding, invert=invert) for one in ranges], axis=-1)
        return to_unit(values, Range(self.prepared["low"], self.prepared["high"], ""), padding, invert=invert)

    def _three_windows(self) -> Json:
        self._refuse_untold_without_air()
        ranges = windows_as_rgb()
        self.prepared = {"voi": False, "channels": [[one.low, one.high] for one in ranges]}
        told = ", ".join(one.how for one in ranges)
        self._refuse_constant(f"windows {told}")
        said: dict[str, Json] = {"window": f"red, green, blue: {told}", "setting": "rgb"}
        if self._facts.floating:
            said["nonfinite"] = percentile_statistics(self._slices.readable, self._policy.percentiles).nonfinite
        return said

    def _refuse_untold_without_air(self) -> None:
        """Hounsfield units that were only declared: a CT without anything below −200 is shifted, or has no air."""
        if self._facts.units_told or self._policy.hu_offset is not None:
            return
        lowest = np.inf
        for k in _from_the_centre(self._facts.slices):
            values, _ = self._slices(k)
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
        faults: list[RegionUnreadable] = []
        low, high = np.inf, -np.inf
        for k in _from_the_centre(self._facts.slices):
            try:
                values, padding = self._slices(k)
                if self._varies(values, padding, k):
                    return
            except RegionUnreadable as fault:
                faults.append(fault)
                continue
            kept = values[np.isfinite(values) if padding is None else np.isfinite(values) & ~padding]
            if kept.size:
                low, high = min(low, float(kept.min())), max(high, float(kept.max()))
        if len(faults) == self._facts.slices:
            raise none_readable(self._facts, faults[0])
        raise constant_image(self._facts, how, (low, high))

    def _varies(self, values: Floats32, padding: Mask | None, k: int) -> bool:
        """Does a slice show more than one grey? A sample that varies is proof enough."""
        for step in (_SAMPLE, 1):
            part = (slice(None, None, step), slice(None, None, step))
            shown = self.apply(values[part], None if padding is None else padding[part], k)
            pixels = None if self._facts.colour else (0, 1)
            if np.any(shown.min(axis=pixels) != shown.max(axis=pixels)):
                return True
        return False


def constant_image(facts: StackFacts, how: str, values: tuple[float, float] | None = None) -> EmptyImage:
    """The error of an image of one grey.

    Args:
        values: lowest and highest value outside padding, (inf, -inf) where there is none.
    """
    what = "every slice" if facts.slices > 1 else "the image"
    low, high = values or (0.0, 1.0)
    if low > high:
        return EmptyImage(f"{facts.name}: {what} is nothing but padding ({how})", remedy="leave it out")
    told = f"; its values are {low:g} to {high:g}" if values and low < high else ""
    remedy = "choose another window, or leave it out" if low < high else "leave it out"
    return EmptyImage(f"{facts.name}: {what} is constant ({how}{told})", remedy=remedy)


def _from_the_centre(count: int) -> list[int]:
    return sorted(range(count), key=lambda k: abs(k - count // 2))


def _hint(facts: StackFacts, statistics: Statistics) -> dict[str, Json]:
    """Air and bone in Hounsfield units are hard to mistake, but a modality is declared, never guessed."""
    like_ct = facts.modality == "unknown" and -4096 <= statistics.minimum <= -900 and statistics.maximum >= 200
    return {"hint": _LIKE_CT} if like_ct else {}


def _not_in_suv(facts: StackFacts, window: Percentiles) -> dict[str, Json]:
    """PET that should be shown in SUV says why it is not."""
    told = facts.detail.get("suv")
    missing = told.get("missing") if isinstance(told, dict) else _NO_UNIT if facts.modality == "PT" else None
    return {"hint": f"PET not in SUV ({missing}): shown up to the {window.high:g}th percentile"} if missing else {}
