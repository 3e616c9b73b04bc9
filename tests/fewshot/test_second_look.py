"""Intervals, p-values and checks that were wrong once: dependence between folds, draws, unknown labels, copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t
from sklearn.linear_model import LogisticRegression
from study_cases import gaussian_cases

from umedfeat.errors import CohortError, LeakageError
from umedfeat.fewshot import ProbeSettings, compare, probe
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.evaluate import measured
from umedfeat.fewshot.metrics import bootstrap
from umedfeat.fewshot.metrics.bootstrap import (
    NOTHING,
    Spread,
    drawn_variance,
    interval,
    labelled_reach,
    own_variance,
    patient_weights,
)
from umedfeat.fewshot.metrics.metrics import METRICS, Evaluated, measure
from umedfeat.fewshot.refitting import refitted_significance

QUICK = ProbeSettings(fractions=(0.1, 1.0), repeats=5, bootstrap=200, classifiers=("prototype",))
FOLDS = ProbeSettings(cv=5, cv_repeats=2, fractions=(1.0,), bootstrap=100, classifiers=("prototype",))


def _noise(first, second, seed, dim=8):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [first, second])
    return rng.normal(size=(len(labels), dim)).astype(np.float32), labels, [f"p{k:03d}" for k in range(len(labels))]


def test_out_of_fold_ranks_are_compared_within_folds():
    """Two perfect folds whose scores lie apart: pooled, negatives of the second would beat positives of the first."""
    truth, fold = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    chance = np.array([0.1, 0.2, 0.8, 0.9])
    values = np.stack([1 - chance, chance], axis=1)
    seen = Evaluated("binary", truth, values, np.arange(4), fold=fold)
    assert measure(seen, np.ones((1, 4)))["auroc"][0] == 1.0
    assert measure(seen, np.ones((1, 4)))["auprc"][0] == 1.0
    assert measure(replace(seen, fold=None), np.ones((1, 4)))["auroc"][0] == 0.75
    line = Evaluated("regression", np.array([1.0, 2.0, 1.0, 2.0]), chance[:, None], np.arange(4), fold=fold)
    assert measure(line, np.ones((1, 4)))["spearman"][0] == pytest.approx(1.0)


def test_noise_is_at_one_half_and_inside_the_interval_of_cross_validation():
    """10 against 10 patients: pooled over folds the mean AUROC was 0.44, the intervals held 0.5 in 87 %."""
    values, held = [], []
    for seed in range(60):
        rows, labels, patients = _noise(10, 10, seed)
        estimate = probe(rows, labels, patients, settings=replace(FOLDS, seed=seed)).estimate(
            "prototype", "100 %", "auroc"
        )
        values.append(estimate.value)
        held.append(estimate.low <= 0.5 <= estimate.high)
        assert estimate.covers == "folds"
    assert abs(np.mean(values) - 0.5) < 3 * np.std(values) / np.sqrt(60)
    assert np.mean(held) >= 0.9


@pytest.mark.slow
def test_p_values_of_cross_validation_refit_and_are_uniform_under_noise():
    """With the predictions kept, every tenth study of noise had p ≤ 0.05."""
    found = []
    for seed in range(60):
        rows, labels, patients = _noise(8, 8, seed, dim=4)
        chosen = replace(FOLDS, cv=4, permutations=19, seed=seed)
        cohort = build_cohort(rows, np.arange(16), labels, chosen, ids=patients, patients=patients)
        found.append(refitted_significance(cohort, chosen)[0].p)
    for level in (0.05, 0.25, 0.5):
        assert abs(np.mean(np.asarray(found) <= level) - level) < 4 * np.sqrt(level * (1 - level) / 60)


def test_p_values_of_cross_validation_are_given_only_where_they_are_asked_for():
    cases = gaussian_cases(24, 1, 6, shift=3.0)
    plain = probe(cases.features, cases.labels, cases.patients, settings=FOLDS)
    assert plain.significance == ()
    assert any("folds train on one another's patients" in warning for warning in plain.warnings)
    asked = probe(cases.features, cases.labels, cases.patients, settings=replace(FOLDS, permutations=39))
    assert [(s.classifier, s.budget, s.test_set, s.p) for s in asked.significance] == [
        ("prototype", "100 %", "out-of-fold", 1 / 40)
    ]


def test_small_test_sets_do_not_advise_cross_validation():
    result = probe(*_noise(20, 20, 0), settings=QUICK)
    assert not any("--cv" in warning for warning in result.warnings)


def test_whom_one_labels_widens_the_interval():
    """With n labelled patients: whoever they are. The variance between draws over their number is added."""
    result = probe(*_noise(60, 60, 0), settings=replace(QUICK, repeats=8))
    few, all_ = (result.estimate("prototype", budget, "auroc") for budget in ("10 %", "100 %"))
    assert (few.covers, all_.covers) == ("patients and draws", "patients")
    part = result.predictions[0]
    scores = np.array([s.value for s in result.scores if s.budget == "10 %" and s.metric == "auroc"])
    assert few.sd == pytest.approx(scores.std(ddof=1))
    assert part.budget == "10 %"
    added = drawn_variance(scores)
    assert added == Spread(pytest.approx(scores.var(ddof=1) / 8), 7.0)
    resampled = few.value + 0.02 * np.random.default_rng(0).normal(size=500)
    stratum = np.arange(36) % 2
    alone = interval(few.value, resampled, METRICS["auroc"], stratum, 0.95)
    both = interval(few.value, resampled, METRICS["auroc"], stratum, 0.95, drawn=added)
    assert both.high - both.low > alone.high - alone.low


def test_what_each_draw_errs_on_is_counted_once():
    """Crossed: five draws, 30 tested patients, and what a draw makes of a patient. The spread between draws on one test
    set and the resampled mean both hold the last; added as they were, the variance was two thirds too large."""
    rng, stratum = np.random.default_rng(0), np.repeat([0, 1], 15)
    means, former, now, own = [], [], [], []
    for _ in range(300):
        seen = 0.05 * rng.normal(size=(5, 1)) + 0.3 * rng.normal(size=(1, 30)) + rng.normal(size=(5, 30))
        resampled = seen @ patient_weights(stratum, 200, rng).T / 30
        tested = bootstrap.tested_variance(resampled.mean(axis=0), stratum, folds=False)
        each = seen.mean(axis=1)
        means.append(each.mean())
        own.append(own_variance(resampled))
        former.append((tested + drawn_variance(each)).variance)
        now.append((tested + drawn_variance(each, own[-1])).variance)
    assert np.mean(own) == pytest.approx(1 / 30, rel=0.1)
    assert np.mean(now) == pytest.approx(np.var(means), rel=0.2)
    assert np.mean(former) > 1.5 * np.var(means)
    assert own_variance(resampled[:1]) == own_variance(np.full((3, 9), np.nan)) == 0.0


def test_draws_of_a_pool_have_the_pool_in_common():
    """What five draws of 12 out of 30 patients show between them is three fifths of what other patients would show."""
    rng, means, told, before = np.random.default_rng(0), [], [], []
    for _ in range(2000):
        pool = rng.normal(size=30)
        each = np.array([rng.permutation(pool)[:12].mean() for _ in range(5)])
        means.append(each.mean())
        told.append(drawn_variance(each, share=12 / 30).variance)
        before.append(drawn_variance(each).variance)
    assert np.mean(told) == pytest.approx(np.var(means), rel=0.1)
    assert np.mean(before) < 0.3 * np.var(means)
    few = drawn_variance(each).variance
    assert drawn_variance(each, share=0.99) == drawn_variance(each, share=0.5) > (few, 0)


def test_a_variance_that_is_all_own_leaves_nothing_and_no_degrees_of_freedom_below_one():
    values = np.array([0.6, 0.7, 0.8])
    assert drawn_variance(values, own=1.0) == Spread(0.0, 1.0)
    half = drawn_variance(values, own=0.005)
    assert half.variance == pytest.approx(0.005 / 3)
    assert half.freedom == 1.0  # 2 · (1/2)²


def test_the_factor_of_whom_one_labels_is_that_of_the_whole():
    """Five draws alone have four degrees of freedom; beside the patients tested they are a part of many more."""
    drawn, tested = Spread(0.01**2, 4.0), Spread(0.05**2, 28.0)
    alone, beside = (labelled_reach(drawn, parts, 0.95) for parts in ([None], [tested, None]))
    assert alone == pytest.approx(0.01 * t.ppf(0.975, 4))
    assert beside == pytest.approx(0.01 * t.ppf(0.975, (tested + drawn).freedom))
    assert beside < 0.75 * alone


def test_differences_and_drops_count_the_draws_too():
    rows, labels, patients = _noise(60, 60, 1)
    other = rows + np.random.default_rng(2).normal(size=rows.shape).astype(np.float32)
    centre = ["AB"[k % 3 == 0] for k in range(120)]
    chosen = replace(QUICK, external="centre=B", repeats=6)
    found = compare({"a": rows, "b": other}, labels, patients, meta={"centre": centre}, settings=chosen)
    scores = {
        name: np.array([s.value for s in result.scores if (s.budget, s.metric, s.test_set) == KEY])
        for name, result in zip(found.names, found.results, strict=True)
    }
    row = next(r for r in found.differences if (r.budget, r.metric, r.test_set) == KEY)
    least = 1.96 * np.sqrt((scores["a"] - scores["b"]).var(ddof=1) / 6)
    assert row.high - row.value > least
    result = found.results[0]
    drop = next(d for d in result.drops if (d.budget, d.metric) == KEY[:2])
    inside = np.array([s.value for s in result.scores if s.test_set.startswith("internal") and _is_key(s)])
    assert drop.high - drop.drop > 1.96 * np.sqrt((inside - scores["a"]).var(ddof=1) / 6)


KEY = ("10 %", "auroc", "external centre=B")


def _is_key(score):
    return (score.budget, score.metric) == KEY[:2]


def test_degrees_of_freedom_of_a_sum_lie_between_the_parts():
    total = Spread(2.0, 10.0) + Spread(2.0, 4.0)
    assert total.variance == 4.0
    assert 4 < total.freedom < 14
    assert Spread(1.0, 7.0) + NOTHING == Spread(1.0, 7.0)


@pytest.mark.parametrize("unknown", [np.nan, 2.0, -1.0, 0.5])
def test_unknown_labels_of_a_matrix_are_refused_and_not_taken_for_absent(unknown):
    cases = gaussian_cases(20, 1, 6)
    matrix = np.stack([cases.codes, 1 - cases.codes], axis=1).astype(float)
    matrix[3, 1] = unknown
    with pytest.raises(CohortError, match=r"item 3: label 1 is .*0 .absent. or 1 .present.; 1 items"):
        probe(cases.features, matrix, cases.patients)


def test_an_empty_text_is_missing_among_several_labels_too():
    cases = gaussian_cases(20, 1, 6)
    labels = ["a|b" if k % 3 else "none" for k in range(20)]
    labels[4] = ""
    with pytest.raises(CohortError, match=r"1 of 20 items have no label .* '4' among them .*'none'"):
        probe(cases.features, labels, cases.patients, task="multilabel")


@pytest.mark.parametrize("unit", ["item", "patient"])
def test_identical_items_are_found_before_anything_is_pooled(unit):
    """Pooled into patients, no embedding of the test equals one of the pool, though an image does."""
    cases = gaussian_cases(20, 2, 6)
    rows = cases.features.copy()
    rows[30] = rows[6]  # patients 15 and 3, both of class1
    split = ["test" if int(p[1:]) < 8 else "train" for p in cases.patients]
    with pytest.raises(LeakageError, match="30 = 6"):
        probe(rows, cases.labels, cases.patients, meta={"split": split}, unit=unit)


@pytest.mark.parametrize("apart", [0.0, 1e-3])
def test_one_image_under_two_labels_is_an_error_wherever_it_stands(apart):
    cases = gaussian_cases(20, 1, 6)
    rows = cases.features.copy()
    rows[1] = rows[0] * (1 + apart)
    with pytest.raises(CohortError, match="1 pairs of items are one image under two labels: 0 = 1"):
        probe(rows, cases.labels, cases.patients)


def test_nearly_identical_items_of_two_patients_are_a_note():
    cases = gaussian_cases(20, 1, 6)
    rows = cases.features.copy()
    rows[2] = rows[0] * 1.001
    result = probe(rows, cases.labels, cases.patients, settings=QUICK)
    assert any("different patients are nearly identical: 0 = 2" in warning for warning in result.warnings)
    same = [*cases.patients[:2], cases.patients[0], *cases.patients[3:]]
    assert not any("identical" in w for w in probe(rows, cases.labels, same, settings=QUICK).warnings)


def test_no_interval_below_two_test_patients_of_a_class_and_the_class_is_named():
    cases = gaussian_cases(30, 1, 6)
    split = ["test" if k < 10 and (k % 2 == 0 or k == 1) else "train" for k in range(30)]
    result = probe(cases.features, cases.labels, cases.patients, meta={"split": split}, settings=QUICK)
    for metric in ("auroc", "balanced_accuracy", "macro_f1"):
        assert np.isnan(result.estimate("prototype", "10 %", metric).low)
    assert any("1 patient of 'class1', its smallest class: there are no" in warning for warning in result.warnings)
    assert bootstrap.tested_variance(np.linspace(0, 1, 50), np.array([0, 0, 0, 1]), folds=False) is None


def test_a_test_set_of_one_class_has_its_recall_and_no_p():
    cases = gaussian_cases(30, 1, 6, shift=3.0)
    split = ["test" if k < 20 and k % 2 else "train" for k in range(30)]
    result = probe(cases.features, cases.labels, cases.patients, meta={"split": split}, settings=QUICK)
    assert result.significance == ()
    part = result.predictions[-1]
    recall = (part.values[0].argmax(axis=1) == 1).mean()
    assert result.estimate("prototype", "100 %", "accuracy").value == pytest.approx(recall)
    assert np.isnan(result.estimate("prototype", "100 %", "balanced_accuracy").value)
    assert any("no patient of 'class0'" in warning for warning in result.warnings)


def test_the_calibration_slope_is_that_of_all_draws_together():
    """A mean of slopes of few patients can be any number."""
    result = probe(*_noise(40, 40, 3), settings=replace(QUICK, repeats=6))
    part = result.predictions[0]
    truth = np.tile(result.cohort.truth[part.items], 6)
    chance = np.clip(part.values.astype(np.float64)[..., 1], 1e-6, 1 - 1e-6)
    odds = np.log(chance / (1 - chance)).reshape(-1, 1)
    expected = LogisticRegression(C=1e9, tol=1e-12).fit(odds, truth).coef_[0, 0]
    estimate = result.estimate("prototype", "10 %", "calibration_slope")
    assert estimate.value == pytest.approx(expected, rel=1e-3)
    slopes = [s.value for s in result.scores if s.budget == "10 %" and s.metric == "calibration_slope"]
    assert estimate.value != pytest.approx(np.mean(slopes), rel=1e-2)
    found = measured(result.cohort, part, np.ones((1, len(part.items))))
    assert found.resampled["calibration_slope"][0] == pytest.approx(expected, rel=1e-3)


def test_prevalence_has_no_interval():
    estimate = probe(*_noise(20, 30, 4), settings=QUICK).estimate("prototype", "10 %", "prevalence")
    assert np.isnan(estimate.low)
    assert estimate.interval == estimate.covers == ""


def test_patients_who_carry_every_class_have_intervals_or_none_but_no_crash():
    """Two patients with lesions of both kinds: one degree of freedom, not none."""
    rng = np.random.default_rng(0)
    labels, patients = ["a", "b"] * 8, ["p"] * 8 + ["q"] * 8
    chosen = replace(FOLDS, label_of="item", cv=2)
    result = probe(rng.normal(size=(16, 4)).astype(np.float32), labels, patients, settings=chosen)
    assert all(np.isfinite(score.value) for score in result.scores if score.metric == "macro_f1")
