"""Intervals of metrics of a confusion matrix: those of the recalls, joined.

Macro-F1 or balanced accuracy move with the recall of each class, and recalls of different classes are of different
patients. Where all the few test patients of a class fare alike, resampling them shows no spread, though five patients
of whom none was recognised say little about the sixth. Their recall has a bound nevertheless; so the distance from each
recall to its bound, carried over to the metric, takes the place of the standard error (Newcombe 1998, square and add;
Zou and Donner 2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from umedfeat.arrays import Floats, Ints
from umedfeat.fewshot.metrics.bootstrap import NO_INTERVAL, Interval
from umedfeat.fewshot.metrics.metrics import METRICS, from_cells

__all__ = ["joined", "unseen_variance"]

_LOWEST = {"unit": 0.0, "signed": -1.0}
#: Change of a recall by which a metric's slope is taken.
_STEP = 0.01
#: Variance of a recall that does not move.
_ROUNDING = 1e-12


def joined(name: str, value: float, cells: Floats, recalls: Sequence[Interval], labelled: float = 0.0) -> Interval:
    """Interval of one metric of ``JOINED``; none where a recall has none.

    Args:
        value: the estimate. cells: (K, K) mean confusion matrix over the draws, truth in rows.
        recalls: K intervals, because of whom one tests. labelled: distance because of whom one labels, alike to both
            sides (``labelled_reach``).
    """
    if not np.isfinite(value) or not all(recall.kind for recall in recalls):
        return NO_INTERVAL
    at = _value(name, cells)
    down = [at - _value(name, _moved(cells, k, recall.low)) for k, recall in enumerate(recalls)]
    up = [_value(name, _moved(cells, k, recall.high)) - at for k, recall in enumerate(recalls)]
    lowest = _LOWEST[METRICS[name].scale]
    return Interval(
        max(lowest, value - math.hypot(*down, labelled)), min(1.0, value + math.hypot(*up, labelled)), "joined recalls"
    )


def unseen_variance(name: str, cells: Floats, variances: Floats, carriers: Ints) -> float:
    """What resampling misses of the variance of a paired difference in one metric of ``JOINED``.

    Where the few test patients of a class fare alike with both, their recalls differ by nothing in every resampling,
    though five such patients say little about the sixth. There, as if half a patient more had gained, half a one lost,
    and one fared alike with either outcome (Agresti and Min 2005), carried over to the metric by its slope in the
    recall. Where there is any spread it is believed: means over draws and items move by less than whole patients.

    Args:
        cells: (K, K) mean confusion matrix of the two. variances: (K,) of the differences in recall, resampled.
        carriers: (K,) test patients of each class.
    """
    unseen = np.where(variances < _ROUNDING, 1.0 / (carriers + 2.0) ** 2, 0.0)
    slopes = np.array([_slope(name, cells, k) for k in range(len(cells))])
    return float((slopes**2 * unseen).sum())


def _slope(name: str, cells: Floats, row: int) -> float:
    if not cells[row].any():  # nobody carries this class: its recall moves nothing
        return 0.0
    recall = float(cells[row, row] / cells[row].sum())
    step = _STEP if recall < 0.5 else -_STEP
    return (_value(name, _moved(cells, row, recall + step)) - _value(name, cells)) / step


def _value(name: str, cells: Floats) -> float:
    return float(from_cells(name, cells[None])[0])


def _moved(cells: Floats, row: int, recall: float) -> Floats:
    """The matrix with another recall of one class, its errors shared out as before, or alike where there are none."""
    total, wrong = cells[row].sum(), np.delete(cells[row], row)
    share = wrong / wrong.sum() if wrong.sum() > 0 else np.full(len(wrong), 1.0 / len(wrong))
    moved: Floats = cells.copy()
    moved[row] = np.insert((1.0 - recall) * total * share, row, recall * total)
    return moved
