"""Features on a common scale.

Few rows say nothing about single features: the standard deviations of two rows make every feature ±1 and leave no trace
of how far the rows lie apart. So rows get unit length each, are centred by their mean, and all divided by one number,
their root mean square length: the penalty of a classifier then means the same for every encoder and number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from umedfeat.arrays import Floats, Rows
from umedfeat.fewshot.settings import Scale

__all__ = ["Scaler", "Standard", "root_mean_square"]

_TINY = np.finfo(np.float64).tiny
#: Rows in float64 that stay in the processor's cache.
_CACHED_ROWS = 256


@dataclass(frozen=True)
class Standard:
    """Means and scales of a set of rows; constant features get scale 1 (scikit-learn's StandardScaler)."""

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, rows: Rows, weights: Floats | None = None) -> Standard:
        """Of (n, D) rows, each counted by its weight (n,), once by default."""
        if weights is None:
            mean = rows.mean(axis=0, dtype=np.float64)
            variance = rows.var(axis=0, dtype=np.float64, mean=mean[None])
        else:
            share = weights / weights.sum()
            mean = share @ rows.astype(np.float64)
            variance = share @ (rows - mean) ** 2
        rounding = np.finfo(np.float64).eps * len(rows)
        constant = variance <= rounding * variance + (rounding * mean) ** 2
        return cls(mean, np.where(constant, 1.0, np.sqrt(variance)))

    def apply(self, rows: Rows) -> Floats:
        """(n, D) rows less the mean, by the scale."""
        return np.asarray((rows - self.mean) / self.scale, dtype=np.float64)


@dataclass(frozen=True)
class Scaler:
    """The scaling of a training set.

    Attributes:
        standard: statistics of single features, None where rows get unit length instead.
        mean: (D,) of the training rows after that. length: root mean square length of the rows after centring.
    """

    standard: Standard | None
    mean: Floats
    length: float

    @classmethod
    def of(
        cls, rows: Rows, scale: Scale = "unit", *, weights: Floats | None = None, pool: Standard | None = None
    ) -> Scaler:
        """Of (n, D) training rows.

        Args:
            scale: "unit": length of each row; "standard": standard deviations of the training rows; "pool": those of
                ``pool``, or of the training rows where no pool is given.
            weights: (n,) how much each row counts.
            pool: statistics of the unlabelled pool.
        """
        given = pool if scale == "pool" else None
        standard = None if scale == "unit" else given or Standard.of(rows, weights)
        ready = _ready(rows, standard)
        mean = np.average(ready, axis=0, weights=weights)
        ready -= mean
        return cls(standard, np.asarray(mean), root_mean_square(ready, weights) or 1.0)

    def apply(self, rows: Rows) -> Floats:
        """(n, D) scaled rows."""
        ready = _ready(rows, self.standard)
        ready -= self.mean
        ready /= self.length
        return ready

    def along(self, rows: Rows, coef: Floats) -> Floats:
        """(n, M) ``apply(rows) @ coef`` for coef (D, M); of rows of unit length without a scaled copy of them."""
        if self.standard is not None or rows.dtype == np.float64:  # squares of float64 may overflow
            return np.asarray(self.apply(rows) @ coef)
        found = np.empty((len(rows), coef.shape[1]))
        for first in range(0, len(rows), _CACHED_ROWS):
            part = slice(first, first + _CACHED_ROWS)
            exact = rows[part].astype(np.float32).astype(np.float64)  # twice as fast from float16
            lengths = np.maximum(np.sqrt(np.einsum("nd,nd->n", exact, exact)), _TINY)
            found[part] = exact @ coef / lengths[:, None]
        return np.asarray((found - self.mean @ coef) / self.length)


def _ready(rows: Rows, standard: Standard | None) -> Floats:
    """A copy in float64: each row of length 1 (rows of zeros stay), or each feature standardised."""
    if standard is not None:
        return standard.apply(rows)
    ready = rows.astype(np.float64)
    largest = np.maximum(ready.max(axis=1, keepdims=True), -ready.min(axis=1, keepdims=True))
    ready /= np.maximum(largest, _TINY)  # squares of 1e-200 would vanish
    ready /= np.maximum(np.sqrt(np.einsum("nd,nd->n", ready, ready)), _TINY)[:, None]
    return ready


def root_mean_square(rows: Floats, weights: Floats | None = None) -> float:
    """Root of the mean squared length of (n, D) rows as they are."""
    return float(np.sqrt(np.average(np.einsum("nd,nd->n", rows, rows), weights=weights)))
