"""How often each value: bars over a number."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from umedfeat.arrays import Floats
from umedfeat.report.figures.axes import Axes, linear_ticks, series_class

__all__ = ["histogram"]

_BARS = 24


def histogram(
    values: Floats, name: str, counted: str, span: tuple[float, float] | None = None, *, log: bool = False
) -> Markup:
    """Bars of equal width over the values.

    Args:
        values: finite, at least one. name: of the axis, with its unit. counted: what is counted.
        span: ends of the axis; None: those of the values.
        log: the values are positive, the axis is logarithmic, its ticks are powers of ten (see ``_powers``).
    """
    values = np.log10(values) if log else values
    low, high = span or (float(values.min()), float(values.max()))
    high = high if high > low else low + 1.0
    counts, edges = np.histogram(values, bins=_BARS, range=(low, high))
    top = float(max(1, counts.max()))
    ticks = _powers(low, high) if log else linear_ticks(low, high, 5)
    axes = Axes((low, high), (0.0, top), ticks, linear_ticks(0, top, 4), name, counted, name)
    axes.width, axes.height = 440, 240
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            axes.area([(left, 0.0), (left, count), (right, count), (right, 0.0)], f"{series_class(0)} bar")
    return axes.svg()


def _powers(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten between two logarithms; where there is one at most, twice and five times them too."""
    decades = range(math.floor(low), math.floor(high + 1e-9) + 1)
    values = [factor * 10.0**k for k in decades for factor in (1, 2, 5)]
    inside = [value for value in values if low - 1e-9 <= math.log10(value) <= high + 1e-9]
    powers = [value for value in inside if math.log10(value).is_integer()]
    return [(math.log10(value), f"{value:,.6g}") for value in (powers if len(powers) > 1 else inside)]
