"""The sentences that stand on top: numbers, and of how many."""

from __future__ import annotations

import math

from umedfeat.fewshot.metrics.chance import chance_level
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.result import Comparison, Difference, Drop, Estimate, ProbeResult
from umedfeat.report.answer import classifiers_of, with_interval

__all__ = ["comparison_headlines", "headlines"]

_NAMES = {
    "linear": "Linear probe",
    "knn": "kNN",
    "prototype": "Nearest class mean",
    "abmil": "Attention pooling",
    "trivial": "Trivial baseline",
}


#: Less is no difference in three decimals.
_SEEN = 0.0005


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
    patients = {budget.name: budget.n_patients for budget in result.budgets_of(test_set)}
    lines = []
    if rows:
        who = "patients" if result.cohort.patients_known else "items, each taken as its own patient"
        small, large = rows[0], rows[-1]
        sentence = (
            f"With {patients[small.budget]} labelled {who} ({_kept(small.budget)}), {metric} is {with_interval(small)}"
        )
        if large is not small:
            everybody = "all " if large.fraction >= 1 else ""
            sentence += f"; with {everybody}{patients[large.budget]} ({_kept(large.budget)}), {with_interval(large)}"
        tested = f"tested on {small.test_patients} {who.partition(',')[0]}"
        if small.test_items != small.test_patients:
            tested += f" ({small.test_items} items)"
        if len(result.test_sets) > 1:
            tested += f", {test_set}"
        level = chance_level(result.primary, len(result.cohort.classes))
        chance = f" (chance {level:.3f})" if math.isfinite(level) else ""
        lines.append(f"{sentence}{chance}. {_names(first)}, {tested}.")
        if small.draws > 1 and small.maximum - small.minimum >= _SEEN:
            lines.append(
                f"{_varied(result, small, patients[small.budget])} {small.minimum:.3f} to {small.maximum:.3f}."
            )
    largest = (first, result.primary, result.budgets[-1].name)
    lines += [_drop(drop) for drop in result.drops if (drop.classifier, drop.metric, drop.budget) == largest]
    return lines


def _varied(result: ProbeResult, row: Estimate, patients: int) -> str:
    """What single draws differ by: whom they hold; in cross-validation on everybody how the folds fell."""
    if result.settings.cv and row.fraction >= 1:
        return "It matters how the folds fall: single partitions reach"
    return f"It matters whom one labels: single draws of {patients} reach"


def comparison_headlines(comparison: Comparison) -> list[str]:
    """Of each encoder beside the baseline: better, worse or no clear difference, with the most and the least data."""
    first = comparison.results[0]
    keys = (classifiers_of(first)[0], first.test_sets[0], first.primary)
    lines = []
    for name in comparison.names:
        rows = [d for d in comparison.differences if (d.encoder, d.classifier, d.test_set, d.metric) == (name, *keys)]
        if rows:
            said = [_verdict(comparison, row) for row in dict.fromkeys((rows[-1], rows[0]))]
            lines.append(" ".join([*said, f"{_names(keys[0])}."]))
    return lines


def _verdict(comparison: Comparison, row: Difference) -> str:
    """One sentence about one amount of data."""
    results = dict(zip(comparison.names, comparison.results, strict=True))
    ours, theirs = (
        results[name].estimate(row.classifier, row.budget, row.metric, row.test_set).value
        for name in (row.encoder, row.baseline)
    )
    first = comparison.results[0]
    patients = next(budget.n_patients for budget in first.budgets_of(row.test_set) if budget.name == row.budget)
    who = "patients" if first.cohort.patients_known else "items"
    return (
        f"With {patients} labelled {who} ({_kept(row.budget)}), {row.encoder} {_than(row)} {row.baseline}: "
        f"{METRICS[row.metric].label} {ours:.3f} against {theirs:.3f}{_gap(row)}."
    )


def _than(row: Difference) -> str:
    if not math.isfinite(row.low) or row.low <= 0 <= row.high:
        return "does not clearly differ from"
    better = (row.value > 0) == METRICS[row.metric].greater_is_better
    return "is better than" if better else "is worse than"


def _gap(row: Difference) -> str:
    return f", difference {row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" if math.isfinite(row.low) else ""


def _names(classifier: str) -> str:
    return _NAMES.get(classifier, classifier)


def _drop(drop: Drop) -> str:
    if not math.isfinite(drop.drop):
        return f"Left out, {drop.external}: {METRICS[drop.metric].label} is not defined there ({_kept(drop.budget)})."
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
