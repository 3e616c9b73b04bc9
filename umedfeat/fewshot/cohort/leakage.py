"""Nobody and nothing stands on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from umedfeat.errors import LeakageError
from umedfeat.fewshot.arrays import Ints, Texts
from umedfeat.fewshot.cohort.cohort import Cohort

__all__ = ["refuse_overlap", "refuse_twins"]


def refuse_overlap(cohort: Cohort, pool: Ints, test: Ints) -> None:
    """Refuse patients on both sides.

    Args:
        pool, test: item indices.

    Raises:
        LeakageError: listing the patients.
    """
    overlap = np.intersect1d(cohort.patient[pool], cohort.patient[test])
    if len(overlap):
        raise LeakageError(
            f"{len(overlap)} patients stand in training and in test: {_some(cohort.names[overlap])}",
            remedy="correct the split so that each patient is on one side",
        )


def refuse_twins(cohort: Cohort, pool: Ints, test: Ints) -> None:
    """Refuse identical content in pool and test (same sha256, or bit-identical embeddings).

    Args:
        pool, test: item indices.

    Raises:
        LeakageError: listing the pairs.
    """
    pairs = _twins(cohort, pool, test)
    if pairs:
        shown = _some([f"{a} = {b}" for a, b in pairs])
        raise LeakageError(
            f"{len(pairs)} items of different patients have identical content in training and in test: {shown}",
            remedy="remove the copies, or give both the same patient",
        )


def _twins(cohort: Cohort, pool: Ints, test: Ints) -> list[tuple[str, str]]:
    ids = cohort.ids
    seen = {key: ids[item] for item in pool for key in _keys(cohort, item)}
    pairs = {}
    for item in test:
        for key in _keys(cohort, item):
            if key in seen:
                pairs[ids[item]] = seen[key]
    return [(str(twin), str(item)) for item, twin in pairs.items()]


def _keys(cohort: Cohort, item: int) -> tuple[object, ...]:
    embedding = cohort.embedding[item].tobytes()
    content = str(cohort.content[item])
    return (embedding, content) if content else (embedding,)


def _some(names: Sequence[str] | Texts, limit: int = 10) -> str:
    return ", ".join(map(str, names[:limit])) + (" …" if len(names) > limit else "")
