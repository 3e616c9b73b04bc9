"""How well probabilities keep their word."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from umedfeat.arrays import Floats, Ints

__all__ = ["by_patient", "calibration_intercept", "calibration_slope"]


def by_patient(per_item: Floats, patient: Ints, n_patients: int) -> Floats:
    """Sum (n, …) over each patient's items: (P, …)."""
    sums = np.zeros((n_patients, *per_item.shape[1:]))
    np.add.at(sums, patient, per_item)
    return sums


def calibration_slope(chance: Floats, onehot: Floats, patient: Ints, weights: Floats) -> Floats:
    """Slope of the logistic recalibration of the log-odds (classes pooled one against the rest); 1 is calibrated.

    Weightings other than one take a single Newton step from the fitted slope: gradient and curvature are then sums
    over patients, and the resampled slope is right to first order.
    """
    columns = [1] if onehot.shape[1] == 2 else list(range(onehot.shape[1]))
    odds, hit = _log_odds(chance)[:, columns], onehot[:, columns]
    beta, fitted = _recalibrate(odds.ravel(), hit.ravel())
    fitted = fitted.reshape(hit.shape)
    x = np.stack([np.ones_like(odds), odds])
    gradient = by_patient((x * (hit - fitted)).sum(axis=2).T, patient, weights.shape[1])
    curvature = by_patient(
        np.einsum("ink,jnk,nk->nij", x, x, fitted * (1 - fitted)).reshape(len(odds), 4), patient, weights.shape[1]
    )

    (g0, g1), (a, b, _, d) = (weights @ gradient).T, (weights @ curvature).T
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = beta[1] + (a * g1 - b * g0) / (a * d - b * b)
    return np.where(np.isfinite(slope), slope, np.nan)  # a resampling of alike patients has no slope


def calibration_intercept(chance: Floats, hit: Floats, patient: Ints, weights: Floats) -> Floats:
    """Calibration in the large of one class against the rest: what must be added to the log-odds so that as many
    events are predicted as happened (slope fixed at 1). 0 is calibrated, below 0 events were overestimated.

    Other weightings than one take a single Newton step, as for the slope. Steyerberg, *Clinical Prediction Models*,
    2019, chapter 15.

    Args:
        chance: (n,) probability of the class. hit: (n,) 0/1. patient: (n,) 0 … P - 1. weights: (B, P).
    """
    odds = _log_odds(chance)
    if not 0 < hit.mean() < 1:
        return np.full(len(weights), np.nan)
    shift = float(brentq(lambda a: float((expit(odds + a) - hit).sum()), -60.0, 60.0))
    fitted = expit(odds + shift)
    sums = by_patient(np.stack([hit - fitted, fitted * (1 - fitted)], axis=1), patient, weights.shape[1])
    gradient, curvature = (weights @ sums).T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = shift + gradient / curvature
    return np.where(np.isfinite(found), found, np.nan)


def _log_odds(chance: Floats) -> Floats:
    chance = np.clip(chance, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(chance / (1 - chance)))


def _recalibrate(odds: Floats, hit: Floats) -> tuple[Floats, Floats]:
    """Maximum-likelihood intercept and slope of hit on odds, and the fitted chances; NaN under separation."""
    spread = odds.std()
    nothing = np.full(2, np.nan), np.full_like(odds, np.nan)
    if spread == 0 or not 0 < hit.mean() < 1:
        return nothing
    x = np.stack([np.ones_like(odds), odds / spread])
    beta = np.zeros(2)
    for _ in range(50):
        fitted = 1.0 / (1.0 + np.exp(-np.clip(beta @ x, -50, 50)))
        curvature = (x * (fitted * (1 - fitted))) @ x.T
        if np.linalg.cond(curvature) > 1e12:
            return nothing
        step = np.linalg.solve(curvature, x @ (hit - fitted))
        if np.abs(step).max() < 1e-10:
            return beta / np.array([1.0, spread]), fitted
        beta = beta + step * min(1.0, 5.0 / float(np.abs(step).max()))
    return nothing
