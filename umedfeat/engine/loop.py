"""The run: hand out work, receive answers, encode, scatter, finish.

::

    sources ─Job→ workers ─Planned→ RowQueues ─Batch→ workers ─Read→ devices ─→ scatter ─→ sink
                          └─ with pixels → RowQueues ─Batch────────→

A source of one region (a radiograph) is decoded to be planned, so its pixels come with the plan. Else reading has
priority over planning, which fills the idle time, unless the planned rows run low. A source is handed to the sink when
all its rows are embedded, so that a crash never leaves half an item.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Failure, Source
from umedfeat.engine.batching import Pending, RowQueues
from umedfeat.engine.buffers import keep_rows, new_buffer
from umedfeat.engine.messages import Answer, Batch, Died, Embedded, Job, Planned, Read, Unavailable
from umedfeat.engine.protocols import Devices, Sink, Supply, Workers
from umedfeat.engine.seconds import StageSeconds
from umedfeat.engine.supply import Listed
from umedfeat.engine.verdict import fault_of
from umedfeat.errors import InputError, NotFinite, UnreadableInput, WorkerDied
from umedfeat.policy import Limits
from umedfeat.terminal.progress import Progress

__all__ = ["Engine", "EngineSettings", "StageSeconds"]

#: Regions and sources planned ahead of reading; they bound the memory of the plans.
_PLANNED_REGIONS = 1_000_000
#: Room for the features of regions that are planned, in memory or on disk; it counts where each has a grid of tokens.
_PLANNED_BYTES = 4 << 30
_PLANNED_SOURCES = 4096
#: Batches of pixels that came with their plans; they bound the memory of those that wait.
_CARRIED_BATCHES = 3
#: Batches per reading process below which the next source is planned before anything else is read.
_LOW_WATER = 4


@dataclass(frozen=True)
class EngineSettings:
    """How a run uses the machine; nothing here changes a number in the output.

    Attributes:
        workers: reading processes.
        batch_size: regions per batch.
        spill_dir: where features of huge sources wait on disk.
        dtype: of the features in the file; a source with values beyond its range fails.
        max_unreadable: share of unreadable regions above which a source fails.
    """

    workers: int
    batch_size: int
    spill_dir: Path | None = None
    dtype: str = "float32"
    max_unreadable: float = Limits.max_unreadable


class Engine:
    """Embeds sources with one encoder, on one or several devices.

    Args:
        devices: what computes; closed when the run ends.
        workers: what plans and reads; closed when the run ends.
        settings: processes, batch size, limits.
        sink: receives every source exactly once, as embedded or failed.
        progress: receives what happens.
        stop: set it (from a signal handler) to end early; sources not yet handed to the sink are left out.
    """

    def __init__(
        self,
        devices: Devices,
        workers: Workers,
        settings: EngineSettings,
        sink: Sink,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._devices = devices
        self._workers = workers
        self._settings = settings
        self._sink = sink
        self._progress = progress
        self._stop = stop
        self.seconds = StageSeconds()

    def run(self, sources: Sequence[Source]) -> StageSeconds:
        """Embed all sources; returns where the time went."""
        return self.work_off(Listed(sources))

    def work_off(self, supply: Supply) -> StageSeconds:
        """Embed sources as they come, until no more will; returns where the time went."""
        begin = time.perf_counter()
        with contextlib.closing(self._workers) as workers, contextlib.closing(self._devices) as devices:
            devices.attach(workers.slots)
            self.seconds.devices = devices.count
            _Loop(self, workers, supply).run()
        self.seconds.wall = time.perf_counter() - begin
        return self.seconds


class _Loop:
    """One run of an engine: the state that changes while it runs."""

    def __init__(self, engine: Engine, workers: Workers, supply: Supply) -> None:
        self._engine = engine
        self._devices = engine._devices
        self._dim = self._devices.encoder.dim
        self._settings = engine._settings
        self._most_planned = min(_PLANNED_REGIONS, max(1, _PLANNED_BYTES // (4 * self._dim)))
        self._seconds = engine.seconds
        self._workers = workers
        self._supply = supply
        self._taken = 0
        self._planning: dict[int, Source] = {}
        self._pending: dict[int, Pending] = {}
        self._rows = RowQueues(self._settings.batch_size)
        self._carried = RowQueues(self._settings.batch_size)
        self._read: deque[Batch] = deque()
        self._first_encode: float | None = None

    def run(self) -> None:
        while not self._finished():
            if self._engine._stop.is_set():
                return
            self._hand_out()
            for answer in self._wait():
                self._receive(answer)
            self._collect()
            self._feed_devices()

    @property
    def _reading(self) -> int:
        """Batches that workers have or will have."""
        return self._workers.batches_out

    def _finished(self) -> bool:
        busy = self._reading or self._read or self._devices.in_flight
        return self._supply.ended and not (self._planning or self._pending or busy)

    def _wait(self) -> Sequence[Answer]:
        """What came in; the time goes to the account of the stage that was waited for."""
        stage = "encode" if not self._devices.idle else "read" if self._reading else "plan"
        if not (self._reading or self._planning):
            stage = "encode"
        begin = time.perf_counter()
        hungry = self._workers.room > 0 and self._may_plan()  # of a supply that has nothing now
        also = [*self._devices.waitables, *(self._supply.waitables if hungry else ())]
        answers = self._workers.wait(0.5, also=also)
        self._seconds.waited[stage] += time.perf_counter() - begin
        return answers

    # ---- handing out work -------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        while self._take_carried(full=True):
            pass
        while self._workers.room > 0:
            if self._rows_run_low() and self._hand_out_plan():
                continue
            if self._hand_out_batch(full=True) or self._hand_out_plan():
                continue
            starving = not (self._reading or self._read)
            if not starving or self._planning:
                return
            if not (self._hand_out_batch(full=False) or self._take_carried(full=False)):
                return

    def _rows_run_low(self) -> bool:
        """Will the rows be read before the next source could be planned?"""
        batches = _LOW_WATER * self._settings.workers
        waiting = self._rows.waiting + self._carried.waiting
        return not self._planning and waiting < batches * self._settings.batch_size

    def _hand_out_plan(self) -> bool:
        if not self._may_plan() or (taken := self._supply.take()) is None:
            return False
        if isinstance(taken, Unavailable):
            self._report_failure(taken.source, "read", taken.error)
            self._engine._progress.planned(0)
            return True
        self._planning[self._taken] = taken
        self._workers.submit(Job(self._taken, taken, read=True))
        self._taken += 1
        return True

    def _may_plan(self) -> bool:
        """Memory bounds the plans; while there is enough to read, plans leave half of the processes to reading."""
        if self._rows.waiting >= self._most_planned or len(self._pending) + len(self._planning) >= _PLANNED_SOURCES:
            return False
        if self._carried.waiting >= _CARRIED_BATCHES * self._settings.batch_size:
            return False
        plenty = self._rows.has_batch(full=True)
        return not plenty or len(self._planning) < max(1, self._settings.workers // 2)

    def _hand_out_batch(self, *, full: bool) -> bool:
        if not self._rows.has_batch(full=full):
            return False
        slot = self._workers.slots.take()
        if slot is None:
            return False
        self._workers.submit(self._rows.take_batch(slot, full=full, lane=self._workers.lane))
        return True

    def _take_carried(self, *, full: bool) -> bool:
        """Gather pixels that came with their plans: nothing of such a batch is left to be read."""
        if not self._carried.has_batch(full=full) or (slot := self._workers.slots.take()) is None:
            return False
        batch = self._carried.take_batch(slot, full=full)
        target = self._workers.slots.array(slot, (batch.size, *batch.shape, 3), batch.dtype)
        for place, segment in enumerate(batch.segments):
            pending = self._pending[segment.number]
            target[place], pending.pixels = pending.pixels, None
        self._read.append(batch)
        return True

    # ---- receiving answers ------------------------------------------------------------------------------------

    def _receive(self, answer: Answer) -> None:
        if isinstance(answer, Planned):
            self._seconds.plan += answer.seconds
            self._seconds.read += answer.read_seconds
            self._receive_plan(answer, self._planning.pop(answer.number))
        elif isinstance(answer, Read):
            self._seconds.read += answer.seconds
            self._receive_pixels(answer)
        elif isinstance(answer, Died):
            self._receive_death(answer)

    def _receive_plan(self, answer: Planned, source: Source) -> None:
        plan = answer.plan
        if plan is None:
            self._fail(source, "plan", answer.error or UnreadableInput(f"{source.name}: no plan"))
            self._engine._progress.planned(0)
            return
        self._engine._progress.planned(len(plan.regions))
        features = new_buffer(len(plan.regions), self._dim, self._settings.spill_dir)
        pending = Pending(answer.number, source, plan, features, answer.pixels)
        self._pending[answer.number] = pending
        if answer.pixels is not None:
            self._carried.add(pending)
        elif len(plan.regions):
            self._rows.add(pending)
        else:
            self._complete(pending)

    def _receive_pixels(self, answer: Read) -> None:
        for segment, dropped, error in zip(answer.batch.segments, answer.dropped, answer.errors, strict=True):
            pending = self._pending.get(segment.number)
            if pending is None:
                continue
            if error is not None:
                self._abandon(pending, "read", error)
            else:
                pending.dropped.update({segment.first + k: drop for k, drop in dropped.items()})
        self._read.append(answer.batch)

    def _receive_death(self, answer: Died) -> None:
        """A bad source may take several workers down at once; it fails once."""
        source, pending = self._planning.pop(answer.number, None), self._pending.get(answer.number)
        if source is not None:
            self._fail(source, "plan", _died_of(source, answer))
            self._engine._progress.planned(0)
        elif pending is not None:
            self._abandon(pending, "read", _died_of(pending.source, answer))

    # ---- encoding ---------------------------------------------------------------------------------------------

    def _feed_devices(self) -> None:
        while self._read and self._devices.room > 0:
            self._devices.submit(self._read.popleft())

    def _collect(self) -> None:
        for batch, result in self._devices.collect():
            self._workers.slots.give_back(batch.slot)
            self._note_encode(result)
            self._scatter(batch, result.features)

    def _note_encode(self, result: Embedded) -> None:
        first = result.begin if self._first_encode is None else min(result.begin, self._first_encode)
        self._first_encode = first
        self._seconds.encode += result.end - result.begin
        self._seconds.encode_span = max(self._seconds.encode_span, result.end - first)
        if result.fits is not None:
            self._seconds.images_at_once = min(result.fits, self._seconds.images_at_once or result.fits)

    def _scatter(self, batch: Batch, features: npt.NDArray[np.float32]) -> None:
        offset = 0
        for segment in batch.segments:
            count = len(segment.rows)
            pending = self._pending.get(segment.number)
            if pending is not None:
                pending.features[segment.first : segment.first + count] = features[offset : offset + count]
                pending.embedded += count
                self._seconds.regions += count
                if pending.embedded == len(pending.plan.regions):
                    self._complete(pending)
            offset += count
        self._engine._progress.encoded(batch.size)

    # ---- ending a source --------------------------------------------------------------------------------------

    def _complete(self, pending: Pending) -> None:
        error = fault_of(pending, self._settings.max_unreadable, self._settings.dtype)
        if error is not None:
            self._abandon(pending, "encode" if isinstance(error, NotFinite) else "read", error)
            return
        del self._pending[pending.number]
        kept = np.ones(len(pending.plan.regions), dtype=bool)
        kept[list(pending.dropped)] = False
        features = keep_rows(pending.features, kept)
        plan = replace(pending.plan, regions=pending.plan.regions[kept])
        begin = time.perf_counter()
        dropped = tuple(pending.dropped[row] for row in sorted(pending.dropped))
        self._engine._sink.embedded(pending.source, plan, features, dropped)
        self._seconds.write += time.perf_counter() - begin
        self._supply.release(pending.source)
        self._engine._progress.finished(pending.source.name, "embedded")

    def _abandon(self, pending: Pending, stage: str, error: InputError) -> None:
        del self._pending[pending.number]
        self._rows.abandon(pending)
        self._fail(pending.source, stage, error)

    def _fail(self, source: Source, stage: str, error: InputError) -> None:
        self._supply.release(source)
        self._report_failure(source, stage, error)

    def _report_failure(self, source: Source, stage: str, error: InputError) -> None:
        failure = Failure(source.name, stage, type(error).__name__, error.message, error.remedy)
        self._engine._sink.failed(source, failure)
        self._engine._progress.finished(source.name, "failed")


def _died_of(source: Source, answer: Died) -> WorkerDied:
    remedy = "the file may be damaged, or memory too small: try fewer --workers"
    return WorkerDied(f"{source.name}: {answer.reason}", remedy=remedy)
