"""The dense features of regions: grids of tokens, in blocks of a few megabytes however large the grids are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.errors import OutputError
from umedfeat.store.rows import RowBytes, RowsDigest
from umedfeat.store.schema import Grid, chunk_rows

__all__ = ["Tokens", "array_bytes", "token_blocks", "tokens_at_once", "tokens_sha256"]

#: Grids are read and written in blocks of so many chunks: about 16 MiB.
_CHUNKS = 16


class Tokens(NamedTuple):
    """Tokens on their way into a file.

    Attributes:
        grid: (rows, columns, C).
        blocks: (n, rows, columns, C) arrays of the file's dtype, in the order of the rows.
    """

    grid: Grid
    blocks: Iterator[npt.NDArray[Any]]


def tokens_at_once(grid: Grid, dtype: str) -> int:
    """Regions of one block, aligned to the chunks of /tokens."""
    return chunk_rows(math.prod(grid), dtype) * _CHUNKS


def token_blocks(parts: Sequence[npt.NDArray[Any]], dtype: str) -> Iterator[npt.NDArray[Any]]:
    """The grids (n, rows, columns, C) of some items, one after the other, in blocks of the file's dtype."""
    for part in parts:
        size = tokens_at_once(part.shape[1:], dtype)
        for first in range(0, len(part), size):
            yield np.ascontiguousarray(part[first : first + size], dtype=dtype)


def array_bytes(block: npt.NDArray[Any]) -> RowBytes:
    """At least one row of one contiguous array as the only column."""
    return [(block.reshape(-1).data.cast("B"), block[0].nbytes)]


def tokens_sha256(tokens: npt.NDArray[Any], dtype: str) -> str:
    """Checksum of an item's grids as stored.

    Raises:
        OutputError: NaN, infinity, or values beyond the dtype.
    """
    digest = RowsDigest(1)
    for block in token_blocks([tokens], dtype):
        if not np.isfinite(block).all():
            raise OutputError(f"tokens beyond {dtype} are not written", remedy="--dtype float32, or --precision fp32")
        digest.update(array_bytes(block), 0, len(block))
    return digest.hexdigest()
