"""Uncompressed pixel data of large files stays on disk: cines and enhanced series of gigabytes are read by frame."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from umedfeat.errors import UnreadableInput

__all__ = ["close_pixels", "read_dataset", "refuse_claimed_frames"]

#: Pixel data of more bytes is not read with the header.
_DEFERRED_BYTES = 32 << 20

#: Nine hours at 30 a second.
_MOST_FRAMES = 1_000_000
#: Zlib folds to 1/1032 at best.
_DEFLATED = 1032

_PIXEL_DATA = Tag("PixelData")


class _Part(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, path: Path, begin: int, length: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._begin, self._length, self._at = begin, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._length - self._at))
        self._file.seek(self._begin + self._at)
        count = self._file.readinto(memoryview(buffer)[:wanted]) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def read_dataset(path: Path) -> pydicom.Dataset:
    """Read a file; its pixel data is a buffer over the file where it is large, uncompressed and whole."""
    dataset = pydicom.dcmread(path, force=True, defer_size=_DEFERRED_BYTES)
    raw: Any = dataset.get_item(_PIXEL_DATA, keep_deferred=True) if _PIXEL_DATA in dataset else None
    if not isinstance(raw, RawDataElement) or raw.value is not None:
        return dataset
    syntax = UID(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", "") or "1.2.840.10008.1.2")
    plain = syntax.is_transfer_syntax and not syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian
    if plain and raw.value_tell + raw.length <= path.stat().st_size and raw.length >= _promised(dataset):
        part = io.BufferedReader(_Part(path, raw.value_tell, raw.length))
        dataset.add_new(_PIXEL_DATA, raw.VR if raw.VR in ("OB", "OW") else "OW", part)
    return dataset


def refuse_claimed_frames(frames: int, path: Path, name: str) -> None:
    """A number of frames costs nothing to claim; a list of as many places is memory.

    Raises:
        UnreadableInput: more frames than bytes, were the file deflated at its best, or more than any cine has.
    """
    size = path.stat().st_size
    if frames > min(_MOST_FRAMES, size * _DEFLATED):
        message = f"{name}: its header claims {frames:,} frames, the file has {size:,} bytes"
        raise UnreadableInput(message, remedy="export it again from the archive")


def close_pixels(dataset: pydicom.Dataset) -> None:
    """Close the file that lies under the pixel data, if any. Safe to call twice."""
    element = dataset.get_item(_PIXEL_DATA, keep_deferred=True) if _PIXEL_DATA in dataset else None
    if isinstance(element, pydicom.DataElement) and element.is_buffered:
        element.value.close()


def _promised(dataset: pydicom.Dataset) -> int:
    """Bytes of all frames by the header."""
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames", 1) or 1)
    return pixels * int(dataset.get("SamplesPerPixel", 1) or 1) * int(dataset.BitsAllocated) // 8
