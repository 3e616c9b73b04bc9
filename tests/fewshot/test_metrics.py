"""Metrics equal scikit-learn's, weighted too; what is undefined is NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from umedfeat.fewshot.metrics.metrics import Evaluated, measure


def _case(seed, classes, n=60, patients=20, ties=False):
    rng = np.random.default_rng(seed)
    truth = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    values = rng.dirichlet(np.ones(classes), n)
    if ties:
        values = np.round(values * 4) / 4 + 1e-3
        values /= values.sum(axis=1, keepdims=True)
    return truth, values, rng.integers(0, patients, n), rng.random((3, patients)) + 0.1


def _expected(truth, values, weight):
    guess, classes = values.argmax(axis=1), values.shape[1]
    columns = [1] if classes == 2 else range(classes)
    one = [(truth == k, values[:, k]) for k in columns]
    onehot = np.eye(classes)[truth]
    return {
        "macro_f1": reference.f1_score(
            truth, guess, average="macro", sample_weight=weight, labels=range(classes), zero_division=0
        ),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, guess, sample_weight=weight),
        "accuracy": reference.accuracy_score(truth, guess, sample_weight=weight),
        "auroc": np.mean([reference.roc_auc_score(t, v, sample_weight=weight) for t, v in one]),
        "auprc": np.mean([reference.average_precision_score(t, v, sample_weight=weight) for t, v in one]),
        "mcc": reference.matthews_corrcoef(truth, guess, sample_weight=weight),
        "quadratic_kappa": reference.cohen_kappa_score(
            truth, guess, weights="quadratic", sample_weight=weight, labels=range(classes)
        ),
        "prevalence": np.average(truth == 1, weights=weight) if classes == 2 else 1 / classes,
        "log_loss": reference.log_loss(truth, values, sample_weight=weight, labels=range(classes)),
        "brier": np.average(((values - onehot) ** 2).sum(axis=1), weights=weight) / (2 if classes == 2 else 1),
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.booleans())
def test_equal_to_scikit_learn_under_any_weights(seed, classes, ties):
    truth, values, patient, weights = _case(seed, classes, ties=ties)
    weights = np.vstack([np.ones((1, weights.shape[1])), weights])
    ours = measure(Evaluated("ordinal", truth, values, patient), weights)
    for number, row in enumerate(weights):
        for name, expected in _expected(truth, values, row[patient]).items():
            assert ours[name][number] == pytest.approx(expected, rel=1e-5, abs=1e-6), name


def test_rank_metrics_with_many_distinct_scores_take_the_same_values():
    """More scores than the small-matrix path holds, and ties among them."""
    truth, values, patient, weights = _case(1, 2, n=900, patients=300)
    values[::7] = values[3]
    ours = measure(Evaluated("binary", truth, values, patient), weights)
    for number, row in enumerate(weights):
        expected = _expected(truth, values, row[patient])
        assert ours["auroc"][number] == pytest.approx(expected["auroc"], rel=1e-5)
        assert ours["auprc"][number] == pytest.approx(expected["auprc"], rel=1e-5)


def test_calibration_slope_is_the_slope_of_a_logistic_regression():
    truth, values, patient, _ = _case(0, 2, n=300)
    values = values * 0.3 + 0.7 * np.eye(2)[truth][np.random.default_rng(1).permutation(300)] * 0.5 + 0.1
    values /= values.sum(axis=1, keepdims=True)
    odds = np.log(values[:, 1] / values[:, 0])[:, None]
    expected = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(odds, truth).coef_[0, 0]
    slope = measure(Evaluated("binary", truth, values, patient), np.ones((1, 20)))["calibration_slope"][0]
    assert slope == pytest.approx(expected, abs=1e-4)


def test_undefined_is_nan_and_never_a_half_or_a_one():
    truth, values = np.zeros(10, dtype=int), np.full((10, 2), 0.5)
    found = measure(Evaluated("binary", truth, values, np.arange(10)), np.ones((1, 10)))
    for name in ("auroc", "auprc", "balanced_accuracy", "macro_f1", "calibration_slope"):
        assert np.isnan(found[name][0]), name
    assert found["accuracy"][0] == 1.0


def test_a_resampling_without_a_class_is_nan():
    truth, values, patient, _ = _case(0, 2)
    positive = np.unique(patient[truth == 1])
    weights = np.ones((1, 20))
    weights[0, positive] = 0
    assert np.isnan(measure(Evaluated("binary", truth, values, patient), weights)["auroc"][0])


def test_regression_metrics_equal_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=80) + 50
    guess = truth + rng.normal(size=80)
    guess[:9] = guess[10]
    patient, weights = rng.integers(0, 30, 80), rng.random((2, 30)) + 0.1
    weights[0] = 1
    ours = measure(Evaluated("regression", truth, guess[:, None], patient), weights)
    for number, row in enumerate(weights):
        assert ours["r2"][number] == pytest.approx(reference.r2_score(truth, guess, sample_weight=row[patient]))
        assert ours["mae"][number] == pytest.approx(
            reference.mean_absolute_error(truth, guess, sample_weight=row[patient])
        )
    assert ours["spearman"][0] == pytest.approx(spearmanr(truth, guess).statistic)


def test_multilabel_is_the_mean_over_labels():
    rng = np.random.default_rng(0)
    truth, values = rng.integers(0, 2, (50, 3)), rng.random((50, 3))
    ours = measure(Evaluated("multilabel", truth, values, np.arange(50)), np.ones((1, 50)))
    assert ours["auroc"][0] == pytest.approx(reference.roc_auc_score(truth, values))
    assert ours["auprc"][0] == pytest.approx(reference.average_precision_score(truth, values))
    assert ours["macro_f1"][0] == pytest.approx(reference.f1_score(truth, values >= 0.5, average="macro"), abs=1e-6)


def test_a_fold_that_a_resampling_leaves_empty_has_no_rank_and_no_warning(seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.normal(size=(2, 6))
    weights = np.array([[1.0] * 6, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    fold = np.array([0, 0, 0, 1, 1, 1])
    found = measure(Evaluated("regression", truth, guess[:, None], np.arange(6), fold=fold), weights)["spearman"]
    assert found[1] == pytest.approx(spearmanr(truth[3:], guess[3:]).statistic)
