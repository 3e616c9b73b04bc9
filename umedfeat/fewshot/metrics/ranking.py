"""Rank metrics under many weightings of the test patients at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from umedfeat.arrays import Bools, Floats, Floats32, Ints

__all__ = ["RankSums", "Ranking", "spearman", "sums_within"]


#: Entries of one block of weightings, so that it stays in the cache.
_BLOCK = 64 * 1024
_STRETCH = 32
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


def sums_within(scores: Floats, positive: Bools, patient: Ints, fold: Ints | None, by_patient: Floats32) -> RankSums:
    """The sums over pairs of one fold each: classifiers of two folds need not score alike, and where each fold lacks
    the patients that it tests, noise ranked over all of them lies below one half.

    Args:
        scores, positive, patient, fold: (n,) of the items; no folds are one.
        by_patient: (P, B) weights of the patients.
    """
    if fold is None:
        return Ranking.of(scores, positive, patient, len(by_patient)).sums(by_patient)
    parts = []
    for number in np.unique(fold):
        inside = fold == number
        part = Ranking.of(scores[inside], positive[inside], patient[inside], len(by_patient))
        parts.append(part.sums(by_patient))
    return RankSums(*(np.sum(each, axis=0) for each in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Ranking:
    """One binary problem, reduced to the S distinct scores that a positive has, falling: both areas are sums over them.

    S is filled up to whole stretches.

    Attributes:
        hits: (S, P) how many positives of each patient have the score.
        passed: (S, P) negatives above the score or tied with it, but not with the score before.
        tied: (S, P) negatives with the very score.
        members: (2, P) positives and negatives.
    """

    hits: csr_array
    passed: csr_array
    tied: csr_array
    members: Floats

    @classmethod
    def of(cls, scores: Floats, positive: Bools, patient: Ints, patients: int) -> Ranking:
        """Of (n,) items; ``patient`` numbers them 0 … ``patients`` - 1."""
        levels = np.unique(-scores[positive])
        step = np.searchsorted(levels, -scores)
        reached = np.flatnonzero(~positive & (step < len(levels)))
        equal = reached[levels[step[reached]] == -scores[reached]]
        shape = (max(1, -(-len(levels) // _STRETCH)) * _STRETCH, patients)  # rows of nothing at the end
        tables = (_counted(step[rows], patient[rows], shape) for rows in (positive, reached, equal))
        members = np.stack([np.bincount(patient[rows], minlength=patients) for rows in (positive, ~positive)])
        hits, passed, tied = tables
        return cls(hits, passed, tied, members.astype(np.float64))

    def sums(self, by_patient: Floats32) -> RankSums:
        """What both areas are ratios of (ties count half), for (P, B) weights; those of several rankings can be
        added."""
        positives, negatives = self.members @ by_patient.astype(np.float64)
        size = max(1, _BLOCK // self.hits.shape[0])
        parts = [self._block(by_patient[:, start : start + size]) for start in range(0, by_patient.shape[1], size)]
        disordered, precision = (np.concatenate(each) for each in zip(*parts, strict=True))
        paired, pairs = negatives > 0, positives * negatives  # precision without negatives says nothing
        return RankSums(pairs - disordered, pairs, np.where(paired, precision, 0.0), np.where(paired, positives, 0.0))

    def _block(self, by_patient: Floats32) -> tuple[Floats, Floats]:
        """(b,) weight of the pairs in the wrong order, ties half, and sum of the precisions, for (P, b) weights."""
        found = self.hits @ by_patient
        lost, total = _running_sums(self.passed @ by_patient), _running_sums(found)
        wrong = lost - np.float32(0.5) * (self.tied @ by_patient) if self.tied.nnz else lost
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(total > 0, total / (total + lost), np.float32(0))
        return (
            np.einsum("sb,sb->b", found, wrong, dtype=np.float64),
            np.einsum("sb,sb->b", found, precision, dtype=np.float64),
        )


def _counted(row: npt.NDArray[np.integer[Any]], column: Ints, shape: tuple[int, int]) -> csr_array:
    """How often each (row, column) occurs."""
    return csr_array((np.ones(len(row), dtype=np.float32), (row, column)), shape=shape)


def _running_sums(values: Floats32) -> Floats32:
    """Cumulative sums down the columns of (S, b) of whole stretches: within each by a product with a triangle, then
    over them."""
    sums = np.matmul(_TRIANGLE, values.reshape(-1, _STRETCH, values.shape[1]))
    ends = sums[:, -1]
    sums += (np.cumsum(ends, axis=0, dtype=np.float32) - ends)[:, None]
    return np.asarray(sums.reshape(values.shape))


def spearman(truth: Floats, guess: Floats, patient: Ints, weights: Floats) -> Floats:
    """(B,) correlation of weighted mid-ranks; NaN where one side is constant."""
    of_items = np.ascontiguousarray(weights.T)[patient]
    a, b = _mid_ranks(truth, of_items), _mid_ranks(guess, of_items)
    total = of_items.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # nobody may have a weight, of one fold
        a -= (of_items * a).sum(axis=0) / total
        b -= (of_items * b).sum(axis=0) / total
        spread = (of_items * a * a).sum(axis=0) * (of_items * b * b).sum(axis=0)
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
