"""Items that are one image: identical ones by content, near-identical ones by their features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from umedfeat.arrays import Floats32, Ints, Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.labels import Target

__all__ = ["NEAR", "Twins", "find_twins", "screened"]

#: Distance, over the distance from the mean of the cohort, below which two embeddings are near-identical: the same
#: picture stored again. It is a cosine of 0.99995 after centring, with lengths alike.
NEAR = 0.01
#: Features below which items are near each other by chance.
_FEWEST_FEATURES = 5
#: Dimensions in which near-identical items are looked for first.
_DIRECTIONS = 16


class Twins(NamedTuple):
    """(T, 2) pairs of item numbers, identical ones and near-identical ones, each pair rising; of several copies of one
    item the first stands for all."""

    identical: Ints
    near: Ints


def find_twins(embedding: Floats32, content: Texts) -> Twins:
    """Find the pairs of a whole cohort, before anything is pooled.

    Args:
        embedding: (I, D), one row per item. content: (I,) identity of the content, "" where unknown.
    """
    rows = np.ascontiguousarray(embedding)
    _, first, same = np.unique(
        rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0],
        return_index=True,
        return_inverse=True,
    )
    by_rows = first[same]
    _, first, same = np.unique(content, return_index=True, return_inverse=True)
    by_content = np.where(content == "", np.arange(len(content)), first[same])
    pairs = {(int(a), b) for found in (by_rows, by_content) for b, a in enumerate(found.tolist()) if a < b}
    identical = np.asarray(sorted(pairs), dtype=np.intp).reshape(-1, 2)
    single = np.setdiff1d(np.arange(len(rows)), identical[:, 1])
    return Twins(identical, single[_near(rows[single])])


def _near(rows: Floats32) -> Ints:
    """(T, 2) pairs of different rows. A projection shortens distances, so that none is lost in a few dimensions, where
    a tree finds candidates without comparing all pairs. None of a few features, where many lie that near by chance."""
    if rows.shape[1] < _FEWEST_FEATURES:
        return np.empty((0, 2), dtype=np.intp)
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", centred, centred))
    length[length == 0] = 1.0
    centred /= length[:, None]
    width = min(_DIRECTIONS, rows.shape[1])
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(rows.shape[1], width)))[0]
    found = KDTree(centred @ directions).query_pairs(NEAR, output_type="ndarray")
    apart = centred[found[:, 0]] - centred[found[:, 1]]
    ratio = length[found[:, 0]] / length[found[:, 1]]
    close = (np.einsum("nd,nd->n", apart, apart) <= NEAR**2) & (np.abs(np.log(ratio)) <= NEAR)
    return np.asarray(found[close], dtype=np.intp)


def screened(twins: Twins, ids: Texts, patient: Ints, target: Target) -> tuple[str, ...]:
    """Refuse one image under two labels; say where copies stand under several patients.

    Raises:
        CohortError: naming the items.
    """
    pairs = np.concatenate([twins.identical, twins.near])
    if target.task not in ("regression", "survival"):
        differ = target.truth[pairs[:, 0]] != target.truth[pairs[:, 1]]
        torn = pairs[differ.any(axis=1) if differ.ndim == 2 else differ]
        if len(torn):
            raise CohortError(
                f"{len(torn)} pairs of items are one image under two labels: {_named(torn, ids)}",
                remedy="correct the labels, or leave such items out",
            )
    notes = []
    for found, kind in ((twins.identical, "identical"), (twins.near, "nearly identical")):
        crossing = found[patient[found[:, 0]] != patient[found[:, 1]]]
        if len(crossing):
            notes.append(
                f"{len(crossing)} pairs of items of different patients are {kind}: {_named(crossing, ids)}. If they "
                "are one patient's, training and test may share it."
            )
    return tuple(notes)


def _named(pairs: Ints, ids: Texts, limit: int = 5) -> str:
    return ", ".join(f"{ids[a]} = {ids[b]}" for a, b in pairs[:limit]) + (" …" if len(pairs) > limit else "")
