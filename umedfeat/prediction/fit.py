"""From a study to a saved probe: one classifier, fitted on the training pool or on everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from umedfeat.arrays import Ints
from umedfeat.errors import CohortError
from umedfeat.fewshot.classifiers.fitting import Fitter
from umedfeat.fewshot.classifiers.forms import FORMS
from umedfeat.fewshot.classifiers.scaling import Standard
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.cohort.sources import cohort_of, label_items
from umedfeat.fewshot.cohort.table import read_table
from umedfeat.fewshot.result import ProbeResult
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction.novelty import Novelty
from umedfeat.prediction.saved import SAVED_TASKS, SavedProbe
from umedfeat.store import FeatureFile, Header

__all__ = ["SaveOn", "fit_file", "fit_probe"]

SaveOn = Literal["auto", "pool", "all"]


def fit_probe(
    cohort: Cohort,
    result: ProbeResult,
    header: Header,
    *,
    classifier: str = "linear",
    on: SaveOn = "auto",
    novelty: bool = True,
) -> SavedProbe:
    """Fit a classifier that outlives the study.

    Args:
        cohort, result: of the study that was run.
        header: of the feature file.
        classifier: "linear", "knn" or "prototype".
        on: "pool": the training pool of a study with one test set, whose figures then hold for it; "all": everybody;
            "auto": the pool where there is one, else everybody.
        novelty: also learn what is usual, to flag inputs unlike the training data.

    Raises:
        CohortError: no such classifier, or a pool is asked for and there are several.
    """
    settings = result.settings
    _refuse_unfit(classifier, cohort, settings)
    one_pool = len(result.folds) == 1 and not settings.cv
    if on == "pool" and not one_pool:
        raise CohortError(
            f"the study has {len(result.folds)} training pools, and none of them is the one to save",
            remedy="--save-on all, or a single hold-out",
        )
    use_pool = one_pool and on != "all"
    patients = result.folds[0].pool if use_pool else np.arange(cohort.n_patients)
    items = cohort.items_of(patients)
    rows = cohort.rows_of(items)
    form, temperature = _fitter(cohort, settings).form(classifier, rows, _statistics(cohort, settings, rows))
    return SavedProbe(
        classifier=classifier,
        form=form,
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
        tested=_tested(result, classifier) if use_pool else {},
        temperature=temperature,
        novelty=_novelty(cohort, items, settings.seed) if novelty else None,
    )


def fit_file(
    features: Path,
    result: ProbeResult,
    *,
    label: str = "",
    labels: Path | None = None,
    patient: str = "",
    unmatched: str = "stop",
    classifier: str = "linear",
    on: SaveOn = "auto",
    novelty: bool = True,
) -> SavedProbe:
    """The same for a study of ``probe_file``, whose label arguments are given again.

    Raises:
        CohortError, SetupError: see ``fit_probe`` and ``probe_file``.
    """
    table = read_table(features)
    labelled = label_items(table, label=label, labels=labels, patient=patient, unmatched=unmatched)
    cohort = cohort_of(table, labelled, result.settings)
    with FeatureFile(features) as file:
        header = file.header
    return fit_probe(cohort, result, header, classifier=classifier, on=on, novelty=novelty)


def _refuse_unfit(classifier: str, cohort: Cohort, settings: ProbeSettings) -> None:
    if classifier not in FORMS:
        raise CohortError(f"--save {classifier}: cannot be saved", remedy=f"choose one of {', '.join(FORMS)}")
    if classifier == "prototype" and cohort.task == "regression":
        raise CohortError("--save prototype: it needs classes", remedy="--save linear or knn")
    if cohort.task not in SAVED_TASKS:
        raise CohortError(f"a probe of the task {cohort.task} cannot be saved", remedy="--no-model")


def _fitter(cohort: Cohort, settings: ProbeSettings) -> Fitter:
    truth, patient = cohort.truth[cohort.row_item], cohort.patient[cohort.row_item]
    return Fitter(cohort.rows, truth, patient, cohort.task, cohort.n_classes, settings)


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
    return Novelty.of(cohort.embedding[items], patients, seed) if len(np.unique(patients)) > 1 else None
