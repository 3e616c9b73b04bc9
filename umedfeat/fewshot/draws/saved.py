"""``splits.json``: who was in the pool, in the tests and in every draw, written and read back.

Patients are found again by their items, not by their pseudonyms: pseudonyms are numbers in one table, and the next
table may count differently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from umedfeat.arrays import Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.result import ProbeResult
from umedfeat.fewshot.settings import ProbeSettings, SavedFold, SavedSplits

__all__ = ["numbers_of", "patients_at", "read_splits", "splits_of", "with_splits"]

_VERSION = 1
#: Settings that say how the test sets came about; they come back with the splits.
_DESIGN = ("test_size", "cv", "cv_repeats", "external", "loco", "split", "train", "test", "seed")
#: What files of earlier versions do not name.
_UNNAMED = {"train": "", "test": ""}


def numbers_of(saved: SavedSplits, cohort: Cohort) -> dict[str, int]:
    """Pseudonym → number of the patient in a cohort.

    Raises:
        CohortError: an item is not there, or stands under another patient.
    """
    place = {name: int(number) for name, number in zip(cohort.ids, cohort.patient, strict=True)}
    missing = [item for items in saved.items.values() for item in items if item not in place]
    if missing:
        raise CohortError(
            f"{saved.name}: {len(missing)} of its items are not in the study, {missing[0]!r} among them",
            remedy="give the features and labels that the splits were drawn from",
        )
    found = {name: {place[item] for item in items} for name, items in saved.items.items()}
    torn = [name for name, numbers in found.items() if len(numbers) != 1]
    if torn or len({number for numbers in found.values() for number in numbers}) < len(found):
        raise CohortError(
            f"{saved.name}: its patients are not those of the study"
            + (f", the items of {torn[0]} stand under several" if torn else ""),
            remedy="name the patients as when the splits were drawn (--patient)",
        )
    return {name: numbers.pop() for name, numbers in found.items()}


def patients_at(names: tuple[str, ...], numbers: Mapping[str, int]) -> Ints:
    """Patient numbers of some pseudonyms, in their order."""
    return np.asarray([numbers[name] for name in names], dtype=np.intp)


def splits_of(result: ProbeResult) -> dict[str, Any]:
    """What ``splits.json`` holds: patients by pseudonym, their items, and everything that was drawn."""
    ids, patients = result.cohort.ids.tolist(), result.cohort.patients.tolist()
    items: dict[str, list[str]] = {}
    for item, patient in zip(ids, patients, strict=True):
        items.setdefault(patient, []).append(item)
    settings = result.settings
    return {
        "version": _VERSION,
        "design": {name: getattr(settings, name) for name in _DESIGN},
        "budgets": {b.name: b.shots or b.fraction for b in result.budgets},
        "shots": bool(result.budgets[0].shots),
        "patients": items,
        "folds": [
            {
                "name": fold.name,
                "partition": fold.partition,
                "tests": {
                    name: sorted(result.cohort.names[patients].tolist()) for name, patients in fold.tests.items()
                },
                "pool": sorted(result.cohort.names[fold.pool].tolist()),
                "draws": {budget: [list(d) for d in draws] for budget, draws in result.draws[fold.name].items()},
            }
            for fold in result.folds
        ],
    }


def with_splits(settings: ProbeSettings, path: Path) -> ProbeSettings:
    """The settings with the splits of an earlier study: its tests, budgets and draws.

    Raises:
        CohortError: no such file, or not a splits.json.
    """
    saved, design = _read(path)
    amounts = tuple(saved.amounts.values())
    return replace(
        settings,
        **design,
        splits=saved,
        fractions=() if saved.shots else amounts,
        shots=tuple(int(n) for n in amounts) if saved.shots else (),
        repeats=None,
    )


def read_splits(path: Path) -> SavedSplits:
    """The pools, tests and draws of an earlier study.

    Raises:
        CohortError: no such file, or not a splits.json.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[SavedSplits, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _parsed(path.name, content), {name: (_UNNAMED | content["design"])[name] for name in _DESIGN}
    except OSError as error:
        raise CohortError(
            f"{path}: cannot be read ({error.strerror})", remedy="give the splits.json of a study"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(
            f"{path.name}: not the splits.json of a study", remedy="umedfeat probe writes it into its output folder"
        ) from error


def _parsed(name: str, content: Any) -> SavedSplits:
    if content["version"] != _VERSION:
        raise ValueError(content["version"])
    return SavedSplits(
        name,
        {patient: tuple(items) for patient, items in content["patients"].items()},
        {budget: float(amount) for budget, amount in content["budgets"].items()},
        bool(content["shots"]),
        tuple(_fold(fold) for fold in content["folds"]),
    )


def _fold(content: Any) -> SavedFold:
    return SavedFold(
        str(content["name"]),
        int(content["partition"]),
        tuple(content["pool"]),
        {name: tuple(patients) for name, patients in content["tests"].items()},
        {budget: tuple(tuple(draw) for draw in draws) for budget, draws in content["draws"].items()},
    )
