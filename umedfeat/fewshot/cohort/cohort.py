"""The labelled patients of a study: who belongs together, which classes they carry, what a classifier sees of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Bools, Floats32, Ints, Texts
from umedfeat.fewshot.settings import Task

__all__ = ["Bags", "Cohort", "FlowStep"]


@dataclass(frozen=True)
class FlowStep:
    """One line of the cohort flow, from files to train and test.

    Attributes:
        name: "inputs", "embedded", "with a label", "training pool", "test" …
        items, patients: how many are left at this step (for the last steps: how many stand there); 0 patients where
            nobody knows.
        note: why some were left out, "" if none were.
    """

    name: str
    items: int
    patients: int
    note: str = ""


@dataclass(frozen=True)
class Bags:
    """Rows (N, D) grouped into bags: bag b holds ``starts[b] : starts[b + 1]``, none is empty."""

    rows: Floats32
    starts: Ints

    @property
    def owner(self) -> Ints:
        """(N,) bag of each row."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def pick(self, bags: Ints, most: int = 0, rng: np.random.Generator | None = None) -> Bags:
        """Some bags, in the given order; of each at most ``most`` rows, drawn anew by ``rng``."""
        parts = [np.arange(self.starts[b], self.starts[b + 1]) for b in bags]
        if rng is not None:
            parts = [part if len(part) <= most else rng.choice(part, most, replace=False) for part in parts]
        starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.intp)
        return Bags(self.rows[np.concatenate(parts)], starts)


@dataclass(frozen=True)
class Cohort:
    """A study's items, patients and rows, in the order that every index of a study refers to.

    Attributes:
        ids: (I,) item ids.
        patient: (I,) patient number of each item. names: (P,) pseudonyms by number; the item's id where no patient is
            known. patients_known: False where every item was taken as its own patient.
        task: of the target.
        truth: (I,) class index (binary, multiclass, ordinal), (I, L) 0/1 (multilabel), (I,) float (regression)
            or (I, 2) time and event, 1 for seen (survival).
        classes: names of the classes (label names for multilabel, () for regression and survival), in order.
        meta: further columns by name, each (I,) of str (centre, sex, split …), "" where missing.
        embedding: (I, D) float32, pooled; for maps and nearest neighbours. Not standardised.
        rows: (N, D) float32, what a classifier sees: one row per item, tile or patient.
        exponent: ``rows`` and ``embedding`` are features divided by this power of two (0 but at odd scales).
        row_item: (N,) item of each row.
        carries: (P, C) which classes occur among a patient's items; for multilabel (P, 2 L): each label's presence and
            absence; for regression quartiles of the patient's mean.
        stratum: (P,) the patient's own class: of mixed patients the class with the fewest carriers.
        twins: items of identical content: the patient numbers of the two, and their ids for messages.
        flow: how many items and patients were left out before. warnings: full sentences.
        bags: the tiles of each item, for attention pooling alone.
        facts: size, kind and brightness of the files by name, each (I,) of str; {} for arrays.
        torn: where items were pooled into patients, columns in which a patient's items differ → such a patient.
    """

    ids: Texts
    patient: Ints
    names: Texts
    patients_known: bool
    task: Task
    truth: npt.NDArray[np.generic]
    classes: tuple[str, ...]
    meta: Mapping[str, Texts]
    embedding: Floats32
    rows: Floats32
    row_item: Ints
    carries: Bools
    stratum: Ints
    twins: tuple[tuple[int, int, str, str], ...] = ()
    flow: tuple[FlowStep, ...] = ()
    warnings: tuple[str, ...] = ()
    bags: Bags | None = None
    facts: Mapping[str, Texts] = field(default_factory=dict)
    exponent: int = 0
    torn: Mapping[str, str] = field(default_factory=dict)

    @property
    def patients(self) -> Texts:
        """(I,) pseudonym of each item's patient."""
        return self.names[self.patient]

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return len(self.names)

    @property
    def n_classes(self) -> int:
        """Width of a prediction: classes, labels, or 1 for regression."""
        return len(self.classes) or 1

    @property
    def requirement_names(self) -> tuple[str, ...]:
        """Names of the columns of ``carries``, for messages."""
        if self.task == "survival":
            return ("without event", "with event")[-self.carries.shape[1] :]
        if self.task == "regression":
            return tuple(f"quartile {q + 1}" for q in range(self.carries.shape[1]))
        if self.task == "multilabel":
            return tuple(f"{sign} {name}" for name in self.classes for sign in ("with", "without"))
        return self.classes

    def per_class(self, patients: Ints) -> Ints:
        """(C,) how many of some patients carry each class or label; (0,) for regression."""
        counts = self.carries[patients].sum(axis=0)
        return np.asarray(counts[::2] if self.task == "multilabel" else counts[: len(self.classes)])

    def items_of(self, patients: Ints) -> Ints:
        """Item indices of some patients, ascending."""
        return np.flatnonzero(np.isin(self.patient, patients))

    def rows_of(self, items: Ints) -> Ints:
        """Row indices of some items, ascending."""
        return np.flatnonzero(np.isin(self.row_item, items))
