"""Kaplan-Meier curves by predicted risk."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from umedfeat.fewshot.metrics.concordance import kaplan_meier
from umedfeat.fewshot.result import Predictions, ProbeResult
from umedfeat.report.figures.axes import Axes, linear_ticks, series_class

__all__ = ["RISK_KEY", "survival_curves"]

RISK_KEY = [(series_class(0), "lower predicted risk"), (series_class(1), "higher predicted risk")]


def survival_curves(result: ProbeResult, part: Predictions) -> Markup:
    """Share of the test patients without event over time, of the half with the lower and with the higher risk.

    Of the first draw; a patient's risk is the mean over the items. Small strokes are censored patients; below the times
    stand the patients at risk.
    """
    _, first, place = np.unique(result.cohort.patient[part.items], return_index=True, return_inverse=True)
    outcome = np.asarray(result.cohort.truth, dtype=np.float64)[part.items][first]
    risk = np.bincount(place, part.values[0, :, 0].astype(np.float64)) / np.bincount(place)
    groups = [outcome[half] for half in (risk <= np.median(risk), risk > np.median(risk))]
    longest = float(outcome[:, 0].max()) * 1.02
    ticks = [
        (time, "\n".join([text, *(str((group[:, 0] >= time).sum()) for group in groups)]))
        for time, text in linear_ticks(0, longest, 5)
    ]
    axes = Axes(
        (0.0, longest),
        (0.0, 1.02),
        ticks,
        linear_ticks(0, 1, 5),
        result.label.partition(",")[0] or "time",
        "share without event",
        "Kaplan-Meier curves by predicted risk",
        width=420,
        height=400,
    )
    for number, group in enumerate(groups):
        if len(group):
            _draw(axes, group, series_class(number))
    return axes.svg()


def _draw(axes: Axes, outcome: np.ndarray[tuple[int, int], np.dtype[np.float64]], kind: str) -> None:
    times, seen = outcome[:, 0], outcome[:, 1] > 0
    at, share = kaplan_meier(times, seen)
    corners = [(float(at[0]), float(share[0]))]
    for time, before, after in zip(at[1:], share[:-1], share[1:], strict=True):
        corners += [(float(time), float(before)), (float(time), float(after))]
    axes.line(corners, kind)
    for time in times[~seen]:
        level = float(share[np.searchsorted(at, time, side="right") - 1])
        axes.line([(float(time), level - 0.012), (float(time), level + 0.012)], f"{kind} whisker")
