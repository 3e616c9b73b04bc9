"""Metrics of the confusion matrix: their intervals know how few patients a class has."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.compare import paired_differences
from umedfeat.fewshot.evaluate import evaluate
from umedfeat.fewshot.metrics.bootstrap import NO_INTERVAL, Interval
from umedfeat.fewshot.metrics.bootstrap import tested_variance as of_the_tested
from umedfeat.fewshot.metrics.joined import joined
from umedfeat.fewshot.result import Budget, Difference, Estimate, Predictions
from umedfeat.fewshot.settings import ProbeSettings

SETTINGS = ProbeSettings(fractions=(1.0,), bootstrap=200)
BUDGET = Budget("100 %", 1.0, 0, 30, 30, 30.0, (15.0, 15.0), 1)


def _estimates(truth: np.ndarray, right: np.ndarray) -> dict[str, Estimate]:
    """Of one classifier that is right about some patients of one item each."""
    ids = [f"i{k:03d}" for k in range(len(truth))]
    rows = np.random.default_rng(0).normal(size=(len(truth), 12)).astype(np.float32)
    cohort = build_cohort(rows, np.arange(len(truth)), truth, SETTINGS, ids=ids, patients=ids)
    values = (np.eye(2)[np.where(right, truth, 1 - truth)] * 0.8 + 0.1)[None].astype(np.float32)
    once = np.ones(1)
    part = Predictions(
        "knn", "100 %", "test", np.arange(len(truth)), values, ("",), once > 0, once, once, np.ones((1, 2))
    )
    return {row.metric: row for row in evaluate(cohort, part, BUDGET, "", SETTINGS).estimates}


def test_a_small_class_that_is_never_recognised_does_not_make_an_estimate_certain():
    """None of 5 right, 51 of 60 right: resampling saw the spread of the 60 alone, ± 0.05 around 0.425."""
    truth = np.repeat([0, 1], [5, 60])
    found = _estimates(truth, np.r_[np.zeros(5, bool), np.arange(60) % 20 > 2])
    assert found["balanced_accuracy"].value == pytest.approx(0.425)
    assert found["balanced_accuracy"].high > 0.65
    assert found["macro_f1"].high > 0.6
    assert found["balanced_accuracy"].interval == found["mcc"].interval == "joined recalls"


def test_intervals_hold_with_few_patients_of_a_class():
    """Recall 0.15 and 0.85, as of a classifier that knows the frequencies alone; 150 studies of 5 and 60 patients."""
    rng, truth = np.random.default_rng(1), np.repeat([0, 1], [5, 60])
    many = _estimates(np.repeat([0, 1], [500, 6000]), np.arange(6500) % 100 < np.repeat([15, 85], [500, 6000]))
    held = {"balanced_accuracy": 0, "macro_f1": 0}
    for _ in range(150):
        found = _estimates(truth, rng.random(65) < np.where(truth == 0, 0.15, 0.85))
        for metric in held:
            held[metric] += found[metric].low <= many[metric].value <= found[metric].high
    assert min(held.values()) >= 137  # 91 %: two standard errors below 95 %


def test_perfect_results_keep_their_exact_bound():
    found = _estimates(np.arange(24) % 2, np.ones(24, bool))
    assert found["balanced_accuracy"].interval == found["macro_f1"].interval == "exact bound"
    assert found["balanced_accuracy"].low == pytest.approx(0.025 ** (1 / 24), abs=1e-6)


def test_a_recall_without_interval_leaves_none():
    some = Interval(0.2, 0.6, "bootstrap-t")
    assert joined("balanced_accuracy", 0.5, np.eye(2), (some, NO_INTERVAL)) == NO_INTERVAL


def test_distances_to_the_bounds_are_squared_and_added():
    cells = np.array([[8.0, 2.0], [3.0, 7.0]])
    bounds = (Interval(0.5, 0.9, "bootstrap-t"), Interval(0.4, 0.9, "bootstrap-t"))
    drawn = 0.01 * t.ppf(0.975, 10)
    found = joined("balanced_accuracy", 0.75, cells, bounds, labelled=drawn)
    assert found.low == pytest.approx(0.75 - np.sqrt(0.15**2 + 0.15**2 + drawn**2))
    assert found.high == pytest.approx(0.75 + np.sqrt(0.05**2 + 0.1**2 + drawn**2))


@pytest.mark.parametrize(("sizes", "freedom"), [((10, 10), 18.0), ((5, 60), 4.693), ((4, 4, 4), 9.0)])
def test_degrees_of_freedom_are_those_of_the_small_class(sizes: tuple[int, ...], freedom: float):
    spread = of_the_tested(np.random.default_rng(0).random(100), np.repeat(np.arange(len(sizes)), sizes), folds=False)
    assert spread is not None and spread.freedom == pytest.approx(freedom, abs=1e-3)


def _difference(right: np.ndarray, other: np.ndarray, truth: np.ndarray, metric: str) -> Difference:
    ids = [f"i{k:03d}" for k in range(len(truth))]
    rows = np.random.default_rng(0).normal(size=(len(truth), 12)).astype(np.float32)
    cohort = build_cohort(rows, np.arange(len(truth)), truth, SETTINGS, ids=ids, patients=ids)
    once = np.ones(1)
    parts = {}
    for name, correct in (("a", right), ("b", other)):
        values = (np.eye(2)[np.where(correct, truth, 1 - truth)] * 0.8 + 0.1)[None].astype(np.float32)
        given = (("",), once > 0, once, once, np.ones((1, 2)))
        parts[name] = Predictions("knn", "100 %", "test", np.arange(len(truth)), values, *given)
    found = paired_differences(cohort, parts, "b", SETTINGS, jobs=1)
    return next(row for row in found if row.metric == metric)


def test_a_small_class_that_fares_alike_with_both_encoders_does_not_make_their_difference_certain():
    """All of 4 right with either encoder: resampling saw the spread of the other 60 alone."""
    truth = np.repeat([0, 1], [4, 60])
    a, b = (np.r_[np.ones(4, bool), np.arange(60) % 10 > k] for k in (0, 1))
    row = _difference(a, b, truth, "balanced_accuracy")
    assert row.low < -0.1 < row.value < 0.2 < row.high  # -0.009 and 0.109 before
    same = _difference(a, a, truth, "balanced_accuracy")
    assert same.low == same.high == 0.0


def test_paired_differences_hold_with_few_patients_of_a_class():
    """5 and 60 patients, recalls of the few 0.95 and 0.8: in a third of the studies they fare alike with both."""
    rng, truth, held = np.random.default_rng(2), np.repeat([0, 1], [5, 60]), 0
    wrong = np.where(truth == 0, [[0.05], [0.2]], [[0.05], [0.06]])
    for _ in range(120):
        a, b = rng.random((2, 65)) > wrong
        row = _difference(a, b, truth, "balanced_accuracy")
        held += row.low <= (0.15 + 0.01) / 2 <= row.high
    assert held >= 109  # 91 %: two standard errors below 95 %; 95 before


def test_differences_hold_near_the_ceiling():
    """9 and 9 patients, sensitivities 0.95 and 0.8, half of the errors shared: a symmetric interval held it in 74 %."""
    rng, truth, held = np.random.default_rng(3), np.repeat([0, 1], [9, 9]), 0
    for _ in range(80):
        luck = rng.random(18)
        other = np.where(rng.random(18) < 0.5, luck, rng.random(18))
        row = _difference(luck > 0.05, other > 0.2, truth, "sensitivity")
        held += row.low <= 0.15 <= row.high
    assert held >= 68  # 85 %: in some studies there is no interval, because every call was the same


def test_the_brier_score_stays_below_what_probabilities_can_be_wrong_by():
    found = _estimates(np.array([0, 0, 1, 1]), np.array([True, False, True, False]))["brier"]
    assert found.low < found.value == pytest.approx(0.41) and found.high == 1.0
