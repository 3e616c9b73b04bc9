"""The one-device case of ``umedfeat.contract.Devices``, inside this process."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import ArrayEncoder, Encoder
from umedfeat.engine.messages import IN_FLIGHT, Batch, Embedded
from umedfeat.engine.protocols import Slots
from umedfeat.engine.vectors import refuse_other_shape
from umedfeat.errors import SetupError, UmedfeatError

__all__ = ["LocalDevice"]

CPU_BATCH_SIZE = 32


class LocalDevice:
    """One encoder in this process: a thread that uploads, a thread that computes."""

    count = 1

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._upload, self._embed = _ways(encoder)
        self._slots: Slots | None = None
        self._uploads = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._computes = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._batches: deque[tuple[Batch, Future[Embedded]]] = deque()
        self._wake, self._wake_writer = multiprocessing.Pipe(duplex=False)
        self._closed = False

    @property
    def batch_size(self) -> int:
        """What suits the device."""
        if not self.encoder.device.startswith("cuda"):
            return CPU_BATCH_SIZE
        from umedfeat.engine.embed import default_batch_size

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

    def attach(self, slots: Slots) -> None:
        self._slots = slots

    def expect(self, side: int) -> None:
        if isinstance(self.encoder, ArrayEncoder):  # a fault is told when images come
            self._computes.submit(self.encoder.prepare, side, side)

    def submit(self, batch: Batch) -> None:
        if self._slots is None:
            raise ValueError("attach() first")
        pixels = self._slots.array(batch.slot, (batch.size, *batch.shape, 3), batch.dtype)
        upload = self._uploads.submit(self._upload, pixels)
        future = self._computes.submit(self._compute, upload)
        future.add_done_callback(lambda _: self._wake_writer.send_bytes(b"."))
        self._batches.append((batch, future))

    def _compute(self, upload: Future[Any]) -> Embedded:
        return self._embed(upload.result())

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
        except (UmedfeatError, MemoryError):
            raise
        except Exception as error:  # a device's faults are RuntimeErrors, another package's encoder raises anything
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


def _ways(encoder: Encoder | ArrayEncoder) -> tuple[Callable[[npt.NDArray[Any]], Any], Callable[[Any], Embedded]]:
    """How pixels reach an encoder, and how they become vectors; torch only for an encoder that needs it."""
    if isinstance(encoder, ArrayEncoder):
        return np.asarray, lambda pixels: _embedded(encoder, pixels)
    from umedfeat.engine.embed import Embedder, Uploader

    return Uploader(encoder.device), Embedder(encoder)


def _embedded(encoder: ArrayEncoder, pixels: npt.NDArray[Any]) -> Embedded:
    begin = time.perf_counter()
    features = encoder.embed(pixels)
    refuse_other_shape(encoder, features, len(pixels))
    return Embedded(features, begin, time.perf_counter())
