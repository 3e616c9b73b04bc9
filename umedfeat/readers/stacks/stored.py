"""Stored slices of a stack in the units that a policy wants, background marked; the last few small ones are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from umedfeat.arrays import Floats32, Mask
from umedfeat.contract import RegionUnreadable
from umedfeat.errors import UnreadableInput
from umedfeat.policy import IntensityPolicy
from umedfeat.readers.stacks.stack import SliceStack, StackFacts

__all__ = ["StoredSlices", "none_readable"]

_KEPT_BYTES = 64 << 20


class StoredSlices:
    """Slices of a stack, by their stored index.

    Args:
        stack: closed by ``close``.
        policy: offset and lowest value of a CT.
        kept: how many small slices are kept; a single image is counted, looked at and shown one after the other.
    """

    def __init__(self, stack: SliceStack, policy: IntensityPolicy, kept: int = 1) -> None:
        self._stack, self._policy, self._kept = stack, policy, kept
        self._facts = stack.facts
        self._recent: OrderedDict[int, tuple[Floats32, Mask | None]] = OrderedDict()

    def __call__(self, k: int) -> tuple[Floats32, Mask | None]:
        """Slice k and its padding; what lies below the Hounsfield scale is padding in every format.

        Raises:
            RegionUnreadable: this slice cannot be decoded.
        """
        if k in self._recent:
            self._recent.move_to_end(k)
            return self._recent[k]
        values, padding = self._stack.slice(k)
        offset = self._policy.hu_offset
        if offset and self._facts.modality == "CT" and not self._facts.units_told:
            values = values + np.float32(offset)
        if self._facts.modality == "CT" and self._facts.calibrated and not self._facts.colour:
            below = values < self._policy.ct_air
            padding = below if padding is None else padding | below
        if values.nbytes <= _KEPT_BYTES:
            self._recent[k] = values, padding
            while len(self._recent) > self._kept:
                self._recent.popitem(last=False)
        return values, padding

    def readable(self) -> Iterator[tuple[Floats32, Mask | None]]:
        """All slices but the unreadable ones.

        Raises:
            UnreadableInput: none of them can be read.
        """
        faults: list[RegionUnreadable] = []
        for k in range(self._facts.slices):
            try:
                yield self(k)
            except RegionUnreadable as fault:
                faults.append(fault)
        if len(faults) == self._facts.slices:
            raise none_readable(self._facts, faults[0])

    def without_padding(self, k: int) -> Floats32:
        """Slice k with NaN for padding, to be resliced.

        Raises:
            UnreadableInput: the slice is; it would cross every image.
        """
        try:
            values, padding = self(k)
        except RegionUnreadable as fault:
            message = f"{self._facts.name}: slice {k} is unreadable ({fault}); it would cross every resliced image"
            raise UnreadableInput(message, remedy="--plane acquired") from fault
        return values if padding is None else np.where(padding, np.float32(np.nan), values)

    def close(self) -> None:
        """Close the stack."""
        self._recent.clear()
        self._stack.close()


def none_readable(facts: StackFacts, fault: RegionUnreadable) -> UnreadableInput:
    """The error of a stack of which no slice can be read."""
    which = f"none of {facts.slices} slices can be read" if facts.slices > 1 else "its only slice cannot be read"
    return UnreadableInput(f"{facts.name}: {which}: {fault}", remedy="export or copy it again from its origin")
