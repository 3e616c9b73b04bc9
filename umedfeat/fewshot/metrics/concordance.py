"""Harrell's concordance: of two patients whose order is known, how often has the one with the earlier event the higher
risk?"""

from __future__ import annotations

import numpy as np

from umedfeat.arrays import Bools, Floats, Ints

__all__ = ["concordance", "kaplan_meier"]

#: Risks that differ by less are equal, which counts one half.
_SAME = 1e-8


def concordance(outcome: Floats, risk: Floats, patient: Ints, weights: Floats) -> Floats:
    """(B,) concordance under (B, P) weights of the patients; NaN where no pair can be compared.

    Args:
        outcome: (n, 2) time and event (1: seen). risk: (n,) higher is worse. patient: (n,) number, 0 … P - 1.

    A pair counts where the event of the earlier time was seen; of equal times where one was seen and the other not.
    """
    times, seen = outcome[:, 0], outcome[:, 1] > 0
    earlier = (times[:, None] < times[None]) | ((times[:, None] == times[None]) & ~seen[None])
    usable = seen[:, None] & earlier
    gap = risk[:, None] - risk[None]
    right = np.where(np.abs(gap) <= _SAME, 0.5, (gap > 0).astype(np.float64)) * usable
    number = weights.shape[1]
    pairs, good = (_between_patients(each, patient, number) for each in (usable.astype(np.float64), right))
    counted, kept = (np.einsum("bp,bp->b", weights @ each, weights) for each in (pairs, good))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(counted > 0, kept / counted, np.nan))


def _between_patients(pairs: Floats, patient: Ints, number: int) -> Floats:
    """(n, n) summed to (P, P)."""
    if len(patient) == number and np.array_equal(patient, np.arange(number)):
        return pairs
    sums = np.zeros((number, pairs.shape[1]))
    np.add.at(sums, patient, pairs)
    both = np.zeros((number, number))
    np.add.at(both, patient, sums.T)
    return np.asarray(both.T)


def kaplan_meier(times: Floats, seen: Bools) -> tuple[Floats, Floats]:
    """Times (T,) ascending, from 0, and the share (T,) without event from each on."""
    distinct = np.unique(times)
    at_risk = (times[None] >= distinct[:, None]).sum(axis=1)
    events = (seen[None] & (times[None] == distinct[:, None])).sum(axis=1)
    return np.r_[0.0, distinct], np.r_[1.0, np.cumprod(1 - events / at_risk)]
