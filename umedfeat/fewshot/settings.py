"""What a few-shot study is asked to do: every number that decides its result, in one frozen object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.fewshot.refusals import refuse_settings

__all__ = [
    "ATTENTION",
    "CLASSIFIERS",
    "COX_ALPHA",
    "COX_ALPHA_FIXED",
    "ENOUGH_PATIENTS",
    "FRACTIONS",
    "INNER_FOLDS",
    "KNN_NEIGHBOURS",
    "LOGISTIC_C",
    "LOGISTIC_C_FIXED",
    "PROTOTYPE_TEMPERATURE",
    "RIDGE_ALPHA",
    "RIDGE_ALPHA_FIXED",
    "SITE_COLUMNS",
    "SPLIT_COLUMN",
    "SUBGROUP_COLUMNS",
    "TEST_SIZE",
    "AttentionSettings",
    "ProbeSettings",
    "SavedFold",
    "SavedSplits",
    "Scale",
    "Task",
    "default_repeats",
]

Task = Literal["binary", "multiclass", "ordinal", "multilabel", "regression", "survival"]
Scale = Literal["unit", "standard", "pool"]

FRACTIONS: tuple[float, ...] = (0.01, 0.05, 0.1, 0.5, 1.0)
CLASSIFIERS: tuple[str, ...] = ("linear", "knn", "prototype")

#: Share of the patients held out where nothing is said about the tests, and the column that says it where it is there.
TEST_SIZE = 0.3
SPLIT_COLUMN = "split"
#: Columns that name where and how an image was taken, and those by which results are broken down unasked.
SITE_COLUMNS = ("centre", "center", "site", "hospital", "scanner", "batch")
SUBGROUP_COLUMNS = frozenset(
    {*SITE_COLUMNS, "manufacturer", "modality", "device", "sex", "gender", "age_group", "ethnicity", "race"}
)
_MOST_SUBGROUPS = 8
#: Inverse regularisation strengths of the linear probe (scikit-learn's convention) on rows whose mean squared length
#: is 1, walked from the strongest.
LOGISTIC_C: tuple[float, ...] = tuple(10.0**exponent for exponent in range(7))
#: Used where a class has fewer than ENOUGH_PATIENTS drawn patients: selected from fewer, C varies more than it helps.
LOGISTIC_C_FIXED = 10.0
ENOUGH_PATIENTS = 8
#: Penalties of ridge regression on the same scale; the fixed one where there are fewer than ENOUGH_PATIENTS.
RIDGE_ALPHA: tuple[float, ...] = tuple(10.0**exponent for exponent in range(-5, 4))
RIDGE_ALPHA_FIXED = 0.1
#: Penalties of Cox regression on the same scale, and the fixed one (1 / C of the linear probe).
COX_ALPHA: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
COX_ALPHA_FIXED = 0.1
#: Neighbours tried by kNN; those above half of the drawn items are left out.
KNN_NEIGHBOURS: tuple[int, ...] = (1, 3, 5, 10, 20)
#: Softmax temperature that turns cosines to the class means into probabilities.
PROTOTYPE_TEMPERATURE = 10.0
#: Inner folds of the selection of C and alpha, by patient; fewer where a class has fewer patients.
INNER_FOLDS = 5


class AttentionSettings(NamedTuple):
    """Of gated-attention pooling; nothing of it is selected.

    ``hidden`` and ``gate``: widths. Training: ``steps`` at least and ``passes`` over the bags at least, ``batch`` bags
    a step, ``rows`` of each bag at most (drawn anew each step), Adam with learning ``rate`` and weight ``decay``.
    """

    hidden: int = 64
    gate: int = 32
    steps: int = 300
    passes: int = 10
    batch: int = 8
    rows: int = 128
    rate: float = 1e-3
    decay: float = 1e-2


ATTENTION = AttentionSettings()


@dataclass(frozen=True)
class SavedFold:
    """A fold by pseudonyms of the earlier study: pool, test sets by name, and per budget one group a draw."""

    name: str
    partition: int
    pool: tuple[str, ...]
    tests: Mapping[str, tuple[str, ...]]
    draws: Mapping[str, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True)
class SavedSplits:
    """Splits of an earlier study.

    Attributes:
        name: of the file. items: pseudonym → ids of the patient's items.
        amounts: budget name → share of the pool's patients, or patients per class where ``shots``.
    """

    name: str
    items: Mapping[str, tuple[str, ...]]
    amounts: Mapping[str, float]
    shots: bool
    folds: tuple[SavedFold, ...]


@dataclass(frozen=True)
class ProbeSettings:
    """Everything a study is asked to do.

    Raises:
        SetupError: a value is not legal, or two contradict each other.

    Attributes:
        fractions: shares of the training pool's patients, each in (0, 1]; empty when ``shots`` is given.
        shots: patients per class instead of fractions; empty when ``fractions`` are given.
        repeats: draws per fraction; None takes ``default_repeats``.
        classifiers: some of "linear", "knn", "prototype".
        task: "auto" or one of the tasks.
        unit: what the classifier sees as one row: "item" (tiles and slices pooled), "tile" (each on its own, their
            probabilities averaged per item before scoring) or "patient" (items pooled too).
        pool: "mean", "max", "mean+std" of an item's tiles; "abmil" adds a classifier of that name, gated attention
            trained on the tiles, beside the others, which see the mean.
        scale: of the features before the linear probe: "unit" (length of each row), "standard" (standard deviation of
            each feature over the drawn rows) or "pool" (over the unlabelled rows of the training pool); then centring
            and one division by the root mean square length.
        weights: "item", or "patient": every patient counts once whatever the number of rows.
        label_of: "patient" (two classes in one patient are an error) or "item" (cells, regions, lesions).
        test_size: share of the patients held out where no other test set is named; None takes TEST_SIZE, unless a
            column called "split" marks the tests.
        cv: folds of patient-level cross-validation, 0 for a hold-out.
        cv_repeats: how many times the folds are drawn anew.
        external: "column=value": the patients to test on, e.g. "centre=B"; "" for none.
        loco: column whose values are left out one after the other, e.g. "centre"; "" for none.
        split: column whose value "test" marks the test patients and "train" the pool; "" takes a column called
            "split" where nothing else was said about the tests (see ``settled``).
        train, test: "column=value" or "column=value,value": the patients of the pool and of the test; all others take
            no part. "" for none; both or neither.
        where: conditions of the same form that every item must meet.
        drop_class: classes whose items are left out. merge: "a+b=c" makes classes a and b one, called c.
        order: the classes in their order, lowest first; of two the second is the positive one. () sorts them.
        subgroups: columns by which the test results are broken down; None takes those of SUBGROUP_COLUMNS that are
            there with two to eight different values.
        on_missing_class: "stop" or "skip" a fraction that cannot hold every class.
        threshold: of two classes, the probability above which an item is called positive, for sensitivity,
            specificity and predictive values; every other metric takes the more probable class.
        calibrate: divide log-probabilities by a temperature, chosen by patient-grouped cross-validation inside the
            drawn patients.
        baseline: "trivial" adds a classifier of that name: the linear probe on size, kind and brightness of the
            files alone.
        bootstrap: resamplings of the test patients behind each interval.
        confidence: level of the intervals.
        permutations: of the labels before fitting, for p-values of cross-validation; 0 for none.
        sanity: number of label permutations of the sanity check; 0 for none.
        seed: of every draw.
        splits: pools, tests and draws of an earlier study, used instead of drawing (see ``saved.with_splits``).
    """

    fractions: tuple[float, ...] = FRACTIONS
    shots: tuple[int, ...] = ()
    repeats: int | None = None
    classifiers: tuple[str, ...] = CLASSIFIERS
    task: Literal["auto", "binary", "multiclass", "ordinal", "multilabel", "regression", "survival"] = "auto"
    unit: Literal["item", "tile", "patient"] = "item"
    pool: Literal["mean", "max", "mean+std", "abmil"] = "mean"
    scale: Scale = "unit"
    weights: Literal["item", "patient"] = "item"
    label_of: Literal["patient", "item"] = "patient"
    test_size: float | None = None
    cv: int = 0
    cv_repeats: int = 5
    external: str = ""
    loco: str = ""
    split: str = ""
    train: str = ""
    test: str = ""
    where: tuple[str, ...] = ()
    drop_class: tuple[str, ...] = ()
    merge: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    subgroups: tuple[str, ...] | None = None
    on_missing_class: Literal["stop", "skip"] = "stop"
    threshold: float = 0.5
    calibrate: bool = False
    baseline: Literal["", "trivial"] = ""
    bootstrap: int = 1000
    confidence: float = 0.95
    permutations: int = 0
    sanity: int = 0
    seed: int = 0
    splits: SavedSplits | None = None

    def __post_init__(self) -> None:
        if self.shots and self.fractions == FRACTIONS:  # not asked for
            object.__setattr__(self, "fractions", ())
        refuse_settings({field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def held_out(self) -> float:
        """Share of the patients of a hold-out."""
        return TEST_SIZE if self.test_size is None else self.test_size

    def settled(self, meta: Mapping[str, npt.NDArray[np.str_]]) -> ProbeSettings:
        """The same for a cohort with these columns: one called "split", in any case, counts where nothing is said about
        the tests, and the usual subgroups where nothing is said about them."""
        said = (self.split, self.cv, self.external, self.loco, self.train, self.test_size, self.splits)
        told = [
            name for name in meta if name.lower() == SPLIT_COLUMN and (meta[name] != "").any()
        ]  # empty says nothing
        found = (
            replace(self, split=min(told, key=lambda name: name != SPLIT_COLUMN)) if told and not any(said) else self
        )
        return found if self.subgroups is not None else replace(found, subgroups=_usual_subgroups(meta))

    def described(self) -> dict[str, object]:
        """Every setting by name, for tables and files; of the splits their file's name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"test_size": self.held_out, "splits": self.splits.name if self.splits else ""}


def _usual_subgroups(meta: Mapping[str, npt.NDArray[np.str_]]) -> tuple[str, ...]:
    return tuple(
        name
        for name, values in meta.items()
        if name.lower() in SUBGROUP_COLUMNS and 2 <= len(set(values.tolist())) <= _MOST_SUBGROUPS
    )


def default_repeats(fraction: float) -> int:
    """Draws of a fraction: 50 below 10 %, 20 below 100 %, 1 at 100 % (there is only one way to take everybody)."""
    if fraction >= 1:
        return 1
    return 50 if fraction < 0.1 else 20
