"""What probes have in common that choose how strongly they are held back, by patients they have not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from umedfeat.arrays import Ints
from umedfeat.fewshot.draws.orders import patient_folds
from umedfeat.fewshot.settings import ENOUGH_PATIENTS, INNER_FOLDS, Scale

__all__ = ["Selecting", "inner_folds"]


@dataclass(eq=False, repr=False, kw_only=True)
class Selecting(BaseEstimator):  # type: ignore[misc]
    """Parameters of a probe with an inner cross-validation over patients; scikit-learn reads them off the constructor.

    Args:
        enough: groups (of each class, where there are classes) from which on something is selected.
        folds: inner folds. seed: of their draw.
        scale: "unit", "standard" or "pool" (statistics given to ``fit``); see ``Scaler``.
    """

    enough: int = ENOUGH_PATIENTS
    folds: int = INNER_FOLDS
    seed: int = 0
    scale: Scale = "unit"


def inner_folds(
    targets: npt.NDArray[np.generic], groups: npt.NDArray[np.generic], folds: int, seed: int, enough: int = 3
) -> Ints | None:
    """Deal rows to inner folds, groups kept together; None where a class has fewer than ``enough`` groups.

    Args:
        targets: (n, C) 0/1: what must occur in every inner training set. groups: (n,).
    """
    _, group = np.unique(groups, return_inverse=True)
    carries = np.zeros((int(group.max()) + 1, targets.shape[1]), dtype=bool)
    np.logical_or.at(carries, group, np.asarray(targets, dtype=bool))
    fewest = int(carries.sum(axis=0).min())
    if fewest < enough:
        return None
    rarity = np.where(carries, carries.sum(axis=0), carries.size)
    fold = patient_folds(carries, rarity.argmin(axis=1), min(folds, fewest), np.random.default_rng([seed, 3]))
    for number in range(int(fold.max()) + 1):
        if not carries[fold != number].any(axis=0).all():
            return None
    return np.asarray(fold[group])
