"""Features on a common scale, by statistics of a training set alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from umedfeat.fewshot.arrays import Floats, Rows

__all__ = ["Standard"]


@dataclass(frozen=True)
class Standard:
    """Means and scales of a training set; constant features get scale 1 (scikit-learn's StandardScaler)."""

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, rows: Rows) -> Standard:
        """Of (n, D) rows."""
        mean = rows.mean(axis=0, dtype=np.float64)
        variance = rows.var(axis=0, dtype=np.float64, mean=mean[None])
        rounding = np.finfo(np.float64).eps * len(rows)
        constant = variance <= rounding * variance + (rounding * mean) ** 2
        return cls(mean, np.where(constant, 1.0, np.sqrt(variance)))

    def apply(self, rows: Rows) -> Floats:
        """(n, D) rows less the mean, by the scale."""
        return np.asarray((rows - self.mean) / self.scale, dtype=np.float64)
