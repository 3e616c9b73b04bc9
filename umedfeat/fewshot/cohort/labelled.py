"""Labels that were found for items of a feature file, and which column of a table is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from umedfeat.arrays import Bools, Ints, Texts
from umedfeat.errors import CohortError

__all__ = ["LABEL_COLUMNS", "Labelled", "candidates", "kept_of", "only_column", "some"]

#: Columns taken for the label when none is named; exactly one of them may be there.
LABEL_COLUMNS = ("label", "labels", "class", "target", "diagnosis", "grade", "category")


@dataclass(frozen=True)
class Labelled:
    """Labels for items of a feature table.

    Attributes:
        name: of the label column, "class folders", or "file.csv: column".
        items: (J,) items that have a label. labels: (J,) text. patients: (J,) or None for "nobody knows".
        meta: further columns, each (J,).
        left_out: what was skipped, for the cohort flow. notes: full sentences for the reader of the study.
    """

    name: str
    items: Ints
    labels: Texts
    patients: Texts | None
    meta: Mapping[str, Texts]
    left_out: str = ""
    notes: tuple[str, ...] = ()


def kept_of(found: Labelled, keep: Bools, note: str) -> Labelled:
    """Some of the items; ``note`` says why the others are left out."""
    return Labelled(
        found.name,
        found.items[keep],
        found.labels[keep],
        None if found.patients is None else found.patients[keep],
        {name: values[keep] for name, values in found.meta.items()},
        ", ".join(filter(None, [found.left_out, note])),
        found.notes,
    )


def candidates(columns: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """The columns that have one of the names, in whatever case."""
    return [column for column in columns if column.lower() in names]


def only_column(columns: Mapping[str, object], asked: str, names: Sequence[str], place: str, flag: str) -> str:
    """The asked column, or the only one of the usual names."""
    if asked:
        if asked not in columns:
            there = ", ".join(columns) or "none"
            raise CohortError(f"{place}: no column {asked!r}", remedy=f"columns that are there: {there}")
        return asked
    found = candidates(columns, names)
    if len(found) == 1:
        return found[0]
    if found:
        raise CohortError(f"{place}: several columns could be meant: {', '.join(found)}", remedy=f"choose with {flag}")
    there = ", ".join(columns) or "none"
    raise CohortError(
        f"{place}: no label column; its columns are {there}", remedy=f"choose with {flag}, or give --labels"
    )


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first few of some names, for a message."""
    return ", ".join(names[:limit]) + (" …" if len(names) > limit else "")
