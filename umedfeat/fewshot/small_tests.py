"""Test sets that tell little: few patients, or few of a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from umedfeat.arrays import Ints
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.result import Fold
from umedfeat.terminal.words import counted

__all__ = ["FEW_PATIENTS", "small_test_notes", "small_test_sets"]

#: Test patients below which intervals are said to be wide.
FEW_PATIENTS = 30
#: Test sets of which no single one is spoken of, unless it has no intervals.
_MANY_TESTS = 6
#: Test patients of a class below which the class is named.
_FEW_OF_A_CLASS = 10
_ABSENT = (
    "Test set {name!r} holds no patient of {labels}: metrics that need every class are not defined there, there is no "
    "p-value, and accuracy is the recall of what is there ({there})."
)


def small_test_sets(cohort: Cohort, folds: Sequence[Fold]) -> list[str]:
    """Notes on the test sets of some folds; of many sets one for all, and those of the sets without intervals."""
    tests = [(name, patients) for fold in folds for name, patients in fold.tests.items()]
    if len(tests) <= _MANY_TESTS:
        return [note for name, patients in tests for note in small_test_notes(cohort, name, patients)]
    found = []
    sizes = [len(patients) for _, patients in tests if len(patients) < FEW_PATIENTS]
    if sizes:
        found.append(
            f"{len(sizes)} of {len(tests)} test sets hold fewer than {FEW_PATIENTS} patients ({min(sizes)} to "
            f"{max(sizes)}): their intervals are wide and approximate."
        )
    return [*found, *(note for name, patients in tests for note in _without_intervals(cohort, name, patients))]


def _without_intervals(cohort: Cohort, name: str, patients: Ints) -> list[str]:
    if cohort.task == "regression" or cohort.carries[patients].sum(axis=0).min() > 1:
        return []
    return small_test_notes(cohort, name, patients)[-1:]


def small_test_notes(cohort: Cohort, name: str, patients: Ints) -> list[str]:
    """A test set with few patients, or few of some classes, with its smallest classes by name.

    Args:
        name: of the test set. patients: (P,) numbers of its patients.
    """
    found = []
    counts = cohort.carries[patients].sum(axis=0) if cohort.task != "regression" else np.array([len(patients)])
    smallest = int(counts.min())
    if len(patients) < FEW_PATIENTS:
        wide = ": its intervals are wide and approximate" if smallest > 1 else ""
        found.append(f"Test set {name!r} holds {counted(len(patients), 'patient')}{wide}.")
    if cohort.task == "regression":
        return found
    names = [repr(cohort.requirement_names[k]) for k in np.flatnonzero(counts == smallest)]
    if not smallest:
        there = _present(cohort, counts)
        found.append(_ABSENT.format(name=name, labels=" or ".join(names), there=there))
    elif smallest < _FEW_OF_A_CLASS:
        several = len(names) > 1
        some = f"{smallest} patient{'s' * (smallest > 1)}{' each' * several} of {', '.join(names)}"
        none = ": there are no intervals" if smallest < 2 else ""
        found.append(f"Test set {name!r} holds {some}, its smallest class{'es' * several}{none}.")
    return found


def _present(cohort: Cohort, counts: Ints) -> str:
    return ", ".join(name for name, count in zip(cohort.requirement_names, counts, strict=True) if count)
