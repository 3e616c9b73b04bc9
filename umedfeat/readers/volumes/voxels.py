"""Voxels of a volume file, plane by plane: seeks in plain files; gzip is decompressed once into scratch space."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
import numpy.typing as npt

from umedfeat.errors import TooLarge, UnreadableInput
from umedfeat.readers.faults import BYTES_FAULTS, fault_line
from umedfeat.readers.stacks.spool import put, scratch
from umedfeat.readers.volumes.header import GZIP, VolumeHeader, open_bytes

__all__ = ["Voxels", "skip"]

_CHUNK = 4 << 20
_TAIL = 64 << 20  # bytes after the voxels that are read to reach gzip's checksum
_GZIP_RATIO = 1100  # deflate cannot expand further than 1032 : 1


class Voxels:
    """Planes of the volumes ``first <= v < last`` of a file.

    Raises:
        UnreadableInput: the file is too short for its header, or its gzip stream is damaged.
    """

    def __init__(self, header: VolumeHeader, name: str, first: int, last: int) -> None:
        self._header, self._name = header, name
        cols, rows, slices = header.shape
        self._plane = cols * rows * header.dtype.itemsize
        self._first = first
        self._begin = header.offset + first * slices * self._plane
        self._end = header.offset + last * slices * self._plane
        self._zipped = _is_gzip(header, name)
        self._stream: IO[bytes] | None = None
        self._check_length()

    def plane(self, k: int, volume: int) -> npt.NDArray[Any]:
        """Stored plane k of a volume: (rows, cols) of the header's dtype."""
        cols, rows, slices = self._header.shape
        stream = self._opened()
        start = 0 if self._zipped else self._begin
        stream.seek(start + ((volume - self._first) * slices + k) * self._plane)
        raw = stream.read(self._plane)
        if len(raw) != self._plane:
            raise UnreadableInput(f"{self._name}: truncated at plane {k}", remedy="copy it again from its origin")
        return np.frombuffer(raw, self._header.dtype).reshape(rows, cols)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _check_length(self) -> None:
        size = self._header.voxels.stat().st_size
        needed = self._end // _GZIP_RATIO if self._zipped else self._end
        if size < needed:
            message = f"{self._name}: truncated: {size} bytes, its header promises {self._end}"
            raise UnreadableInput(message, remedy="copy it again from its origin")

    def _opened(self) -> IO[bytes]:
        if self._stream is None:
            self._stream = self._unzipped() if self._zipped else self._header.voxels.open("rb")
        return self._stream

    def _unzipped(self) -> IO[bytes]:
        target = scratch(self._end - self._begin, self._name)
        try:
            with open_bytes(self._header.voxels) as source:
                skip(source, self._begin)
                copied = _copy(source, target, self._end - self._begin, self._name)
                skip(source, _TAIL)
        except BYTES_FAULTS as error:
            target.close()
            message = f"{self._name}: damaged gzip stream: {fault_line(error)}"
            raise UnreadableInput(message, remedy="copy it again from its origin") from error
        except TooLarge:
            target.close()
            raise
        if copied < self._end - self._begin:
            target.close()
            message = f"{self._name}: truncated: {self._begin + copied} bytes, its header promises {self._end}"
            raise UnreadableInput(message, remedy="copy it again from its origin")
        return target


def _is_gzip(header: VolumeHeader, name: str) -> bool:
    try:
        with header.voxels.open("rb") as stream:
            return stream.read(2) == GZIP
    except OSError as error:
        raise UnreadableInput(f"{name}: {error.strerror or error}", remedy="check the file's permissions") from error


def skip(source: IO[bytes], count: int) -> None:
    """Read past ``count`` bytes (or to the end) without holding them."""
    while count > 0 and (block := source.read(min(_CHUNK, count))):
        count -= len(block)


def _copy(source: IO[bytes], target: IO[bytes], count: int, name: str) -> int:
    left = count
    while left > 0 and (block := source.read(min(_CHUNK, left))):
        put(target, block, name)
        left -= len(block)
    return count - left
