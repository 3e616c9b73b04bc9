"""Classes are left out, merged and put in order; sides and items are chosen by columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from study_cases import gaussian_cases

from umedfeat.errors import CohortError
from umedfeat.fewshot import ProbeResult, probe
from umedfeat.fewshot.cohort.selection import listed

CASES = gaussian_cases(48, 2, 6, classes=3, shift=3.0)
CENTRE = ["ABC"[int(p[1:]) // 3 % 3] for p in CASES.patients]
QUICK: dict[str, Any] = {"fractions": (1.0,), "bootstrap": 100, "classifiers": ("prototype",)}


def study(labels: list[str] | None = None, **options: Any) -> ProbeResult:
    return probe(CASES.features, labels or CASES.labels, CASES.patients, meta={"centre": CENTRE}, **QUICK, **options)


def test_classes_are_dropped_and_merged() -> None:
    dropped = study(drop_class=("class1",))
    assert dropped.cohort.classes == ("class0", "class2") and dropped.task == "binary"
    assert len(dropped.cohort.ids) == 64 and "32 of class class1" in dropped.flow[1].note
    merged = study(merge=("class0+class2=healthy",))
    assert merged.cohort.classes == ("class1", "healthy") and len(merged.cohort.ids) == 96


def test_text_grades_have_an_order_and_of_two_classes_the_last_is_positive() -> None:
    names = {"class0": "mid", "class1": "low", "class2": "high"}
    labels = [names[label] for label in CASES.labels]
    result = study(labels, order=("low", "mid", "high", "extreme"), task="ordinal")
    assert result.cohort.classes == ("low", "mid", "high")
    assert any("Nobody carries 'extreme'" in warning for warning in result.warnings)
    two = study(drop_class=("class1",), order=("class2", "class0"))
    assert two.cohort.classes[two.positive] == "class0"
    with pytest.raises(CohortError, match="--order low,mid,high"):
        study(labels, task="ordinal")
    with pytest.raises(CohortError, match="leaves class 'high' out"):
        study(labels, order=("low", "mid"))


def test_training_and_test_are_chosen_by_columns() -> None:
    result = study(train="centre=A,C", test="centre=B")
    fold = result.folds[0]
    patients = np.asarray([CENTRE[CASES.patients.index(name)] for name in result.cohort.names])
    assert set(patients[fold.pool]) == {"A", "C"} and set(patients[fold.tests["centre=B"]]) == {"B"}
    only = study(train="centre=A", test="centre=B")
    assert set(patients[only.folds[0].pool]) == {"A"}
    with pytest.raises(CohortError, match="nobody is 'Z'"):
        study(train="centre=Z", test="centre=B")


def test_where_keeps_those_who_meet_it() -> None:
    result = study(where=("centre=A,B",))
    assert set(result.cohort.meta["centre"].tolist()) == {"A", "B"}
    with pytest.raises(CohortError, match="nothing is 'Z'"):
        study(where=("centre=Z",))
    with pytest.raises(CohortError, match="no column 'sex'"):
        study(where=("sex=f",))


def test_names_that_look_alike_are_noted_and_numbers_are_one() -> None:
    labels = ["Tumor" if k % 4 == 0 and label == "class0" else label for k, label in enumerate(CASES.labels)]
    labels = ["tumor" if label == "class1" else label for label in labels]
    cases = gaussian_cases(40, 1, 6)
    noted = probe(cases.features, [["Tumor", "tumor", "e\u0301", "\u00e9"][k % 4] for k in range(40)], **QUICK)
    assert sum("--merge" in warning for warning in noted.warnings) == 2
    numbers = probe(cases.features, [["1", "1.0", "2"][k % 3] for k in range(40)], **QUICK)
    assert numbers.cohort.classes == ("1", "2")
    with pytest.raises(CohortError, match="'NA' count as none"):
        probe(cases.features, [["NA", "x", "y"][k % 3] for k in range(40)], **QUICK)


def test_a_patient_with_most_of_the_items_is_noted() -> None:
    cases = gaussian_cases(20, 1, 6)
    rng = np.random.default_rng(0)
    more = rng.normal(size=(60, 6)).astype(np.float32)
    result = probe(
        np.vstack([cases.features, more]),
        [*cases.labels, *["class0"] * 60],
        [*cases.patients, *["p000"] * 60],
        **QUICK,
    )
    assert any("Patient p000 has 61 of the 80 items" in warning for warning in result.warnings)


def test_names_may_hold_what_separates_them() -> None:
    names = {"class0": "HER2+", "class1": "HER2++", "class2": "none, or few"}
    labels = [names[label] for label in CASES.labels]
    assert study(labels, merge=("HER2++HER2++=positive",)).cohort.classes == ("none, or few", "positive")
    order = ("none", "or few", "HER2+", "HER2++")  # as the command line splits it
    assert study(labels, order=order, task="ordinal").cohort.classes == ("none, or few", "HER2+", "HER2++")
    assert listed("Rome, IT,Paris, FR", ",", {"Paris, FR", "Rome, IT"}) == ["Rome, IT", "Paris, FR"]


def test_classes_are_asked_for_as_the_table_writes_them() -> None:
    labels = [f"{label[-1]}.0" for label in CASES.labels]
    assert study(labels, drop_class=("1.0",)).cohort.classes == ("0", "2")
    assert study(labels, merge=("0.0+1.0=low",)).cohort.classes == ("2", "low")
    assert study(labels, order=("2.0", "1.0", "0.0")).cohort.classes == ("2", "1", "0")


def test_several_centres_may_be_external() -> None:
    fold = study(external="centre = B, C").folds[0]
    assert list(fold.tests) == ["internal (without centre=B,C)", "external centre=B,C"]


@pytest.mark.parametrize("labels", [np.arange(96) / 7.0, np.eye(2, dtype=int)[np.arange(96) % 2]])
def test_where_holds_for_every_kind_of_label(labels: Any) -> None:
    options = QUICK | {"classifiers": ("knn",), "task": "regression" if labels.ndim == 1 else "multilabel"}
    result = probe(
        CASES.features, labels, CASES.patients, meta={"centre": CENTRE}, where=("centre=A",), label_of="item", **options
    )
    assert set(result.cohort.meta["centre"]) == {"A"} and len(result.cohort.ids) == 36
