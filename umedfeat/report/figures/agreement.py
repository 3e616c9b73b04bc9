"""What was predicted against what is true: confusion, ROC, calibration, scatter."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape
from sklearn.metrics import roc_curve

from umedfeat.arrays import Floats
from umedfeat.fewshot.result import Judged, Predictions
from umedfeat.report.figures.axes import Axes, linear_ticks, series_class
from umedfeat.report.numbers import plain

__all__ = ["calibration", "confusion", "onehot_of", "roc", "scatter"]


_BINS = 10
_CURVES = 7  # more lines than colours cannot be told apart
_WIDTH, _HEIGHT = 420.0, 400.0


def onehot_of(result: Judged, part: Predictions) -> Floats:
    """(n, K) 0/1 truth of the test items."""
    truth = result.cohort.truth[part.items]
    if result.task == "multilabel":
        return np.asarray(truth, dtype=np.float64)
    hits: Floats = np.eye(len(result.cohort.classes))[np.asarray(truth, dtype=np.intp)]
    return hits


def confusion(result: Judged, part: Predictions) -> Markup:
    """Mean counts over the draws, shaded by the share of the true class (rows)."""
    classes = result.cohort.classes
    truth = np.asarray(result.cohort.truth[part.items], dtype=np.intp)
    counts = np.zeros((len(classes), len(classes)))
    for values in part.values:
        np.add.at(counts, (truth, values.argmax(axis=1)), 1)
    counts /= len(part.values)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in classes)
    rows = []
    for name, numbers, shares in zip(classes, counts, share, strict=True):
        cells = "".join(
            f'<td class="{"strong" if s > 0.55 else ""}" style="--share:{s * 100:.0f}%"><b>{s:.0%}</b> {plain(n)}</td>'
            for n, s in zip(numbers, shares, strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return Markup(  # every text in it is escaped
        f'<table class="confusion"><thead><tr><th scope="col">true \\ predicted</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def roc(result: Judged, part: Predictions) -> Markup:
    """One step line per class (the first draw thick, the others thin): sensitivity over 1 - specificity."""
    axes = _unit_square("1 - specificity", "sensitivity", "ROC curves")
    hits = onehot_of(result, part)
    for number, column in enumerate(_columns(result)[:_CURVES]):
        if 0 < hits[:, column].sum() < len(hits):
            for draw, values in reversed(list(enumerate(part.values[:10]))):
                x, y, _ = roc_curve(hits[:, column], values[:, column])
                axes.line(zip(x, y, strict=True), f"{series_class(number)} {'other' if draw else 'first'}")
    return axes.svg()


def calibration(result: Judged, part: Predictions) -> Markup:
    """Observed frequency over mean predicted probability, in ten equal bins, all draws together."""
    axes = _unit_square("predicted probability", "observed frequency", "Calibration")
    hits = onehot_of(result, part)
    for number, column in enumerate(_columns(result)[:_CURVES]):
        chance = part.values[:, :, column].astype(np.float64)
        seen = np.broadcast_to(hits[:, column], chance.shape)
        bins = np.minimum((chance * _BINS).astype(np.intp), _BINS - 1)
        points = []
        for k in range(_BINS):
            inside = bins == k
            if inside.sum() >= 2 * len(part.values):  # a single item is 0 or 1, which says nothing
                points.append((float(chance[inside].mean()), float(seen[inside].mean()), int(inside.sum())))
        axes.line([(x, y) for x, y, _ in points], series_class(number))
        for x, y, count in points:
            per_draw = count / len(part.values)
            tip = f"predicted {x:.2f}, observed {y:.2f}, {plain(per_draw)} items a draw"
            axes.dot(x, y, series_class(number), radius=2 + 5 * (per_draw / len(hits)) ** 0.5, tip=tip)
    return axes.svg()


def scatter(result: Judged, part: Predictions) -> Markup:
    """Predicted over true value, first draw."""
    truth = np.asarray(result.cohort.truth[part.items], dtype=np.float64)
    predicted = part.values[0, :, 0].astype(np.float64)
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    pad = (high - low) * 0.04 or 1.0
    span = (low - pad, high + pad)
    ticks = linear_ticks(*span)
    axes = Axes(
        span,
        span,
        ticks,
        ticks,
        "true value",
        "predicted value",
        "Predicted over true values",
        width=_WIDTH,
        height=_HEIGHT,
    )
    axes.line([(span[0], span[0]), (span[1], span[1])], "chance")
    for x, y in zip(truth, predicted, strict=True):
        axes.dot(x, y, series_class(0), radius=3)
    return axes.svg()


def _columns(result: Judged) -> list[int]:
    return [1] if result.task == "binary" else list(range(len(result.cohort.classes)))


def _unit_square(x_label: str, y_label: str, title: str) -> Axes:
    ticks = linear_ticks(0, 1, 5)
    axes = Axes((-0.02, 1.02), (-0.02, 1.02), ticks, ticks, x_label, y_label, title, width=_WIDTH, height=_HEIGHT)
    axes.line([(0, 0), (1, 1)], "chance")
    return axes
