"""Where a data-efficiency curve reaches a target, and how certain that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from umedfeat.arrays import Floats
from umedfeat.fewshot.metrics.bootstrap import Spread

__all__ = ["Needed", "crossing", "data_needed"]


class Needed(NamedTuple):
    """``place``: smallest budget not worse than the target (None: none is); the crossing and its interval, NaN where
    the test tells nothing of its spread."""

    place: int | None
    share: float
    low: float
    high: float


def data_needed(
    values: Floats,
    resampled: Floats,
    target: float,
    target_resampled: Floats,
    patients: Floats,
    margin: float,
    confidence: float,
    spreads: Sequence[Spread],
) -> Needed:
    """Compare a curve with a target, paired over resamplings of the same test patients.

    Args:
        values: (N,) metric at each budget, ascending budgets. resampled: (N, B).
        target: metric to be reached. target_resampled: (B,).
        patients: (N,) drawn patients of each budget. spreads: (N,) variance of each budget's gap to the target.
    """
    reach = [t.ppf(0.5 + confidence / 2, each.freedom) * np.sqrt(each.variance) for each in spreads]
    gaps = values - target - np.asarray(reach)
    reached = np.flatnonzero(gaps >= -margin)
    shares = patients / patients[-1]
    crossings = np.asarray(
        [crossing(shares, column, goal - margin) for column, goal in zip(resampled.T, target_resampled, strict=True)]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(crossings, [tail, 1 - tail], method="inverted_cdf")
    if not all(np.isfinite(each.variance) for each in spreads):
        low, high = np.nan, np.nan
    place = int(reached[0]) if len(reached) else None
    return Needed(place, crossing(shares, values, target - margin), float(low), float(high))


def crossing(shares: Floats, values: Floats, goal: float) -> float:
    """Smallest share at which the curve, linear in log(share), reaches the goal; inf if it never does."""
    above = np.flatnonzero(values >= goal)
    if not len(above):
        return float("inf")
    place = int(above[0])
    if place == 0 or shares[place] == shares[place - 1]:
        return float(shares[place])
    rise = (goal - values[place - 1]) / (values[place] - values[place - 1])
    begin, end = np.log(shares[place - 1]), np.log(shares[place])
    return float(np.exp(begin + rise * (end - begin)))
