"""From a study to a saved probe: one classifier, fitted on the training pool or on everybody."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from umedfeat.arrays import Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.classifiers.fitting import Fitter
from umedfeat.fewshot.classifiers.forms import FORMS
from umedfeat.fewshot.classifiers.scaling import Standard
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.draws.splits import divide
from umedfeat.fewshot.files import Subject, probe_cohort
from umedfeat.fewshot.result import ProbeResult
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.study import Progress
from umedfeat.prediction.novelty import Novelty
from umedfeat.prediction.saved import SAVED_TASKS, SavedProbe
from umedfeat.store import Header

__all__ = ["SaveOn", "Saving", "fit_probe", "study_and_fit"]

log = logging.getLogger("umedfeat")

SaveOn = Literal["auto", "pool", "all"]


@dataclass(frozen=True)
class Saving:
    """What of a study is kept for later.

    Attributes:
        classifier: "linear", "knn", "prototype", or "abmil" of a study with ``pool="abmil"``.
        on: "pool": the training pool of a study with one test set, whose figures then hold for it; "all": everybody;
            "auto": the pool where there is one, else everybody.
        novelty: also learn what is usual, to flag inputs unlike the training data.
    """

    classifier: str = "linear"
    on: SaveOn = "auto"
    novelty: bool = True


def study_and_fit(
    subject: Subject, saving: Saving | None, progress: Progress | None = None, jobs: int | None = None
) -> tuple[ProbeResult, SavedProbe | None]:
    """Run a study and fit the classifier that outlives it; none where none is wanted, or the task has none (survival).

    Raises:
        CohortError: the classifier cannot be fitted, which is said before the study is run, or see ``probe_file``.
        LeakageError: a patient or identical content would stand in training and in test.
    """
    cohort, settings, origin, header = subject
    if saving is not None and cohort.task not in SAVED_TASKS:
        log.warning("no model is saved: %s studies have none", cohort.task)
    if saving is None or cohort.task not in SAVED_TASKS:
        return probe_cohort(cohort, settings, origin, progress, jobs), None
    settled = settings.settled(cohort.meta)
    _refuse_unfit(saving, cohort, settled, len(divide(cohort, settled)))
    result = probe_cohort(cohort, settings, origin, progress, jobs)
    return result, fit_probe(cohort, result, header, saving)


def fit_probe(cohort: Cohort, result: ProbeResult, header: Header, saving: Saving) -> SavedProbe:
    """Fit a classifier that outlives the study.

    Args:
        cohort, result: of the study that was run.
        header: of the feature file.
        saving: which one, and on whom.

    Raises:
        CohortError: no such classifier, or a pool is asked for and there are several.
    """
    settings = result.settings
    _refuse_unfit(saving, cohort, settings, len(result.folds))
    use_pool = _one_pool(settings, len(result.folds)) and saving.on != "all"
    patients = result.folds[0].pool if use_pool else np.arange(cohort.n_patients)
    items = cohort.items_of(patients)
    rows = cohort.rows_of(items)
    form, temperature = _fitter(cohort, settings).form(saving.classifier, rows, _statistics(cohort, settings, rows))
    bags = saving.classifier == "abmil"  # are as they were extracted
    return SavedProbe(
        classifier=saving.classifier,
        form=form if bags else form.stretched(2.0**cohort.exponent),
        task=cohort.task,
        classes=cohort.classes,
        label=result.label,
        unit=settings.unit,
        pool="mean" if settings.pool == "abmil" else settings.pool,
        header=header,
        training={
            "patients": len(patients),
            "items": len(items),
            "per_class": dict(zip(cohort.classes, cohort.per_class(patients).tolist(), strict=False)),
            "where": "training pool" if use_pool else "all",
        },
        tested=_tested(result, saving.classifier) if use_pool else {},
        temperature=temperature,
        threshold=settings.threshold,
        novelty=_novelty(cohort, items, settings.seed) if saving.novelty else None,
    )


def _refuse_unfit(saving: Saving, cohort: Cohort, settings: ProbeSettings, folds: int) -> None:
    if saving.classifier not in FORMS:
        message = f"--save {saving.classifier}: cannot be saved"
        raise CohortError(message, remedy=f"choose one of {', '.join(FORMS)}")
    if saving.classifier == "abmil" and settings.pool != "abmil":
        raise CohortError("--save abmil: no attention was trained in this study", remedy="--pool abmil")
    if saving.classifier == "prototype" and cohort.task == "regression":
        raise CohortError("--save prototype: it needs classes", remedy="--save linear or knn")
    if cohort.task not in SAVED_TASKS:
        raise CohortError(f"a probe of the task {cohort.task} cannot be saved", remedy="--no-model")
    if saving.on == "pool" and not _one_pool(settings, folds):
        raise CohortError(
            f"the study has {folds} training pools, and none of them is the one to save",
            remedy="--save-on all, or a single hold-out",
        )


def _one_pool(settings: ProbeSettings, folds: int) -> bool:
    return folds == 1 and not settings.cv


def _fitter(cohort: Cohort, settings: ProbeSettings) -> Fitter:
    truth, patient = cohort.truth[cohort.row_item], cohort.patient[cohort.row_item]
    return Fitter(cohort.rows, truth, patient, cohort.task, cohort.n_classes, settings, cohort.bags)


def _statistics(cohort: Cohort, settings: ProbeSettings, rows: Ints) -> Standard | None:
    return Standard.of(cohort.rows[rows]) if settings.scale == "pool" else None


def _tested(result: ProbeResult, classifier: str) -> dict[str, Any]:
    """The study's estimates with all patients of the pool, on its first test set."""
    everybody = {budget.name for budget in result.budgets if budget.fraction == 1.0}
    found = [
        row
        for row in result.estimates
        if row.classifier == classifier and row.budget in everybody and not row.subgroup and np.isfinite(row.value)
    ]
    first = found[0].test_set if found else ""
    return {row.metric: [float(row.value), _bound(row.low), _bound(row.high)] for row in found if row.test_set == first}


def _bound(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _novelty(cohort: Cohort, items: Ints, seed: int) -> Novelty | None:
    patients = cohort.patient[items]
    rows = np.ldexp(cohort.embedding[items], cohort.exponent)
    return Novelty.of(rows, patients, seed) if len(np.unique(patients)) > 1 else None
