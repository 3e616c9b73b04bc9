"""Who is tested, who is drawn: patients whole, classes complete, draws nested, proportional and paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_cases import gaussian_cases

from umedfeat.errors import CohortError, LeakageError
from umedfeat.fewshot.cohort.build import build_cohort
from umedfeat.fewshot.draws.orders import labelling_order
from umedfeat.fewshot.settings import ProbeSettings, default_repeats
from umedfeat.fewshot.study import Study, plan_warnings


def _cohort(cases, chosen, **columns):
    rows = columns.pop("rows", cases.features)
    return build_cohort(
        rows,
        np.arange(len(rows)),
        columns.pop("labels", cases.labels),
        chosen,
        ids=[f"i{k:04d}" for k in range(len(rows))],
        patients=columns.pop("patients", cases.patients),
        **columns,
    )


def _plan(cases, chosen=None, **columns):
    chosen = chosen or ProbeSettings()
    return Study.plan(_cohort(cases, chosen, **columns), chosen)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(0, 1000))
def test_every_prefix_of_an_order_is_proportional_and_holds_every_class(sizes, seed):
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    carries = np.equal.outer(stratum, np.arange(len(sizes)))
    order, least = labelling_order(carries, stratum, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(stratum)))
    assert least == len(sizes)
    for n in range(least, len(stratum) + 1):
        counts = np.bincount(stratum[order[:n]], minlength=len(sizes))
        assert counts.min() >= 1
        if n >= 4 * len(sizes):  # beyond the floor: within one of the exact share, Webster's quota
            assert np.all(np.abs(counts - n * np.asarray(sizes) / sum(sizes)) < 1.0 + len(sizes) / 2)


def test_rare_class_is_never_missed():
    """341 patients, one class of six: unstratified draws of 1 % lose it most of the time."""
    cases = gaussian_cases(341, 1, 4)
    labels = ["rare" if k < 6 else "common" for k in range(341)]
    study = _plan(cases, ProbeSettings(fractions=(0.01,), repeats=200), labels=labels)
    rare = {study.cohort.names[p] for p in range(6)}
    assert study.budgets[0].n_patients == 2
    for draw in study.draws:
        names = set(study.cohort.names[draw.patients])
        assert names & rare
        assert names - rare


def test_draws_are_nested():
    study = _plan(gaussian_cases(120), ProbeSettings(fractions=(0.05, 0.1, 0.5, 1.0), repeats=7))
    by_budget = {b.name: [set(d.patients) for d in study.draws if d.budget == b.name] for b in study.budgets}
    for small, large in (("5 %", "10 %"), ("10 %", "50 %")):
        for inner, outer in zip(by_budget[small], by_budget[large], strict=True):
            assert inner < outer
    assert by_budget["100 %"] == [set(study.folds[0].pool)]


def test_draws_differ_between_repeats_and_not_between_encoders():
    cases = gaussian_cases(60)
    first, second = (_plan(cases, rows=rows) for rows in (cases.features, cases.features**3 + 1))
    assert [d.patients.tolist() for d in first.draws] == [d.patients.tolist() for d in second.draws]
    assert len({tuple(d.patients) for d in first.draws if d.budget == "10 %"}) > 5
    other = _plan(cases, ProbeSettings(seed=1))
    assert [d.patients.tolist() for d in first.draws] != [d.patients.tolist() for d in other.draws]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cv": 4, "cv_repeats": 2},
        {"external": "centre=B"},
        {"loco": "centre"},
        {"split": "split"},
        {"test_size": 0.5},
    ],
    ids=str,
)
def test_no_patient_and_no_item_stands_on_both_sides(options):
    cases = gaussian_cases(48, 3)
    number = [int(p[1:]) for p in cases.patients]
    meta = {"centre": ["ABC"[n % 7 % 3] for n in number], "split": ["test" if n % 5 < 2 else "train" for n in number]}
    study = _plan(cases, ProbeSettings(**options), meta=meta)
    patients = np.asarray(cases.patients)
    for draw in study.draws:
        fold = study.folds[draw.fold]
        drawn = set(patients[study.cohort.items_of(draw.patients)])
        assert drawn <= set(patients[study.cohort.items_of(fold.pool)])
        for tested in fold.tests.values():
            assert not drawn & set(patients[study.cohort.items_of(tested)])
    for fold in study.folds:
        for tested in fold.tests.values():
            assert set(study.cohort.truth[study.cohort.items_of(tested)]) == {0, 1}


def test_cross_validation_tests_every_patient_once_a_partition():
    study = _plan(gaussian_cases(41), ProbeSettings(cv=5, cv_repeats=3))
    for partition in range(3):
        tested = np.concatenate([f.tests["out-of-fold"] for f in study.folds if f.partition == partition])
        assert sorted(tested) == list(range(41))


def test_external_centre_is_whole_and_never_drawn():
    cases = gaussian_cases(40)
    centre = ["B" if int(p[1:]) % 4 < 2 else "A" for p in cases.patients]
    study = _plan(cases, ProbeSettings(external="centre=B"), meta={"centre": centre})
    fold, items_of = study.folds[0], study.cohort.items_of
    tests = {name: items_of(patients) for name, patients in fold.tests.items()}
    assert {centre[i] for i in tests["external centre=B"]} == {"B"}
    assert len(tests["external centre=B"]) == centre.count("B")
    assert {centre[i] for i in [*tests["internal (without centre=B)"], *items_of(fold.pool)]} == {"A"}


@pytest.mark.parametrize("options", [{"external": "centre=B"}, {"loco": "centre"}], ids=str)
def test_an_unknown_centre_might_be_the_one_left_out(options):
    cases = gaussian_cases(40)
    centre = ["" if p == "p003" else "AB"[int(p[1:]) // 2 % 2] for p in cases.patients]
    with pytest.raises(CohortError, match="1 of 40 patients have no centre, p003 among them"):
        _plan(cases, ProbeSettings(**options), meta={"centre": centre})


def test_split_column_that_divides_a_patient_is_refused():
    cases = gaussian_cases(20, 2)
    split = ["train", "test"] * 20
    with pytest.raises((CohortError, LeakageError), match="p000 stands under split=train and split=test"):
        _plan(cases, ProbeSettings(split="split"), meta={"split": split})


@pytest.mark.parametrize("how", ["embedding", "content"])
def test_identical_content_under_two_patients_is_refused_and_listed(how):
    cases = gaussian_cases(20, 1)
    split = ["test" if k < 8 else "train" for k in range(20)]
    rows, content = cases.features.copy(), [f"sha{k}" for k in range(20)]
    if how == "embedding":
        rows[3] = rows[15]
    else:
        content[3] = content[15]
    with pytest.raises(LeakageError, match="i0015 = i0003") as caught:
        _plan(cases, ProbeSettings(split="split"), rows=rows, content=content, meta={"split": split})
    assert caught.value.exit_code == 3


def test_identical_content_of_one_patient_is_no_leak():
    cases = gaussian_cases(20, 2)
    rows = cases.features.copy()
    rows[1::2] = rows[::2]
    _plan(cases, rows=rows)


def test_default_repeats():
    assert [default_repeats(f) for f in (0.01, 0.05, 0.1, 0.5, 0.99, 1.0)] == [50, 50, 20, 20, 20, 1]


def test_the_floor_is_told():
    study = _plan(gaussian_cases(60), ProbeSettings(fractions=(0.01, 0.5)))
    assert study.budgets[0].note == "1 % of 42 patients is 0.42: 2 used, the floor that holds every class"
    assert study.budgets[1].note == ""


def test_shots_count_patients_per_class():
    study = _plan(gaussian_cases(60, 2, classes=3), ProbeSettings(fractions=(), shots=(1, 4)))
    assert [b.per_class for b in study.budgets] == [(1.0, 1.0, 1.0), (4.0, 4.0, 4.0)]
    assert [b.name for b in study.budgets] == ["1 shot", "4 shots"]


def test_shots_beyond_a_class_stop_or_are_skipped():
    cases = gaussian_cases(30)
    with pytest.raises(CohortError, match="class 'class0' has 10 training patients"):
        _plan(cases, ProbeSettings(fractions=(), shots=(2, 16)))
    study = _plan(cases, ProbeSettings(fractions=(), shots=(2, 16), on_missing_class="skip"))
    assert [b.name for b in study.budgets] == ["2 shots"]


def test_shots_of_patients_with_several_classes_are_whoever_they_are():
    """Labels of regions: 38 of 40 patients carry both classes. Counted by the rarer class alone, the two who carry the
    common one only stood in every draw, and more than two shots could not be had."""
    labels = ["tumour" if k % 4 == 0 and k >= 8 else "normal" for k in range(160)]
    chosen = ProbeSettings(label_of="item", fractions=(), shots=(1, 8), repeats=50)
    study = _plan(gaussian_cases(40, 4), chosen, labels=labels)
    assert [(b.name, b.n_patients) for b in study.budgets] == [("1 shot", 2), ("8 shots", 16)]
    one, eight = ([set(d.patients) for d in study.draws if d.budget == b.name] for b in study.budgets)
    assert all(few < many for few, many in zip(one, eight, strict=True))
    assert max(np.bincount([p for draw in one for p in draw])) <= 12  # of 50 draws; 28 patients, 3.6 expected
    for draw in study.draws:
        assert study.cohort.carries[draw.patients].sum(axis=0).min() >= len(draw.patients) / 2


def test_patients_with_several_classes_are_drawn_so_that_every_class_is_there():
    """Labels of cells: most patients carry both classes, some only the common one."""
    cases = gaussian_cases(30, 4)
    labels = ["infected" if k % 4 == 0 and k < 60 else "healthy" for k in range(120)]
    chosen = ProbeSettings(label_of="item", fractions=(0.05,), repeats=40)
    study = _plan(cases, chosen, labels=labels)
    for draw in study.draws:
        assert len(set(study.cohort.truth[study.cohort.items_of(draw.patients)])) == 2
    with pytest.raises(CohortError, match="15 of 30 patients stand in two classes: p000 is healthy and infected"):
        _plan(cases, replace(chosen, label_of="patient"), labels=labels)


def test_regression_and_multilabel_draws():
    cases = gaussian_cases(40)
    values = [f"{x:.3f}" for x in np.linspace(0, 9.5, 80)]
    study = _plan(cases, labels=values)
    assert study.cohort.task == "regression"
    assert study.budgets[0].n_patients == 2
    texts = ["a|b" if k % 5 == 0 else "a" if k % 2 else "none" for k in range(80)]
    study = _plan(cases, ProbeSettings(label_of="item"), labels=texts)
    assert study.cohort.task == "multilabel"
    for draw in study.draws:
        truth = study.cohort.truth[study.cohort.items_of(draw.patients)]
        assert (truth.min(axis=0) == 0).all()
        assert (truth.max(axis=0) == 1).all()


def test_a_split_column_without_values_is_no_split():
    """A manifest with an empty column of that name: a hold-out is drawn."""
    cases = gaussian_cases(20, 1)
    asked = ProbeSettings(fractions=(1.0,))
    assert asked.settled({"split": np.array([""] * 20)}).split == ""
    assert asked.settled({"split": np.array(["train", "test"] * 10)}).split == "split"
    assert _plan(cases, asked, meta={"split": [""] * 20}).folds[0].name == "hold-out"


@pytest.mark.parametrize("way", [{}, {"loco": "centre"}, {"external": "centre=B"}])
def test_items_on_both_sides_are_no_patient_of_one_side_when_pooled(way):
    """The first item of a patient would speak for all."""
    cases = gaussian_cases(12, 2, 4)
    side = ["test" if k > 16 or k == 3 else "train" for k in range(24)]
    chosen = ProbeSettings(unit="patient", **way)
    with pytest.raises(CohortError, match="p001 has items of several values of"):
        _plan(cases, chosen, meta={"split": side, "centre": ["AB"[name == "test"] for name in side]})
    assert set(_cohort(cases, chosen, meta={"centre": side}).meta["centre"]) == {"test", "train", "test and train"}


def test_everybody_is_drawn_once():
    cases = gaussian_cases(20, 1, 4)
    plan = _plan(cases, ProbeSettings(fractions=(0.5, 0.98, 1.0)))
    assert [(budget.n_patients, budget.repeats) for budget in plan.budgets] == [(7, 20), (14, 1), (14, 1)]


def test_a_split_column_is_found_in_any_case_and_who_is_on_neither_side_is_said():
    cases = gaussian_cases(24, 1, 4)
    plan = _plan(cases, meta={"Split": ["train"] * 12 + ["val"] * 3 + [""] + ["test"] * 8})
    assert plan.settings.split == "Split"
    assert "4 patients are neither in training nor in test (Split: empty, val)." in plan_warnings(plan)


def test_the_floor_of_values_is_no_class():
    cases = gaussian_cases(20, 1, 4)
    plan = _plan(cases, ProbeSettings(fractions=(0.01,), task="regression"), labels=[k / 7 for k in range(20)])
    assert plan.budgets[0].note == "1 % of 14 patients is 0.14: 2 used, the fewest that can be learned from"


def test_patients_whose_images_show_different_labels_are_not_one_row():
    cases = gaussian_cases(8, 2, 4)
    labels = np.eye(2, dtype=int)[[k % 2 for k in range(16)]]
    with pytest.raises(CohortError, match="--unit patient: the items of p000 carry different labels"):
        _cohort(cases, ProbeSettings(unit="patient", task="multilabel"), labels=labels)
