"""Who took part: pool and test sets in patients and items, by class and by the columns of the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.fewshot.result import ProbeResult
from umedfeat.report.numbers import plain

__all__ = ["Participants", "participants_of"]

#: Columns with more different values are identifiers or free text and say nothing about a group.
_MOST_VALUES = 10
_MOST_COLUMNS = 20
#: Columns that are not a property of the patients.
_NOT_SHOWN = frozenset({"split", "fold", "id", "path", "file", "x", "y"})


class Participants(NamedTuple):
    """A table of counts: columns are the sets, rows a characteristic each (``heads`` open a group, with no cells)."""

    sets: list[str]
    rows: list[tuple[str, list[str]]]


def participants_of(result: ProbeResult) -> Participants:
    """Patients of the pool and of each test set: how many, of which class, of which sex, centre …

    Cells: patients, with items in brackets where they differ; numbers of many values as median [quartiles].
    """
    sets = _sets(result)
    rows = [("all", [_count(result, items) for items in sets.values()])]
    if result.task == "survival":
        seen = np.asarray(result.cohort.truth)[:, 1] > 0
        rows.append(("with event", [_count(result, items[seen[items]]) for items in sets.values()]))
    elif result.task != "regression":
        for name, has in _by_class(result):
            rows.append((name, [_count(result, items[has[items]]) for items in sets.values()]))
    for column, values in list(result.cohort.meta.items())[:_MOST_COLUMNS]:
        if column.lower() not in _NOT_SHOWN:
            rows += _of_column(result, column, values, list(sets.values()))
    return Participants(list(sets), rows)


def _sets(result: ProbeResult) -> dict[str, npt.NDArray[np.intp]]:
    """Name → items. Of cross-validation everybody is tested: one set."""
    everybody = np.arange(len(result.cohort.ids))
    if result.settings.cv:
        return {"all, tested out of fold": everybody}
    found: dict[str, npt.NDArray[np.intp]] = {}
    for fold in result.folds:
        suffix = f" ({fold.name})" if len(result.folds) > 1 else ""
        found[f"training pool{suffix}"] = result.cohort.items_of(fold.pool)
        found |= {name: result.cohort.items_of(patients) for name, patients in fold.tests.items()}
    return found


def _count(result: ProbeResult, items: npt.NDArray[np.intp]) -> str:
    patients = len(np.unique(result.cohort.patient[items]))
    return str(patients) if patients == len(items) else f"{patients} ({len(items)} items)"


def _by_class(result: ProbeResult) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    truth = np.asarray(result.cohort.truth)
    for number, name in enumerate(result.cohort.classes):
        yield name, (truth[:, number] == 1 if truth.ndim == 2 else truth == number)


def _of_column(
    result: ProbeResult, column: str, values: npt.NDArray[np.str_], sets: list[npt.NDArray[np.intp]]
) -> list[tuple[str, list[str]]]:
    distinct = sorted(set(values.tolist()))
    if 1 < len(distinct) <= _MOST_VALUES:
        return [
            (f"{column}: {value or 'missing'}", [_count(result, items[values[items] == value]) for items in sets])
            for value in distinct
        ]
    numbers = _numbers(values)
    if numbers is None:
        return []
    return [(f"{column}, median [quartiles]", [_quartiles(result, numbers, items) for items in sets])]


def _numbers(values: npt.NDArray[np.str_]) -> npt.NDArray[np.float64] | None:
    """The column as numbers, NaN where missing; None where something is no number or all is one value."""
    try:
        numbers = np.asarray([float(value) if value else np.nan for value in values.tolist()])
    except ValueError:
        return None
    return numbers if len(np.unique(numbers[np.isfinite(numbers)])) > 1 else None


def _quartiles(result: ProbeResult, numbers: npt.NDArray[np.float64], items: npt.NDArray[np.intp]) -> str:
    """Over patients (mean of a patient's items); how many are missing."""
    _, place = np.unique(result.cohort.patient[items], return_inverse=True)
    known = np.isfinite(numbers[items])
    if not known.any():
        return "missing"
    sums = np.bincount(place[known], numbers[items][known])
    counts = np.bincount(place[known], minlength=len(sums))
    means = sums[counts > 0] / counts[counts > 0]
    low, middle, high = np.quantile(means, [0.25, 0.5, 0.75])
    lost = int(place.max() + 1 - (counts > 0).sum())
    return f"{plain(middle)} [{plain(low)}, {plain(high)}]" + (f", {lost} missing" if lost else "")
