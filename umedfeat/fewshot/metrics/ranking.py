"""Rank metrics under many weightings of the test patients at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from umedfeat.fewshot.arrays import Bools, Floats, Floats32, Ints

__all__ = ["Ranking", "spearman"]


#: Weightings of one block, so that it stays in the cache.
_BLOCK = 64
#: Distinct scores up to which a small matrix product replaces the pass over the items.
_FEW_SCORES = 128
_STRETCH = 64
_TRIANGLE: Floats32 = np.tril(np.ones((_STRETCH, _STRETCH), dtype=np.float32))


@dataclass(frozen=True)
class Ranking:
    """Items of one binary problem by falling score.

    Attributes:
        positive: (n,) bool and patient: (n,) number of each item, in that order.
        starts: (U,) where each distinct score begins: tied items count as one step.
    """

    positive: Bools
    patient: Ints
    starts: Ints

    @classmethod
    def of(cls, scores: Floats, positive: Bools, patient: Ints) -> Ranking:
        """Sort the items."""
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        starts = np.flatnonzero(np.r_[True, falling[1:] != falling[:-1]])
        return cls(positive[order], patient[order], starts)

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """Area under the ROC curve (ties half) and average precision for (B, P) weights; NaN without both classes."""
        parts = [self._areas(up, down) for up, down in self._steps(weights)]
        return np.concatenate([roc for roc, _ in parts]), np.concatenate([precision for _, precision in parts])

    def _steps(self, weights: Floats) -> Iterator[tuple[Floats32, Floats32]]:
        """(U, b) weight of positives and of negatives at each distinct score, a block of weightings at a time."""
        if len(self.starts) <= _FEW_SCORES:
            yield self._few(weights)
            return
        by_patient = np.ascontiguousarray(weights.T, dtype=np.float32)
        zero = np.float32(0)
        for start in range(0, len(weights), _BLOCK):
            of_items = by_patient[:, start : start + _BLOCK][self.patient]
            up = np.where(self.positive[:, None], of_items, zero)
            if len(self.starts) < len(self.positive):
                up, of_items = (np.add.reduceat(each, self.starts, axis=0) for each in (up, of_items))
            of_items -= up
            yield up, of_items

    def _few(self, weights: Floats) -> tuple[Floats32, Floats32]:
        step = np.repeat(np.arange(len(self.starts)), np.diff(np.r_[self.starts, len(self.patient)]))
        found = []
        for side in (self.positive, ~self.positive):
            counts = np.zeros((weights.shape[1], len(self.starts)))
            np.add.at(counts, (self.patient[side], step[side]), 1.0)
            found.append((weights @ counts).T.astype(np.float32))
        return found[0], found[1]

    def _areas(self, up: Floats32, down: Floats32) -> tuple[Floats, Floats]:
        lost, hits = _running_sums(down), _running_sums(up)
        positives, negatives = hits[-1].astype(np.float64), lost[-1].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            below = np.einsum("ub,ub->b", up, lost[-1] - lost + np.float32(0.5) * down, dtype=np.float64)
            precision = np.divide(hits, hits + lost, out=lost, where=up > 0)
            found = np.einsum("ub,ub->b", up, precision, dtype=np.float64)
            both = (positives > 0) & (negatives > 0)
            return (
                np.where(both, below / (positives * negatives), np.nan),
                np.where(both, found / positives, np.nan),
            )


def _running_sums(values: Floats32) -> Floats32:
    """Cumulative sums down the columns of (U, b): within stretches by a product with a triangle, then over them."""
    stretches = -(-len(values) // _STRETCH)
    padded = np.zeros((stretches * _STRETCH, values.shape[1]), dtype=np.float32)
    padded[: len(values)] = values
    sums = np.matmul(_TRIANGLE, padded.reshape(stretches, _STRETCH, -1))
    ends = sums[:, -1]
    sums += (np.cumsum(ends, axis=0, dtype=np.float32) - ends)[:, None]
    return np.asarray(sums.reshape(len(padded), -1)[: len(values)])


def spearman(truth: Floats, guess: Floats, patient: Ints, weights: Floats) -> Floats:
    """(B,) correlation of weighted mid-ranks; NaN where one side is constant."""
    of_items = np.ascontiguousarray(weights.T)[patient]
    a, b = _mid_ranks(truth, of_items), _mid_ranks(guess, of_items)
    total = of_items.sum(axis=0)
    a -= (of_items * a).sum(axis=0) / total
    b -= (of_items * b).sum(axis=0) / total
    spread = (of_items * a * a).sum(axis=0) * (of_items * b * b).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(spread > 0, (of_items * a * b).sum(axis=0) / np.sqrt(spread), np.nan))


def _mid_ranks(values: Floats, weights: Floats) -> Floats:
    """(n, B) weighted mid-rank of each value."""
    order = np.argsort(values, kind="stable")
    rising = values[order]
    starts = np.flatnonzero(np.r_[True, rising[1:] != rising[:-1]])
    sums = np.add.reduceat(weights[order], starts, axis=0)
    middle = np.cumsum(sums, axis=0) - 0.5 * sums
    ranks = np.empty_like(weights)
    ranks[order] = middle[np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))]
    return ranks
