"""Predictions become scores per draw and estimates with both uncertainties, kept apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from umedfeat.fewshot.arrays import Floats, Ints
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.metrics.bootstrap import interval, patient_weights
from umedfeat.fewshot.metrics.metrics import METRICS, Evaluated, measure, metrics_of
from umedfeat.fewshot.result import Budget, Drop, Estimate, Predictions, Score
from umedfeat.fewshot.settings import ProbeSettings

__all__ = ["Evaluation", "drops_between", "evaluate", "evaluated", "measured", "stratum_of", "test_patients"]


@dataclass(frozen=True)
class Evaluation:
    """Scores per draw and estimates over the draws."""

    scores: tuple[Score, ...]
    estimates: tuple[Estimate, ...]


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
    truth = cohort.truth[predictions.items]
    return Evaluated(cohort.task, truth, predictions.values[repeat].astype(np.float64), place, predictions.threshold)


def evaluate(
    cohort: Cohort, predictions: Predictions, budget: Budget, encoder: str, settings: ProbeSettings
) -> Evaluation:
    """All metrics of one classifier at one budget on one test set, and on each subgroup of it."""
    scores: list[Score] = []
    estimates: list[Estimate] = []
    for subgroup, part in _subgroups(cohort, predictions, settings.subgroups or ()):
        values, means = _measure(cohort, part, settings)
        patients, _ = test_patients(cohort, part.items)
        strata = stratum_of(cohort, patients)
        for metric in metrics_of(cohort.task):
            scores += _scores(part, budget, encoder, subgroup, metric, values[metric])
            bounds = interval(_mean(values[metric]), means[metric], METRICS[metric], strata, settings.confidence)
            estimates.append(
                Estimate(
                    classifier=part.classifier,
                    budget=part.budget,
                    fraction=budget.fraction,
                    shots=budget.shots,
                    test_set=part.test_set,
                    subgroup=subgroup,
                    metric=metric,
                    value=_mean(values[metric]),
                    low=bounds.low,
                    high=bounds.high,
                    **_spread(values[metric]),
                    test_items=len(part.items),
                    test_patients=len(patients),
                    interval=bounds.kind,
                )
            )
    return Evaluation(tuple(scores), tuple(estimates))


def _subgroups(cohort: Cohort, predictions: Predictions, columns: Sequence[str]) -> Iterator[tuple[str, Predictions]]:
    yield "", predictions
    for column in columns:
        values = cohort.meta[column][predictions.items]
        for value in sorted(set(values.tolist())):
            inside = values == value
            part = replace(predictions, items=predictions.items[inside], values=predictions.values[:, inside])
            yield f"{column}={value or 'missing'}", part


def _measure(cohort: Cohort, part: Predictions, settings: ProbeSettings) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Each metric per draw (R,), and its mean over the draws under each resampling of the test patients (B,)."""
    patients, _ = test_patients(cohort, part.items)
    rng = np.random.default_rng([settings.seed, 5])
    return measured(cohort, part, patient_weights(stratum_of(cohort, patients), settings.bootstrap, rng))


def measured(cohort: Cohort, part: Predictions, weights: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Each metric per draw (R,), and its mean over the draws under (B, P) weights of the test patients (B,).

    Draws in which a metric is not defined take no part in the means.
    """
    both = np.vstack([np.ones((1, weights.shape[1])), weights])
    names = metrics_of(cohort.task)
    values = {name: np.empty(len(part.values)) for name in names}
    sums = {name: np.zeros(len(weights)) for name in names}
    for repeat in range(len(part.values)):
        under = measure(evaluated(cohort, part, repeat), both)
        for name in names:
            values[name][repeat] = under[name][0]
            if np.isfinite(under[name][0]):
                sums[name] += under[name][1:]
    with np.errstate(invalid="ignore"):
        means = {name: sums[name] / np.isfinite(values[name]).sum() for name in names}
    return values, means


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


def drops_between(estimates: Sequence[Estimate]) -> tuple[Drop, ...]:
    """Internal minus external for every classifier, budget and metric.

    The two sides are different patients. The interval joins theirs (Zou and Donner's MOVER: the distance of each bound
    from its estimate takes the place of the standard error), so it is right for skewed intervals near 0 and 1 too.
    """
    inside = {(e.classifier, e.budget, e.test_set, e.metric): e for e in estimates if not e.subgroup}
    found = []
    for b in inside.values():
        name = b.test_set.removeprefix("external ")
        a = inside.get((b.classifier, b.budget, f"internal (without {name})", b.metric))
        if a is None or name == b.test_set:
            continue
        drop = a.value - b.value
        low = drop - math.hypot(a.value - a.low, b.high - b.value)
        high = drop + math.hypot(a.high - a.value, b.value - b.low)
        found.append(Drop(b.classifier, b.budget, name, b.metric, a.value, b.value, drop, low, high))
    return tuple(found)
