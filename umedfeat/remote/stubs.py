"""Stubs: files of the right size that hold of an object what tells its format: all are found before one is fetched.

What is not needed is a hole in the file and takes no space. Of a TIFF its directories are there, of a DICOM file all
before its pixels, of anything else its beginning; small objects are there as a whole.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import IO, Any, BinaryIO

from umedfeat.remote.fetch import RemoteFile, read_range

__all__ = ["make_stub"]

_SMALL = 256 << 10
_HEAD = 256 << 10
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DICOM_AT = 128


class _Recorder(io.RawIOBase):
    """A file that is read from its URL, block by block, and leaves in ``target`` all that was read."""

    def __init__(self, file: RemoteFile, target: BinaryIO) -> None:
        self._file, self._target = file, target
        self._at = 0
        self._have: set[int] = set()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._file.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._file.size)
        if end <= self._at:
            return 0
        self._provide(self._at, end)
        self._target.seek(self._at)
        data = self._target.read(end - self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _provide(self, first: int, end: int) -> None:
        lacking = [block for block in range(first // _HEAD, -(-end // _HEAD)) if block not in self._have]
        if not lacking:
            return
        begin, stop = lacking[0] * _HEAD, min((lacking[-1] + 1) * _HEAD, self._file.size)
        self._target.seek(begin)
        self._target.write(read_range(self._file, begin, stop))
        self._have.update(range(lacking[0], lacking[-1] + 1))


def make_stub(file: RemoteFile) -> None:
    """Put the stub of an object to its place.

    Raises:
        UnreadableInput: the object cannot be read.
    """
    file.place.parent.mkdir(parents=True, exist_ok=True)
    with file.place.open("w+b") as target:
        target.truncate(file.size)
        recorder = _Recorder(file, target)
        stream = io.BufferedReader(recorder, buffer_size=64 << 10)
        head = stream.read(file.size if file.size <= _SMALL else _HEAD)
        if file.size > _SMALL:
            _read_structure(stream, head)
    os.utime(file.place, ns=(file.time_ns, file.time_ns))


def _read_structure(stream: IO[bytes], head: bytes) -> None:
    """Let the libraries read what they need; what they make of it is no matter here."""
    stream.seek(0)
    with contextlib.suppress(Exception):  # damaged: told when the stub is looked at, or the whole is
        if head.startswith(_TIFF):
            import tifffile

            with tifffile.TiffFile(stream) as tiff:
                for page in tiff.pages:
                    for tag in getattr(page, "tags", ()):
                        _ = tag.value
                _ = tiff.series
        elif head[_DICOM_AT : _DICOM_AT + 4] == b"DICM":
            import pydicom

            pydicom.dcmread(stream, stop_before_pixels=True)
