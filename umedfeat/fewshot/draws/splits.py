"""Test sets first, training draws second; patients are never divided."""

from __future__ import annotations

import numpy as np

from umedfeat.arrays import Ints, Texts
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.cohort.labels import MISSING
from umedfeat.fewshot.cohort.leakage import refuse_overlap, refuse_twins
from umedfeat.fewshot.cohort.selection import condition_of
from umedfeat.fewshot.draws.orders import labelling_order, patient_folds
from umedfeat.fewshot.draws.saved import numbers_of, patients_at
from umedfeat.fewshot.result import Fold
from umedfeat.fewshot.settings import ProbeSettings, SavedSplits

__all__ = ["divide", "hold_out", "refuse_leaks"]

#: How often patients are dealt anew where a side lacks a class.
_DEALS = 100
_TRAIN = frozenset({"train", "training", "pool"})
_TEST = frozenset({"test", "testing", "holdout", "hold-out", "heldout", "held-out"})


def refuse_leaks(cohort: Cohort, fold: Fold, *, twins: bool = False) -> None:
    """Refuse patients, and unless ``twins`` identical content, on both sides of a fold.

    Raises:
        LeakageError: listing them.
    """
    for patients in fold.tests.values():
        refuse_overlap(cohort, fold.pool, patients)
        if not twins:
            refuse_twins(cohort, fold.pool, patients)


def divide(cohort: Cohort, settings: ProbeSettings) -> tuple[Fold, ...]:
    """Choose test patients as the settings say; deterministic in ``settings.seed`` and the patients' names.

    Raises:
        CohortError: a named column or value does not exist, or a side would lack a class.
        LeakageError: a split column puts one patient on both sides.
    """
    if settings.splits is not None:
        return _as_saved(cohort, settings.splits)
    rng = np.random.default_rng([settings.seed, 1])
    everyone = np.arange(cohort.n_patients)
    if settings.external:
        return (_external(cohort, settings, rng),)
    if settings.train:
        return (_train_and_test(cohort, settings),)
    if settings.loco:
        return _one_centre_out(cohort, settings, rng)
    if settings.cv:
        return _cross_validation(cohort, settings, rng)
    if settings.split:
        return (_by_column(cohort, settings.split),)
    test = hold_out(cohort, everyone, settings.held_out, rng)
    return (Fold("hold-out", 0, np.setdiff1d(everyone, test), {"test": test}),)


def _as_saved(cohort: Cohort, saved: SavedSplits) -> tuple[Fold, ...]:
    numbers = numbers_of(saved, cohort)
    return tuple(
        Fold(
            fold.name,
            fold.partition,
            np.sort(patients_at(fold.pool, numbers)),
            {name: np.sort(patients_at(test, numbers)) for name, test in fold.tests.items()},
        )
        for fold in saved.folds
    )


def hold_out(cohort: Cohort, patients: Ints, share: float, rng: np.random.Generator) -> Ints:
    """Draw test patients, class-proportionally, every class on both sides.

    Raises:
        CohortError: no such draw exists.
    """
    count = max(1, round(share * len(patients)))
    for _ in range(_DEALS):
        order, least = labelling_order(cohort.carries[patients], cohort.stratum[patients], rng)
        test = patients[order[: max(count, least)]]
        pool = np.setdiff1d(patients, test)
        if _covers(cohort, pool, patients):
            return np.sort(test)
    lacking = _rarest(cohort, patients)
    raise CohortError(
        f"no hold-out of {share:.0%} of {len(patients)} patients leaves class {lacking!r} on both sides",
        remedy="use a smaller --test-size, or --cv",
    )


def _covers(cohort: Cohort, some: Ints, of: Ints) -> bool:
    """Whether ``some`` carry every class that ``of`` carry."""
    return bool((cohort.carries[some].any(axis=0) == cohort.carries[of].any(axis=0)).all())


def _rarest(cohort: Cohort, patients: Ints) -> str:
    counts = cohort.carries[patients].sum(axis=0)
    return cohort.requirement_names[int(np.where(counts > 0, counts, counts.max() + 1).argmin())]


def _cross_validation(cohort: Cohort, settings: ProbeSettings, rng: np.random.Generator) -> tuple[Fold, ...]:
    everyone = np.arange(cohort.n_patients)
    fewest = int(cohort.carries.sum(axis=0).min())
    if settings.cv < 2 or fewest < settings.cv:
        raise CohortError(
            f"--cv {settings.cv}: the rarest class {_rarest(cohort, everyone)!r} has {fewest} patients",
            remedy=f"use --cv {max(2, fewest)} or less" if fewest >= 2 else "leave --cv out",
        )
    folds = []
    for partition in range(settings.cv_repeats):
        fold = _dealt(cohort, settings.cv, rng)
        for number in range(settings.cv):
            name = f"fold {number + 1} of partition {partition + 1}"
            folds.append(Fold(name, partition, everyone[fold != number], {"out-of-fold": everyone[fold == number]}))
    return tuple(folds)


def _dealt(cohort: Cohort, folds: int, rng: np.random.Generator) -> Ints:
    """(P,) fold of each patient, every class on the training side of each.

    One deal is enough where patients carry one class each; where they carry several, another may be needed.
    """
    everyone = np.arange(cohort.n_patients)
    for _ in range(_DEALS):
        fold = patient_folds(cohort.carries, cohort.stratum, folds, rng)
        if all(_covers(cohort, np.flatnonzero(fold != number), everyone) for number in range(folds)):
            return fold
    raise CohortError(
        f"--cv {folds}: a fold would leave no patient of some class for training",
        remedy="use fewer folds, or a hold-out",
    )


def _train_and_test(cohort: Cohort, settings: ProbeSettings) -> Fold:
    """Pool and test by conditions; the others take no part."""
    sides = []
    for text in (settings.train, settings.test):
        column, values = condition_of(text, cohort.meta)
        of_patients = column_of_patients(cohort, column)
        unknown = values - set(of_patients.tolist())
        if unknown:
            there = ", ".join(sorted(set(of_patients.tolist()))[:10])
            raise CohortError(f"{text}: nobody is {sorted(unknown)[0]!r}", remedy=f"values of {column}: {there}")
        sides.append(np.flatnonzero(np.isin(of_patients, sorted(values))))
    pool, test = sides
    if not _covers(cohort, pool, np.arange(cohort.n_patients)):
        raise CohortError(
            f"--train {settings.train}: class {_rarest_of(cohort, pool)!r} has no patient there",
            remedy="train on more, or --drop-class it",
        )
    return Fold(f"{settings.train} against {settings.test}", 0, pool, {settings.test: test})


def _rarest_of(cohort: Cohort, patients: Ints) -> str:
    return cohort.requirement_names[int(cohort.carries[patients].sum(axis=0).argmin())]


def column_of_patients(cohort: Cohort, name: str) -> Texts:
    """The value of a meta column for each patient.

    Raises:
        CohortError: the column does not exist, or a patient has two values.
    """
    if name not in cohort.meta:
        there = ", ".join(cohort.meta) or "none"
        raise CohortError(f"there is no column {name!r}", remedy=f"columns that the features carry: {there}")
    if name in cohort.torn:
        raise CohortError(
            f"patient {cohort.torn[name]} has items of several values of {name}",
            remedy="a patient needs one value in this column",
        )
    column = cohort.meta[name]
    values = np.empty(cohort.n_patients, dtype=column.dtype)
    values[cohort.patient] = column
    torn = column != values[cohort.patient]
    if torn.any():
        item = int(np.flatnonzero(torn)[0])
        patient = cohort.patients[item]
        raise CohortError(
            f"patient {patient} stands under {name}={column[item]} and {name}={values[cohort.patient[item]]}",
            remedy="a patient needs one value in this column",
        )
    return values


def _complete(cohort: Cohort, name: str) -> Texts:
    """``column_of_patients``, every patient having a value: an unknown centre may be the one left out."""
    values = column_of_patients(cohort, name)
    missing = np.isin(np.char.lower(values), sorted(MISSING))
    if missing.any():
        raise CohortError(
            f"{int(missing.sum())} of {len(values)} patients have no {name}, {cohort.names[missing][0]} among them",
            remedy=f"fill the column {name!r}, or leave these patients out",
        )
    return values


def _by_column(cohort: Cohort, name: str) -> Fold:
    values = np.char.lower(column_of_patients(cohort, name))
    test = np.flatnonzero(np.isin(values, list(_TEST)))
    pool = np.flatnonzero(np.isin(values, list(_TRAIN)))
    if not len(test) or not len(pool):
        found = ", ".join(sorted(set(values.tolist())))
        raise CohortError(
            f"column {name!r} marks {len(pool)} training and {len(test)} test patients; its values are {found}",
            remedy="it needs 'train' and 'test'; or leave --split out and a hold-out is drawn",
        )
    _both_sides(cohort, pool, test, f"column {name!r}")
    return Fold(f"column {name}", 0, pool, {"test": test})


def _both_sides(cohort: Cohort, pool: Ints, test: Ints, what: str) -> None:
    everyone = np.concatenate([pool, test])
    for side, patients in (("training", pool), ("test", test)):
        lacks = cohort.carries[everyone].any(axis=0) & ~cohort.carries[patients].any(axis=0)
        if lacks.any() and (side == "training" or cohort.task != "regression"):
            name = cohort.requirement_names[int(lacks.argmax())]
            if side == "training":
                raise CohortError(f"{what} leaves no {side} patient of class {name!r}", remedy="move some there")


def _external(cohort: Cohort, settings: ProbeSettings, rng: np.random.Generator) -> Fold:
    column, wanted = condition_of(settings.external, cohort.meta)
    values = _complete(cohort, column)
    outside = np.isin(values, sorted(wanted))
    if not outside.any() or outside.all() or wanted - set(values.tolist()):
        found = ", ".join(sorted(set(values.tolist())))
        raise CohortError(
            f"--external {settings.external}: {int(outside.sum())} of {len(values)} patients",
            remedy=f"values: {found}",
        )
    name = f"{column}={','.join(sorted(wanted))}"
    return _centre_out(cohort, settings, np.flatnonzero(~outside), np.flatnonzero(outside), name, rng)


def _centre_out(
    cohort: Cohort, settings: ProbeSettings, inside: Ints, outside: Ints, name: str, rng: np.random.Generator
) -> Fold:
    internal = hold_out(cohort, inside, settings.held_out, rng)
    pool = np.setdiff1d(inside, internal)
    _both_sides(cohort, pool, outside, f"leaving out {name}")
    return Fold(f"without {name}", 0, pool, {f"internal (without {name})": internal, f"external {name}": outside})


def _one_centre_out(cohort: Cohort, settings: ProbeSettings, rng: np.random.Generator) -> tuple[Fold, ...]:
    values = _complete(cohort, settings.loco)
    centres = sorted(set(values.tolist()))
    if len(centres) < 2:
        raise CohortError(
            f"--loco {settings.loco}: every patient is from {centres[0]!r}", remedy="choose another column"
        )
    return tuple(
        _centre_out(
            cohort, settings, np.flatnonzero(values != c), np.flatnonzero(values == c), f"{settings.loco}={c}", rng
        )
        for c in centres
    )
