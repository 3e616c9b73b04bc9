"""Does what needs no encoder tell the label? Columns of the manifest; size, kind and brightness of the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from scipy.stats import chi2_contingency, kruskal
from sklearn.metrics import roc_auc_score

from umedfeat.arrays import Floats, Ints, Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.cohort.table import TONES

__all__ = ["confounding_notes", "trivial_cohort"]

#: Columns with more different values are taken as numbers, or as names that tell nothing.
_MOST_VALUES = 20
#: A column is pointed out below this p (times the number of columns) and above this much better than chance.
_LEVEL, _BETTER = 0.01, 0.15


def confounding_notes(cohort: Cohort) -> list[str]:
    """A sentence for every column that goes with the class, patients counted once; none for targets without classes.

    Brightness is no column: where it tells the label, it may well be what the label is about.
    """
    if cohort.task not in ("binary", "multiclass", "ordinal"):
        return []
    first = np.unique(cohort.patient, return_index=True)[1]
    truth = np.asarray(cohort.truth, dtype=np.intp)[first]
    facts = {name: column for name, column in cohort.facts.items() if name not in TONES}
    columns = {**cohort.meta, **facts}
    notes = []
    for name, strength, p in _associations({name: column[first] for name, column in columns.items()}, truth):
        chance = 1.0 / len(cohort.classes)
        if p * len(columns) < _LEVEL and strength > chance + _BETTER:
            notes.append(
                f"{name} goes with the label: it alone gives a balanced accuracy of {strength:.2f} (chance "
                f"{chance:.2f}, p = {p:.1g}). If it is not another name of the label, the probe may have learned it: "
                "test within its values (--where, --subgroup) or across them (--external, --loco)."
            )
    return notes


def _associations(columns: Mapping[str, Texts], truth: Ints) -> Iterator[tuple[str, float, float]]:
    """Name, balanced accuracy of the label from the column alone, and p, of every column that can be tested."""
    for name, column in columns.items():
        values, code = np.unique(column, return_inverse=True)
        numbers = _numbers(column)
        if len(values) < 2:
            continue
        if len(values) <= _MOST_VALUES:
            counts = np.zeros((len(values), int(truth.max()) + 1))
            np.add.at(counts, (code, truth), 1)
            yield name, _best_guess(counts), float(chi2_contingency(counts[:, counts.any(axis=0)]).pvalue)
        elif numbers is not None:
            groups = [numbers[truth == label] for label in np.unique(truth)]
            yield name, _separation(numbers, truth), float(kruskal(*groups).pvalue)


def _best_guess(counts: Floats) -> float:
    """Balanced accuracy of naming, for each value, the class that is over-represented there."""
    share = counts / np.maximum(counts.sum(axis=0), 1)
    hit = np.zeros(counts.shape[1])
    np.add.at(hit, share.argmax(axis=1), share.max(axis=1))
    return float(hit.mean())


def _separation(numbers: Floats, truth: Ints) -> float:
    """Of one class against the rest: the AUROC farthest from one half."""
    each = [float(roc_auc_score(truth == label, numbers)) for label in np.unique(truth)]
    return max(max(value, 1 - value) for value in each)


def _numbers(column: Texts) -> Floats | None:
    try:
        numbers = column.astype(np.float64)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def trivial_cohort(cohort: Cohort) -> Cohort:
    """The same study on size, kind and brightness of the files instead of the encoder's features.

    Raises:
        CohortError: nothing is known of the files (features given as arrays).
    """
    if not cohort.facts:
        message = "--baseline trivial needs a feature file, which knows sizes and formats"
        raise CohortError(message, remedy="leave it out")
    columns = []
    for column in cohort.facts.values():
        numbers = _numbers(column)
        if numbers is not None:
            columns.append(np.log1p(np.maximum(numbers, 0.0))[:, None])
        else:
            columns.append(np.equal.outer(column, np.unique(column)).astype(np.float64))
    rows = np.hstack(columns).astype(np.float32)
    return replace(cohort, rows=rows, row_item=np.arange(len(rows)), bags=None)
