"""Predictions become scores per draw and estimates with both uncertainties, kept apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from umedfeat.arrays import Floats, Floats32, Ints
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.metrics.bootstrap import (
    NO_INTERVAL,
    NOTHING,
    Interval,
    Spread,
    drawn_variance,
    interval,
    labelled_reach,
    own_variance,
    patient_weights,
    recall_interval,
    tested_variance,
)
from umedfeat.fewshot.metrics.calibration import calibration_slope
from umedfeat.fewshot.metrics.joined import joined
from umedfeat.fewshot.metrics.metrics import (
    CLASSES,
    JOINED,
    METRICS,
    Evaluated,
    confusion,
    measure,
    metrics_of,
    recalls_of,
)
from umedfeat.fewshot.result import Budget, Drop, Estimate, Predictions, Score
from umedfeat.fewshot.settings import ProbeSettings

__all__ = [
    "Evaluation",
    "Measured",
    "Point",
    "Uncertain",
    "drops_between",
    "evaluate",
    "evaluated",
    "measured",
    "stratum_of",
    "test_patients",
]

#: The metric that is taken of all draws together.
_POOLED = "calibration_slope"


Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Evaluation:
    """Scores per draw, estimates over the draws, and (classifier, budget, test set, metric) → what drops need."""

    scores: tuple[Score, ...]
    estimates: tuple[Estimate, ...]
    points: Mapping[Key, Point]


@dataclass(frozen=True)
class Point:
    """A mean over draws, its interval for the drawn classifiers alone, and what else a drop needs.

    Attributes:
        tested: variance because of whom one tests. per_draw: (R,). own, share: see ``drawn_variance``.
    """

    value: float
    low: float
    high: float
    tested: Spread | None
    per_draw: Floats
    own: float
    share: float


@dataclass(frozen=True)
class Measured:
    """Metrics of one classifier on one test set, by name.

    Attributes:
        per_draw: (R,). value: of all draws: their mean; of the calibration slope that of all predictions together,
            since a slope of few patients can be any number and its mean says nothing.
        resampled: (B,) the same under each weighting of the test patients. each: (R, B) of every draw by itself.
        cells: (1 + B, K, K) mean confusion matrix over the draws, as it is and under each weighting; empty for targets
            without classes.
    """

    per_draw: dict[str, Floats]
    value: dict[str, float]
    resampled: dict[str, Floats]
    cells: Floats
    each: dict[str, Floats32]


def test_patients(cohort: Cohort, items: Ints) -> tuple[Ints, Ints]:
    """Numbers of the patients of some items, ascending, and each item's place among them."""
    patients, place = np.unique(cohort.patient[items], return_inverse=True)
    return patients, place


def stratum_of(cohort: Cohort, patients: Ints) -> Ints:
    """What the test patients are resampled within: their class; nothing for regression and multilabel."""
    if cohort.task in ("regression", "multilabel"):
        return np.zeros(len(patients), dtype=np.intp)
    return cohort.stratum[patients]


def evaluated(cohort: Cohort, predictions: Predictions, repeat: int) -> Evaluated:
    """Truth and prediction of one draw."""
    _, place = test_patients(cohort, predictions.items)
    truth, values = cohort.truth[predictions.items], predictions.values[repeat].astype(np.float64)
    fold = None if predictions.fold is None else predictions.fold[repeat]
    return Evaluated(cohort.task, truth, values, place, predictions.threshold, fold)


def evaluate(
    cohort: Cohort, predictions: Predictions, budget: Budget, encoder: str, settings: ProbeSettings
) -> Evaluation:
    """All metrics of one classifier at one budget on one test set, and on each subgroup of it."""
    scores: list[Score] = []
    estimates: list[Estimate] = []
    points: dict[Key, Point] = {}
    for subgroup, part in _subgroups(cohort, predictions, settings.subgroups or ()):
        found = _measure(cohort, part, settings)
        patients, _ = test_patients(cohort, part.items)
        uncertain = Uncertain.of(cohort, part, found, settings.confidence)
        for metric in metrics_of(cohort.task):
            each = found.per_draw[metric]
            scores += _scores(part, budget, encoder, subgroup, metric, each)
            several = metric != _POOLED and bool(np.isfinite(each).sum() > 1)
            bounds = uncertain.interval(metric, uncertain.drawn(metric)) if METRICS[metric].varies else NO_INTERVAL
            if not subgroup:
                points[part.classifier, part.budget, part.test_set, metric] = uncertain.point(metric)
            estimates.append(
                Estimate(
                    classifier=part.classifier,
                    budget=part.budget,
                    fraction=budget.fraction,
                    shots=budget.shots,
                    test_set=part.test_set,
                    subgroup=subgroup,
                    metric=metric,
                    value=found.value[metric],
                    low=bounds.low,
                    high=bounds.high,
                    **_spread(each),
                    test_items=len(part.items),
                    test_patients=len(patients),
                    interval=bounds.kind,
                    covers=_covers(bounds.kind, uncertain.folds, several),
                )
            )
    return Evaluation(tuple(scores), tuple(estimates), points)


@dataclass(frozen=True)
class Uncertain:
    """One classifier on one test set: what its intervals are made of.

    Attributes:
        strata: (P,) of the test patients. recalls: of each class, because of whom one tests; () without classes.
        folds: out-of-fold. share: of the pool's patients in each draw.
    """

    found: Measured
    strata: Ints
    recalls: tuple[Interval, ...]
    folds: bool
    share: float
    confidence: float

    @classmethod
    def of(cls, cohort: Cohort, part: Predictions, found: Measured, confidence: float) -> Uncertain:
        """Of measures under resampled weights of the test patients alone."""
        patients, _ = test_patients(cohort, part.items)
        folds = part.fold is not None
        strata = stratum_of(cohort, patients)
        recalls: list[Interval] = []
        if len(found.cells):
            values = recalls_of(found.cells)
            carriers = cohort.carries[patients].sum(axis=0)
            freedom = float(len(patients) - len(np.unique(strata)))
            for (value, *resampled), count in zip(values.T, carriers, strict=True):
                given = (float(value), np.asarray(resampled), int(count), freedom, confidence)
                recalls.append(recall_interval(*given, folds=folds))
        return cls(found, strata, tuple(recalls), folds, 0.0 if folds else part.share, confidence)

    def interval(self, metric: str, drawn: Spread) -> Interval:
        """Of one metric; ``drawn``: variance because of whom one labels."""
        value, resampled = self.found.value[metric], self.found.resampled[metric]
        given = (value, resampled, METRICS[metric], self.strata, self.confidence)
        plain = interval(*given, drawn=drawn, folds=self.folds)
        if metric == "brier":  # on its logarithm it would leave what probabilities can be wrong by
            return replace(plain, high=min(plain.high, 2.0 if self.found.cells.shape[1] > 2 else 1.0))
        if not self.recalls or metric not in JOINED or plain.kind == "exact bound":
            return plain
        labelled = labelled_reach(drawn, [self.tested(metric)], self.confidence)
        return joined(metric, value, self.found.cells[0], self.recalls, labelled)

    def tested(self, metric: str) -> Spread | None:
        """Variance because of whom one tests."""
        return tested_variance(self.found.resampled[metric], self.strata, self.folds)

    def own(self, metric: str) -> float:
        """What draws differ by because of whom one tests. Of partitions into folds nothing is taken off: the variance
        that is added for the dependence between folds was calibrated with all that partitions differ by."""
        return 0.0 if self.folds else own_variance(self.found.each[metric].astype(np.float64))

    def drawn(self, metric: str) -> Spread:
        """Variance because of whom one labels."""
        if metric == _POOLED:
            return NOTHING
        return drawn_variance(self.found.per_draw[metric], self.own(metric), self.share)

    def point(self, metric: str) -> Point:
        """What a drop needs."""
        alone = self.interval(metric, NOTHING)
        found = self.found
        value, each = found.value[metric], found.per_draw[metric]
        return Point(value, alone.low, alone.high, self.tested(metric), each, self.own(metric), self.share)


def _covers(kind: str, folds: bool, drawn: bool) -> Literal["", "patients", "patients and draws", "folds"]:
    if not kind:
        return ""
    if folds:
        return "folds"
    return "patients and draws" if drawn else "patients"


def _subgroups(cohort: Cohort, predictions: Predictions, columns: Sequence[str]) -> Iterator[tuple[str, Predictions]]:
    yield "", predictions
    for column in columns:
        values = cohort.meta[column][predictions.items]
        for value in sorted(set(values.tolist())):
            inside = values == value
            fold = None if predictions.fold is None else predictions.fold[:, inside]
            items, values_inside = predictions.items[inside], predictions.values[:, inside]
            part = replace(predictions, items=items, values=values_inside, fold=fold)
            yield f"{column}={value or 'missing'}", part


def _measure(cohort: Cohort, part: Predictions, settings: ProbeSettings) -> Measured:
    patients, _ = test_patients(cohort, part.items)
    rng = np.random.default_rng([settings.seed, 5])
    return measured(cohort, part, patient_weights(stratum_of(cohort, patients), settings.bootstrap, rng))


def measured(cohort: Cohort, part: Predictions, weights: Floats) -> Measured:
    """Each metric per draw, over the draws, and over the draws under (B, P) weights of the test patients.

    Draws in which a metric is not defined take no part in the means.
    """
    both = np.vstack([np.ones((1, weights.shape[1])), weights])
    names = metrics_of(cohort.task)
    values = {name: np.empty(len(part.values)) for name in names}
    sums = {name: np.zeros(len(weights)) for name in names}
    each = {name: np.empty((len(part.values), len(weights)), dtype=np.float32) for name in names}
    cells = np.zeros((0, 0, 0))
    for repeat in range(len(part.values)):
        seen = evaluated(cohort, part, repeat)
        drawn = confusion(seen, both) if cohort.task in CLASSES else None
        if drawn is not None:
            cells = drawn / len(part.values) + (cells if cells.size else 0.0)
        under = measure(seen, both, drawn)
        for name in names:
            values[name][repeat], each[name][repeat] = under[name][0], under[name][1:]
            if np.isfinite(under[name][0]):
                sums[name] += under[name][1:]
    with np.errstate(invalid="ignore"):
        means = {name: sums[name] / np.isfinite(values[name]).sum() for name in names}
    found = Measured(values, {name: _mean(values[name]) for name in names}, means, cells, each)
    if _POOLED in names and len(part.values) > 1:
        slopes = _pooled_slope(cohort, part, both)
        found.value[_POOLED], found.resampled[_POOLED] = float(slopes[0]), slopes[1:]
    return found


def _pooled_slope(cohort: Cohort, part: Predictions, weights: Floats) -> Floats:
    draws, items = part.values.shape[:2]
    _, place = test_patients(cohort, part.items)
    chance = part.values.reshape(draws * items, -1).astype(np.float64)
    onehot = np.equal.outer(cohort.truth[part.items], np.arange(chance.shape[1])).astype(np.float64)
    return calibration_slope(chance, np.tile(onehot, (draws, 1)), np.tile(place, draws), weights)


def _mean(values: Floats) -> float:
    """Mean of the defined values; NaN where there are none."""
    usable = values[np.isfinite(values)]
    return float(usable.mean()) if len(usable) else float("nan")


def _spread(values: Floats) -> dict[str, Any]:
    usable = values[np.isfinite(values)]
    nothing = float("nan")
    some = len(usable) > 0
    return {
        "sd": float(usable.std(ddof=1)) if len(usable) > 1 else nothing,
        "q25": float(np.quantile(usable, 0.25)) if some else nothing,
        "q75": float(np.quantile(usable, 0.75)) if some else nothing,
        "minimum": float(usable.min()) if some else nothing,
        "maximum": float(usable.max()) if some else nothing,
        "draws": len(usable),
        "undefined": len(values) - len(usable),
    }


def _scores(part: Predictions, budget: Budget, encoder: str, subgroup: str, metric: str, values: Floats) -> list[Score]:
    return [
        Score(
            encoder=encoder,
            classifier=part.classifier,
            budget=part.budget,
            fraction=budget.fraction,
            shots=budget.shots,
            repeat=repeat,
            test_set=part.test_set,
            subgroup=subgroup,
            metric=metric,
            value=float(value),
            n_train_patients=float(part.n_train_patients[repeat]),
            n_per_class=tuple(part.n_per_class[repeat].tolist()),
            hyperparameters=part.chosen[repeat],
            converged=bool(part.converged[repeat]),
        )
        for repeat, value in enumerate(values)
    ]


def drops_between(points: Mapping[Key, Point], confidence: float) -> tuple[Drop, ...]:
    """Internal minus external for every classifier, budget and metric.

    The two sides are different patients. The interval joins theirs (Zou and Donner's MOVER: the distance of each bound
    from its estimate takes the place of the standard error), so it is right for skewed intervals near 0 and 1 too. The
    classifiers are the same, so whom one labels matters by the variance of the drop between draws.
    """
    found = []
    for (classifier, budget, test_set, metric), b in points.items():
        name = test_set.removeprefix("external ")
        a = points.get((classifier, budget, f"internal (without {name})", metric))
        if a is None or name == test_set or not METRICS[metric].varies:
            continue
        drop = a.value - b.value
        drawn = drawn_variance(a.per_draw - b.per_draw, a.own + b.own, a.share) if metric != _POOLED else NOTHING
        labelled = labelled_reach(drawn, [a.tested, b.tested], confidence)
        low = drop - math.hypot(a.value - a.low, b.high - b.value, labelled)
        high = drop + math.hypot(a.high - a.value, b.value - b.low, labelled)
        found.append(Drop(classifier, budget, name, metric, a.value, b.value, drop, low, high))
    return tuple(found)
