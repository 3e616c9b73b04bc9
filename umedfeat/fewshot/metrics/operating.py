"""What a yes-or-no answer at a stated threshold is worth, and how far probabilities are from frequencies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats, Ints

__all__ = ["OPERATING", "expected_calibration_error", "net_benefit", "operating_point"]


#: Metrics of a binary answer, in the order of tables.
OPERATING = ("sensitivity", "specificity", "ppv", "npv")

_MOST_BINS = 10
_PER_BIN = 10


def operating_point(
    chance: Floats, hit: npt.NDArray[np.bool_], patient: Ints, weights: Floats, threshold: float
) -> dict[str, Floats]:
    """Sensitivity, specificity and predictive values of calling positive what lies above the threshold.

    Args:
        chance: (n,) probability of the positive class. hit: (n,) is it that class? patient: (n,) 0 … P - 1.
        weights: (B, P) of the test patients.

    Returns:
        Name of ``OPERATING`` → (B,); NaN where nobody is positive, negative, called positive or called negative.
    """
    cell = 2 * (chance <= threshold) + ~hit
    found, alarmed, missed, cleared = (weights @ _tabulated(cell, np.ones(len(cell)), patient, (weights.shape[1], 4))).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "sensitivity": found / (found + missed),
            "specificity": cleared / (cleared + alarmed),
            "ppv": found / (found + alarmed),
            "npv": cleared / (cleared + missed),
        }


def net_benefit(chance: Floats, hit: npt.NDArray[np.bool_], thresholds: Floats) -> Floats:
    """(T,) net benefit per item of treating what lies above each threshold: TP/n - FP/n · t / (1 - t).

    Vickers and Elkin, Medical Decision Making 26 (2006) 565-574. ``chance`` of 1 for everybody is "treat all".
    """
    called = chance[None, :] > thresholds[:, None]
    found, alarmed = (called & hit).mean(axis=1), (called & ~hit).mean(axis=1)
    return np.asarray(found - alarmed * thresholds / (1 - thresholds))


def expected_calibration_error(chance: Floats, onehot: Floats, patient: Ints, weights: Floats) -> Floats:
    """(B,) mean distance of probability and frequency over bins of equally many items (adaptive bins).

    Of two classes the second, of more the mean over the classes. At most ten bins, of ten items and more where there
    are as many. Never negative, so it lies above 0 for calibrated probabilities too, the more the smaller the test.
    """
    columns = [1] if onehot.shape[1] == 2 else list(range(onehot.shape[1]))
    bins = max(1, min(_MOST_BINS, len(chance) // _PER_BIN))
    each = [_gaps(chance[:, k], onehot[:, k], patient, (weights.shape[1], bins)) for k in columns]
    counts = np.bincount(patient, minlength=weights.shape[1]).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.abs(weights @ np.hstack(each)).sum(axis=1) / (weights @ counts) / len(columns))


def _gaps(chance: Floats, hit: Floats, patient: Ints, shape: tuple[int, int]) -> Floats:
    """(P, bins) events less their probabilities; equal probabilities stay in one bin."""
    edges = np.quantile(chance, np.linspace(0, 1, shape[1] + 1)[1:-1])
    return _tabulated(np.searchsorted(edges, chance, side="right"), hit - chance, patient, shape)


def _tabulated(place: npt.NDArray[np.integer[Any]], amounts: Floats, patient: Ints, shape: tuple[int, int]) -> Floats:
    """Sum of (n,) amounts by patient and place."""
    sums = np.bincount(patient * shape[1] + place, amounts, shape[0] * shape[1])
    return np.asarray(sums.reshape(shape), dtype=np.float64)
