"""A DICOM file with its pixels, or one line that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom

from umedfeat.contract import RegionUnreadable
from umedfeat.errors import TooLarge, UmedfeatError, UnreadableInput
from umedfeat.policy import Limits
from umedfeat.readers.dicom.header import without_warnings
from umedfeat.readers.dicom.on_disk import read_dataset, refuse_claimed_frames
from umedfeat.readers.dicom.pixels import is_float

__all__ = ["load", "parsing"]


@contextmanager
def parsing(name: str) -> Iterator[None]:
    """pydicom parses values when they are asked for, and raises whatever damaged bytes lead to.

    Raises:
        UnreadableInput: in place of any such error.
    """
    try:
        with without_warnings():
            yield
    except (UmedfeatError, RegionUnreadable, MemoryError):  # the last: a lack here, no damage there
        raise
    except Exception as error:
        message = f"{name}: the DICOM file is damaged ({type(error).__name__})"
        raise UnreadableInput(message, remedy="export it again from the archive") from error


def load(path: Path, name: str, max_pixels: int = Limits.max_pixels) -> pydicom.Dataset:
    """A dataset with pixels, of a size that is allowed, and a transfer syntax, stated or guessed.

    Raises:
        UnreadableInput: no DICOM, damaged, or without pixels.
        TooLarge: more than ``max_pixels`` in a frame, or more frames than the file can hold.
    """
    with parsing(name):
        dataset = read_dataset(path)
        if "PixelData" not in dataset and not is_float(dataset):
            raise UnreadableInput(f"{name}: no pixel data", remedy="export it again from the archive")
        rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
        if rows * columns > max_pixels:
            message = f"{name}: {columns}x{rows} pixels, more than {max_pixels}"
            raise TooLarge(message, remedy="raise --max-pixels if this is right")
        refuse_claimed_frames(int(dataset.get("NumberOfFrames") or 1), path, name)
        if "TransferSyntaxUID" not in getattr(dataset, "file_meta", {}):
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
    return dataset


def _guessed_syntax(dataset: pydicom.Dataset) -> pydicom.uid.UID:
    """Bare data sets (read with --force only) are uncompressed; the parser has found out how they are encoded."""
    implicit, little = dataset.original_encoding
    if implicit:
        return pydicom.uid.ImplicitVRLittleEndian
    return pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian
