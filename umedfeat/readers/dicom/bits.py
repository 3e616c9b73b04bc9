"""Where in its word a stored value lies: HighBit, BitsStored, and what else lies beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from umedfeat.readers.dicom.numbers import whole_of

__all__ = ["aligned", "bits_below", "masked", "stored_bits_exceeded"]


def bits_below(dataset: pydicom.Dataset) -> int:
    """Bits of the word below the value, as the header has it (PS3.5 8.1.1, before 2011); mostly 0."""
    stored, high = whole_of(dataset, "BitsStored") or 0, whole_of(dataset, "HighBit") or 0
    allocated = whole_of(dataset, "BitsAllocated") or 0
    return high + 1 - stored if 0 < stored < high + 1 <= allocated else 0


def aligned(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values moved down to bit 0 where HighBit has them higher in their words; pydicom leaves them there.

    Values that fit into BitsStored and use the bits below them are in place: their HighBit is wrong.
    """
    below = bits_below(dataset)
    if not below or stored.dtype.kind not in "iu":
        return stored
    misplaced = not stored_bits_exceeded(dataset, stored) and bool(np.any(stored & ((1 << below) - 1)))
    return stored if misplaced else np.asarray(np.right_shift(stored, below))


def stored_bits_exceeded(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> bool:
    """Do values need more bits than BitsStored, as overlays do that old devices keep in the bits above?"""
    bits = int(dataset.get("BitsStored") or 0)
    if stored.dtype.kind not in "iu" or not 0 < bits < 8 * stored.dtype.itemsize or not stored.size:
        return False
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if stored.dtype.kind == "i" else (0, (1 << bits) - 1)
    return bool(stored.max() > high or stored.min() < low)


def masked(dataset: pydicom.Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The lower BitsStored bits, their sign kept."""
    above = 8 * stored.dtype.itemsize - int(dataset.BitsStored)
    return np.asarray(np.right_shift(np.left_shift(stored, above), above))
