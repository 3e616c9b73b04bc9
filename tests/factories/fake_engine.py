"""An engine over fakes: processes that read fake sources, and whatever devices a test gives."""

from __future__ import annotations

import threading

from fake_reader import FakePolicy

from umedfeat.engine.local.pool import WorkerPool, slot_bytes_for
from umedfeat.engine.loop import Engine, EngineSettings
from umedfeat.engine.protocols import Devices, Sink
from umedfeat.policy import Policy
from umedfeat.terminal.progress import Progress, SilentProgress


def fake_engine(
    devices: Devices,
    settings: EngineSettings,
    sink: Sink,
    *,
    policy: Policy | None = None,
    timeout: float = 60,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Engine:
    """An engine with a pool of worker processes of its own, which its run closes."""
    policy = policy or FakePolicy()
    workers = WorkerPool(
        policy,
        workers=settings.workers,
        slot_bytes=slot_bytes_for(policy, settings.batch_size),
        timeout=timeout,
        encoding=devices.room,
    )
    return Engine(devices, workers, settings, sink, progress or SilentProgress(), stop or threading.Event())
