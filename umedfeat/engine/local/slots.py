"""Shared memory for pixels: a few batches wide, written by the reading processes, read by the encoder."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SlotView", "Slots"]


class SlotView:
    """A way to reach the shared memory from another process; travels as a path, attaches there.

    Args:
        place: path under which the memory can be mapped.
        count: number of slots.
        slot_bytes: bytes of one slot.
    """

    def __init__(self, place: str, count: int, slot_bytes: int) -> None:
        self.place = place
        self.count = count
        self.slot_bytes = slot_bytes
        self._memory: mmap.mmap | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SlotView, (self.place, self.count, self.slot_bytes)

    def view(self) -> SlotView:
        """The same memory, to be attached elsewhere."""
        return SlotView(self.place, self.count, self.slot_bytes)

    def attach(self) -> None:
        """Map the memory into this process."""
        descriptor = os.open(self.place, os.O_RDWR)
        try:
            self._memory = mmap.mmap(descriptor, self.count * self.slot_bytes)
        finally:
            os.close(descriptor)

    def array(self, slot: int, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """An array that lives in a slot; valid until the slot is given back."""
        if self._memory is None:
            raise ValueError("attach() first")
        view: npt.NDArray[Any] = np.ndarray(shape, dtype=dtype, buffer=self._memory, offset=slot * self.slot_bytes)
        return view


class Slots(SlotView):
    """The owner's side: makes the memory, hands slots out and takes them back.

    The memory vanishes with the process, however it ends; it is not bounded by a container's small /dev/shm.
    """

    def __init__(self, count: int, slot_bytes: int) -> None:
        place, self._descriptor = _memory_file(count * slot_bytes)
        super().__init__(place, count, slot_bytes)
        self.attach()
        self._free = list(range(count))

    def take(self) -> int | None:
        """A free slot, or None while all are in use."""
        return self._free.pop() if self._free else None

    def give_back(self, slot: int) -> None:
        """The slot's pixels are no longer needed."""
        self._free.append(slot)

    def close(self) -> None:
        """Free the memory (arrays that still point into it stay valid until they go)."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        else:
            with contextlib.suppress(OSError):
                Path(self.place).unlink()


def _memory_file(size: int) -> tuple[str, int | None]:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("umedfeat")
        os.ftruncate(descriptor, size)
        return f"/proc/{os.getpid()}/fd/{descriptor}", descriptor
    descriptor, place = tempfile.mkstemp(prefix="umedfeat-")
    os.ftruncate(descriptor, size)
    os.close(descriptor)
    return place, None
