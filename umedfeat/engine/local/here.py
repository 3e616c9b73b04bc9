"""This machine as the place of a run: reading processes of its own, and one device or several."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from umedfeat.contract import EncoderFacts, Source
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.registry import load_chosen
from umedfeat.engine.local.device_pool import DevicePool
from umedfeat.engine.local.pool import Worker, WorkerPool, memory_for, slot_bytes_for
from umedfeat.engine.loop import Engine, EngineSettings
from umedfeat.engine.messages import Ready, Wishes
from umedfeat.engine.protocols import Devices, Sink, Supply, facts_of
from umedfeat.engine.seconds import StageSeconds
from umedfeat.engine.staging import Staged
from umedfeat.engine.supply import Listed
from umedfeat.machine import usable_cores, usable_memory
from umedfeat.policy import Policy
from umedfeat.terminal.progress import Progress

__all__ = ["Here", "batch_size_for", "default_workers"]

_WORKERS = 8  # per device; more do not make a disk faster


class Here:
    """This machine. See ``umedfeat.engine.protocols.Place``.

    A reading process imports what it needs while this one loads the encoder, and reads while the encoder is compiled.

    Args:
        choice: the encoder, and the devices that compute it.
        formats: keys of ``umedfeat.readers.READERS`` that will be met, as far as that is known.

    Attributes:
        seconds: where the time of the run goes; it changes while that goes on.

    Raises:
        SetupError: no device can be used.
    """

    def __init__(self, choice: EncoderChoice, formats: Iterable[str] = ()) -> None:
        self._policy, self._wishes = Policy(), Wishes()
        self._settings = EngineSettings(1, 1)
        self.seconds = StageSeconds()
        self._first = Worker(sorted(formats))
        try:
            self._devices = _open_devices(choice)
        except BaseException:
            self._first.close()
            raise

    @property
    def encoder(self) -> EncoderFacts:
        return self._devices.encoder

    @property
    def facts(self) -> Ready:
        """Of the encoder, for those who are elsewhere."""
        return facts_of(self._devices)

    def prepare(self, policy: Policy, wishes: Wishes) -> str:
        workers = min(_WORKERS * self._devices.count, usable_cores()) if wishes.workers is None else wishes.workers
        fitting = wishes.batch_size or batch_size_for(self._devices.batch_size, policy, workers, self._devices.room)
        self._policy, self._wishes = policy, wishes
        self._settings = EngineSettings(workers, fitting, wishes.spill_dir, wishes.dtype, wishes.max_unreadable)
        if policy.slide.tile_size == policy.image.size:
            self._devices.expect(policy.image.size)
        told = self.encoder
        runtime = told.settings.get("runtime", "")
        how = f"{told.precision}, {runtime}" if runtime else told.precision
        return (
            f"{told.name} on {told.device} ({how}), batches of {fitting}, "
            f"{workers} reading processes, {usable_cores()} cores"
        )

    def embed(self, sources: Sequence[Source], sink: Sink, progress: Progress, stop: threading.Event) -> StageSeconds:
        return self.work_off(Listed(sources), sink, progress, stop)

    def work_off(self, supply: Supply, sink: Sink, progress: Progress, stop: threading.Event) -> StageSeconds:
        """The same for sources that come while the run goes on."""
        workers = WorkerPool(
            self._policy,
            workers=self._settings.workers,
            slot_bytes=slot_bytes_for(self._policy, self._settings.batch_size),
            timeout=self._wishes.timeout,
            encoding=self._devices.room,
            first=self._first,
        )
        engine = Engine(self._devices, workers, self._settings, sink, progress, stop)
        self.seconds = engine.seconds
        with contextlib.closing(Staged(supply, self._wishes.scratch_bytes)) as staged:
            return engine.work_off(staged)

    def account(self) -> Mapping[str, Any]:
        return {
            "cores": usable_cores(),
            "workers": self._settings.workers,
            "batch_size": self._settings.batch_size,
        }

    def close(self) -> None:
        with contextlib.closing(self._first), contextlib.closing(self._devices):
            pass


def _open_devices(choice: EncoderChoice) -> Devices:
    """The encoder on its device in this process, or on several, each in a process of its own."""
    choices = choice.each()
    if len(choices) > 1:
        return DevicePool(choices)
    from umedfeat.engine.device import LocalDevice

    return LocalDevice(load_chosen(choice))


def default_workers() -> int:
    """As many reading processes as cores that this process may use, at most 8."""
    return min(_WORKERS, usable_cores())


def batch_size_for(suits_device: int, policy: Policy, workers: int, encoding: int) -> int:
    """What suits the device, halved until the pixels that are under way fit a quarter of the memory."""
    memory, size = usable_memory(), suits_device
    while memory and size > 1 and memory_for(policy, size, workers, encoding) > memory // 4:
        size //= 2
    return size
