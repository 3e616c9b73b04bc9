"""The child process: plans sources, reads regions into shared memory, shows sources to visitors. Imports no torch.

It answers every message of the parent in order and keeps a few readers open. A crash here (a codec's segfault, the
kernel's out-of-memory killer) costs one source: the parent knows which one was being worked on.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Dropped, Json, Plan, Reader, RegionUnreadable, Source
from umedfeat.engine.local.child import serving
from umedfeat.engine.local.heap import keep_freed_memory
from umedfeat.engine.local.slots import SlotView
from umedfeat.engine.messages import Batch, Job, Message, Planned, Read, Segment, Visit, Visited
from umedfeat.errors import InputError, OutputError, UnreadableInput
from umedfeat.naming import files_stat, identify
from umedfeat.policy import Policy
from umedfeat.readers import open_reader, reader_format
from umedfeat.remote.fetch import facts_of_remote

__all__ = [
    "Awake",
    "Started",
    "named_faults",
    "plan_source",
    "serve",
]

_OPEN_READERS = 8


@dataclass(frozen=True)
class Awake:
    """Sent once, when everything is imported."""


@dataclass(frozen=True)
class Started:
    """Sent before a source is touched, so that a death has a name."""

    number: int


class OpenReaders:
    """The readers that this process holds open, least recently used first to go."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._readers: OrderedDict[str, Reader] = OrderedDict()

    def get(self, source: Source, prepared: Mapping[str, Any]) -> Reader:
        """The open reader of a planned source; the one used longest ago is closed for it."""
        if source.id in self._readers:
            self._readers.move_to_end(source.id)
            return self._readers[source.id]
        while len(self._readers) >= _OPEN_READERS:
            self._readers.popitem(last=False)[1].close()
        reader = self._readers[source.id] = open_reader(source, self._policy, prepared)
        return reader

    def discard(self, source: Source) -> None:
        """Close what is open of a source."""
        reader = self._readers.pop(source.id, None)
        if reader is not None:
            reader.close()


def plan_source(job: Job, policy: Policy) -> Planned:
    """Open, plan and close one source."""
    source, begin = job.source, time.perf_counter()
    stat = files_stat(source.content, source.cut)
    try:
        with named_faults(source), contextlib.closing(open_reader(source, policy)) as reader:
            plan = reader.plan()
            plan = replace(plan, **identify(source.content, plan.part, stat, source.cut)._asdict())
            if source.remote:
                plan = replace(plan, detail={**plan.detail, "remote": facts_of_remote(source.remote)})
            planned = time.perf_counter()
            pixels = _only_region(reader, plan) if job.read and len(plan.regions) == 1 else None
            if pixels is not None:
                plan = replace(plan, detail={**plan.detail, "tone": _tone(pixels)})
    except InputError as error:
        return Planned(job.number, None, error, time.perf_counter() - begin)
    return Planned(job.number, plan, None, planned - begin, pixels, time.perf_counter() - planned)


def visit_source(visit: Visit, policy: Policy) -> Visited:
    """Open one source, plan it if need be, show it, close it."""
    plan, stage = visit.plan, "plan"
    try:
        with (
            named_faults(visit.source),
            contextlib.closing(open_reader(visit.source, policy, None if plan is None else plan.prepared)) as reader,
        ):
            plan = plan or reader.plan()
            stage = "read"
            return Visited(visit.number, visit.visitor(visit.source, reader, plan))
    except (InputError, OutputError) as error:
        return Visited(visit.number, None, error, stage)


def _only_region(reader: Reader, plan: Plan) -> npt.NDArray[Any] | None:
    """The pixels of a plan of one region, or None: reading it again, as any other region, tells the fault."""
    pixels = np.empty((*plan.shape, 3), plan.dtype)
    try:
        (image,) = reader.read(plan.regions)
        if isinstance(image, RegionUnreadable):
            return None
        pixels[:] = image
    except Exception:  # noqa: BLE001 - see named_faults
        return None
    return pixels


def _tone(pixels: npt.NDArray[Any]) -> dict[str, Json]:
    """Mean and standard deviation of a picture as encoders get it, from 0 to 1: what tells much without an encoder."""
    values = pixels.ravel().astype(np.float32)
    white = 255.0 if pixels.dtype == np.uint8 else 1.0
    mean = float(values.mean(dtype=np.float64))
    variance = max(0.0, float(values @ values) / len(values) - mean**2)
    return {"mean": round(mean / white, 4), "contrast": round(variance**0.5 / white, 4)}


@contextlib.contextmanager
def named_faults(source: Source) -> Iterator[None]:
    """The one place where a source is isolated: whatever a decoder raises on bad bytes becomes an InputError."""
    try:
        yield
    except (InputError, OutputError):  # the latter of a visitor that writes: no fault of the source
        raise
    except MemoryError as error:
        raise UnreadableInput(f"{source.name}: not enough memory to read it", remedy="use fewer --workers") from error
    except Exception as error:
        # A library's message may quote a tag or a path, so only its kind is told; the cause stays chained.
        raise UnreadableInput(
            f"{source.name}: the decoder failed ({type(error).__name__})",
            remedy="the file is probably damaged: copy it again from its origin, or open it in another viewer",
        ) from error


def read_batch(batch: Batch, target: npt.NDArray[Any], readers: OpenReaders, started: Callable[[int], None]) -> Read:
    """Read every segment of a batch into ``target``; faults stay with their source."""
    begin = time.perf_counter()
    dropped: list[Mapping[int, Dropped]] = []
    errors: list[InputError | None] = []
    offset = 0
    for segment in batch.segments:
        started(segment.number)
        view = target[offset : offset + len(segment.rows)]
        offset += len(segment.rows)
        try:
            dropped.append(_read_segment(segment, view, readers))
            errors.append(None)
        except InputError as error:
            readers.discard(segment.source)
            dropped.append({})
            errors.append(error)
    return Read(batch, tuple(dropped), tuple(errors), time.perf_counter() - begin)


def _read_segment(segment: Segment, view: npt.NDArray[Any], readers: OpenReaders) -> dict[int, Dropped]:
    dropped: dict[int, Dropped] = {}
    with named_faults(segment.source):
        reader = readers.get(segment.source, segment.prepared)
        for k, image in enumerate(reader.read(segment.rows)):
            if isinstance(image, RegionUnreadable):
                row = segment.rows[k]
                dropped[k] = Dropped(int(row["x"]), int(row["y"]), int(row["slice"]), str(image))
                view[k] = 0
            else:
                view[k] = image
    return dropped


def serve(link: Connection, formats: Sequence[str]) -> None:
    """Main loop of the process: policy and slots, then messages in, answers out, until the parent closes the link."""
    with serving():
        keep_freed_memory()
        for name in formats:  # while the parent loads its encoder
            with contextlib.suppress(ImportError):  # told when a source is opened
                reader_format(name)
        policy, slots = link.recv()
        slots.attach()
        readers = OpenReaders(policy)
        link.send(Awake())
        while (message := link.recv()) is not None:
            link.send(_answer(message, policy, slots, readers, link))


def _answer(
    message: Message, policy: Policy, slots: SlotView, readers: OpenReaders, link: Connection
) -> Planned | Visited | Read:
    if isinstance(message, Batch):
        target = slots.array(message.slot, (message.size, *message.shape, 3), message.dtype)
        return read_batch(message, target, readers, lambda number: link.send(Started(number)))
    link.send(Started(message.number))
    return visit_source(message, policy) if isinstance(message, Visit) else plan_source(message, policy)
