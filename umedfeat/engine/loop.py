"""The run: hand out work, receive answers, encode, scatter, finish.

::

    sources ─Job→ workers ─Planned→ RowQueues ─Batch→ workers ─Read→ encoder thread ─→ scatter ─→ sink

Reading has priority over planning; planning fills the idle time. A source is handed to the sink when all its rows are
embedded, so that a crash never leaves half an item.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from umedfeat.encoders.base import Encoder
from umedfeat.engine.batching import Pending, RowQueues
from umedfeat.engine.embed import Embedded, embed
from umedfeat.engine.pool import Died, WorkerPool, slot_bytes_for
from umedfeat.engine.worker import Batch, Job, Planned, Read
from umedfeat.errors import EmptyImage, InputError, UnreadableInput, WorkerDied
from umedfeat.items import Dropped, Failure, Plan, Source
from umedfeat.policy import Policy
from umedfeat.progress import Progress

__all__ = ["Engine", "EngineSettings", "Sink", "StageSeconds"]

#: Regions planned ahead of reading; bounds the memory of the plans.
_PLANNED_AHEAD = 1_000_000
#: Features of one source above this size wait on disk, not in memory, until the source is complete.
_SPILL_BYTES = 256 << 20
_ENCODES_IN_FLIGHT = 2


class Sink(Protocol):
    """Where finished sources go."""

    def embedded(
        self, source: Source, plan: Plan, features: npt.NDArray[np.float32], dropped: tuple[Dropped, ...]
    ) -> None:
        """All rows of a source: ``plan.regions`` and ``features`` hold the kept ones, in plan order."""

    def failed(self, source: Source, failure: Failure) -> None:
        """A source that ends without features."""


@dataclass(frozen=True)
class EngineSettings:
    """How a run uses the machine; nothing here changes a number in the output.

    Attributes:
        workers: reading processes.
        batch_size: regions per batch.
        timeout: seconds that one source may keep a reading process busy within one batch.
        spill_dir: where features of huge sources wait on disk.
    """

    workers: int
    batch_size: int
    timeout: float = 600.0
    spill_dir: Path | None = None


@dataclass
class StageSeconds:
    """Where the time went. ``plan`` and ``read`` are summed over workers; the others are of one thread."""

    plan: float = 0.0
    read: float = 0.0
    encode: float = 0.0
    write: float = 0.0
    wall: float = 0.0
    encode_span: float = 0.0
    regions: int = 0

    @property
    def device_busy(self) -> float:
        """Share of the time between the first and the last batch in which the encoder computed, 0..1."""
        return min(1.0, self.encode / self.encode_span) if self.encode_span > 0 else 0.0


class Engine:
    """Embeds sources with one encoder.

    Args:
        encoder: on one device.
        policy: how pixels are read.
        settings: processes, batch size, limits.
        sink: receives every source exactly once, as embedded or failed.
        progress: receives what happens.
        stop: set it (from a signal handler) to end early; sources not yet handed to the sink are left out.
    """

    def __init__(
        self,
        encoder: Encoder,
        policy: Policy,
        settings: EngineSettings,
        sink: Sink,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._encoder = encoder
        self._policy = policy
        self._settings = settings
        self._sink = sink
        self._progress = progress
        self._stop = stop
        self.seconds = StageSeconds()

    def run(self, sources: Sequence[Source]) -> StageSeconds:
        """Embed all sources; returns where the time went."""
        begin = time.perf_counter()
        slot_bytes = slot_bytes_for(self._policy, self._settings.batch_size)
        with (
            WorkerPool(
                self._policy, workers=self._settings.workers, slot_bytes=slot_bytes, timeout=self._settings.timeout
            ) as pool,
            ThreadPoolExecutor(1, thread_name_prefix="encoder") as thread,
        ):
            loop = _Loop(self, pool, thread, sources)
            try:
                loop.run()
            finally:
                loop.close()
        self.seconds.wall = time.perf_counter() - begin
        return self.seconds


class _Loop:
    """One run of an engine: the state that changes while it runs."""

    def __init__(self, engine: Engine, pool: WorkerPool, thread: ThreadPoolExecutor, sources: Sequence[Source]) -> None:
        self._engine = engine
        self._encoder = engine._encoder
        self._settings = engine._settings
        self._seconds = engine.seconds
        self._pool = pool
        self._thread = thread
        self._sources = sources
        self._jobs = deque(range(len(sources)))
        self._planning = 0
        self._pending: dict[int, Pending] = {}
        self._rows = RowQueues(self._settings.batch_size)
        self._reading = 0
        self._read: deque[Batch] = deque()
        self._encodes: deque[tuple[Batch, Future[Embedded]]] = deque()
        self._first_encode: float | None = None
        self._wake, self._wake_writer = os.pipe()

    def close(self) -> None:
        for _, future in self._encodes:
            future.cancel()
        with contextlib.suppress(Exception):  # a failed encode was raised already, or is no longer wanted
            for _, future in self._encodes:
                future.result()
        os.close(self._wake)
        os.close(self._wake_writer)

    def run(self) -> None:
        while not self._finished():
            if self._engine._stop.is_set():
                return
            self._hand_out()
            for answer in self._pool.wait(0.5, also=[self._wake]):
                self._receive(answer)
            self._collect()
            self._feed_encoder()

    def _finished(self) -> bool:
        return not (self._jobs or self._planning or self._pending or self._reading or self._read or self._encodes)

    # ---- handing out work -------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        while self._pool.room > 0:
            if self._hand_out_batch(full=True) or self._hand_out_plan():
                continue
            starving = not (self._reading or self._read)
            if not (starving and not self._planning and self._hand_out_batch(full=False)):
                return

    def _hand_out_plan(self) -> bool:
        if not self._jobs or self._rows.waiting >= _PLANNED_AHEAD:
            return False
        number = self._jobs.popleft()
        self._planning += 1
        self._pool.submit(Job(number, self._sources[number]))
        return True

    def _hand_out_batch(self, *, full: bool) -> bool:
        if not self._rows.has_batch(full=full):
            return False
        slot = self._pool.slots.take()
        if slot is None:
            return False
        self._pool.submit(self._rows.take_batch(slot, full=full))
        self._reading += 1
        return True

    # ---- receiving answers ------------------------------------------------------------------------------------

    def _receive(self, answer: Planned | Read | Died) -> None:
        if isinstance(answer, Planned):
            self._planning -= 1
            self._seconds.plan += answer.seconds
            self._receive_plan(answer)
        elif isinstance(answer, Read):
            self._reading -= 1
            self._seconds.read += answer.seconds
            self._receive_pixels(answer)
        else:
            self._receive_death(answer)

    def _receive_plan(self, answer: Planned) -> None:
        source = self._sources[answer.number]
        plan = answer.plan
        if plan is None:
            self._fail(answer.number, "plan", answer.error or UnreadableInput(f"{source.name}: no plan"))
            self._engine._progress.planned(0)
            return
        self._engine._progress.planned(len(plan.regions))
        pending = Pending(answer.number, source, plan, self._buffer(len(plan.regions)))
        self._pending[answer.number] = pending
        if len(plan.regions):
            self._rows.add(pending)
        else:
            self._complete(pending)

    def _receive_pixels(self, answer: Read) -> None:
        for segment, dropped, error in zip(answer.batch.segments, answer.dropped, answer.errors, strict=True):
            pending = self._pending.get(segment.number)
            if pending is None:
                continue
            if error is not None:
                self._fail(segment.number, "read", error)
            else:
                pending.dropped.update({segment.first + k: drop for k, drop in dropped.items()})
        self._read.append(answer.batch)

    def _receive_death(self, answer: Died) -> None:
        source = self._sources[answer.number]
        stage = "read" if answer.number in self._pending else "plan"
        remedy = "the file may be damaged, or memory too small: try fewer --workers"
        if stage == "plan":
            self._planning -= 1
        self._fail(answer.number, stage, WorkerDied(f"{source.name}: {answer.reason}", remedy=remedy))
        self._reading = self._pool.batches_out

    # ---- encoding ---------------------------------------------------------------------------------------------

    def _feed_encoder(self) -> None:
        while self._read and len(self._encodes) < _ENCODES_IN_FLIGHT:
            batch = self._read.popleft()
            pixels = self._pool.slots.array(batch.slot, (batch.size, *batch.shape, 3), batch.dtype)
            future = self._thread.submit(embed, self._encoder, pixels)
            future.add_done_callback(lambda _: os.write(self._wake_writer, b"."))
            self._encodes.append((batch, future))

    def _collect(self) -> None:
        while self._encodes and self._encodes[0][1].done():
            os.read(self._wake, 1)
            batch, future = self._encodes.popleft()
            result = future.result()
            self._pool.slots.give_back(batch.slot)
            self._note_encode(result)
            self._scatter(batch, result.features)

    def _note_encode(self, result: Embedded) -> None:
        if self._first_encode is None:
            self._first_encode = result.begin
        self._seconds.encode += result.end - result.begin
        self._seconds.encode_span = result.end - self._first_encode

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
        error = _fault_of(pending, self._engine._policy.limits.max_unreadable)
        if error is not None:
            stage = "encode" if isinstance(error, EmptyImage) else "read"
            self._fail(pending.number, stage, error)
            return
        del self._pending[pending.number]
        kept = np.ones(len(pending.plan.regions), dtype=bool)
        kept[list(pending.dropped)] = False
        features = pending.features if kept.all() else pending.features[kept]
        plan = replace(pending.plan, regions=pending.plan.regions[kept])
        begin = time.perf_counter()
        dropped = tuple(pending.dropped[row] for row in sorted(pending.dropped))
        self._engine._sink.embedded(pending.source, plan, features, dropped)
        self._seconds.write += time.perf_counter() - begin
        self._engine._progress.finished(pending.source.name, "embedded")

    def _fail(self, number: int, stage: str, error: InputError) -> None:
        pending = self._pending.pop(number, None)
        if pending is not None:
            self._rows.abandon(pending)
        source = self._sources[number]
        failure = Failure(source.name, stage, type(error).__name__, error.message, error.remedy)
        self._engine._sink.failed(source, failure)
        self._engine._progress.finished(source.name, "failed")

    def _buffer(self, rows: int) -> npt.NDArray[np.float32]:
        shape = (rows, self._encoder.dim)
        if rows * self._encoder.dim * 4 <= _SPILL_BYTES:
            return np.empty(shape, dtype=np.float32)
        with tempfile.TemporaryFile(dir=self._settings.spill_dir) as spill:
            return np.memmap(spill, dtype=np.float32, mode="w+", shape=shape)


def _fault_of(pending: Pending, max_unreadable: float) -> InputError | None:
    """Why a fully read source is not good enough, if so."""
    total, lost = len(pending.plan.regions), len(pending.dropped)
    name = pending.source.name
    if lost > max_unreadable * total:
        example = next(iter(pending.dropped.values())).reason
        return UnreadableInput(
            f"{name}: {lost} of {total} regions are unreadable ({example})",
            remedy="copy the file again from its origin; --max-unreadable raises the limit",
        )
    if total and not all(np.isfinite(pending.features[k : k + 4096]).all() for k in range(0, total, 4096)):
        return EmptyImage(
            f"{name}: the encoder gave values that are not finite", remedy="see it with `umedfeat preview`"
        )
    return None
