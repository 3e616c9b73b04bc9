"""Nearest items or regions of a feature file: exact, in one pass over the file, in flat memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.errors import SetupError
from umedfeat.fewshot.cohort.build import range_exponent
from umedfeat.fewshot.parallel import in_order
from umedfeat.machine import usable_cores
from umedfeat.store import FeatureFile

__all__ = ["Match", "nearest", "row_vector"]

#: Rows of one matrix product; 32 MiB of float32 at 512 values.
_BLOCK_ROWS = 16_384
#: Rows that are worked on at a time: what is computed of them stays in the processor's cache.
_CACHED_ROWS = 256
_TINY = 1e-12


@dataclass(frozen=True)
class Match:
    """One hit.

    Attributes:
        item: id of its item. number: of the item in the file.
        row: number of the region within its item, -1 where whole items are compared.
        x, y, slice: where the region lies (pixels of the source image, slice or frame); 0 for whole items.
        cosine: to the query, both centred by the mean of the file, -1..1.
    """

    item: str
    number: int
    row: int
    x: int
    y: int
    slice: int
    cosine: float


def row_vector(file: FeatureFile, item: str | int, row: int | None = None) -> npt.NDArray[np.float32]:
    """(D,) float32: the mean of an item's rows, or one of its rows.

    Raises:
        SetupError: no such item or row, or an item without rows.
    """
    number = file.find(item)
    count = int(file.items["count"][number])
    if not count:
        raise SetupError(f"{file.ids[number]}: this item has no features", remedy="choose one with tissue")
    if row is None:
        return np.asarray(file.embeddings[number], dtype=np.float32)
    if not 0 <= row < count:
        raise SetupError(f"{file.ids[number]}: no row {row}", remedy=f"its rows are 0 to {count - 1}")
    start = file.rows(number).start
    return np.asarray(file.dataset("features")[start + row], dtype=np.float32)


def nearest(
    file: FeatureFile,
    query: npt.NDArray[np.floating[Any]],
    *,
    unit: str = "item",
    top: int = 12,
    without: npt.NDArray[np.bool_] | None = None,
) -> list[Match]:
    """The most similar items or regions, best first; ties in the order of the file.

    Similarity is the cosine after subtracting the mean of all rows of the file: what every image shares would else hide
    how images differ. Whole items are compared by the mean of their rows.

    Args:
        query: (D,), made with the same encoder and settings as the file.
        unit: "item" or "tile" (every row).
        top: how many.
        without: (I,) items that are left out (the query's own, or its patient's).

    Raises:
        SetupError: the query has another length, or an unknown unit.
    """
    if query.shape != (file.dim,):
        raise SetupError(
            f"{file.path.name}: a query of shape {query.shape} does not fit features of {file.dim} values",
            remedy="use the same encoder",
        )
    if unit not in {"item", "tile"}:
        raise SetupError(f"unit {unit!r} is unknown", remedy="item or tile")
    counts = np.asarray(file.items["count"], dtype=np.int64)
    embeddings, exponent = file.embeddings, range_exponent(file.embeddings)
    kept = counts > 0 if without is None else (counts > 0) & ~without
    mean = _mean(embeddings, counts)
    wanted = _Wanted.of(query, mean, exponent)
    if unit == "item":
        best = _Best(top)
        best.offer(np.where(kept, wanted.cosines(embeddings), -np.inf), 0)
        return [Match(file.ids[n], n, -1, 0, 0, 0, c) for n, c in best.found()]
    return _nearest_rows(file, wanted, kept, top)


def _nearest_rows(file: FeatureFile, wanted: _Wanted, kept: npt.NDArray[np.bool_], top: int) -> list[Match]:
    features, owners, best = file.dataset("features"), file.dataset("tiles/item"), _Best(top)
    everything = bool(kept.all())

    def compared(first: int) -> npt.NDArray[np.float32]:
        part = slice(first, min(file.n_rows, first + _BLOCK_ROWS))
        cosines = wanted.cosines(features[part])
        return cosines if everything else np.where(kept[owners[part]], cosines, np.float32(-np.inf))

    starts = range(0, file.n_rows, _BLOCK_ROWS)
    for first, cosines in zip(starts, in_order(compared, starts, usable_cores()), strict=True):
        best.offer(cosines, first)
    return [_match(file, row, cosine) for row, cosine in best.found()]


def _match(file: FeatureFile, row: int, cosine: float) -> Match:
    number = int(file.dataset("tiles/item")[row])
    x, y = (int(value) for value in file.dataset("coords")[row])
    place = int(file.dataset("tiles/slice")[row])
    return Match(file.ids[number], number, row - file.rows(number).start, x, y, place, cosine)


def _mean(embeddings: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(D,) mean of all rows, from the means of the items: no pass over the rows."""
    total = max(1, int(counts.sum()))
    return np.asarray((counts[:, None] / total * embeddings.astype(np.float64)).sum(axis=0), dtype=np.float32)


class _Wanted(NamedTuple):
    """What rows are compared with: (D,) the mean that is taken off, (D,) a direction of length 1; of features of odd
    scales, whose squares float32 cannot hold, both after division by two to the ``exponent``."""

    mean: npt.NDArray[np.float32]
    target: npt.NDArray[np.float32]
    exponent: int

    @classmethod
    def of(cls, query: npt.NDArray[np.floating[Any]], mean: npt.NDArray[np.float32], exponent: int) -> _Wanted:
        mean = np.ldexp(mean, -exponent)
        target = np.ldexp(query.astype(np.float32), -exponent) - mean
        return cls(mean, target / np.float32(max(float(np.linalg.norm(target)), _TINY)), exponent)

    def cosines(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(n,) of (n, D) rows."""
        found = np.empty(len(rows), dtype=np.float32)
        for first in range(0, len(rows), _CACHED_ROWS):
            part = rows[first : first + _CACHED_ROWS].astype(np.float32, copy=False)
            centred = (np.ldexp(part, -self.exponent) if self.exponent else part) - self.mean
            lengths = np.sqrt(np.einsum("nd,nd->n", centred, centred))
            found[first : first + _CACHED_ROWS] = centred @ self.target / np.maximum(lengths, np.float32(_TINY))
        return found


class _Best:
    """The largest values offered so far, with their places; of equal values the first."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._values = np.empty(0, dtype=np.float32)
        self._places = np.empty(0, dtype=np.int64)

    def offer(self, values: npt.NDArray[np.float32], first: int) -> None:
        """Values at the places ``first``, ``first`` + 1 …; those at -inf do not exist."""
        worst = self._values[-1] if len(self._values) == self._top else -np.inf
        better = np.flatnonzero(values > worst)
        joined = np.concatenate([self._values, values[better]])
        places = np.concatenate([self._places, better + first])
        order = np.lexsort((places, -joined))[: self._top]
        self._values, self._places = joined[order], places[order]

    def found(self) -> list[tuple[int, float]]:
        """(place, value), best first."""
        return [(int(p), float(v)) for p, v in zip(self._places, self._values, strict=True)]
