"""The data-efficiency curve: the metric over the number of labelled patients."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from umedfeat.fewshot.metrics import METRICS
from umedfeat.fewshot.result import Budget, Estimate, ProbeResult
from umedfeat.report.figures.axes import Axes, linear_ticks, series_class

__all__ = ["curve"]


def curve(result: ProbeResult, test_set: str) -> Markup:
    """One line per classifier with its interval as a band and every draw as a dot; patients on a log scale."""
    rows = [
        row
        for row in result.estimates
        if row.metric == result.primary and row.test_set == test_set and not row.subgroup and math.isfinite(row.value)
    ]
    budgets = {budget.name: budget for budget in result.budgets}
    draws = [
        score
        for score in result.scores
        if score.metric == result.primary and score.test_set == test_set and not score.subgroup
    ]
    values = [value for row in rows for value in (row.value, row.low, row.high) if math.isfinite(value)]
    values += [score.value for score in draws if math.isfinite(score.value)]
    axes = _axes(result, values, list(result.budgets))
    for number, name in enumerate(dict.fromkeys(row.classifier for row in rows)):
        kind = series_class(number)
        for score in draws:
            if score.classifier == name and math.isfinite(score.value):
                beside = (number - 1) * 0.008 * (axes.x[1] - axes.x[0])  # dots of classifiers stand side by side
                axes.dot(_place(budgets[score.budget]) + beside, score.value, f"{kind} draw", radius=2)
        _line(axes, [row for row in rows if row.classifier == name], budgets, kind)
    return axes.svg()


def _line(axes: Axes, rows: Sequence[Estimate], budgets: dict[str, Budget], kind: str) -> None:
    banded = [row for row in rows if math.isfinite(row.low) and math.isfinite(row.high)]
    upper = [(_place(budgets[row.budget]), row.high) for row in banded]
    lower = [(_place(budgets[row.budget]), row.low) for row in reversed(banded)]
    if len(banded) > 1:
        axes.area(upper + lower, kind)
    for (x, high), row in zip(upper, banded, strict=True):
        axes.line([(x, row.low), (x, high)], f"{kind} whisker")
    axes.line([(_place(budgets[row.budget]), row.value) for row in rows], kind)
    for row in rows:
        tip = f"{row.classifier}, {row.budget}: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}], {row.draws} draws"
        axes.dot(_place(budgets[row.budget]), row.value, kind, radius=4, tip=tip)


def _axes(result: ProbeResult, values: list[float], budgets: list[Budget]) -> Axes:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = max(0.05, (high - low) * 0.08)
    low, high = low - pad, high + pad
    if result.primary != "r2":
        low, high = max(low, -1.0), min(high, 1.0 + 0.02)
    places = [_place(budget) for budget in budgets]
    margin = max(0.12, (max(places) - min(places)) * 0.06)
    x = (min(places) - margin, max(places) + margin)
    name = METRICS[result.primary].label
    return Axes(
        x, (low, high), _x_ticks(budgets, x), linear_ticks(low, high), "labelled training patients (log scale)", name,
        f"{name} over the number of labelled training patients",
    )  # fmt: skip


def _x_ticks(budgets: list[Budget], x: tuple[float, float]) -> list[tuple[float, str]]:
    """Budgets by name and number, those that would stand on each other left out."""
    ticks: list[tuple[float, str]] = []
    for budget in reversed(budgets):
        place = _place(budget)
        if not ticks or (ticks[-1][0] - place) / (x[1] - x[0]) > 0.09:
            ticks.append((place, f"{budget.n_patients}\n{budget.name}"))
    return ticks[::-1]


def _place(budget: Budget) -> float:
    return math.log10(max(1, budget.n_patients))
