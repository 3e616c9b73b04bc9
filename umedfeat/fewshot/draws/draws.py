"""Budgets of training data and the nested, paired draws that spend them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from umedfeat.arrays import Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.draws.orders import labelling_order, served
from umedfeat.fewshot.draws.saved import numbers_of, patients_at
from umedfeat.fewshot.result import Budget, Fold
from umedfeat.fewshot.settings import ProbeSettings, SavedSplits, default_repeats

__all__ = ["Draw", "plan_budgets", "plan_draws"]


#: What the smallest draw needs; every class otherwise.
_FLOORS = {
    "regression": "the fewest that can be learned from",
    "survival": "the floor that holds every outcome",
    "multilabel": "the floor that holds every label, present and absent",
}


@dataclass(frozen=True)
class Draw:
    """Training patients of one repeat in one fold. ``patients`` are cohort-wide numbers, in labelling order."""

    budget: str
    repeat: int
    fold: int
    patients: Ints


@dataclass(frozen=True)
class _Order:
    patients: Ints
    least: int


def plan_draws(
    cohort: Cohort, folds: Sequence[Fold], settings: ProbeSettings
) -> tuple[tuple[Budget, ...], tuple[Draw, ...]]:
    """Draw training patients for every budget, repeat and fold.

    The order behind repeat r of a fold depends on the seed, the fold and r alone: draws are nested over the
    budgets and the same for every encoder that describes the same patients.

    Raises:
        CohortError: a budget cannot hold every class (unless ``on_missing_class="skip"``).
    """
    budgets: list[Budget] = []
    draws: list[Draw] = []
    for amount in settings.shots or settings.fractions:
        budget, its_draws = _spend(cohort, folds, settings, amount)
        if budget is not None:
            budgets.append(budget)
            draws += its_draws
    if not budgets:
        raise CohortError("no budget can hold every class", remedy="ask for larger fractions, or fewer shots")
    return tuple(budgets), tuple(draws)


def plan_budgets(cohort: Cohort, folds: Sequence[Fold], settings: ProbeSettings) -> tuple[Budget, ...]:
    """The budgets alone (``--dry-run``)."""
    return plan_draws(cohort, folds, settings)[0]


def _spend(
    cohort: Cohort, folds: Sequence[Fold], settings: ProbeSettings, amount: float
) -> tuple[Budget | None, list[Draw]]:
    name = f"{amount} shot{'s' if amount != 1 else ''}" if settings.shots else f"{amount * 100:g} %"
    if settings.splits is not None:
        return _as_saved(cohort, folds, settings, settings.splits, name, amount)
    if settings.shots and cohort.task == "regression":
        raise CohortError(
            "--shots counts patients per class, and a regression target has none", remedy="use --fraction"
        )
    partitions = 1 + max(fold.partition for fold in folds)
    repeats = _repeats(settings, amount, partitions)
    draws = []
    for place, fold in enumerate(folds):
        for repeat in range(repeats):
            if repeat % partitions == fold.partition:
                order = _order(cohort, fold, settings.seed, place, repeat)
                taken = _shots(cohort, order, int(amount), settings) if settings.shots else _share(order, amount)
                if taken is None:
                    return None, []
                draws.append(Draw(name, repeat, place, taken))
    if all(len(draw.patients) == len(folds[draw.fold].pool) for draw in draws):  # there is one way to take everybody
        draws, repeats = [draw for draw in draws if draw.repeat < partitions], partitions
    return _budget(cohort, folds, settings, name, amount, repeats, draws), draws


def _as_saved(
    cohort: Cohort,
    folds: Sequence[Fold],
    settings: ProbeSettings,
    saved: SavedSplits,
    name: str,
    amount: float,
) -> tuple[Budget | None, list[Draw]]:
    numbers = numbers_of(saved, cohort)
    partitions = 1 + max(old.partition for old in saved.folds)
    draws = []
    for place, old in enumerate(saved.folds):
        wanted = cohort.carries[folds[place].pool].any(axis=0) & (cohort.task != "regression")
        for number, names in enumerate(old.draws[name]):
            patients = patients_at(names, numbers)
            lacks = wanted & ~cohort.carries[patients].any(axis=0)
            if lacks.any() and settings.on_missing_class == "skip":
                return None, []
            if lacks.any():
                raise CohortError(
                    f"{saved.name}: draw {number + 1} of {name} lacks class "
                    f"{cohort.requirement_names[int(lacks.argmax())]!r}",
                    remedy="use the labels that the splits were drawn from, or --on-missing-class skip",
                )
            draws.append(Draw(name, old.partition + number * partitions, place, patients))
    repeats = 1 + max(draw.repeat for draw in draws)
    return _budget(cohort, folds, settings, name, amount, repeats, draws), draws


def _repeats(settings: ProbeSettings, amount: float, partitions: int) -> int:
    if not settings.shots and amount >= 1:
        return partitions
    wanted = settings.repeats or (50 if settings.shots else default_repeats(amount))
    return -(-wanted // partitions) * partitions


def _order(cohort: Cohort, fold: Fold, seed: int, place: int, repeat: int) -> _Order:
    rng = np.random.default_rng([seed, 2, place, repeat])
    carries = cohort.carries[fold.pool]
    if cohort.task == "regression":  # quartiles only spread the order; no draw needs all of them
        carries = carries[:, :0]
    floor = 2 if cohort.task in ("regression", "survival") else 0
    order, least = labelling_order(carries, cohort.stratum[fold.pool], rng, floor=floor)
    return _Order(fold.pool[order], least)


def _share(order: _Order, amount: float) -> Ints:
    return order.patients[: max(order.least, _half_up(amount * len(order.patients)))]


def _shots(cohort: Cohort, order: _Order, shots: int, settings: ProbeSettings) -> Ints | None:
    """The first patients of an order who serve each class so many times; None where that is skipped.

    A patient whose items are of several classes is counted for one of them. Patients who carry nothing else are few
    where labels belong to cells or regions: counted by the rarest class alone, every draw would hold the same ones.
    """
    counted = _counted(cohort, order.patients)
    rank = np.empty(len(counted), dtype=np.intp)
    for value in np.unique(counted):
        members = counted == value
        rank[members] = np.arange(members.sum())
    counts = np.bincount(counted)
    short = np.flatnonzero((counts > 0) & (counts < shots))
    if not len(short):
        return order.patients[rank < shots]
    if settings.on_missing_class == "skip":
        return None
    name = (*cohort.classes, "no label")[short[0]]
    raise CohortError(
        f"--shots {shots}: class {name!r} has {counts[short[0]]} training patients",
        remedy="ask for fewer shots, or leave such budgets out with --on-missing-class skip",
    )


def _counted(cohort: Cohort, patients: Ints) -> Ints:
    """What each patient is counted for: the class it serves; of several labels the rarest, or none."""
    return cohort.stratum[patients] if cohort.task == "multilabel" else served(cohort.carries[patients])


def _half_up(number: float) -> int:
    return int(number + 0.5)


def _budget(
    cohort: Cohort,
    folds: Sequence[Fold],
    settings: ProbeSettings,
    name: str,
    amount: float,
    repeats: int,
    draws: Sequence[Draw],
) -> Budget:
    pool = folds[0].pool
    used = len(draws[0].patients)
    asked = round(amount * len(pool), 2)
    note = ""
    if not settings.shots and used > _half_up(asked):
        floor = _FLOORS.get(cohort.task, "the floor that holds every class")
        note = f"{name} of {len(pool)} patients is {asked:g}: {used} used, {floor}"
    per_class = np.mean([cohort.per_class(draw.patients) for draw in draws], axis=0)
    items = np.bincount(cohort.patient)
    return Budget(
        name=name,
        fraction=float("nan") if settings.shots else float(amount),
        shots=int(amount) if settings.shots else 0,
        n_patients=used,
        n_pool=len(pool),
        n_items=float(np.mean([items[draw.patients].sum() for draw in draws])),
        per_class=tuple(per_class.tolist()),
        repeats=repeats,
        note=note,
    )
