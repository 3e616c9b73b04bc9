"""The child process of one device: loads the encoder, embeds batches that lie in shared memory."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.registry import load_chosen
from umedfeat.engine.local.child import serving
from umedfeat.engine.local.slots import SlotView
from umedfeat.engine.messages import Batch, Broken
from umedfeat.engine.protocols import facts_of
from umedfeat.errors import SetupError, UmedfeatError
from umedfeat.machine import CORES_VARIABLE

__all__ = ["Pixels", "serve_device"]

log = logging.getLogger("umedfeat")


@dataclass(frozen=True)
class Pixels:
    """A batch to embed: only where its pixels lie, (count, height, width, 3)."""

    slot: int
    shape: tuple[int, int]
    dtype: str
    size: int


def serve_device(link: Connection, choice: EncoderChoice, cores: int) -> None:
    """Main loop of the process: pixels in, ``Embedded`` out in the same order, until the parent closes the link."""
    os.environ[CORES_VARIABLE] = str(cores)
    with serving():
        try:
            _serve(link, choice)
        except UmedfeatError as error:
            link.send(Broken(error))
        except (RuntimeError, OSError, MemoryError) as error:  # CUDA faults are RuntimeErrors; a library may name paths
            log.debug("device %s", choice.device, exc_info=error)
            link.send(Broken(SetupError(f"{choice.device}: failed ({type(error).__name__})", remedy=_REMEDY)))


_REMEDY = "see the driver's log, or leave this device out of --device"


def _serve(link: Connection, choice: EncoderChoice) -> None:
    from umedfeat.engine.device import LocalDevice  # brings torch: after the number of cores is set

    device = LocalDevice(load_chosen(choice))
    link.send(facts_of(device))
    try:
        while True:
            for ready in wait([link, *device.waitables]):
                if ready is link:
                    _receive(link.recv(), device)
            for _, embedded in device.collect():
                link.send(embedded)
    finally:
        device.close()


def _receive(message: SlotView | Pixels, device: Any) -> None:
    if isinstance(message, SlotView):
        message.attach()
        device.attach(message)
    else:
        device.submit(_PixelsOnly(message.slot, message.shape, message.dtype, (), message.size))


@dataclass(frozen=True)
class _PixelsOnly(Batch):
    """A batch without its rows, which only the parent needs."""

    count: int

    @property
    def size(self) -> int:
        return self.count
