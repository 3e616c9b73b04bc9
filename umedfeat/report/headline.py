"""The sentences that stand on top: numbers, and of how many."""

from __future__ import annotations

import math

from umedfeat.fewshot.metrics.chance import chance_level
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.result import Drop, ProbeResult
from umedfeat.report.answer import classifiers_of, with_interval

__all__ = ["headlines"]

_NAMES = {
    "linear": "Linear probe",
    "knn": "kNN",
    "prototype": "Nearest class mean",
    "abmil": "Attention pooling",
    "trivial": "Size and kind of the files",
}


def headlines(result: ProbeResult) -> list[str]:
    """What the smallest amount of data reaches against the largest; then what is lost in other centres."""
    metric, test_set = METRICS[result.primary].label, result.test_sets[0]
    first = classifiers_of(result)[0]
    rows = [
        row
        for row in result.estimates
        if (row.classifier, row.metric, row.test_set, row.subgroup) == (first, result.primary, test_set, "")
        and math.isfinite(row.value)
    ]
    patients = {budget.name: budget.n_patients for budget in result.budgets}
    lines = []
    if rows:
        who = "patients" if result.cohort.patients_known else "items, each taken as its own patient"
        small, large = rows[0], rows[-1]
        sentence = (
            f"With {patients[small.budget]} labelled {who} ({_kept(small.budget)}), {metric} is {with_interval(small)}"
        )
        if large is not small:
            sentence += f"; with all {patients[large.budget]} ({_kept(large.budget)}), {with_interval(large)}"
        tested = f"tested on {small.test_patients} {who.partition(',')[0]}"
        if small.test_items != small.test_patients:
            tested += f" ({small.test_items} items)"
        if len(result.test_sets) > 1:
            tested += f", {test_set}"
        level = chance_level(result.primary, len(result.cohort.classes))
        chance = f" (chance {level:.3f})" if math.isfinite(level) else ""
        lines.append(f"{sentence}{chance}. {_names(first)}, {tested}.")
        if small.draws > 1:
            lines.append(
                f"It matters whom one labels: single draws of {patients[small.budget]} reach {small.minimum:.3f} to "
                f"{small.maximum:.3f}."
            )
    largest = (first, result.primary, result.budgets[-1].name)
    lines += [_drop(drop) for drop in result.drops if (drop.classifier, drop.metric, drop.budget) == largest]
    return lines


def _names(classifier: str) -> str:
    return _NAMES.get(classifier, classifier)


def _drop(drop: Drop) -> str:
    if drop.drop >= 0:
        change, low, high = "falls", drop.low, drop.high
    else:
        change, low, high = "rises", -drop.high, -drop.low
    bounds = f" [{low:.3f}, {high:.3f}]" if math.isfinite(low) and math.isfinite(high) else ""
    return (
        f"Left out, {drop.external}: {METRICS[drop.metric].label} {change} by {abs(drop.drop):.3f}{bounds}, from "
        f"{drop.internal_value:.3f} to {drop.external_value:.3f} ({_kept(drop.budget)})."
    )


def _kept(budget: str) -> str:
    """Not broken between number and unit."""
    return budget.replace(" ", "\N{NO-BREAK SPACE}")
