"""Encoders against a baseline: same patients, same draws, same test patients, everything paired."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t

from umedfeat.arrays import Floats, Floats32, Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.evaluate import Uncertain, measured, stratum_of, test_patients
from umedfeat.fewshot.metrics.bootstrap import (
    NOTHING,
    Interval,
    Spread,
    drawn_variance,
    own_variance,
    patient_weights,
    tested_variance,
)
from umedfeat.fewshot.metrics.joined import unseen_variance
from umedfeat.fewshot.metrics.metrics import JOINED, METRICS, recalls_of
from umedfeat.fewshot.metrics.needed import data_needed
from umedfeat.fewshot.parallel import in_order
from umedfeat.fewshot.result import Comparison, DataNeeded, Difference, Predictions, ProbeResult
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.study import Origin, Progress, run_study
from umedfeat.machine import usable_cores

__all__ = ["MARGIN", "PERMUTATIONS", "compare_cohorts", "holm", "paired_differences"]

MARGIN = 0.02
PERMUTATIONS = 1999
#: Metrics without a better and a worse are not compared by difference.
#: Nor is ECE, which few patients bias and whose jackknife is far from normal: of two equal encoders with 18 test
#: patients its p was <= 0.05 in a fifth of 300 studies. The Brier score and log-loss tell of calibration too.
_NOT_COMPARED = frozenset({"calibration_slope", "ece", *(name for name, known in METRICS.items() if not known.varies)})
#: Product of two standard deviations below which a metric does not move.
_STILL = 1e-12

Key = tuple[str, str, str]


@dataclass(frozen=True)
class _Curves:
    """One classifier's prediction on one test set, under resampling and with each patient left out.

    Attributes:
        value: metric → mean over draws. resampled: metric → (B,). left_out: metric → (P,). per_draw: metric → (R,).
        each: metric → (R, B), every draw by itself, resampled.
        alone: metric → interval because of whom one tests, of this curve by itself.
        cells: (1 + B, K, K) mean confusion matrix, as it is and resampled; empty for targets without classes.
        stratum: (P,) class of each test patient. carriers: (K,) test patients of each class. folds: out-of-fold.
        share: of the pool in each draw.
    """

    value: Mapping[str, float]
    resampled: Mapping[str, Floats]
    left_out: Mapping[str, Floats]
    per_draw: Mapping[str, Floats]
    each: Mapping[str, Floats32]
    alone: Mapping[str, Interval]
    cells: Floats
    stratum: Ints
    carriers: Ints
    folds: bool
    share: float


def compare_cohorts(
    cohorts: Mapping[str, Cohort],
    settings: ProbeSettings,
    *,
    baseline: str,
    origins: Mapping[str, Origin] | None = None,
    margin: float = MARGIN,
    progress: Progress | None = None,
    jobs: int | None = None,
) -> Comparison:
    """Run the same study on every encoder and compare each with the baseline.

    Args:
        cohorts: name → cohort, the same items, patients and labels in each (see ``align``).
        baseline: one of the names.
        margin: how much worse than the baseline still counts as equal in "data needed".

    Raises:
        CohortError: the cohorts do not describe the same study.
    """
    names = list(cohorts)
    _refuse_different(cohorts)
    results = {}
    for number, (name, cohort) in enumerate(cohorts.items()):
        origin = (origins or {}).get(name, Origin())
        shown = None if progress is None else _shifted(progress, number, len(cohorts))
        results[name] = run_study(cohort, settings, replace(origin, encoder=name), shown, jobs)
    curves = {
        name: _curves(cohorts[name], result.predictions, result.settings, jobs or usable_cores())
        for name, result in results.items()
    }
    others = [name for name in names if name != baseline]
    differences = [row for name in others for row in _differences(name, baseline, curves, settings)]
    needed: list[DataNeeded] = []
    for name in others:
        needed += _needed(name, baseline, curves, results, settings, margin)
    return Comparison(tuple(results.values()), tuple(names), baseline, tuple(differences), tuple(needed))


def _shifted(progress: Progress, number: int, total: int) -> Progress:
    return lambda done, draws: progress(number * draws + done, total * draws)


def _refuse_different(cohorts: Mapping[str, Cohort]) -> None:
    (first, reference), *others = cohorts.items()
    for name, cohort in others:
        same = np.array_equal(cohort.ids, reference.ids) and np.array_equal(cohort.truth, reference.truth)
        if not same or not np.array_equal(cohort.patients, reference.patients):
            raise CohortError(
                f"{first} and {name} do not describe the same items, labels and patients",
                remedy="extract both from the same images and manifest, or give the same --labels",
            )


def paired_differences(
    cohort: Cohort, parts: Mapping[str, Predictions], baseline: str, settings: ProbeSettings, jobs: int | None = None
) -> tuple[Difference, ...]:
    """Predictions of several classifiers on the same test items against those of one of them, metric by metric.

    Args:
        cohort: of the test items.
        parts: name → predictions of the same items, under the same classifier, budget and test set.

    Returns:
        Differences to the baseline; p is corrected over the others (Holm).
    """
    curves = {name: _curves(cohort, [part], settings, jobs or usable_cores()) for name, part in parts.items()}
    found = [row for name in parts if name != baseline for row in _differences(name, baseline, curves, settings)]
    corrected: dict[tuple[str, str], float] = {}
    for metric in dict.fromkeys(row.metric for row in found):
        family = [row for row in found if row.metric == metric]
        for row, p in zip(family, holm([row.p for row in family]), strict=True):
            corrected[row.encoder, metric] = p
    return tuple(replace(row, p_holm=corrected[row.encoder, row.metric]) for row in found)


def _curves(
    cohort: Cohort, predictions: Sequence[Predictions], settings: ProbeSettings, jobs: int
) -> dict[Key, _Curves]:
    def work(part: Predictions) -> tuple[Key, _Curves]:
        patients, _ = test_patients(cohort, part.items)
        rng = np.random.default_rng([settings.seed, 5])
        weights = patient_weights(stratum_of(cohort, patients), settings.bootstrap, rng)
        without = 1.0 - np.eye(len(patients))
        found = measured(cohort, part, np.vstack([weights, without]))
        key = (part.classifier, part.budget, part.test_set)
        resampled = {name: each[: len(weights)] for name, each in found.resampled.items()}
        each = {name: drawn[:, : len(weights)].copy() for name, drawn in found.each.items()}
        seen = replace(found, resampled=resampled, cells=found.cells[: 1 + len(weights)], each=each)
        uncertain = Uncertain.of(cohort, part, seen, settings.confidence)
        return key, _Curves(
            {name: value for name, value in found.value.items() if np.isfinite(value)},
            resampled,
            {name: each[len(weights) :] for name, each in found.resampled.items()},
            found.per_draw,
            each,
            {name: uncertain.interval(name, NOTHING) for name in resampled if METRICS[name].varies},
            seen.cells,
            stratum_of(cohort, patients),
            cohort.carries[patients].sum(axis=0),
            uncertain.folds,
            uncertain.share,
        )

    return dict(in_order(work, predictions, jobs))


def _differences(
    name: str,
    baseline: str,
    curves: Mapping[str, Mapping[Key, _Curves]],
    settings: ProbeSettings,
) -> Iterator[Difference]:
    families: dict[tuple[str, str, str], list[Difference]] = {}
    for key, ours in curves[name].items():
        theirs = curves[baseline][key]
        for metric in ours.value:
            if metric in theirs.value and metric not in _NOT_COMPARED:
                row = _difference(name, baseline, key, metric, ours, theirs, settings)
                families.setdefault((row.classifier, row.test_set, metric), []).append(row)
    for family in families.values():
        corrected = holm([row.p for row in family])
        yield from (replace(row, p_holm=p) for row, p in zip(family, corrected, strict=True))


def _difference(
    name: str, baseline: str, key: Key, metric: str, ours: _Curves, theirs: _Curves, settings: ProbeSettings
) -> Difference:
    value = ours.value[metric] - theirs.value[metric]
    patients = len(ours.left_out[metric])
    down, up = _reach(ours, theirs, metric, settings.confidence)
    pseudo = patients * value - (patients - 1) * (ours.left_out[metric] - theirs.left_out[metric])
    classifier, budget, test_set = key
    drawn, whole = _spreads(ours, theirs, metric)
    as_interval = Spread(drawn.variance, whole.freedom if whole else drawn.freedom)
    p = sign_flip(pseudo, np.random.default_rng([settings.seed, 7]), as_interval)
    return Difference(
        name, baseline, classifier, budget, test_set, metric, value, value - down, value + up, p, p_holm=p
    )


def _gap_variance(ours: _Curves, target: _Curves, metric: str) -> Spread:
    """Of a budget against the target, which has draws of its own; an unknown one is never small."""
    tested = _tested_variance(ours, target, metric)
    drawn = (
        drawn_variance(each.per_draw[metric], _own(each, each.each[metric]), each.share) for each in (ours, target)
    )
    return Spread(math.inf, 1.0) if tested is None else sum(drawn, start=tested)


def _spreads(ours: _Curves, theirs: _Curves, metric: str) -> tuple[Spread, Spread | None]:
    """Variance of the difference because of whom one labels, the same for the two, and with whom one tests."""
    own = _own(ours, ours.each[metric] - theirs.each[metric])
    drawn = drawn_variance(ours.per_draw[metric] - theirs.per_draw[metric], own, ours.share)
    tested = _tested_variance(ours, theirs, metric)
    return drawn, None if tested is None else tested + drawn


def _own(curves: _Curves, resampled: Floats32) -> float:
    """As ``Uncertain.own``."""
    return 0.0 if curves.folds else own_variance(resampled.astype(np.float64))


def _reach(ours: _Curves, theirs: _Curves, metric: str, confidence: float) -> tuple[float, float]:
    """How far the interval of a difference goes down and up: who is tested and who was labelled, the same for the two.

    The distances of each encoder's own bounds are joined, less what they share (Zou and Donner 2008, with the
    correlation of the resampled metrics; Newcombe 1998 for paired proportions): so the interval is as skewed as they
    are near 0 and 1, and knows what resampling cannot see of a small class. NaN if unknown.
    """
    drawn, whole = _spreads(ours, theirs, metric)
    if whole is None:
        return math.nan, math.nan
    factor = float(t.ppf(0.5 + confidence / 2, whole.freedom))
    a, b = ours.alone[metric], theirs.alone[metric]
    if not (a.kind and b.kind) or _alike(ours, theirs):
        return (factor * math.sqrt(whole.variance),) * 2
    labelled = factor * math.sqrt(drawn.variance)
    shared = _correlation(ours.resampled[metric], theirs.resampled[metric])
    down = _distance(ours.value[metric] - a.low, b.high - theirs.value[metric], shared)
    up = _distance(a.high - ours.value[metric], theirs.value[metric] - b.low, shared)
    return math.hypot(down, labelled), math.hypot(up, labelled)


def _distance(ours: float, theirs: float, shared: float) -> float:
    return math.sqrt(max(0.0, ours**2 + theirs**2 - 2 * shared * ours * theirs))


def _correlation(ours: Floats, theirs: Floats) -> float:
    """0 where one of them does not move: what they share is not known then."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    spread = ours[both].std() * theirs[both].std()
    if spread < _STILL:
        return 0.0
    return float(((ours[both] - ours[both].mean()) * (theirs[both] - theirs[both].mean())).mean() / spread)


def _tested_variance(ours: _Curves, theirs: _Curves, metric: str) -> Spread | None:
    """Because of whom one tests, with what resampling cannot see of a small class; None where it cannot be told."""
    seen = tested_variance(ours.resampled[metric] - theirs.resampled[metric], ours.stratum, ours.folds)
    if seen is None or metric not in JOINED or not len(ours.cells) or _alike(ours, theirs):
        return seen
    recalls = recalls_of(ours.cells[1:]) - recalls_of(theirs.cells[1:])
    cells = (ours.cells[0] + theirs.cells[0]) / 2
    unseen = unseen_variance(metric, cells, recalls.var(axis=0, ddof=1), ours.carriers)
    return seen + Spread(unseen, float(ours.carriers.sum()))


def _alike(ours: _Curves, theirs: _Curves) -> bool:
    """The very same predictions: no difference, for whomever one tests."""
    return all(np.array_equal(each, theirs.resampled[name], equal_nan=True) for name, each in ours.resampled.items())


def sign_flip(pseudo: Floats, rng: np.random.Generator, drawn: Spread = NOTHING) -> float:
    """Paired permutation test: exchange the two encoders within patients, which flips a patient's jackknife
    pseudo-value of the difference. Two-sided, p = (1 + b) / (1 + B); 1 where nothing differs.

    Args:
        pseudo: (P,). drawn: variance of the mean difference because of whom one labels. Exchanging the encoders keeps
            the draws; where they vary, chance moves the difference by that too, as in the interval.
    """
    usable = pseudo[np.isfinite(pseudo)]
    if not len(usable) or np.allclose(usable, 0.0):
        return 1.0
    observed = abs(usable.sum())
    signs = rng.integers(0, 2, size=(PERMUTATIONS, len(usable)), dtype=np.int8) * 2 - 1
    reach = len(usable) * math.sqrt(drawn.variance)
    flipped = np.abs(signs @ usable + reach * rng.standard_t(drawn.freedom, PERMUTATIONS))
    return float((1 + int((flipped >= observed * (1 - 1e-12)).sum())) / (1 + PERMUTATIONS))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = highest
    return [float(value) for value in corrected]


def _needed(
    name: str,
    baseline: str,
    curves: Mapping[str, Mapping[Key, _Curves]],
    results: Mapping[str, ProbeResult],
    settings: ProbeSettings,
    margin: float,
) -> Iterator[DataNeeded]:
    result = results[name]
    metric = result.primary
    keys = dict.fromkeys((classifier, test_set) for classifier, _, test_set in curves[name])
    for classifier, test_set in keys:
        budgets = result.budgets_of(test_set)
        ours = [curves[name].get((classifier, budget.name, test_set)) for budget in budgets]
        target = curves[baseline].get((classifier, budgets[-1].name, test_set))
        if (
            target is None
            or metric not in target.value
            or any(each is None or metric not in each.value for each in ours)
        ):
            continue
        values = np.asarray([each.value[metric] for each in ours if each is not None])
        resampled = np.stack([each.resampled[metric] for each in ours if each is not None])
        found = data_needed(
            values,
            resampled,
            target.value[metric],
            target.resampled[metric],
            np.asarray([budget.n_patients for budget in budgets], dtype=np.float64),
            margin,
            settings.confidence,
            [_gap_variance(each, target, metric) for each in ours if each is not None],
        )
        reached = None if found.place is None else budgets[found.place]
        yield DataNeeded(
            encoder=name,
            baseline=baseline,
            classifier=classifier,
            test_set=test_set,
            metric=metric,
            target=target.value[metric],
            target_budget=budgets[-1].name,
            margin=margin,
            budget=reached.name if reached else "",
            n_patients=reached.n_patients if reached else 0,
            share=found.share,
            low=found.low,
            high=found.high,
            smallest=budgets[0].n_patients / budgets[-1].n_patients,
            confidence=settings.confidence,
        )
