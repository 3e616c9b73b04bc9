"""Temperature scaling: probabilities made sharper or flatter by one number, which moves no rank between two classes.

Guo et al., On calibration of modern neural networks, ICML 2017. The temperature is the one with the lowest log-loss on
predictions for patients that the classifier did not see.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from umedfeat.arrays import Floats

__all__ = ["fitted_temperature", "tempered"]

#: Logarithms of the temperatures that are possible.
_RANGE = (-4.0, 4.0)
_CLIP = 1e-12


def tempered(chances: Floats, temperature: float, *, labels: bool = False) -> Floats:
    """(n, K) probabilities to the power of 1 / temperature, normalised; of ``labels`` each column by itself."""
    power = 1.0 / temperature
    if labels:
        yes, no = _raised(chances, power), _raised(1.0 - chances, power)
        return np.asarray(yes / (yes + no))
    peak = np.maximum(chances.max(axis=1, keepdims=True), _CLIP)
    raised = _raised(chances / peak, power)  # the largest is 1: no row vanishes
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _raised(chances: Floats, power: float) -> Floats:
    """Classes that cannot be (0) stay at 0."""
    return np.asarray(np.where(chances > 0, np.maximum(chances, _CLIP) ** power, 0.0))


def fitted_temperature(chances: Floats, targets: Floats, *, labels: bool = False) -> float:
    """The temperature with the lowest log-loss of (n, K) probabilities for (n, K) 0/1 targets."""

    def loss(exponent: float) -> float:
        ready = np.clip(tempered(chances, float(np.exp(exponent)), labels=labels), _CLIP, 1.0 - _CLIP * labels)
        missed = (1.0 - targets) * np.log(1.0 - ready) if labels else 0.0
        return float(-np.mean(targets * np.log(ready) + missed))

    return float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x))
