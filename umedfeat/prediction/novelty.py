"""Unlike the training data? A distance to it, with a false-alarm rate that is known.

Each training patient's distance to the items of all other patients tells what is usual. A new item of the same
population lies at least as far away as a share p of them with probability about p, however features are distributed:
leave-one-out conformal prediction (Vovk et al., *Algorithmic Learning in a Random World*, 2005; Barber et al., Annals
of Statistics 49, 2021) with the distance to the nearest neighbours (Sun et al., ICML 2022). A simulation in the tests
checks that the rate holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.fewshot.cohort.twins import NEAR

__all__ = ["FALSE_ALARMS", "Novelty"]

#: Share of ordinary inputs that are flagged all the same.
FALSE_ALARMS = 0.05
#: References that are kept; more would make the file large and the answer hardly sharper.
_MOST_REFERENCES = 2000
_NEIGHBOURS = 5
_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Novelty:
    """What is needed to tell how usual a row is.

    Attributes:
        references: (R, D) float32 rows of training items.
        usual: (C,) float64 ascending: distance of one item of each patient to the items of the others.
    """

    references: npt.NDArray[np.float32]
    usual: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: npt.NDArray[np.floating[Any]], patients: npt.NDArray[np.generic], seed: int) -> Novelty:
        """Learn from the (n, D) rows of training items; ``patients`` (n,) names their patients, two or more."""
        names, patient = np.unique(patients, return_inverse=True)
        rng = np.random.default_rng([seed, 11])
        kept = np.arange(len(rows))
        if len(kept) > _MOST_REFERENCES:
            kept = np.sort(rng.choice(kept, _MOST_REFERENCES, replace=False))
        asked = np.array([rng.choice(np.flatnonzero(patient == number)) for number in range(len(names))])
        squares = _squares(rows[asked], rows[kept])
        squares[np.equal.outer(patient[asked], patient[kept])] = np.inf
        distances = _mean_of_nearest(squares)
        return cls(rows[kept].astype(np.float32), np.sort(distances[np.isfinite(distances)]))

    def distances(self, rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """(n,) mean Euclidean distance to the five nearest references."""
        return _in_blocks(lambda part: _mean_of_nearest(_squares(part, self.references)), rows)

    def p_values(self, rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """(n,) share of training patients at least as far away, (1 + b) / (1 + C); small: unlike the training data."""
        farther = len(self.usual) - np.searchsorted(self.usual, self.distances(rows), side="left")
        return np.asarray((1 + farther) / (1 + len(self.usual)))

    def same(self, rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
        """(n,) which rows are those of a training item: the same image, stored or embedded again (see ``NEAR``)."""
        nearest = np.sqrt(_in_blocks(lambda part: _squares(part, self.references).min(axis=1), rows))
        spread = np.linalg.norm(self.references - self.references.mean(axis=0, dtype=np.float64), axis=1)
        return np.asarray(nearest <= NEAR * spread.mean())

    def complete(self, items: int) -> bool:
        """Are all of so many training items kept?"""
        return len(self.references) >= items

    def can_flag(self, rate: float = FALSE_ALARMS) -> bool:
        """Are there patients enough to flag at this rate of false alarms? 19 for 5 %."""
        return 1 / (1 + len(self.usual)) <= rate


def _in_blocks(
    function: Callable[[npt.NDArray[np.floating[Any]]], npt.NDArray[np.float64]], rows: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """(n,) of a function of rows: however many there are, few distances are held at a time."""
    parts = [function(rows[first : first + _BLOCK_ROWS]) for first in range(0, len(rows), _BLOCK_ROWS)]
    return np.concatenate(parts) if parts else np.empty(0)


def _squares(rows: npt.NDArray[np.floating[Any]], references: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """(n, R) squared distances, around the mean of the references for the sake of precision."""
    centre = references.mean(axis=0, dtype=np.float64)
    asked, known = rows - centre, references - centre
    squares = (asked**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2.0 * (asked @ known.T)
    return np.asarray(np.maximum(squares, 0.0))


def _mean_of_nearest(squares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    k = min(_NEIGHBOURS, squares.shape[1])
    return np.asarray(np.sqrt(np.partition(squares, k - 1, axis=1)[:, :k]).mean(axis=1))
