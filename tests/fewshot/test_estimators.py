"""The classifiers give what scikit-learn gives, and are estimators."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from study_cases import gaussian_cases

from umedfeat.fewshot.classifiers.cosine_estimators import KNNProbe, PrototypeProbe
from umedfeat.fewshot.classifiers.linear import LinearProbe, inner_folds
from umedfeat.fewshot.classifiers.ridge import RidgeProbe


@pytest.mark.filterwarnings("ignore:Estimator.*:UserWarning", "ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("estimator", [LinearProbe(), KNNProbe(), PrototypeProbe(), RidgeProbe()], ids=repr)
def test_passes_the_checks_of_scikit_learn(estimator):
    check_estimator(estimator)


@pytest.mark.parametrize(("n", "dim", "classes"), [(30, 60, 2), (45, 60, 3), (200, 12, 2), (150, 12, 4)])
def test_linear_probe_equals_the_scikit_learn_pipeline(n, dim, classes):
    """Rows fewer and more than columns, two classes and more: chosen C, inner losses and probabilities agree."""
    cases = gaussian_cases(n, 1, dim, classes, shift=1.5)
    rows, code = cases.features.astype(np.float64) * np.linspace(0.1, 9, dim) + 3, cases.codes
    ours = LinearProbe(strengths=(1e-3, 1e-2, 1e-1, 1.0)).fit(rows, code, cases.patients)

    fold = inner_folds(np.eye(classes)[code], np.asarray(cases.patients), 5, 0)
    theirs = []
    for strength in ours.strengths[: len(ours.inner_loss_)]:
        loss = 0.0
        for number in range(5):
            inside = fold != number
            model = _reference(strength).fit(rows[inside], code[inside])
            loss += log_loss(code[~inside], model.predict_proba(rows[~inside]), normalize=False, labels=range(classes))
        theirs.append(loss / len(code))
    np.testing.assert_allclose(ours.inner_loss_, theirs, atol=1e-3)
    assert ours.strengths[int(np.argmin(theirs))] == ours.C_

    fresh = gaussian_cases(50, 1, dim, classes, shift=1.5, seed=1).features * np.linspace(0.1, 9, dim) + 3
    expected = _reference(ours.C_).fit(rows, code).predict_proba(fresh)
    np.testing.assert_allclose(ours.predict_proba(fresh), expected, atol=2e-5)
    assert ours.converged_


def _reference(strength):
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-8, max_iter=10_000))


def test_linear_probe_converges_on_separable_data_with_hardly_any_penalty():
    """There scikit-learn's solver stops early: ours must reach an objective that is no higher."""
    cases = gaussian_cases(20, 1, 40, 3, shift=6.0)
    ours = LinearProbe(strengths=(1e5,)).fit(cases.features, cases.codes)
    pipeline = _reference(1e5).fit(cases.features.astype(np.float64), cases.codes)
    theirs = pipeline[-1]

    def objective(chance, coef):
        return log_loss(cases.codes, chance, normalize=False) + (coef**2).sum() / 2e5

    reached = objective(ours.predict_proba(cases.features), ours.weights_.coef)
    reference = objective(pipeline.predict_proba(cases.features.astype(np.float64)), theirs.coef_)
    assert reached <= reference * 1.0001


def test_constant_features_do_no_harm():
    cases = gaussian_cases(20, 1, 8)
    rows = np.hstack([cases.features, np.full((20, 2), 7.0)])
    plain = LinearProbe().fit(cases.features, cases.codes).predict_proba(cases.features)
    np.testing.assert_allclose(LinearProbe().fit(rows, cases.codes).predict_proba(rows), plain, atol=1e-6)


def test_fixed_c_where_a_class_has_fewer_than_three_patients():
    cases = gaussian_cases(20, 2, 8)
    few = np.r_[0:4, 6:8, 10:12]  # patients 0, 1, 3, 5: one of class0
    model = LinearProbe(fixed=0.25).fit(cases.features[few], cases.codes[few], np.asarray(cases.patients)[few])
    assert model.C_ == 0.25
    assert model.inner_loss_ == []


def test_inner_folds_keep_patients_together_and_hold_every_class():
    cases = gaussian_cases(31, 3, 4, 3)
    patients = np.asarray(cases.patients)
    fold = inner_folds(np.eye(3)[cases.codes], patients, 5, seed=3)
    for patient in set(cases.patients):
        assert len(set(fold[patients == patient])) == 1
    for number in range(5):
        assert set(cases.codes[fold != number]) == {0, 1, 2}


def _unit(rows, mean):
    centred = rows - mean
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_knn_equals_scikit_learn(k):
    cases, fresh = gaussian_cases(40, 1, 10, 3), gaussian_cases(30, 1, 10, 3, seed=1)
    ours = KNNProbe(neighbours=(k,)).fit(cases.features, cases.codes)
    mean = cases.features.mean(axis=0)
    theirs = KNeighborsClassifier(k).fit(_unit(cases.features, mean), cases.codes)
    np.testing.assert_allclose(
        ours.predict_proba(fresh.features), theirs.predict_proba(_unit(fresh.features, mean)), atol=1e-12
    )


def test_knn_chooses_k_without_the_patients_own_rows():
    """Copies of a patient's row would make k = 1 look perfect; leaving the whole patient out, it is not."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(30, 5)), 4, axis=0) + rng.normal(size=(120, 5)) * 1e-6
    codes = np.repeat(np.arange(30) % 2, 4)
    patients = np.repeat(np.arange(30), 4)
    assert KNNProbe().fit(rows, codes).k_ in (1, 3)
    assert KNNProbe().fit(rows, codes, patients).k_ >= 10


def test_prototype_assigns_the_nearest_class_mean():
    cases, fresh = gaussian_cases(40, 1, 10, 3), gaussian_cases(60, 1, 10, 3, seed=1)
    mean = cases.features.mean(axis=0)
    unit = _unit(cases.features, mean)
    centres = NearestCentroid().fit(unit, cases.codes).centroids_
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    expected = (_unit(fresh.features, mean) @ centres.T).argmax(axis=1)
    ours = PrototypeProbe().fit(cases.features, cases.codes)
    np.testing.assert_array_equal(ours.predict(fresh.features), expected)
    np.testing.assert_allclose(ours.predict_proba(fresh.features).sum(axis=1), 1.0)


@pytest.mark.parametrize(("n", "dim"), [(20, 40), (80, 10)])
def test_ridge_equals_scikit_learn(n, dim):
    rng = np.random.default_rng(0)
    rows, noise = rng.normal(size=(n, dim)) * np.linspace(1, 5, dim), rng.normal(size=n)
    values = rows[:, 0] + noise
    ours = RidgeProbe().fit(rows, values)
    theirs = make_pipeline(StandardScaler(), Ridge(ours.alpha_)).fit(rows, values)
    np.testing.assert_allclose(ours.predict(rows * 1.1), theirs.predict(rows * 1.1), atol=1e-8)


def test_columns_that_are_constant_inside_a_fold_do_not_stop_the_selection():
    """Channels that fire for one patient alone are constant, up to rounding, in the inner fold without it."""
    cases = gaussian_cases(60, 1, 40, shift=2.0)
    rows = np.hstack([cases.features, np.full((60, 40), 0.1)])
    rows[np.arange(40), 40 + np.arange(40)] = 3.0
    model = LinearProbe().fit(rows.astype(np.float32), cases.codes)
    assert min(model.inner_loss_) < 0.6
    assert len(set(np.round(model.inner_loss_, 6))) == len(model.inner_loss_)
