"""Rows that wait to be read, and how they become batches that cross sources."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Plan, Source
from umedfeat.engine.messages import Batch, Segment

__all__ = ["Pending", "RowQueues"]


#: Neighbouring regions that one reading process gets of a source, before it goes on elsewhere: several rows of a slide.
#: What lies under two rows is decoded once by the process that reads both.
_BAND = 1024


@dataclass(eq=False)
class Pending:
    """A planned source on its way: rows handed out so far, rows embedded so far.

    ``features``: (n, D), filled row by row. ``dropped``: row of the plan → why it could not be read.
    ``pixels``: of the only region, where they came with the plan, until a batch holds them.
    ``parted``: rows that belong to a band.
    """

    number: int
    source: Source
    plan: Plan
    features: npt.NDArray[np.float32]
    pixels: npt.NDArray[Any] | None = None
    parted: int = 0
    handed_out: int = 0
    embedded: int = 0
    dropped: dict[int, Dropped] = field(default_factory=dict)
    abandoned: bool = False

    @property
    def waiting(self) -> int:
        """Rows that no batch holds yet."""
        return 0 if self.abandoned else len(self.plan.regions) - self.handed_out

    def part(self, size: int) -> Band | None:
        """The next band of at most ``size`` rows; None when there is none."""
        first, stop = self.parted, min(self.parted + size, len(self.plan.regions))
        if self.abandoned or first == stop:
            return None
        self.parted = stop
        return Band(self, first, stop)


@dataclass(eq=False)
class Band:
    """Rows ``first`` to ``stop`` of a source, which wait to be handed out in this order."""

    pending: Pending
    first: int
    stop: int

    @property
    def waiting(self) -> int:
        """Rows that no batch holds yet."""
        return 0 if self.pending.abandoned else self.stop - self.first

    def hand_out(self, room: int) -> Segment:
        """The next rows, at most ``room``."""
        pending, first = self.pending, self.first
        rows = pending.plan.regions[first : min(first + room, self.stop)]
        self.first += len(rows)
        pending.handed_out += len(rows)
        return Segment(pending.number, pending.source, pending.plan.prepared, first, rows)

    def split(self, least: int) -> Band:
        """Part with the second half, at least ``least`` rows, for somebody who has nothing to do."""
        middle = self.first + min((self.waiting + 1) // 2, max(0, self.waiting - least))
        self.stop, stop = middle, self.stop
        return Band(self.pending, middle, stop)


class _Queue:
    """Rows of one shape and dtype: sources that are not parted yet, and the band of each lane."""

    def __init__(self) -> None:
        self.sources: deque[Pending] = deque()
        self.bands: dict[int, Band] = {}
        self.count = 0

    def band(self, lane: int, least: int) -> Band | None:
        """The band that a lane goes on with: its own, the next of the first source, or half of the longest."""
        own = self.bands.get(lane)
        if own is None or not own.waiting:
            own = self._next() or self._shared(least)
            if own is not None:
                self.bands[lane] = own
        return own

    def _next(self) -> Band | None:
        while self.sources:
            band = self.sources[0].part(_BAND)
            if band is not None:
                return band
            self.sources.popleft()
        return None

    def _shared(self, least: int) -> Band | None:
        longest = max(self.bands.values(), key=lambda band: band.waiting, default=None)
        return longest.split(least) if longest is not None and longest.waiting else None


class RowQueues:
    """One batch holds arrays of one kind (shape, dtype), of any number of sources.

    Sources come first in, first out, in bands of neighbouring regions: each lane (a reading process) works through a
    band of its own.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._queues: dict[tuple[tuple[int, int], str], _Queue] = defaultdict(_Queue)

    @property
    def waiting(self) -> int:
        """Rows that no batch holds yet, of all kinds."""
        return sum(queue.count for queue in self._queues.values())

    def add(self, pending: Pending) -> None:
        """Queue all rows of a planned source."""
        queue = self._queues[pending.plan.shape, pending.plan.dtype]
        queue.sources.append(pending)
        queue.count += pending.waiting

    def abandon(self, pending: Pending) -> None:
        """Take a failed source's remaining rows out."""
        self._queues[pending.plan.shape, pending.plan.dtype].count -= pending.waiting
        pending.abandoned = True

    def has_batch(self, *, full: bool) -> bool:
        """Is there a full batch (or any rows, if it need not be full)?"""
        return self._ready(full) is not None

    def take_batch(self, slot: int, *, full: bool, lane: int = 0) -> Batch:
        """The next batch for a lane, to be read into ``slot``; call only after ``has_batch``."""
        key = self._ready(full)
        if key is None:
            raise LookupError("no batch is ready")
        queue = self._queues[key]
        segments: list[Segment] = []
        room = self._batch_size
        while room and (band := queue.band(lane, room)) is not None:
            segments.append(band.hand_out(room))
            room -= len(segments[-1].rows)
        batch = Batch(slot, key[0], key[1], tuple(segments))
        queue.count -= batch.size
        return batch

    def _ready(self, full: bool) -> tuple[tuple[int, int], str] | None:
        enough = self._batch_size if full else 1
        return next((key for key, queue in self._queues.items() if queue.count >= enough), None)
