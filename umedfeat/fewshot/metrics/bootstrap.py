"""Intervals by resampling test patients.

The fitted classifiers are held fixed and patients, not items, are resampled within their class (Rao and Wu's rescaled
bootstrap: n - 1 of n, weighted by n / (n - 1), which makes the variance unbiased in small strata). The standard error
of the resampled metric, on the scale where the metric is about normal, gives a Student interval around the estimate; of
metrics in [0, 1] a score interval, whose standard error shrinks towards the ends of the scale (Wilson 1927; Newcombe
2006 for the AUROC). ``benchmarks/probe.md`` says how often intervals hold the truth.
What it covers: the metric that these very classifiers would reach on endlessly many patients of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t

from umedfeat.fewshot.arrays import Floats, Ints
from umedfeat.fewshot.metrics.metrics import Metric

__all__ = ["Interval", "interval", "patient_weights"]


#: Rank metrics are summed in float32: what differs by less is one value.
_ROUNDING = 2e-6
#: A metric p in [0, 1] has a standard error proportional to (p (1 - p)) to this power: 0.5 for a proportion (Wilson's
#: interval). A little more covers small test sets near the ceiling best, and alike on both sides, as simulated.
_SHRINKING = 0.55


@dataclass(frozen=True)
class Interval:
    """Bounds and how they came about: "bootstrap-t", "exact bound" or "" where there is none (NaN)."""

    low: float
    high: float
    kind: Literal["bootstrap-t", "exact bound", ""]


def patient_weights(stratum: Ints, resamplings: int, rng: np.random.Generator) -> Floats:
    """(B, P) weights of the test patients: resampled within strata, rescaled to the strata's sizes.

    A stratum of a single patient keeps weight 1: nothing is known about its spread.
    """
    weights = np.ones((resamplings, len(stratum)))
    for value in np.unique(stratum):
        members = np.flatnonzero(stratum == value)
        size = len(members)
        if size > 1:
            counts = rng.multinomial(size - 1, np.full(size, 1.0 / size), size=resamplings)
            weights[:, members] = counts * (size / (size - 1.0))
    return weights


def interval(estimate: float, resampled: Floats, metric: Metric, stratum: Ints, confidence: float) -> Interval:
    """Confidence interval of one metric.

    Args:
        estimate: the metric on the test set as it is. resampled: (B,) the metric under the weights.
        stratum: (P,) class of each test patient; their number less the number of strata are the degrees of freedom.
    """
    usable = resampled[np.isfinite(resampled)]
    sizes = np.unique(stratum, return_counts=True)[1]
    freedom = int(sizes.sum() - len(sizes))
    if not np.isfinite(estimate) or len(usable) < 0.9 * len(resampled) or freedom < 1:
        return Interval(float("nan"), float("nan"), "")
    if np.ptp(usable) < _ROUNDING:
        return _exact_bound(estimate, metric, sizes, confidence)
    spread = float(usable.std(ddof=1))
    low, high = _around(estimate, spread, float(t.ppf(0.5 + confidence / 2, freedom)), metric)
    return Interval(low, high, "bootstrap-t")


def _around(estimate: float, spread: float, factor: float, metric: Metric) -> tuple[float, float]:
    """estimate ± factor · spread on the metric's scale, by the derivative of the scale at the estimate."""
    if metric.scale == "unit":
        return _score_interval(min(max(estimate, 1e-6), 1 - 1e-6), factor * spread)
    if metric.scale == "signed":
        inside = min(max(estimate, -1 + 1e-6), 1 - 1e-6)
        centre, step = np.arctanh(inside), factor * spread / (1 - inside**2)
        return float(np.tanh(centre - step)), float(np.tanh(centre + step))
    if metric.scale == "positive" and estimate > 0:
        step = factor * spread / estimate
        return float(estimate * np.exp(-step)), float(estimate * np.exp(step))
    if metric.scale == "below one" and estimate < 1:
        step = factor * spread / (1 - estimate)
        return float(1 - (1 - estimate) * np.exp(step)), float(1 - (1 - estimate) * np.exp(-step))
    return estimate - factor * spread, estimate + factor * spread


def _score_interval(estimate: float, reach: float) -> tuple[float, float]:
    """All p that are no farther from the estimate than ``reach``, scaled by the standard error at p over that here.

    The distance in standard errors falls steadily from p = 0 to p = 1, so there is one bound on either side.
    """

    def beyond(p: float, sign: int) -> float:
        shrunk = (p * (1 - p) / (estimate * (1 - estimate))) ** _SHRINKING
        return float(sign * (p - estimate) - reach * shrunk)

    return float(brentq(beyond, 0.0, estimate, args=(-1,))), float(brentq(beyond, estimate, 1.0, args=(1,)))


def _exact_bound(estimate: float, metric: Metric, sizes: Ints, confidence: float) -> Interval:
    """Every resampling gave one value. All right or all wrong have a bound like Clopper and Pearson's."""
    perfect, worst = estimate > 1 - _ROUNDING, estimate < _ROUNDING
    if metric.scale != "unit" or not (perfect or worst):
        return Interval(float("nan"), float("nan"), "")
    error = _largest_error(sizes, (1 - confidence) / 2)
    return Interval(1 - error, 1.0, "exact bound") if perfect else Interval(0.0, error, "exact bound")


def _largest_error(sizes: Ints, chance: float) -> float:
    """The largest mean over classes of error rates under which no error in any of their patients has this chance.

    Rates e with ``Σ size · log(1 - e) = log(chance)`` and the largest mean have ``1 - e = min(1, c · size)``: most is
    hidden in the smallest class. With equal classes, and for n patients of one, it is ``1 - chance ** (1 / n)``.
    """

    def likelihood(c: float) -> float:
        return float((sizes * np.log(np.minimum(1.0, c * sizes))).sum() - np.log(chance))

    c = brentq(likelihood, 1e-300, 1.0 / sizes.min())
    return float(np.mean(1 - np.minimum(1.0, c * sizes)))
