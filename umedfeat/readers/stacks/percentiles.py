"""Exact percentiles of volumes that are never held as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats32, Mask

__all__ = ["Statistics", "percentile_statistics"]


_WHOLE = 1 << 20  # whole numbers up to this magnitude are counted one by one
_HALF = 1 << 16
_BLOCK = 1 << 17  # values that are counted at a time: they stay in the processor's caches


class Statistics(NamedTuple):
    """Percentiles and extremes of the finite values that are not padding; counts of what was left out."""

    low: float
    high: float
    minimum: float
    maximum: float
    counted: int
    nonfinite: int


def percentile_statistics(
    slices: Callable[[], Iterable[tuple[Floats32, Mask | None]]], percentiles: tuple[float, float]
) -> Statistics:
    """Exact percentiles of a volume that is never held as a whole.

    The result equals ``numpy.percentile(values, percentiles)`` (linear interpolation between order statistics) of all
    finite values outside padding. Whole numbers up to 2**20 are counted one by one in one pass; other values are
    counted by the upper 16 bits of their float32 pattern, and a second pass resolves the lower 16 bits.

    Args:
        slices: starts a pass over (values float32, padding mask or None) of every slice; called once or twice.
        percentiles: low and high, 0..100.
    """
    counts = _WholeCounts()
    fine: _PatternCounts | None = None
    for kept in (counts.kept(*block) for block in _blocks(slices())):
        if fine is None and not counts.add(kept):
            fine = _PatternCounts.taking_over(counts)
        if fine is not None:
            fine.add(kept.values)
    if not counts.total:
        return Statistics(np.nan, np.nan, np.nan, np.nan, 0, counts.nonfinite)
    ranks = [p / 100 * (counts.total - 1) for p in percentiles]
    if fine is None:
        low, high = (_interpolated(rank, counts.at) for rank in ranks)
    else:
        fine.refine((_finite(*block) for block in _blocks(slices())), ranks)
        low, high = (_interpolated(rank, fine.at) for rank in ranks)
    return Statistics(low, high, counts.minimum, counts.maximum, counts.total, counts.nonfinite)


def _blocks(slices: Iterable[tuple[Floats32, Mask | None]]) -> Iterator[tuple[Floats32, Mask | None]]:
    for values, padding in slices:
        flat, mask = values.ravel(), None if padding is None else padding.ravel()
        for begin in range(0, len(flat), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            yield flat[part], None if mask is None else mask[part]


def _finite(values: Floats32, padding: Mask | None) -> Floats32:
    kept = values if padding is None else values[~padding]
    finite = np.isfinite(kept)
    plain: Floats32 = (kept if finite.all() else kept[finite]) + np.float32(0)  # -0 becomes +0
    return plain


class _Kept(NamedTuple):
    """Values that count, and the lowest and highest of them."""

    values: Floats32
    low: float
    high: float


def _interpolated(rank: float, at: Callable[[int], float]) -> float:
    below = int(np.floor(rank))
    low = at(below)
    return low if rank == below else low + (at(below + 1) - low) * (rank - below)


class _WholeCounts:
    """One counter per whole number in ±2**20, plus the extremes and totals of everything seen."""

    def __init__(self) -> None:
        self.counts = np.zeros(2 * _WHOLE + 1, np.int64)
        self.minimum, self.maximum = np.inf, -np.inf
        self.total = self.nonfinite = 0

    def kept(self, values: Floats32, padding: Mask | None) -> _Kept:
        """The finite values that are not padding; the others are numbered."""
        kept = _finite(values, padding)
        self.nonfinite += int(values.size - (0 if padding is None else padding.sum()) - kept.size)
        self.total += kept.size
        if not kept.size:
            return _Kept(kept, np.inf, -np.inf)
        low, high = float(kept.min()), float(kept.max())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        return _Kept(kept, low, high)

    def add(self, kept: _Kept) -> bool:
        """Count; False (nothing counted) where a value is no whole number in the range."""
        values, first, last = kept
        if not values.size:
            return True
        if first < -_WHOLE or last > _WHOLE:
            return False
        whole = values.astype(np.int32)
        if not np.array_equal(whole.astype(np.float32), values):
            return False
        start, span = int(first) + _WHOLE, int(last - first) + 1
        if span > _BLOCK:
            np.add.at(self.counts, whole + _WHOLE, 1)
        else:
            whole -= int(first)
            self.counts[start : start + span] += np.bincount(whole, minlength=span)
        return True

    def at(self, rank: int) -> float:
        return float(np.searchsorted(self._up_to, rank, side="right")) + self.minimum

    @cached_property
    def _up_to(self) -> npt.NDArray[np.int64]:
        """Values counted up to each number from the smallest to the largest; asked for when all are counted."""
        return np.cumsum(self.counts[int(self.minimum) + _WHOLE : int(self.maximum) + _WHOLE + 1])


class _PatternCounts:
    """Counters by the upper half of an order-preserving integer image of float32, refined where ranks fall."""

    def __init__(self) -> None:
        self.coarse = np.zeros(_HALF, np.int64)
        self.fine: dict[int, npt.NDArray[np.int64]] = {}

    @classmethod
    def taking_over(cls, whole: _WholeCounts) -> _PatternCounts:
        counts = cls()
        seen = np.flatnonzero(whole.counts)
        np.add.at(counts.coarse, _ordered((seen - _WHOLE).astype(np.float32)) >> 16, whole.counts[seen])
        return counts

    def add(self, values: Floats32) -> None:
        self.coarse += np.bincount(_ordered(values) >> 16, minlength=_HALF)

    def refine(self, passes: Iterable[Floats32], ranks: Iterable[float]) -> None:
        """Count the lower halves in the few buckets that hold the ranks."""
        edges = np.cumsum(self.coarse)
        whole = [int(f(rank)) for rank in ranks for f in (np.floor, np.ceil)]
        needed = {int(np.searchsorted(edges, rank, side="right")) for rank in whole}
        self.fine = {bucket: np.zeros(_HALF, np.int64) for bucket in needed}
        for values in passes:
            patterns = _ordered(values)
            upper = (patterns >> 16).astype(np.uint16)
            for bucket, counts in self.fine.items():
                counts += np.bincount(patterns[upper == bucket] & np.uint32(_HALF - 1), minlength=_HALF)

    def at(self, rank: int) -> float:
        edges = np.cumsum(self.coarse)
        bucket = int(np.searchsorted(edges, rank, side="right"))
        before = int(edges[bucket] - self.coarse[bucket])
        low = int(np.searchsorted(np.cumsum(self.fine[bucket]), rank - before, side="right"))
        return _value((bucket << 16) | low)


def _ordered(values: Floats32) -> npt.NDArray[np.uint32]:
    """float32 bit patterns as integers 0..2**32-1 in the order of the values."""
    flips = (values.view(np.int32) >> 31).view(np.uint32) | np.uint32(
        0x80000000
    )  # every bit of negatives, else the sign
    patterns: npt.NDArray[np.uint32] = values.view(np.uint32) ^ flips
    return patterns


def _value(pattern: int) -> float:
    bits = 0xFFFFFFFF - pattern if pattern < 0x80000000 else pattern - 0x80000000
    return float(np.array(bits, np.uint32).view(np.float32))
