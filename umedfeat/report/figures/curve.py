"""The data-efficiency curve: the metric over the number of labelled patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from umedfeat.fewshot.metrics.chance import chance_level
from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.result import Budget, Estimate, ProbeResult, Score
from umedfeat.report.answer import with_interval
from umedfeat.report.figures.axes import Axes, linear_ticks, series_class

__all__ = ["Line", "curve", "line_of"]


class Line(NamedTuple):
    """What one line shows: its name, the estimates that it joins, and the single draws."""

    name: str
    estimates: list[Estimate]
    draws: list[Score]


def line_of(result: ProbeResult, classifier: str, test_set: str, name: str) -> Line:
    """The primary metric of one classifier on one test set; undefined values are left out."""
    keys = (classifier, test_set, "", result.primary)
    return Line(
        name,
        [e for e in result.estimates if _keys(e) == keys and math.isfinite(e.value)],
        [s for s in result.scores if _keys(s) == keys and math.isfinite(s.value)],
    )


def _keys(row: Estimate | Score) -> tuple[str, str, str, str]:
    return row.classifier, row.test_set, row.subgroup, row.metric


def curve(lines: Sequence[Line], budgets: Sequence[Budget], metric: str, n_classes: int) -> Markup:
    """Every line with its interval as a band and every draw as a dot; patients on a log scale; chance dashed."""
    values = [value for line in lines for e in line.estimates for value in (e.value, e.low, e.high)]
    values += [score.value for line in lines for score in line.draws]
    chance = chance_level(metric, n_classes)
    axes = _axes(metric, [value for value in [*values, chance] if math.isfinite(value)], budgets)
    if math.isfinite(chance):
        axes.line([(axes.x[0], chance), (axes.x[1], chance)], "chance")
        axes.note(axes.x[1], chance, f"chance {chance:.3g}")
    places = {budget.name: _place(budget) for budget in budgets}
    for number, line in enumerate(lines):
        beside = (number - (len(lines) - 1) / 2) * 0.008 * (axes.x[1] - axes.x[0])  # dots stand side by side
        for score in line.draws:
            axes.dot(places[score.budget] + beside, score.value, f"{series_class(number)} draw", radius=2)
        _line(axes, line, places, series_class(number))
    return axes.svg()


def _line(axes: Axes, line: Line, places: Mapping[str, float], kind: str) -> None:
    banded = [row for row in line.estimates if math.isfinite(row.low) and math.isfinite(row.high)]
    upper = [(places[row.budget], row.high) for row in banded]
    lower = [(places[row.budget], row.low) for row in reversed(banded)]
    if len(banded) > 1:
        axes.area(upper + lower, kind)
    for (x, high), row in zip(upper, banded, strict=True):
        axes.line([(x, row.low), (x, high)], f"{kind} whisker")
    axes.line([(places[row.budget], row.value) for row in line.estimates], kind)
    for row in line.estimates:
        draws = f"{row.draws} draw{'' if row.draws == 1 else 's'}"
        tip = f"{line.name}, {row.budget}: {with_interval(row)}, {draws}"
        axes.dot(places[row.budget], row.value, kind, radius=4, tip=tip)


def _axes(metric: str, values: list[float], budgets: Sequence[Budget]) -> Axes:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = max(0.05, (high - low) * 0.08)
    low, high = low - pad, high + pad
    if metric != "r2":
        low, high = max(low, -1.0), min(high, 1.0 + 0.02)
    places = [_place(budget) for budget in budgets]
    margin = max(0.12, (max(places) - min(places)) * 0.06)
    x = (min(places) - margin, max(places) + margin)
    name = METRICS[metric].label
    return Axes(
        x, (low, high), _x_ticks(budgets, x), linear_ticks(low, high), "labelled training patients (log scale)", name,
        f"{name} over the number of labelled training patients", width=560, height=360,
    )  # fmt: skip


def _x_ticks(budgets: Sequence[Budget], x: tuple[float, float]) -> list[tuple[float, str]]:
    """Budgets by name and number; of those that would stand on each other the largest, equal ones together."""
    ticks: list[tuple[float, str]] = []
    for budget in reversed(budgets):
        place = _place(budget)
        if ticks and ticks[-1][0] == place:
            patients, names = ticks[-1][1].split("\n")
            ticks[-1] = (place, f"{patients}\n{budget.name}, {names}")
        elif not ticks or (ticks[-1][0] - place) / (x[1] - x[0]) > 0.09:
            ticks.append((place, f"{budget.n_patients}\n{budget.name}"))
    return ticks[::-1]


def _place(budget: Budget) -> float:
    return math.log10(max(1, budget.n_patients))
