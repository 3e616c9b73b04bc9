"""The classifiers give what scikit-learn gives, and are estimators."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from study_cases import gaussian_cases

from umedfeat.fewshot.classifiers.cosine_estimators import KNNProbe, PrototypeProbe
from umedfeat.fewshot.classifiers.linear import LinearProbe, weights_of
from umedfeat.fewshot.classifiers.ridge import RidgeProbe
from umedfeat.fewshot.classifiers.scaling import Standard
from umedfeat.fewshot.classifiers.selecting import inner_folds


@pytest.mark.filterwarnings("ignore:Estimator.*:UserWarning", "ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("estimator", [LinearProbe(), KNNProbe(), PrototypeProbe(), RidgeProbe()], ids=repr)
def test_passes_the_checks_of_scikit_learn(estimator):
    check_estimator(estimator)


class Scaled(TransformerMixin, BaseEstimator):
    """The scaling of the probe, written plainly: unit length, or spread of each feature; centre; one scale."""

    def __init__(self, scale="unit"):
        self.scale = scale

    def _ready(self, X):
        return X / np.linalg.norm(X, axis=1, keepdims=True) if self.scale == "unit" else X / self.spread_

    def fit(self, X, y=None, sample_weight=None):
        self.spread_ = StandardScaler().fit(X, sample_weight=sample_weight).scale_
        self.mean_ = np.average(self._ready(X), axis=0, weights=sample_weight)
        squares = ((self._ready(X) - self.mean_) ** 2).sum(axis=1)
        self.length_ = np.sqrt(np.average(squares, weights=sample_weight))
        return self

    def transform(self, X):
        return (self._ready(X) - self.mean_) / self.length_


def _reference(strength, scale="unit"):
    return make_pipeline(Scaled(scale), LogisticRegression(C=strength, tol=1e-8, max_iter=10_000))


@pytest.mark.parametrize("scale", ["unit", "standard"])
@pytest.mark.parametrize(("n", "dim", "classes"), [(30, 60, 2), (45, 60, 3), (200, 12, 2), (150, 12, 4)])
def test_linear_probe_equals_the_scikit_learn_pipeline(n, dim, classes, scale):
    """Rows fewer and more than columns, two classes and more: chosen C, inner losses and probabilities agree."""
    cases = gaussian_cases(n, 1, dim, classes, shift=1.5)
    rows, code = cases.features.astype(np.float64) * np.linspace(0.1, 9, dim) + 3, cases.codes
    ours = LinearProbe(strengths=(0.1, 1.0, 10.0, 100.0), scale=scale).fit(rows, code, cases.patients)

    fold = inner_folds(np.eye(classes)[code], np.asarray(cases.patients), 5, 0)
    theirs = []
    for strength in ours.strengths[: len(ours.inner_loss_)]:
        loss = 0.0
        for number in range(5):
            inside = fold != number
            model = _reference(strength, scale).fit(rows[inside], code[inside])
            loss += log_loss(code[~inside], model.predict_proba(rows[~inside]), normalize=False, labels=range(classes))
        theirs.append(loss / len(code))
    np.testing.assert_allclose(ours.inner_loss_, theirs, atol=1e-3)
    assert ours.strengths[int(np.argmin(theirs))] == ours.C_

    fresh = gaussian_cases(50, 1, dim, classes, shift=1.5, seed=1).features * np.linspace(0.1, 9, dim) + 3
    expected = _reference(ours.C_, scale).fit(rows, code).predict_proba(fresh)
    np.testing.assert_allclose(ours.predict_proba(fresh), expected, atol=2e-5)
    assert ours.converged_


@pytest.mark.parametrize(("n", "dim"), [(24, 60), (80, 12)])
def test_patients_that_count_once_are_sample_weights_of_scikit_learn(n, dim):
    cases = gaussian_cases(n, 3, dim)
    kept = np.arange(3 * n) % 9 < np.arange(3 * n) // n + 4  # between one and three rows a patient
    rows, code, patients = cases.features[kept], cases.codes[kept], np.asarray(cases.patients)[kept]
    weights = weights_of(patients)
    assert np.bincount(np.unique(patients, return_inverse=True)[1], weights) == pytest.approx(1.0)
    ours = LinearProbe(enough=10**6).fit(rows, code, patients, weights)
    scaler = Scaled().fit(rows, sample_weight=weights)
    theirs = LogisticRegression(C=10.0, tol=1e-8, max_iter=10_000).fit(scaler.transform(rows), code, weights)
    expected = theirs.predict_proba(scaler.transform(rows))
    np.testing.assert_allclose(ours.predict_proba(rows), expected, atol=2e-5)


def test_two_rows_keep_more_than_the_signs_of_their_features():
    """One patient a class: standardised, every feature is ±1, and hundreds of small ones drown the one that tells."""
    rng = np.random.default_rng(0)
    code = np.arange(400) % 2
    rows = 0.3 * rng.normal(size=(400, 300)) + 10.0
    rows[:, 0] += 8.0 * code

    def right(scale):
        fits = [LinearProbe(scale=scale).fit(rows[k : k + 2], code[k : k + 2]) for k in range(0, 40, 2)]
        return np.mean([(fit.predict(rows[40:]) == code[40:]).mean() for fit in fits])

    assert right("unit") > 0.9
    assert right("standard") < 0.75


def test_c_is_selected_from_eight_patients_of_each_class_on():
    for patients, chosen in ((14, False), (16, True)):
        cases = gaussian_cases(patients, 2, 8)
        model = LinearProbe().fit(cases.features, cases.codes, cases.patients)
        assert bool(model.inner_loss_) == chosen
        assert chosen or model.C_ == 10.0


def test_statistics_of_the_pool_scale_the_features():
    cases, pool = gaussian_cases(6, 1, 40), gaussian_cases(300, 1, 40, seed=5)
    spread = np.linspace(0.01, 30, 40)
    statistics = Standard.of(pool.features * spread)
    model = LinearProbe(scale="pool").fit(cases.features * spread, cases.codes, pool=statistics)
    np.testing.assert_allclose(model.scaler_.standard.scale, statistics.scale)
    scaled = statistics.apply(cases.features * spread)
    scaled -= scaled.mean(axis=0)
    scaled /= np.sqrt((scaled**2).sum(axis=1).mean())
    theirs = LogisticRegression(C=10.0, tol=1e-8, max_iter=10_000).fit(scaled, cases.codes)
    np.testing.assert_allclose(model.predict_proba(cases.features * spread), theirs.predict_proba(scaled), atol=2e-5)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_features_of_any_scale(factor):
    cases = gaussian_cases(40, 1, 12, shift=2.0)
    rows = cases.features.astype(np.float64)
    scaled = rows * factor
    for probe in (LinearProbe(), KNNProbe(), PrototypeProbe()):
        expected = clone(probe).fit(rows, cases.codes).predict_proba(rows)
        np.testing.assert_allclose(probe.fit(scaled, cases.codes).predict_proba(scaled), expected, atol=1e-6)
    expected = RidgeProbe().fit(rows, rows[:, 0]).predict(rows)
    np.testing.assert_allclose(RidgeProbe().fit(scaled, rows[:, 0]).predict(scaled), expected, atol=1e-6)


def test_linear_probe_converges_on_separable_data_with_hardly_any_penalty():
    """There scikit-learn's solver stops early: ours must reach an objective that is no higher."""
    cases = gaussian_cases(24, 1, 40, 3, shift=6.0)
    rows = cases.features.astype(np.float64)
    ours = LinearProbe(strengths=(1e6,)).fit(rows, cases.codes)
    assert ours.C_ == 1e6
    assert ours.converged_
    pipeline = _reference(1e6).fit(rows, cases.codes)

    def objective(chance, coef):
        return log_loss(cases.codes, chance, normalize=False) + (coef**2).sum() / 2e6

    reached = objective(ours.predict_proba(rows), ours.weights_.coef)
    reference = objective(pipeline.predict_proba(rows), pipeline[-1].coef_)
    assert reached <= reference * 1.0001


def test_constant_features_do_no_harm():
    cases = gaussian_cases(20, 1, 8)
    rows = np.hstack([cases.features, np.full((20, 2), 7.0)])
    plain = LinearProbe(scale="standard").fit(cases.features, cases.codes).predict_proba(cases.features)
    padded = LinearProbe(scale="standard").fit(rows, cases.codes).predict_proba(rows)
    np.testing.assert_allclose(padded, plain, atol=1e-6)
    np.testing.assert_array_equal(
        LinearProbe().fit(np.zeros((4, 3)), [0, 1, 0, 1]).predict_proba(np.zeros((1, 3))), 0.5
    )


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
    votes = theirs.predict_proba(_unit(fresh.features, mean)) * k
    found = ours.predict_proba(fresh.features)
    np.testing.assert_allclose(found, (votes + 1 / 3) / (k + 1), atol=1e-12)
    assert found.min() > 0
    assert found.max() < 1


def test_knn_chooses_k_without_the_patients_own_rows():
    """Copies of a patient's row would make k = 1 look perfect; leaving the whole patient out, it is not."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(60, 5)), 2, axis=0) + rng.normal(size=(120, 5)) * 1e-6
    codes = np.repeat(np.arange(60) % 2, 2)
    patients = np.repeat(np.arange(60), 2)
    assert KNNProbe().fit(rows, codes).k_ in (1, 3)
    assert KNNProbe().fit(rows, codes, patients).k_ >= 10


def test_prototype_assigns_the_nearest_class_mean():
    cases, fresh = gaussian_cases(40, 1, 10, 3), gaussian_cases(60, 1, 10, 3, seed=1)
    centre = np.mean([cases.features[cases.codes == k].mean(axis=0) for k in range(3)], axis=0)
    unit = _unit(cases.features, centre)
    centres = NearestCentroid().fit(unit, cases.codes).centroids_
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    expected = (_unit(fresh.features, centre) @ centres.T).argmax(axis=1)
    ours = PrototypeProbe().fit(cases.features, cases.codes)
    np.testing.assert_array_equal(ours.predict(fresh.features), expected)
    np.testing.assert_allclose(ours.predict_proba(fresh.features).sum(axis=1), 1.0)


def test_prototype_does_not_favour_the_class_with_fewer_images():
    """One patient with 30 images against one with a single one: centred by the rows, the mean lay at the 30."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(31, 20))
    rows[:, 0] += np.r_[np.full(30, 5.0), -5.0]
    model = PrototypeProbe().fit(rows, [0] * 30 + [1])
    fresh = rng.normal(size=(400, 20))
    fresh[:, 0] += np.repeat([3.0, -3.0], 200)
    recalls = (model.predict(fresh) == np.repeat([0, 1], 200)).reshape(2, 200).mean(axis=1)
    assert recalls.min() > 0.85


@pytest.mark.parametrize(("n", "dim"), [(20, 40), (80, 10)])
def test_ridge_equals_scikit_learn(n, dim):
    rng = np.random.default_rng(0)
    rows, noise = rng.normal(size=(n, dim)) * np.linspace(1, 5, dim), rng.normal(size=n)
    values = rows[:, 0] + noise
    ours = RidgeProbe().fit(rows, values)
    theirs = make_pipeline(Scaled(), Ridge(ours.alpha_)).fit(rows, values)
    np.testing.assert_allclose(ours.predict(rows * 1.1), theirs.predict(rows * 1.1), atol=1e-8)


def test_columns_that_are_constant_inside_a_fold_do_not_stop_the_selection():
    """Channels that fire for one patient alone are constant, up to rounding, in the inner fold without it."""
    cases = gaussian_cases(60, 1, 40, shift=2.0)
    rows = np.hstack([cases.features, np.full((60, 40), 0.1)])
    rows[np.arange(40), 40 + np.arange(40)] = 3.0
    model = LinearProbe(scale="standard").fit(rows.astype(np.float32), cases.codes)
    assert min(model.inner_loss_) < 0.6
    assert len(set(np.round(model.inner_loss_, 6))) == len(model.inner_loss_)
