"""A paragraph for the methods section of a paper, with the real settings and versions."""

from __future__ import annotations

import textwrap
from collections.abc import Collection

from umedfeat.fewshot.coverage import covered_study
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.result import ProbeResult
from umedfeat.fewshot.settings import (
    ATTENTION,
    COX_ALPHA,
    COX_ALPHA_FIXED,
    ENOUGH_PATIENTS,
    INNER_FOLDS,
    KNN_NEIGHBOURS,
    LOGISTIC_C,
    LOGISTIC_C_FIXED,
    PROTOTYPE_TEMPERATURE,
    RIDGE_ALPHA,
    RIDGE_ALPHA_FIXED,
)
from umedfeat.report.methods_design import draws_sentence, saved_sentence, test_sentence

__all__ = ["methods_sentences", "methods_text"]

_CENTRED = "centred by the mean of the drawn items and divided by their root mean square length"
_SCALES = {
    "unit": f"features scaled to unit length per item, {_CENTRED}",
    "standard": f"features standardised over the drawn items, {_CENTRED}",
    "pool": "features standardised by means and standard deviations of the whole training pool, whose labels were not "
    f"used, {_CENTRED}",
}


def methods_text(result: ProbeResult) -> str:
    """What was done, in sentences."""
    return textwrap.fill(_paragraph(result), 100, break_on_hyphens=False) + "\n"


def _paragraph(result: ProbeResult) -> str:
    return " ".join(filter(None, methods_sentences(result).values()))


def methods_sentences(result: ProbeResult) -> dict[str, str]:
    """The same by topic; "" where there is nothing to say. Only what was computed is said."""
    return {
        "cohort": _cohort(result),
        "preprocessing": _preprocessing(result),
        "missing": _missing(result),
        "test": test_sentence(result),
        "saved": saved_sentence(result),
        "draws": draws_sentence(result),
        "classifiers": " ".join(_classifiers(result)),
        "calibration": _calibration(result),
        "decision": _decision(result),
        "metrics": _metrics(result),
        "uncertainty": _uncertainty(result),
        "significance": _significance(result),
        "subgroups": _subgroups(result),
        "software": _software(result),
        "use": "The probe is a measurement of the representation for research use; it is not a medical device.",
    }


_UNITS = {
    "item": "pooled per image or slide ({pool})",
    "tile": "used tile by tile, predictions being averaged per item",
    "patient": "pooled per patient ({pool})",
}
_POOLS = {"mean": "mean", "max": "maximum", "mean+std": "mean and standard deviation", "abmil": "mean"}


def _cohort(result: ProbeResult) -> str:
    cohort, settings = result.cohort, result.settings
    encoder = f" from the encoder {result.encoder}" if result.encoder else ""
    weights = f" (weights SHA-256 {result.weights})" if result.weights else ""
    unit = _UNITS[settings.unit].format(pool=_POOLS[settings.pool])
    who = (
        f"{len(cohort.ids)} items of {cohort.n_patients} patients"
        if cohort.patients_known
        else f"{len(cohort.ids)} items; no patient information was available and every item was taken as "
        f"its own patient"
    )
    kinds = {"regression": "a continuous target", "survival": "the time to an event"}
    what = "labels" if result.task == "multilabel" else "classes"
    target = kinds.get(result.task) or f"{len(cohort.classes)} {what} ({', '.join(cohort.classes)})"
    positive = f"; positive: {cohort.classes[result.positive]}" if result.positive >= 0 else ""
    return f"Frozen features{encoder}{weights} were {unit} and evaluated on {target}{positive} ({who})."


def _preprocessing(result: ProbeResult) -> str:
    if not result.policy:
        return ""
    return f"Images were prepared as follows: {result.policy} (fingerprint of the features: {result.fingerprint})."


def _missing(result: ProbeResult) -> str:
    lost = [f"{step.note} ({step.name})" for step in result.flow if step.note]
    left_out = f"Left out were: {'; '.join(lost)}." if lost else "No input was left out."
    return f"{left_out} No label and no feature was imputed."


def _classifiers(result: ProbeResult) -> list[str]:
    used = {part.classifier for part in result.predictions}
    found = []
    fewer = f"where fewer than {ENOUGH_PATIENTS} patients"
    inner = f"chosen by {INNER_FOLDS}-fold patient-grouped cross-validation inside the drawn patients"
    if result.task == "survival":
        found.append(
            f"Cox regression with a ridge penalty (Breslow's likelihood) used {_SCALES[result.settings.scale]}; its "
            f"penalty ({COX_ALPHA[0]:g} to {COX_ALPHA[-1]:g}) was {inner}, by concordance "
            f"({COX_ALPHA_FIXED:g} {fewer} with or without event were drawn)."
        )
    elif "linear" in used and result.task == "regression":
        found.append(
            f"Ridge regression used {_SCALES[result.settings.scale]}; its penalty ({RIDGE_ALPHA[0]:g} to "
            f"{RIDGE_ALPHA[-1]:g}) was {inner} ({RIDGE_ALPHA_FIXED:g} {fewer} were drawn)."
        )
    elif "linear" in used:
        found.append(
            f"The linear probe was L2-regularised logistic regression on {_SCALES[result.settings.scale]}; C "
            f"({LOGISTIC_C[0]:g} to {LOGISTIC_C[-1]:g}) was {inner}, by log-loss (C = {LOGISTIC_C_FIXED:g} {fewer} of "
            "a class were drawn)."
        )
    if "knn" in used:
        found.append(_neighbours(result))
    if "prototype" in used:
        found.append(
            "The prototype classifier assigned the nearest class mean by cosine similarity after centring by the mean "
            f"of the class means (softmax temperature {PROTOTYPE_TEMPERATURE:g})."
        )
    if result.settings.weights == "patient":
        found.append("Every training patient counted once, whatever the number of items.")
    if "trivial" in used:
        found.append(
            "The trivial baseline was the linear probe, standardised, on what is known without an encoder: "
            f"{', '.join(result.cohort.facts)}."
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


def _neighbours(result: ProbeResult) -> str:
    values = result.task == "regression"
    chosen, said = (
        ("squared error", "predictions were the mean of their targets")
        if values
        else ("Brier score", "probabilities were (votes + 1/K) / (k + 1) for K classes")
    )
    return (
        "k-nearest neighbours used the cosine similarity after centring by the training mean, k from "
        f"{{{', '.join(map(str, KNN_NEIGHBOURS))}}} being chosen by the leave-one-patient-out {chosen} of the drawn "
        f"data; {said}."
    )


def _calibration(result: ProbeResult) -> str:
    if not result.settings.calibrate or result.task in ("regression", "survival"):
        return ""
    return (
        "Probabilities were calibrated by temperature scaling, the temperature being chosen by log-loss in "
        f"{INNER_FOLDS}-fold patient-grouped cross-validation inside the drawn patients; it was 1 where a class had "
        "fewer than three."
    )


def _decision(result: ProbeResult) -> str:
    if result.task in ("regression", "survival"):
        return ""
    if result.task == "multilabel":
        return "A label was called present above a probability of 0.5."
    if result.task != "binary":
        return "The class with the highest probability was called."
    return (
        "The more probable class was called; for sensitivity, specificity and predictive values an item was called "
        f"positive above a probability of {result.settings.threshold:g}, fixed before the study."
    )


def _metrics(result: ProbeResult) -> str:
    names = dict.fromkeys(row.metric for row in result.estimates)
    undefined = any(row.undefined for row in result.estimates)
    left_out = " Draws in which a metric was undefined were counted and left out of its mean." if undefined else ""
    mean = "" if all(budget.repeats == 1 for budget in result.budgets) else f", {_averaged(names)}"
    return f"Reported: {', '.join(METRICS[name].label for name in names)}{mean}.{left_out}"


def _averaged(names: Collection[str]) -> str:
    slope = " (the calibration slope of all draws together)" if "calibration_slope" in names else ""
    return f"{'each ' if len(names) > 1 else ''}as the mean over draws{slope}"


def _significance(result: ProbeResult) -> str:
    if not result.significance:
        return ""
    first = result.significance[0]
    how = (
        "exchange labels between patients before anything is fitted, one partition and draw each; of equal values the "
        "AUROC decides"
        if result.settings.cv
        else "exchange labels between test patients; of equal values the mean probability of the true class decides"
    )
    return (
        f"P-values against chance ({METRICS[first.metric].label}) {how} ({first.permutations} permutations, "
        "p = (1 + b) / (1 + B))."
    )


def _subgroups(result: ProbeResult) -> str:
    names = ", ".join(result.settings.subgroups or ())
    return f"Results were broken down by {names}." if names else ""


def _uncertainty(result: ProbeResult) -> str:
    settings = result.settings
    spread = "The spread over draws is reported separately. " if any(b.repeats > 1 for b in result.budgets) else ""
    if not any(row.interval for row in result.estimates):
        return f"{spread}The test sets were too small for intervals."
    how = "" if result.task in ("regression", "multilabel") else " within class"
    return (
        f"{spread}{settings.confidence:.0%} confidence intervals resample test patients{how} ({settings.bootstrap} "
        "resamplings; score intervals for metrics between 0 and 1, Student intervals on the metric's normal scale for "
        f"the others{_joined(result)}). {' '.join(kind.sentence for kind in covered_study(result))}"
    )


def _joined(result: ProbeResult) -> str:
    names = dict.fromkeys(METRICS[row.metric].label for row in result.estimates if row.interval == "joined recalls")
    return f"; {', '.join(names)}: the intervals of the recalls, joined by square and add" if names else ""


def _software(result: ProbeResult) -> str:
    names = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    return f"Software: {names}; random seed {result.settings.seed}."
