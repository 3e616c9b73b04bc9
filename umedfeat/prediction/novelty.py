"""Unlike the training data? A distance to it, with a false-alarm rate that holds by construction.

Half of the training patients are references; the distances of the other half to them tell what is usual (split
conformal prediction: Vovk et al., *Algorithmic Learning in a Random World*, 2005; for outliers Bates et al., Annals of
Statistics 51, 2023; nearest neighbours as the distance: Sun et al., ICML 2022). A new item of the same population gets
p ≤ α with probability at most α, however features are distributed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FALSE_ALARMS", "Novelty"]

#: Share of ordinary inputs that are flagged all the same.
FALSE_ALARMS = 0.05
#: References that are kept; more would make the file large and the answer hardly sharper.
_MOST_REFERENCES = 2000
_NEIGHBOURS = 5


@dataclass(frozen=True)
class Novelty:
    """What is needed to tell how usual a row is.

    Attributes:
        references: (R, D) float32 rows of training items.
        usual: (C,) float64 ascending: distance of one item of each calibration patient to the references.
    """

    references: npt.NDArray[np.float32]
    usual: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: npt.NDArray[np.floating[Any]], patients: npt.NDArray[np.generic], seed: int) -> Novelty:
        """Learn from the (n, D) rows of training items; ``patients`` (n,) names their patients, two or more."""
        names, patient = np.unique(patients, return_inverse=True)
        rng = np.random.default_rng([seed, 11])
        order = rng.permutation(len(names))
        is_reference = np.isin(patient, order[: (len(names) + 1) // 2])
        chosen = np.flatnonzero(is_reference)
        if len(chosen) > _MOST_REFERENCES:
            chosen = np.sort(rng.choice(chosen, _MOST_REFERENCES, replace=False))
        learned = cls(rows[chosen].astype(np.float32), np.empty(0))
        items = [rng.choice(np.flatnonzero(patient == number)) for number in np.sort(order[(len(names) + 1) // 2 :])]
        return cls(learned.references, np.sort(learned.distances(rows[items])))

    def distances(self, rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """(n,) mean Euclidean distance to the five nearest references."""
        centre = self.references.mean(axis=0, dtype=np.float64)
        known, asked = self.references - centre, rows - centre
        squares = (asked**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2.0 * (asked @ known.T)
        k = min(_NEIGHBOURS, squares.shape[1])
        nearest = np.partition(squares, k - 1, axis=1)[:, :k]
        return np.asarray(np.sqrt(np.maximum(nearest, 0.0)).mean(axis=1))

    def p_values(self, rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """(n,) share of training patients at least as far away, (1 + b) / (1 + C); small: unlike the training data."""
        farther = len(self.usual) - np.searchsorted(self.usual, self.distances(rows), side="left")
        return np.asarray((1 + farther) / (1 + len(self.usual)))

    def can_flag(self, rate: float = FALSE_ALARMS) -> bool:
        """Are there patients enough to flag at this rate of false alarms? 19 in the calibration half for 5 %."""
        return 1 / (1 + len(self.usual)) <= rate
