"""Rank metrics under many weightings of the test patients at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from umedfeat.arrays import Bools, Floats, Floats32, Ints

__all__ = ["RankSums", "Ranking", "spearman", "sums_within"]


#: Weightings of one block, so that it stays in the cache.
_BLOCK = 64
#: Distinct scores up to which a small matrix product replaces the pass over the items.
_FEW_SCORES = 128
_STRETCH = 64
_TRIANGLE: Floats32 = np.tril(np.ones((_STRETCH, _STRETCH), dtype=np.float32))


class RankSums(NamedTuple):
    """(B,) weight of well-ordered pairs of a positive and a negative, of all such pairs, sum of the precisions at the
    positives, weight of the positives."""

    ordered: Floats
    pairs: Floats
    precision: Floats
    positives: Floats

    def areas(self) -> tuple[Floats, Floats]:
        """Area under the ROC curve and average precision; NaN where no positive meets a negative."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (
                np.where(self.pairs > 0, self.ordered / self.pairs, np.nan),
                np.where(self.positives > 0, self.precision / self.positives, np.nan),
            )


def sums_within(scores: Floats, positive: Bools, patient: Ints, fold: Ints | None, weights: Floats) -> RankSums:
    """The sums over pairs of one fold each: classifiers of two folds need not score alike, and where each fold lacks
    the patients that it tests, noise ranked over all of them lies below one half."""
    if fold is None:
        return Ranking.of(scores, positive, patient).sums(weights)
    parts = []
    for number in np.unique(fold):
        inside = fold == number
        parts.append(Ranking.of(scores[inside], positive[inside], patient[inside]).sums(weights))
    return RankSums(*(np.sum(each, axis=0) for each in zip(*parts, strict=True)))


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
        return self.sums(weights).areas()

    def sums(self, weights: Floats) -> RankSums:
        """What the areas are ratios of, for (B, P) weights; those of several rankings can be added."""
        parts = [self._sums(up, down) for up, down in self._steps(weights)]
        return RankSums(*(np.concatenate(each) for each in zip(*parts, strict=True)))

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

    def _sums(self, up: Floats32, down: Floats32) -> RankSums:
        lost, hits = _running_sums(down), _running_sums(up)
        positives, negatives = hits[-1].astype(np.float64), lost[-1].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            below = np.einsum("ub,ub->b", up, lost[-1] - lost + np.float32(0.5) * down, dtype=np.float64)
            precision = np.divide(hits, hits + lost, out=lost, where=up > 0)
            found = np.einsum("ub,ub->b", up, precision, dtype=np.float64)
        paired = np.where(negatives > 0, positives, 0.0)  # precision without negatives says nothing
        return RankSums(below, positives * negatives, np.where(negatives > 0, found, 0.0), paired)


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
