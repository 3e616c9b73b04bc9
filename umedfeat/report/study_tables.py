"""Tables of a study's page."""

from __future__ import annotations

import math
from typing import NamedTuple

from umedfeat.fewshot.metrics.metrics import METRICS, metrics_of
from umedfeat.fewshot.metrics.operating import OPERATING
from umedfeat.fewshot.result import Drop, Estimate, ProbeResult
from umedfeat.report.answer import classifiers_of
from umedfeat.terminal.words import counted

__all__ = ["Row", "Subgroup", "shown_drops", "spreads_of", "subgroups_of", "table_of", "wide_metrics"]

#: Metrics of the wide table: those of a yes-or-no answer have a table of their own, the prevalence is a footnote.
_APART = frozenset({*OPERATING, "prevalence"})


class Row(NamedTuple):
    """One classifier with one amount of data: (value, interval) a metric; of some, by label, (SD, range) over draws."""

    name: str
    trained: str
    spread: dict[str, tuple[str, str]]
    cells: list[tuple[str, str]]


class Subgroup(NamedTuple):
    """Part of a test set: (value, interval) a classifier."""

    name: str
    test_set: str
    patients: int
    cells: list[tuple[str, str]]


def wide_metrics(result: ProbeResult) -> list[str]:
    """Metrics of the wide table."""
    return [name for name in metrics_of(result.task) if name not in _APART]


def spreads_of(result: ProbeResult) -> list[str]:
    """Metrics whose spread over draws stands in the table: the primary one and the AUROC."""
    return [name for name in metrics_of(result.task) if name in (result.primary, "auroc")]


def subgroups_of(result: ProbeResult) -> list[Subgroup]:
    """The primary metric of every classifier in every subgroup, with the most data."""
    found: dict[tuple[str, str], dict[str, Estimate]] = {}
    for row in result.estimates:
        if row.subgroup and (row.metric, row.budget) == (result.primary, result.budgets[-1].name):
            found.setdefault((row.test_set, row.subgroup), {})[row.classifier] = row
    names = classifiers_of(result)
    return [
        Subgroup(subgroup, test_set, rows[names[0]].test_patients, [_cell(rows[name]) for name in names])
        for (test_set, subgroup), rows in found.items()
    ]


def shown_drops(result: ProbeResult) -> list[Drop]:
    """Those of the primary metric that are defined, one group of patients after the other."""
    there = (drop for drop in result.drops if drop.metric == result.primary and math.isfinite(drop.drop))
    return sorted(there, key=lambda drop: drop.external)


def table_of(result: ProbeResult, test_set: str, metrics: list[str]) -> list[Row]:
    """Every classifier with every amount of data on one test set."""
    rows = []
    for name in classifiers_of(result):
        for budget in result.budgets_of(test_set):
            found = {
                row.metric: row
                for row in result.estimates
                if (row.classifier, row.budget, row.test_set, row.subgroup) == (name, budget.name, test_set, "")
            }
            if found:
                trained = f"{counted(budget.n_patients, 'patient')}, {counted(budget.repeats, 'draw')}"
                cells = [_cell(found[metric]) for metric in metrics]
                spread = {METRICS[metric].label: _spread(found[metric]) for metric in spreads_of(result)}
                unbroken = budget.name.replace(" ", "\N{NO-BREAK SPACE}")
                rows.append(Row(f"{name}, {unbroken}", trained, spread, cells))
    return rows


def _cell(row: Estimate) -> tuple[str, str]:
    if not math.isfinite(row.value):
        return "–", "undefined" if row.undefined == 1 else f"{row.undefined} undefined"
    return f"{_zeroed(row.value):.3f}", f"{_zeroed(row.low):.3f} to {_zeroed(row.high):.3f}" if row.interval else ""


def _zeroed(value: float) -> float:
    """Without the sign of what is shown as zero."""
    return round(value, 3) + 0.0


def _spread(row: Estimate) -> tuple[str, str]:
    return (f"±{row.sd:.3f}", f"{row.minimum:.3f} to {row.maximum:.3f}") if row.draws > 1 else ("–", "")
