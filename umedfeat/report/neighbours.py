"""Misclassified test items beside the training items that look most alike to the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from umedfeat.fewshot.result import Predictions, ProbeResult
from umedfeat.report.thumbnails import data_uri, thumbnail

__all__ = ["Mistake", "Shown", "mistakes_of"]

_MOST = 8
_NEIGHBOURS = 4
_LARGEST_PICTURE = 120_000


class Shown(NamedTuple):
    """One item: id, class, cosine to the misclassified one, and its picture as a data URI or ""."""

    name: str
    label: str
    cosine: float
    picture: str


class Mistake(NamedTuple):
    """A test item, what it was taken for with which probability, and its nearest items of the training pool."""

    item: Shown
    taken_for: str
    probability: float
    neighbours: list[Shown]


def mistakes_of(result: ProbeResult, part: Predictions, preview: Path | None) -> list[Mistake]:
    """The most confident mistakes of the first draw, at most eight, most confident first.

    Neighbours are by cosine after centring by the mean of the pool, among items of other patients in the pool.
    """
    values = part.values[0]
    truth = np.asarray(result.cohort.truth[part.items], dtype=np.intp)
    taken = values.argmax(axis=1)
    wrong = np.flatnonzero(taken != truth)
    wrong = wrong[np.argsort(-values[wrong, taken[wrong]], kind="stable")][:_MOST]
    pool = result.cohort.items_of(next(fold.pool for fold in result.folds if part.test_set in fold.tests))
    rows = result.cohort.embedding.astype(np.float64)
    rows = rows - rows[pool].mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    found = []
    for k in wrong:
        item = int(part.items[k])
        others = pool[result.cohort.patients[pool] != result.cohort.patients[item]]
        cosines = rows[others] @ rows[item]
        nearest = np.argsort(-cosines, kind="stable")[:_NEIGHBOURS]
        neighbours = [_shown(result, int(others[n]), float(cosines[n]), preview) for n in nearest]
        named = result.cohort.classes[int(taken[k])]
        found.append(Mistake(_shown(result, item, 1.0, preview), named, float(values[k, taken[k]]), neighbours))
    return found


def _shown(result: ProbeResult, item: int, cosine: float, preview: Path | None) -> Shown:
    name = str(result.cohort.ids[item])
    label = result.cohort.classes[int(result.cohort.truth[item])]
    return Shown(name, label, cosine, data_uri(thumbnail(name, preview, _LARGEST_PICTURE)))
