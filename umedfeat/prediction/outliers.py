"""Which items of a cohort lie far from everybody else, to the encoder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from umedfeat.arrays import Bools, Floats, Floats32, Ints, Texts

__all__ = ["FEWEST", "far_out", "loneliness"]

#: Items below which nothing is called far from the others.
FEWEST = 20
_NEIGHBOURS = 5
#: Items that all are compared with, evenly spaced; more would take time and change little.
_MOST_REFERENCES = 2000
_BLOCK_ROWS = 1024
#: Tukey's outer fence (Exploratory Data Analysis, 1977): so many interquartile ranges above the third quartile.
_FENCE = 3.0


def loneliness(rows: Floats32, patients: Texts) -> Floats:
    """(I,) mean Euclidean distance to the five nearest items of other patients; infinite without any.

    Args:
        rows: (I, D). patients: (I,); an item whose patient is "" is its own.
    """
    owners = np.where(patients == "", np.arange(len(rows)).astype(np.str_), np.char.add("p", patients))
    known = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_REFERENCES)).astype(np.intp))
    return np.concatenate([np.empty(0), *_distances(rows, owners, known)])


def _distances(rows: Floats32, owners: Texts, known: Ints) -> Iterator[Floats]:
    centre = rows.mean(axis=0, dtype=np.float64)  # for the sake of precision
    references = rows[known] - centre
    lengths = (references**2).sum(axis=1)
    for first in range(0, len(rows), _BLOCK_ROWS):
        asked = rows[first : first + _BLOCK_ROWS] - centre
        squares = np.maximum((asked**2).sum(axis=1)[:, None] + lengths - 2.0 * (asked @ references.T), 0.0)
        squares[np.equal.outer(owners[first : first + _BLOCK_ROWS], owners[known])] = np.inf
        nearest = min(_NEIGHBOURS, squares.shape[1])
        yield np.sqrt(np.partition(squares, nearest - 1, axis=1)[:, :nearest]).mean(axis=1)


def far_out(distances: Floats) -> Bools:
    """(I,) which distances lie beyond Tukey's outer fence of their logarithms; none of fewer than ``FEWEST``."""
    usable = np.isfinite(distances) & (distances > 0)
    if usable.sum() < FEWEST:
        return np.zeros(len(distances), dtype=np.bool_)
    logs = np.log(np.where(usable, distances, 1.0))
    low, high = np.quantile(logs[usable], [0.25, 0.75])
    return np.asarray(usable & (logs > high + _FENCE * (high - low)))
