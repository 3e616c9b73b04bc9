"""Slices across another storage axis, with bounded memory.

A stack is read once in its own order and written, transposed in blocks, to an unlinked temporary file whose slowest
axis is the wanted one. Memory: one block (``_BLOCK_BYTES``); disk: 4 bytes per voxel in the folder that TMPDIR names.
Stacks up to ``_IN_MEMORY`` bytes are kept in memory instead.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Protocol

import numpy as np
import numpy.typing as npt

from umedfeat.errors import TooLarge
from umedfeat.readers.stacks.geometry import IN_PLANE

__all__ = ["Spool", "put", "scratch"]

_IN_MEMORY = 32 << 20
_BLOCK_BYTES = 64 << 20
_GIB = 1 << 30


class _Slices(Protocol):
    def __call__(self, k: int) -> npt.NDArray[np.float32]: ...


def scratch(size: int, name: str) -> IO[bytes]:
    """A temporary file of ``size`` bytes' promise: in memory when small, else on disk; gone when closed or killed.

    Raises:
        TooLarge: the disk has not so much free space, or cannot be written.
    """
    if size <= _IN_MEMORY:
        return tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)
    try:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if free < size:
            raise _no_room(name, f"{size / _GIB:.1f} GiB of scratch space needed, {free / _GIB:.1f} GiB are free")
        return tempfile.TemporaryFile()
    except OSError as error:
        raise _no_room(name, f"no scratch space: {error.strerror or error}") from error


def put(target: IO[bytes], data: bytes, name: str) -> None:
    """Write to scratch space.

    Raises:
        TooLarge: the disk is full.
    """
    try:
        target.write(data)
        target.flush()  # a full disk may tell no earlier
    except OSError as error:
        raise _no_room(name, f"scratch space ran out: {error.strerror or error}") from error


def _no_room(name: str, what: str) -> TooLarge:
    return TooLarge(f"{name}: {what}", remedy="free space there, or let TMPDIR name a folder on a larger disk")


class Spool:
    """Slices of a float32 stack across storage axis 0 (columns) or 1 (rows).

    Args:
        slices: gives stored slice k as (rows, cols) or (rows, cols, 3); padding is NaN.
        shape: (columns, rows, slices) of the stack.
        axis: storage axis to slice across, 0 or 1.
        channels: 1 for grey, 3 for colour.
        name: of the source, for messages.

    Raises:
        TooLarge: no scratch space for it.
    """

    def __init__(self, slices: _Slices, shape: tuple[int, int, int], axis: int, channels: int, name: str) -> None:
        cols, rows, count = shape
        in_slice = (shape[IN_PLANE[axis][0]], shape[IN_PLANE[axis][1]])
        self._shape = in_slice if channels == 1 else (*in_slice, channels)
        self._bytes = int(np.prod(self._shape)) * 4
        self._name = name
        self._file = scratch(self._bytes * shape[axis], name)
        plane = rows * cols * channels * 4
        try:
            for first, block in _blocks(slices, count, max(1, _BLOCK_BYTES // plane)):
                self._write(block, first, axis, shape[axis])
        except BaseException:
            self._file.close()
            raise

    def _write(self, block: npt.NDArray[np.float32], first: int, axis: int, count: int) -> None:
        across = np.moveaxis(block, 2 if axis == 0 else 1, 0)  # (slice, row, col) → (axis, slice, other)
        line = self._bytes // self._shape[0]
        for index in range(count):
            self._file.seek(index * self._bytes + first * line)
            put(self._file, np.ascontiguousarray(across[index]).tobytes(), self._name)

    def slice(self, index: int) -> npt.NDArray[np.float32]:
        """Slice ``index``: (rows, cols) or (rows, cols, 3) float32."""
        self._file.seek(index * self._bytes)
        values: npt.NDArray[np.float32] = np.frombuffer(self._file.read(self._bytes), np.float32)
        return values.reshape(self._shape)

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()


def _blocks(slices: _Slices, count: int, size: int) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    for first in range(0, count, size):
        yield first, np.stack([slices(k) for k in range(first, min(first + size, count))])
