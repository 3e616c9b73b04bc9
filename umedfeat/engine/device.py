"""What the loop knows of devices: batches go in, features come out. Here the one-device case, inside this process."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from umedfeat.encoders.base import Encoder
from umedfeat.engine.embed import Embedded, Embedder, Uploaded, Uploader, default_batch_size
from umedfeat.engine.local.slots import SlotView
from umedfeat.engine.local.worker import Batch
from umedfeat.errors import SetupError

__all__ = ["IN_FLIGHT", "Description", "Devices", "LocalDevice"]

#: Batches in a device's hands: the one it computes and the next, which is uploaded meanwhile.
IN_FLIGHT = 2


class Description(Protocol):
    """What a run must know of its encoder besides the numbers it gives; every ``Encoder`` is one."""

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def settings(self) -> Any: ...


class Devices(Protocol):
    """One or several devices with the same encoder on each."""

    @property
    def encoder(self) -> Description:
        """What the encoder is."""
        ...

    @property
    def batch_size(self) -> int:
        """Images per batch that suit the devices."""
        ...

    @property
    def count(self) -> int:
        """Devices that work."""
        ...

    @property
    def in_flight(self) -> int:
        """Batches submitted and not collected."""
        ...

    @property
    def room(self) -> int:
        """Batches that can be submitted now."""
        ...

    @property
    def idle(self) -> bool:
        """Has some device nothing to do?"""
        ...

    @property
    def waitables(self) -> Sequence[Any]:
        """Objects that become ready (``multiprocessing.connection.wait``) when ``collect`` may have something."""
        ...

    def attach(self, slots: SlotView) -> None:
        """Where the pixels of batches lie; before the first ``submit``."""

    def submit(self, batch: Batch) -> None:
        """Embed a batch whose pixels lie in its slot."""

    def collect(self) -> list[tuple[Batch, Embedded]]:
        """Batches that are embedded, in any order; never waits.

        Raises:
            SetupError: no device is left, or none has memory for one image.
        """
        ...

    def close(self) -> None:
        """Stop, once or again; batches in flight are forgotten."""


class LocalDevice:
    """One encoder in this process: a thread that uploads, a thread that computes."""

    count = 1

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._embedder = Embedder(encoder)
        self._uploader = Uploader(encoder.device)
        self._slots: SlotView | None = None
        self._uploads = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._computes = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._batches: deque[tuple[Batch, Future[Embedded]]] = deque()
        self._wake, self._wake_writer = multiprocessing.Pipe(duplex=False)
        self._closed = False

    @property
    def batch_size(self) -> int:
        """What suits the device."""
        return default_batch_size(self.encoder)

    @property
    def in_flight(self) -> int:
        return len(self._batches)

    @property
    def room(self) -> int:
        return IN_FLIGHT - len(self._batches)

    @property
    def idle(self) -> bool:
        return not self._batches

    @property
    def waitables(self) -> Sequence[Any]:
        return [self._wake]

    def attach(self, slots: SlotView) -> None:
        self._slots = slots

    def submit(self, batch: Batch) -> None:
        if self._slots is None:
            raise ValueError("attach() first")
        pixels = self._slots.array(batch.slot, (batch.size, *batch.shape, 3), batch.dtype)
        upload = self._uploads.submit(self._uploader, pixels)
        future = self._computes.submit(self._compute, upload)
        future.add_done_callback(lambda _: self._wake_writer.send_bytes(b"."))
        self._batches.append((batch, future))

    def _compute(self, upload: Future[Uploaded]) -> Embedded:
        return self._embedder(upload.result())

    def collect(self) -> list[tuple[Batch, Embedded]]:
        done: list[tuple[Batch, Embedded]] = []
        while self._batches and self._batches[0][1].done():
            self._wake.recv_bytes()
            batch, future = self._batches.popleft()
            done.append((batch, self._result(future)))
        return done

    def _result(self, future: Future[Embedded]) -> Embedded:
        try:
            return future.result()
        except RuntimeError as error:  # what torch raises for faults of a device
            raise SetupError(
                f"{self.encoder.device}: the encoder failed ({type(error).__name__})",
                remedy="finished inputs are safe: run the same command again to resume; --debug tells more",
            ) from error

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for _, future in self._batches:
            future.cancel()
        with contextlib.suppress(Exception):  # a failed batch was raised already, or is no longer wanted
            for _, future in self._batches:
                future.result()
        self._computes.shutdown()
        self._uploads.shutdown()
        self._batches.clear()
        self._wake.close()
        self._wake_writer.close()
