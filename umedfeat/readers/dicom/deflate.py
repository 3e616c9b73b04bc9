"""Deflated DICOM files: a few megabytes may unfold to many gigabytes, which pydicom would hold in memory."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from umedfeat.errors import TooLarge

__all__ = ["refuse_bomb"]

_META_BYTES = 4096
_CHUNK, _STEP = 1 << 16, 1 << 20
_BYTES_PER_PIXEL = 4
_BEFORE_META = 144  # preamble, magic and the element that tells the length of what follows


def refuse_bomb(path: Path, name: str, max_pixels: int) -> None:
    """Unfold a deflated file without holding it; other files are left alone.

    Raises:
        TooLarge: more bytes than ``max_pixels`` pixels may need.
    """
    with path.open("rb") as stream:
        if DeflatedExplicitVRLittleEndian.encode() not in stream.read(_META_BYTES):
            return
        stream.seek(_BEFORE_META + int(read_file_meta_info(path).FileMetaInformationGroupLength))
        unfolding, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := unfolding.unconsumed_tail or stream.read(_CHUNK):
            size += len(unfolding.decompress(chunk, _STEP))
            if size > max_pixels * _BYTES_PER_PIXEL:
                stored, told = path.stat().st_size, f"unfold to more than {size >> 20} MiB"
                raise TooLarge(f"{name}: its {stored} bytes {told}", remedy="raise --max-pixels if this is right")
            if unfolding.eof:
                return
