"""Faults that few-shot evaluations are known for; each test fails if one of them comes back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from study_cases import gaussian_cases

from umedfeat.errors import LeakageError
from umedfeat.fewshot import ProbeSettings, probe
from umedfeat.fewshot.classifiers.fitting import Fitter
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.cohort.cohort import Bags
from umedfeat.fewshot.evaluate import evaluate, measured
from umedfeat.fewshot.metrics.bootstrap import patient_weights
from umedfeat.fewshot.metrics.metrics import Evaluated, measure
from umedfeat.fewshot.metrics.significance import significance_of
from umedfeat.fewshot.result import Budget, Predictions
from umedfeat.fewshot.sanity import check_sanity, refuse_failed

SMALL = ProbeSettings(fractions=(0.1, 1.0), repeats=6, bootstrap=200)


def _cohort(cases, chosen=SMALL, rows=None):
    features = cases.features if rows is None else rows
    ids = [f"i{k:04d}" for k in range(len(features))]
    return build_cohort(features, np.arange(len(features)), cases.labels, chosen, ids=ids, patients=cases.patients)


def test_nothing_of_the_test_set_enters_the_fit():
    """Standardisation, C and k come from the drawn rows: other test features leave every choice and every training
    prediction as they were, and a test row's prediction does not depend on the other test rows."""
    cases = gaussian_cases(60, 2, 12)
    first = probe(cases.features, cases.labels, cases.patients, settings=SMALL)
    tested = first.cohort.items_of(first.folds[0].tests["test"])
    moved = cases.features.copy()
    moved[tested[1:]] = moved[tested[1:]] * 5 + 10
    second = probe(moved, cases.labels, cases.patients, settings=SMALL)
    for a, b in zip(first.predictions, second.predictions, strict=True):
        assert a.chosen == b.chosen
        np.testing.assert_allclose(a.values[:, 0], b.values[:, 0], atol=1e-5)
        assert np.abs(a.values[:, 1:] - b.values[:, 1:]).max() > 0.05


def test_many_items_of_one_patient_count_once():
    """Noise, 12 patients with 60 near-identical items each: counted as 720 the p-values and the intervals would lie."""
    low, small_p = 0, 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = (np.repeat(rng.normal(size=(40, 6)), 15, axis=0) + 0.05 * rng.normal(size=(600, 6))).astype(np.float32)
        patients = [f"p{k:02d}" for k in np.repeat(np.arange(40), 15)]
        labels = [f"c{int(p[1:]) % 2}" for p in patients]
        result = probe(rows, labels, patients, fractions=(1.0,), classifiers=("prototype",), bootstrap=200)
        estimate = result.estimate("prototype", "100 %", "auroc")
        low += not estimate.low <= 0.5 <= estimate.high
        small_p += result.significance[0].p < 0.05
        assert estimate.test_patients == 12
    assert low <= 5
    assert small_p <= 5


def test_draws_are_not_voted_together():
    """The estimate is the mean of the draws' metrics, far below what a majority vote of the draws would reach."""
    cases = gaussian_cases(200, 1, 30, shift=1.0)
    result = probe(cases.features, cases.labels, cases.patients, fractions=(0.01,), classifiers=("prototype",))
    part = result.predictions[0]
    truth = result.cohort.truth[part.items]
    each = [(values.argmax(axis=1) == truth).mean() for values in part.values]
    vote = (part.values.argmax(axis=2).mean(axis=0).round() == truth).mean()
    estimate = result.estimate("prototype", "1 %", "accuracy")
    assert estimate.value == pytest.approx(np.mean(each), abs=1e-6)
    assert vote > estimate.value + 0.05
    assert part.values.shape[0] == 50


def test_probability_columns_stay_where_their_classes_are():
    """Trained without the middle class: its column is zero and the third class stays third."""
    cases = gaussian_cases(60, 1, 8, classes=3, shift=4.0)
    cohort = _cohort(cases)
    fitter = Fitter(cohort.rows, cohort.truth, cohort.patient, cohort.task, 3, SMALL)
    train = np.flatnonzero(cohort.truth != 1)[:30]
    test = np.flatnonzero(cohort.truth == 2)[-10:]
    for name in ("linear", "knn", "prototype"):
        values = fitter.predict(train, [test], [name])[name][0].values
        assert values.shape == (10, 3)
        assert (values[:, 1] == 0).all(), name
        assert values[:, 2].mean() > 0.7, name


def test_undefined_metrics_are_counted_and_not_imputed():
    """A test set without a class: AUROC is NaN with a count in the estimate."""
    cases = gaussian_cases(40, 1, 8)
    split = ["test" if k % 2 and k > 20 else "train" for k in range(40)]
    result = probe(
        cases.features, cases.labels, cases.patients, meta={"split": split}, settings=replace(SMALL, split="split")
    )
    estimate = result.estimate("linear", "10 %", "auroc")
    assert np.isnan(estimate.value)
    assert np.isnan(estimate.low)
    assert (estimate.draws, estimate.undefined) == (0, 6)
    assert not np.isnan(result.estimate("linear", "10 %", "accuracy").value)


def test_patients_are_resampled_not_items():
    weights = patient_weights(np.r_[np.zeros(7, int), np.ones(5, int)], 20_000, np.random.default_rng(0))
    assert weights.shape == (20_000, 12)
    np.testing.assert_allclose(weights[:, :7].sum(axis=1), 7)
    np.testing.assert_allclose(weights[:, 7:].sum(axis=1), 5)
    for patient in (0, 11):  # n/(n-1) · (1 - 1/n), unbiased: 1; without the rescaling 6/7 and 4/5
        assert weights[:, patient].var() == pytest.approx(1.0, rel=0.05)


def test_one_patient_with_many_items_widens_the_interval():
    """40 test items of 40 patients, or of 8 that are right or wrong as a whole: same estimate, wider interval."""
    widths = []
    for per_patient in (1, 5):
        patients = 40 // per_patient
        truth = np.repeat(np.arange(patients) % 2, per_patient)
        wrong = np.repeat(np.arange(patients) % 4 == 3, per_patient)
        guess = np.where(wrong, 1 - truth, truth)
        values = np.eye(2)[guess] * 0.8 + 0.1
        weights = patient_weights(np.arange(patients) % 2, 400, np.random.default_rng(0))
        seen = Evaluated("binary", truth, values, np.repeat(np.arange(patients), per_patient))
        widths.append(measure(seen, weights)["accuracy"].std())
    assert widths[1] > 1.7 * widths[0]


def test_the_estimate_is_the_metric_on_the_test_set_and_not_the_bootstrap_mean():
    cases = gaussian_cases(40, 1, 4)
    cohort = _cohort(cases)
    items = np.arange(24)
    rng = np.random.default_rng(0)
    values = rng.dirichlet([1, 1], (1, 24)).astype(np.float32)
    part = Predictions(
        "linear", "10 %", "test", items, values, ("",), np.ones(1, bool), np.ones(1), np.ones(1), np.ones((1, 2))
    )
    budget = Budget("10 %", 0.1, 0, 4, 28, 4.0, (2.0, 2.0), 1)
    estimate = next(e for e in evaluate(cohort, part, budget, "", SMALL).estimates if e.metric == "macro_f1")
    plain = measure(Evaluated("binary", cohort.truth[items], values[0], items), np.ones((1, 24)))["macro_f1"][0]
    weights = patient_weights(cohort.stratum[:24], 200, np.random.default_rng([0, 5]))
    resampled = measured(cohort, part, weights).resampled["macro_f1"].mean()
    assert estimate.value == pytest.approx(plain, abs=1e-7)
    assert abs(resampled - plain) > 1e-4


def test_nothing_is_stopped_by_the_reported_data():
    """C comes from inner folds of the drawn rows, attention trains a fixed time: relabelling the test patients changes
    no fitted classifier."""
    cases = gaussian_cases(60, 2, 8, shift=1.5)
    cohort = _cohort(cases)
    bags = Bags(np.repeat(cohort.rows, 2, axis=0), np.arange(0, 241, 2))
    fitter = Fitter(cohort.rows, cohort.truth, cohort.patient, cohort.task, 2, SMALL, bags)
    turned = cohort.truth.copy()
    turned[80:] = 1 - turned[80:]
    other = Fitter(cohort.rows, turned, cohort.patient, cohort.task, 2, SMALL, bags)
    train, test = np.arange(80), np.arange(80, 120)
    for name in ("linear", "knn", "prototype", "abmil"):
        a, b = (f.predict(train, [test], [name])[name][0] for f in (fitter, other))
        assert a.chosen == b.chosen
        np.testing.assert_array_equal(a.values, b.values)


def test_p_values_are_uniform_under_noise():
    found = []
    cases = gaussian_cases(24, 1, 4)
    cohort = _cohort(cases)
    for seed in range(120):
        values = np.random.default_rng(seed).dirichlet([1, 1], (5, 24)).astype(np.float32)
        part = Predictions(
            "x", "b", "test", np.arange(24), values, ("",), np.ones(1, bool), np.ones(1), np.ones(1), np.ones((1, 2))
        )
        found.append(significance_of(cohort, part, replace(SMALL, seed=seed)).p)
    for level in (0.1, 0.5):
        assert abs(np.mean(np.asarray(found) <= level) - level) < 0.13  # discrete, conservative by a little


class _Leaking(Fitter):
    """Trains on the test rows too."""

    def predict(self, train, tests, classifiers, pool=None):
        return super().predict(np.concatenate([train, *tests]), tests, classifiers, pool)


def test_sanity_passes_on_sound_data_and_fails_on_a_leak(monkeypatch):
    cases = gaussian_cases(40, 2, 60, shift=2.0)
    chosen = replace(SMALL, fractions=(1.0,), sanity=12)
    sound = check_sanity(_cohort(cases), chosen)
    assert all(check.passed for check in sound)
    assert {check.chance for check in sound} == {0.5}
    monkeypatch.setattr("umedfeat.fewshot.study.Fitter", _Leaking)
    leaky = check_sanity(_cohort(cases), chosen)
    assert not any(check.passed for check in leaky)
    with pytest.raises(LeakageError, match="sanity check failed: linear reaches balanced_accuracy") as caught:
        refuse_failed(leaky)
    assert caught.value.exit_code == 3
