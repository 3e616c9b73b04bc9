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


@dataclass(eq=False)
class Pending:
    """A planned source on its way: rows handed out so far, rows embedded so far.

    ``features``: (n, D), filled row by row. ``dropped``: row of the plan → why it could not be read.
    ``pixels``: of the only region, where they came with the plan, until a batch holds them.
    """

    number: int
    source: Source
    plan: Plan
    features: npt.NDArray[np.float32]
    pixels: npt.NDArray[Any] | None = None
    handed_out: int = 0
    embedded: int = 0
    dropped: dict[int, Dropped] = field(default_factory=dict)
    abandoned: bool = False

    @property
    def waiting(self) -> int:
        """Rows that no batch holds yet."""
        return 0 if self.abandoned else len(self.plan.regions) - self.handed_out

    def hand_out(self, room: int) -> Segment:
        """The next rows, at most ``room``."""
        first = self.handed_out
        rows = self.plan.regions[first : first + room]
        self.handed_out += len(rows)
        return Segment(self.number, self.source, self.plan.prepared, first, rows)


class RowQueues:
    """First in, first out per (shape, dtype): one batch holds arrays of one kind, of any number of sources."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._queues: dict[tuple[tuple[int, int], str], deque[Pending]] = defaultdict(deque)
        self._counts: dict[tuple[tuple[int, int], str], int] = defaultdict(int)

    @property
    def waiting(self) -> int:
        """Rows that no batch holds yet, of all kinds."""
        return sum(self._counts.values())

    def add(self, pending: Pending) -> None:
        """Queue all rows of a planned source."""
        key = (pending.plan.shape, pending.plan.dtype)
        self._queues[key].append(pending)
        self._counts[key] += pending.waiting

    def abandon(self, pending: Pending) -> None:
        """Take a failed source's remaining rows out."""
        self._counts[pending.plan.shape, pending.plan.dtype] -= pending.waiting
        pending.abandoned = True

    def has_batch(self, *, full: bool) -> bool:
        """Is there a full batch (or any rows, if it need not be full)?"""
        return self._ready(full) is not None

    def take_batch(self, slot: int, *, full: bool) -> Batch:
        """The next batch, to be read into ``slot``; call only after ``has_batch``."""
        key = self._ready(full)
        if key is None:
            raise LookupError("no batch is ready")
        queue = self._queues[key]
        segments: list[Segment] = []
        room = self._batch_size
        while room and queue:
            if queue[0].waiting:
                segments.append(queue[0].hand_out(room))
                room -= len(segments[-1].rows)
            if not queue[0].waiting:
                queue.popleft()
        batch = Batch(slot, key[0], key[1], tuple(segments))
        self._counts[key] -= batch.size
        return batch

    def _ready(self, full: bool) -> tuple[tuple[int, int], str] | None:
        enough = self._batch_size if full else 1
        return next((key for key, count in self._counts.items() if count >= enough), None)
