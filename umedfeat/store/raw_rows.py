"""Rows read past HDF5, straight into their place: its chunk cache would copy them once more."""

from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

__all__ = ["RawRows"]


class RawRows:
    """The rows of a dataset as they lie in the file, chunk after chunk.

    Args:
        dataset: (N, D), chunks of whole rows, without filters.

    Raises:
        ValueError: it is stored in another way.
        OSError: the file cannot be opened.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        chunks = dataset.chunks
        if chunks is None or chunks[1:] != dataset.shape[1:] or dataset.id.get_create_plist().get_nfilters():
            raise ValueError("not stored as plain chunks of whole rows")
        self._chunk = int(chunks[0])
        starts = range(0, dataset.shape[0], self._chunk)
        rest = (0,) * (dataset.ndim - 1)
        places = [dataset.id.get_chunk_info_by_coord((first, *rest)).byte_offset for first in starts]
        if None in places:
            raise ValueError("a chunk was never written")
        self._places: list[int] = places
        self._descriptor = os.dup(dataset.file.id.get_vfd_handle())  # the very file that was checked

    def read_into(self, target: npt.NDArray[Any], first: int) -> None:
        """Fill a contiguous (n, D) array of the dataset's dtype with the rows from ``first`` on.

        Raises:
            OSError: the file is shorter than it says.
        """
        width = target[:1].nbytes
        row = 0
        while row < len(target):
            chunk, within = divmod(first + row, self._chunk)
            count = min(self._chunk - within, len(target) - row)
            self._read(target[row : row + count], self._places[chunk] + within * width)
            row += count

    def _read(self, part: npt.NDArray[Any], offset: int) -> None:
        room = part.reshape(-1).view(np.uint8).data
        while room:
            count = os.preadv(self._descriptor, [room], offset)
            if count == 0:
                raise OSError("the file ends before its rows")
            room, offset = room[count:], offset + count

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
