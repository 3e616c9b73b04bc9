"""What the page of a prediction says where the truth is known: how good the fixed model is on these patients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from markupsafe import Markup

from umedfeat.fewshot.coverage import covered_model
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.metrics.operating import OPERATING
from umedfeat.fewshot.result import Estimate
from umedfeat.prediction.external import INTERCEPT, Validation
from umedfeat.report.answer import with_interval
from umedfeat.report.figures.agreement import calibration, confusion, roc, scatter
from umedfeat.report.figures.axes import series_class
from umedfeat.report.figures.decision import decision_curve
from umedfeat.report.per_class import per_class
from umedfeat.terminal.words import counted

__all__ = ["ValidationSection", "calibration_sentences", "section_of", "validation_headline"]

#: Where a figure has no interval, nothing follows from it.
_TOO_FEW = "too few patients to tell whether the probabilities are right"
Figure = tuple[Markup, list[tuple[str, str]]]


class ValidationSection(NamedTuple):
    """Everything that is shown; see the template.

    ``covers``: what the intervals are about. ``rows``: metric, here, in the study. ``operating``: the same of a
    yes-or-no answer. ``subgroups``: group, patients, primary metric. ``figures``: name → figure with its key. ``flow``:
    step, items, patients, left out.
    """

    headline: str
    calibrated: list[str]
    covers: str
    rows: list[tuple[str, str, str]]
    operating: list[tuple[str, str, str]]
    confusion: Markup | None
    classes: list[list[str]]
    figures: dict[str, Figure]
    subgroups: list[tuple[str, int, str]]
    metric: str
    flow: list[tuple[str, int, str, str]]
    methods: str
    warnings: tuple[str, ...]


def section_of(validation: Validation) -> ValidationSection:
    """Tables, figures and sentences of a validation."""
    classes = validation.task not in ("regression", "multilabel")
    primary = [row for row in validation.estimates if row.subgroup and row.metric == validation.primary]
    return ValidationSection(
        headline=validation_headline(validation),
        calibrated=calibration_sentences(validation),
        covers=covered_model(validation.task).sentence,
        rows=list(_rows(validation, operating=False)),
        operating=list(_rows(validation, operating=True)),
        confusion=confusion(validation, validation.part) if classes else None,
        classes=per_class(validation, validation.part) if validation.cohort.classes else [],
        figures=_figures(validation),
        subgroups=[(row.subgroup, row.test_patients, with_interval(row)) for row in primary],
        metric=METRICS[validation.primary].label,
        flow=[(step.name, step.items, str(step.patients or "–"), step.note) for step in validation.cohort.flow],
        methods=methods_of(validation),
        warnings=validation.warnings,
    )


def validation_headline(validation: Validation) -> str:
    """The primary metric on the new patients, and what it was in the study."""
    row = validation.estimate(validation.primary)
    noun, own = ("patient", "") if validation.cohort.patients_known else ("item", ", each taken as its own patient,")
    items = f" ({row.test_items} items)" if row.test_items != row.test_patients else ""
    said = (
        f"On {counted(row.test_patients, noun)}{own}{items} that it was not trained on, {METRICS[row.metric].label} is"
    )
    was = _studied(validation, row.metric)
    return f"{said} {with_interval(row)}{f'; in its study it was {was}' if was else ''}."


def calibration_sentences(validation: Validation) -> list[str]:
    """What slope and intercept say, of classes; with the figures, and only as surely as their intervals allow."""
    found = []
    for row in validation.estimates:
        if row.metric == INTERCEPT and math.isfinite(row.value):
            of = row.subgroup.removeprefix("class=") or validation.cohort.classes[-1]
            words = ("less often than predicted", "more often than predicted", "about as often as predicted")
            said = f"“{of}” occurs {_side(row, 0.0, *words)}" if row.interval else f"“{of}”: {_TOO_FEW}"
            found.append(f"{said} (calibration intercept {with_interval(row)}; 0 is calibrated).")
        if row.metric == "calibration_slope" and not row.subgroup and math.isfinite(row.value):
            words = ("too extreme", "too cautious", "neither too extreme nor too cautious, as far as seen")
            said = f"Its probabilities are {_side(row, 1.0, *words)}" if row.interval else f"Its spread: {_TOO_FEW}"
            found.append(f"{said} (calibration slope {with_interval(row)}; 1 is calibrated).")
    return found


def _side(row: Estimate, ideal: float, below: str, above: str, between: str) -> str:
    if row.low <= ideal <= row.high:
        return between
    return below if row.high < ideal else above


def _rows(validation: Validation, *, operating: bool) -> Iterator[tuple[str, str, str]]:
    for row in validation.estimates:
        if not row.subgroup and (row.metric in OPERATING) == operating:
            yield METRICS[row.metric].label, with_interval(row), _studied(validation, row.metric)


def _studied(validation: Validation, metric: str) -> str:
    if metric not in validation.studied:
        return ""
    value, low, high = validation.studied[metric]
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else "")


def _figures(validation: Validation) -> dict[str, Figure]:
    part, classes = validation.part, validation.cohort.classes
    if not classes:
        return {"scatter": (scatter(validation, part), [])}
    binary = validation.task == "binary"
    key = [(series_class(0), classes[1])] if binary else [(series_class(k), n) for k, n in enumerate(classes[:7])]
    found = {"calibration": (calibration(validation, part), key), "roc": (roc(validation, part), key)}
    return found | ({"decision_curve": decision_curve(validation, [part])} if binary else {})


def methods_of(validation: Validation) -> str:
    """The paragraph for the paper: only what was done."""
    settings, row = validation.settings, validation.estimate(validation.primary)
    known = validation.cohort.patients_known
    unit = "patient" if known else "item (patients are not known)"
    level = f"{settings.confidence:.0%}"
    told = (
        f"The classifier ({validation.part.classifier}) was fixed before these data were seen; nothing was refitted, "
        f"recalibrated or chosen. It was applied to {counted(row.test_items, 'labelled item')} of "
        f"{counted(row.test_patients, 'patient' if known else 'presumed patient')} (labels: {validation.label}). "
        f"{level} intervals come from {settings.bootstrap} resamplings by {unit}, on the scale of each "
        "metric (score intervals for proportions and areas). "
        f"{covered_model(validation.task).sentence} "
        "Calibration: slope and intercept of the logistic recalibration of the log-odds."
    )
    test = validation.significance
    if test is not None:
        told += (
            f" Balanced accuracy {test.value:.3f} against {test.chance:.3f} by chance: p = {test.p:.4g} "
            f"({test.permutations} permutations of the labels between patients)."
        )
    return f"{told} For research use."
