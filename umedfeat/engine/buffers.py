"""Where the features of a source wait until it is complete: in memory, those of huge ones on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.disk.space import is_full, reserve
from umedfeat.errors import OutputError

__all__ = ["keep_rows", "new_buffer", "rows_at_once"]

#: Features of one source above this size wait on disk.
_SPILL_BYTES = 256 << 20
_BLOCK_BYTES = 16 << 20


def new_buffer(rows: int, dim: int, folder: Path | None) -> npt.NDArray[np.float32]:
    """An (n, D) float32 array, uninitialised; above 256 MB it is mapped from an unlinked file in ``folder``.

    Raises:
        OutputError: the disk has no room for it.
    """
    size = rows * dim * 4
    if size <= _SPILL_BYTES:
        return np.empty((rows, dim), dtype=np.float32)
    try:
        with tempfile.TemporaryFile(dir=folder) as spill:
            reserve(spill.fileno(), size)
            return np.memmap(spill, dtype=np.float32, mode="r+", shape=(rows, dim))
    except OSError as error:
        fault = "the disk is full" if is_full(error) else f"no room to work in ({error.strerror})"
        raise OutputError(
            f"{folder}: {fault}: {size / 1e6:,.0f} MB needed for the features of one input",
            remedy="free some space and run the same command again: finished inputs are kept",
        ) from error


def rows_at_once(features: npt.NDArray[np.float32]) -> int:
    """Rows of (n, D) features that are looked at in one go: about 16 MiB."""
    width = int(features.shape[1]) * features.itemsize
    return max(1, _BLOCK_BYTES // max(1, width))


def keep_rows(features: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The rows that ``kept`` (n,) marks, moved together in place: a huge array is never held twice."""
    if kept.all():
        return features
    end, size = 0, rows_at_once(features)
    for first in range(0, len(features), size):
        block = features[first : first + size][kept[first : first + size]]
        features[end : end + len(block)] = block
        end += len(block)
    return features[:end]
