"""A paragraph for the methods section of a paper, with the real settings and versions."""

from __future__ import annotations

import textwrap

from umedfeat.fewshot.result import ProbeResult
from umedfeat.fewshot.settings import (
    ATTENTION,
    INNER_FOLDS,
    KNN_NEIGHBOURS,
    LOGISTIC_C,
    LOGISTIC_C_FIXED,
    PROTOTYPE_TEMPERATURE,
    RIDGE_ALPHA,
)

__all__ = ["methods_text"]


def methods_text(result: ProbeResult) -> str:
    """What was done, in sentences."""
    sentences = [
        _cohort(result),
        _test(result),
        *_saved(result),
        _draws(result),
        *_classifiers(result),
        _uncertainty(result),
        _software(result),
    ]
    return textwrap.fill(" ".join(sentences), 100) + "\n"


def _cohort(result: ProbeResult) -> str:
    cohort = result.cohort
    patients = len(set(cohort.patients.tolist()))
    encoder = f" from the encoder {result.encoder}" if result.encoder else ""
    unit = {
        "item": "averaged per image or slide",
        "tile": "used tile by tile, predictions being averaged per item",
        "patient": "averaged per patient",
    }[result.settings.unit]
    who = (
        f"{len(cohort.ids)} items of {patients} patients"
        if cohort.patients_known
        else f"{len(cohort.ids)} items; no patient information was available and every item was taken as "
        f"its own patient"
    )
    target = f"{len(cohort.classes)} classes" if cohort.classes else "a continuous target"
    return f"Frozen features{encoder} were {unit} and evaluated on {target} ({who})."


def _test(result: ProbeResult) -> str:
    settings = result.settings
    if settings.external or settings.loco:
        names = "; ".join(fold.name for fold in result.folds)
        return (
            f"External validation left out whole groups of patients ({names}); {settings.held_out:.0%} of the "
            "remaining patients were held out as the internal test set."
        )
    if settings.cv:
        return (
            f"Performance was estimated by patient-level {settings.cv}-fold cross-validation with out-of-fold "
            f"predictions, repeated {settings.cv_repeats} times; metrics were computed on the predictions of all folds "
            "together."
        )
    if settings.split:
        return f"Training and test patients were taken from the column '{settings.split}'."
    fold = result.folds[0]
    count = len(fold.tests["test"])
    return f"A class-stratified test set of {count} patients was held out; no patient was in training and test."


def _saved(result: ProbeResult) -> list[str]:
    if result.settings.splits is None:
        return []
    return [f"Test patients and draws were those of an earlier study ({result.settings.splits.name})."]


def _draws(result: ProbeResult) -> str:
    spent = ", ".join(
        f"{b.name} ({b.n_patients} patients, {b.repeats} draw{'' if b.repeats == 1 else 's'})" for b in result.budgets
    )
    how = "at random" if result.task == "regression" else "class-proportionally with at least one patient per class"
    return f"Training patients were drawn from the remaining {result.budgets[0].n_pool} {how}, nested: {spent}."


def _classifiers(result: ProbeResult) -> list[str]:
    used = {part.classifier for part in result.predictions}
    found = []
    if "linear" in used and result.task == "regression":
        found.append(
            f"Ridge regression on standardised features; its penalty ({RIDGE_ALPHA[0]:g} to {RIDGE_ALPHA[-1]:g}) was "
            f"chosen by {INNER_FOLDS}-fold patient-grouped cross-validation inside the drawn patients."
        )
    elif "linear" in used:
        found.append(
            f"The linear probe was L2-regularised logistic regression on standardised features; C "
            f"({LOGISTIC_C[0]:g} to {LOGISTIC_C[-1]:g}) was chosen by log-loss in {INNER_FOLDS}-fold "
            f"patient-grouped cross-validation inside the "
            f"drawn patients (C = {LOGISTIC_C_FIXED:g} where a class had fewer than three patients)."
        )
    if "knn" in used:
        found.append(
            "k-nearest neighbours used the cosine similarity after centring by the training mean, k from "
            f"{{{', '.join(map(str, KNN_NEIGHBOURS))}}} being chosen by the leave-one-patient-out Brier score of "
            "the drawn data."
        )
    if "prototype" in used:
        found.append(
            "The prototype classifier assigned the nearest class mean by cosine similarity "
            f"(softmax temperature {PROTOTYPE_TEMPERATURE:g})."
        )
    if "abmil" in used:
        found.append(
            "Attention pooling (abmil) was the gated-attention network of Ilse et al. (2018) on standardised tiles, "
            f"{ATTENTION.hidden} hidden and {ATTENTION.gate} gate units, trained on the drawn items alone with AdamW "
            f"(learning rate {ATTENTION.rate:g}, weight decay {ATTENTION.decay:g}) for at least {ATTENTION.steps} "
            f"steps and {ATTENTION.passes} passes of {ATTENTION.batch} items with up to {ATTENTION.rows} tiles each, "
            "fixed beforehand and without early stopping; the other classifiers saw the mean of the tiles."
        )
    return found


def _uncertainty(result: ProbeResult) -> str:
    settings = result.settings
    return (
        "Every metric is the mean over draws; the spread over draws is reported separately. "
        f"{settings.confidence:.0%} confidence intervals resample test patients within class ({settings.bootstrap} "
        "resamplings, fitted classifiers held fixed; score intervals for metrics between 0 and 1, Student intervals on "
        "the metric's normal scale for the others) and refer to the performance of these classifiers on new patients "
        "of the same population; they do not cover the choice of training patients. P-values against "
        "chance exchange labels between test patients."
    )


def _software(result: ProbeResult) -> str:
    names = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    return f"Software: {names}; random seed {result.settings.seed}."
