"""Nobody and nothing stands on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from umedfeat.arrays import Ints, Texts
from umedfeat.errors import LeakageError
from umedfeat.fewshot.cohort.cohort import Cohort

__all__ = ["refuse_overlap", "refuse_twins"]


def refuse_overlap(cohort: Cohort, pool: Ints, test: Ints) -> None:
    """Refuse patients on both sides.

    Args:
        pool, test: patient numbers.

    Raises:
        LeakageError: listing the patients.
    """
    overlap = np.intersect1d(pool, test)
    if len(overlap):
        raise LeakageError(
            f"{len(overlap)} patients stand in training and in test: {_some(cohort.names[overlap])}",
            remedy="correct the split so that each patient is on one side",
        )


def refuse_twins(cohort: Cohort, pool: Ints, test: Ints) -> None:
    """Refuse identical content (same sha256, or bit-identical embeddings) of patients in pool and test.

    Found before items are pooled into patients, so that a patient is known by every single item.

    Args:
        pool, test: patient numbers.

    Raises:
        LeakageError: listing the pairs.
    """
    trained, tested = set(pool.tolist()), set(test.tolist())
    pairs = [f"{first} = {second}" for a, b, first, second in cohort.twins if a in trained and b in tested]
    pairs += [f"{second} = {first}" for a, b, first, second in cohort.twins if b in trained and a in tested]
    if pairs:
        raise LeakageError(
            f"{len(pairs)} items of different patients have identical content in training and in test: {_some(pairs)}",
            remedy="remove the copies, or give both the same patient",
        )


def _some(names: Sequence[str] | Texts, limit: int = 10) -> str:
    return ", ".join(map(str, names[:limit])) + (" …" if len(names) > limit else "")
