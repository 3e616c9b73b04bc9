"""The decision curve: is acting on the answer worth more than treating everybody or nobody?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from umedfeat.fewshot.metrics.operating import net_benefit
from umedfeat.fewshot.result import Judged, Predictions
from umedfeat.report.figures.axes import Axes, linear_ticks, series_class

__all__ = ["THRESHOLDS", "benefit_of", "decision_curve"]

#: Threshold probabilities of the curve.
THRESHOLDS = np.linspace(0.01, 0.99, 99)
#: Height of the frame where nobody is positive: there is harm to show, and no benefit.
_NOBODY = 0.1


def benefit_of(result: Judged, part: Predictions) -> npt.NDArray[np.float64]:
    """(T,) net benefit at each of THRESHOLDS, mean over the draws."""
    hit = np.asarray(result.cohort.truth[part.items]) == 1
    each = [net_benefit(values[:, 1].astype(np.float64), hit, THRESHOLDS) for values in part.values]
    return np.asarray(np.mean(each, axis=0))


def decision_curve(result: Judged, parts: Sequence[Predictions]) -> tuple[Markup, list[tuple[str, str]]]:
    """Net benefit over the threshold probability for each classifier, for everybody and for nobody, and the key.

    Args:
        parts: predictions of one test set, one a classifier; binary.
    """
    hit = np.asarray(result.cohort.truth[parts[0].items]) == 1
    everybody = net_benefit(np.ones(len(hit)), hit, THRESHOLDS)
    most = float(hit.mean()) or _NOBODY
    span = (-0.15 * most, most * 1.08)
    axes = Axes(
        (0.0, 1.0),
        span,
        linear_ticks(0, 1, 5),
        linear_ticks(*span),
        "threshold probability",
        "net benefit",
        "Decision curve",
        width=520,
        height=360,
    )
    axes.line([(0.0, 0.0), (1.0, 0.0)], "chance")
    shown = everybody >= span[0]
    axes.line(zip(THRESHOLDS[shown], everybody[shown], strict=True), f"{series_class(len(parts))} all")
    for number, part in enumerate(parts):
        axes.line(_within(benefit_of(result, part), span[0]), series_class(number))
    key = [(series_class(number), part.classifier) for number, part in enumerate(parts)]
    return axes.svg(), [*key, (series_class(len(parts)), "treat all (dashed grey: none)")]


def _within(values: npt.NDArray[np.float64], low: float) -> list[tuple[float, float]]:
    """The curve cut at the frame: below it acting is worse than treating nobody, and how much does not matter."""
    return [(float(t), max(float(value), low)) for t, value in zip(THRESHOLDS, values, strict=True)]
