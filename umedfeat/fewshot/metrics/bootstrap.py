"""Intervals by resampling test patients.

Patients, not items, are resampled within their class (Rao and Wu's rescaled
bootstrap: n - 1 of n, weighted by n / (n - 1), which makes the variance unbiased in small strata). The standard error
of the resampled metric, on the scale where the metric is about normal, gives a Student interval around the estimate; of
metrics in [0, 1] a score interval, whose standard error shrinks towards the ends of the scale (Wilson 1927; Newcombe
2006 for the AUROC). ``benchmarks/probe.md`` says how often intervals hold the truth.

Whom one labels is the second uncertainty: the variance between draws, over their number, is added (``drawn_variance``),
less what resampling has counted already: draws differ on one test set also because each errs on patients of its own
(``own_variance``), and the mean over draws carries that once. The three parts, of draws, of tested patients and of both
together, are those of a crossed design, as of readers and cases (Gallas 2006).
What an interval covers: the expected metric on endlessly many patients of the same kind, of classifiers trained on so
many patients; with a single draw of everybody, of this very classifier.

Out-of-fold predictions are not independent: each pair of patients trains on one another, so what makes one of them easy
makes the other easy too. Of a sum of exchangeable terms over ordered pairs, resampling the tested side alone sees half
of the variance where nothing is to be learned, and nearly all of it where classes are far apart; ``FOLDS_VARIANCE``
makes up for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t

from umedfeat.arrays import Floats, Ints
from umedfeat.fewshot.metrics.metrics import METRICS, Metric

__all__ = [
    "FOLDS_VARIANCE",
    "NOTHING",
    "NO_INTERVAL",
    "Interval",
    "Spread",
    "drawn_variance",
    "interval",
    "labelled_reach",
    "own_variance",
    "patient_weights",
    "recall_interval",
    "tested_variance",
]


#: Rank metrics are summed in float32: what differs by less is one value.
_ROUNDING = 2e-6
#: A metric p in [0, 1] has a standard error proportional to (p (1 - p)) to this power: 0.5 for a proportion (Wilson's
#: interval). A little more covers small test sets near the ceiling best, and alike on both sides, as simulated.
_SHRINKING = 0.55


#: Test patients of a class below which nothing is known of its spread.
_FEWEST = 2
#: Share of the resamplings in which a metric must be defined.
_MOSTLY = 0.9
#: R² of a handful of patients may have a bound at minus thousands, which says nothing.
_SENSELESS = -100.0
#: Share of the pool up to which draws tell how much other pools would differ.
_TELLING = 0.5
#: Steps on a logarithmic scale whose exponential is still finite.
_FAR = 500.0
#: By how much the variance of out-of-fold metrics exceeds that of resampled predictions.
FOLDS_VARIANCE = 1.8


@dataclass(frozen=True)
class Interval:
    """Bounds and how they came about; "" where there are none (NaN)."""

    low: float
    high: float
    kind: Literal["bootstrap-t", "joined recalls", "exact bound", ""]


NO_INTERVAL = Interval(float("nan"), float("nan"), "")


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


class Spread(NamedTuple):
    """A variance and the degrees of freedom it was estimated with."""

    variance: float
    freedom: float

    def __add__(self, other: object) -> Spread:
        """Of a sum of independent parts (Satterthwaite's degrees of freedom)."""
        if not isinstance(other, Spread):
            return NotImplemented
        total = self.variance + other.variance
        parts = sum(part.variance**2 / part.freedom for part in (self, other) if part.variance > 0)
        return Spread(total, total**2 / parts if parts > 0 else self.freedom)


NOTHING = Spread(0.0, 1.0)


def drawn_variance(values: Floats, own: float = 0.0, share: float = 0.0) -> Spread:
    """Variance of a mean over draws because of whom the draws, and the pool that they come from, happen to hold.

    Nothing for a single draw. Of what patients add to a metric, draws of a share f of a pool without replacement show
    1 - f between them and have f in common: to the variance between draws, over their number, comes f / (1 - f) of it.

    Args:
        values: (R,) metric of each draw. own: see ``own_variance``; part of what is seen between draws.
        share: of the pool's patients in each draw. From half of the pool on it counts as half: what so similar draws
            differ by is too little to tell of other pools, and the intervals are about this one.
    """
    usable = values[np.isfinite(values)]
    if len(usable) < 2:
        return NOTHING
    count, between = len(usable), float(usable.var(ddof=1))
    rest = max(0.0, between - own)
    common = min(share, _TELLING)
    # a small rest of two variances is as uncertain as they are
    freedom = (count - 1.0) * (rest / between) ** 2 if between > 0 else count - 1.0
    return Spread(rest * (1.0 / count + common / (1.0 - common)), max(1.0, freedom))


def own_variance(resampled: Floats) -> float:
    """Variance of one draw's metric because of the patients tested, less what it shares with the other draws.

    Resampled one by one, draws vary by what they share and by their own; their mean by what they share and a share of
    their own.

    Args:
        resampled: (R, B) the metric of each draw under the weights; draws without it take no part.
    """
    usable = resampled[np.isfinite(resampled).all(axis=1)]
    draws = len(usable)
    if draws < 2 or usable.shape[1] < 2:
        return 0.0
    alone, together = float(usable.var(axis=1, ddof=1).mean()), float(usable.mean(axis=0).var(ddof=1))
    return max(0.0, (alone - together) * draws / (draws - 1))


def labelled_reach(drawn: Spread, tested: Sequence[Spread | None], confidence: float) -> float:
    """How far whom one labels alone would move a bound, by the factor of the whole (Satterthwaite).

    Args:
        drawn: variance because of whom one labels. tested: the other parts of the whole, where they are known.
    """
    whole = sum((part for part in tested if part is not None), start=drawn)
    return float(t.ppf(0.5 + confidence / 2, whole.freedom) * np.sqrt(drawn.variance))


def tested_variance(resampled: Floats, stratum: Ints, folds: bool) -> Spread | None:
    """Variance because of whom one tests, from the metric under the weights (B,); None where it cannot be told.

    Args:
        stratum: (P,) class of each test patient. folds: predictions are out-of-fold.
    """
    usable = resampled[np.isfinite(resampled)]
    sizes = np.unique(stratum, return_counts=True)[1]
    if len(usable) < _MOSTLY * len(resampled) or not len(sizes) or sizes.min() < _FEWEST:
        return None
    if np.ptp(usable) < _ROUNDING:
        return Spread(0.0, 1.0)
    factor = FOLDS_VARIANCE if folds else 1.0
    return Spread(factor * float(usable.var(ddof=1)), _freedom(sizes))


def _freedom(sizes: Ints) -> float:
    """Satterthwaite's degrees of freedom of a sum of strata whose variances are as 1 / size: with equal strata their
    patients less their number, with one small stratum hardly more than it has itself."""
    parts = 1.0 / sizes
    return float(parts.sum() ** 2 / (parts**2 / (sizes - 1.0)).sum())


def recall_interval(
    value: float, resampled: Floats, carriers: int, freedom: float, confidence: float, *, folds: bool = False
) -> Interval:
    """Confidence interval of the recall of one class; none below two test patients who carry it.

    Where resampling shows no spread, all patients fare alike: they are taken as so many trials.

    Args:
        resampled: (B,) the recall under the weights. carriers: test patients with the class. freedom: of its variance.
    """
    usable = resampled[np.isfinite(resampled)]
    if carriers < _FEWEST or freedom < 1 or not np.isfinite(value) or len(usable) < _MOSTLY * len(resampled):
        return NO_INTERVAL
    recall, sizes = METRICS["sensitivity"], np.array([carriers])
    alike = np.ptp(usable) < _ROUNDING
    if alike and not _ROUNDING < value < 1 - _ROUNDING:
        return _exact_bound(value, recall, sizes, confidence)
    variance = value * (1 - value) / carriers if alike else float(usable.var(ddof=1))
    factor = float(t.ppf(0.5 + confidence / 2, freedom))
    low, high = _around(value, float(np.sqrt((FOLDS_VARIANCE if folds else 1.0) * variance)), factor, recall)
    return Interval(low, high, "bootstrap-t")


def interval(
    estimate: float,
    resampled: Floats,
    metric: Metric,
    stratum: Ints,
    confidence: float,
    *,
    drawn: Spread = NOTHING,
    folds: bool = False,
) -> Interval:
    """Confidence interval of one metric; none with fewer than two test patients of a class, nor down to -100 and below.

    Args:
        estimate: the metric on the test set as it is. resampled: (B,) the metric under the weights.
        stratum: (P,) class of each test patient.
        drawn: variance because of whom one labels. folds: predictions are out-of-fold.
    """
    tested = tested_variance(resampled, stratum, folds)
    if tested is None or not np.isfinite(estimate):
        return NO_INTERVAL
    spread = tested + drawn
    if spread.variance < _ROUNDING**2:
        return _exact_bound(estimate, metric, np.unique(stratum, return_counts=True)[1], confidence)
    factor = float(t.ppf(0.5 + confidence / 2, spread.freedom))
    low, high = _around(estimate, float(np.sqrt(spread.variance)), factor, metric)
    return NO_INTERVAL if low < _SENSELESS else Interval(low, high, "bootstrap-t")


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
        step = min(factor * spread / (1 - estimate), _FAR)
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
        return NO_INTERVAL
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
