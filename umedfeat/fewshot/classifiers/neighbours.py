"""k nearest neighbours and nearest class mean on cosines to the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from umedfeat.fewshot.arrays import Floats, Ints, Rows
from umedfeat.fewshot.classifiers.cosine import DrawnCosines
from umedfeat.fewshot.settings import KNN_NEIGHBOURS, PROTOTYPE_TEMPERATURE

__all__ = ["Neighbours", "Prototypes", "allowed_neighbours"]


#: Training rows that at most take part in the choice of k, so that a million tiles stay affordable.
_SELECTION_ROWS = 5000


def allowed_neighbours(candidates: Sequence[int], n_rows: int) -> list[int]:
    """The candidates up to half of the training rows; 1 where all are above."""
    return [k for k in candidates if k <= n_rows / 2] or [1]


@dataclass(frozen=True)
class Neighbours:
    """kNN of one draw: mean target of the k most similar training rows.

    Attributes:
        cosines: of the draw. targets: (n, M) one-hot classes, 0/1 labels or values. k: chosen.
    """

    cosines: DrawnCosines
    targets: Floats
    k: int

    @classmethod
    def choose(
        cls,
        cosines: DrawnCosines,
        targets: Floats,
        groups: Ints,
        candidates: Sequence[int] = KNN_NEIGHBOURS,
        seed: int = 0,
    ) -> Neighbours:
        """Choose k by the squared error (Brier score) of each training row predicted from the other patients' rows.

        Args:
            groups: (n,) patient of each training row.
        """
        tried = allowed_neighbours(candidates, len(targets))
        if len(tried) == 1:
            return cls(cosines, targets, tried[0])
        chosen = np.arange(len(targets))
        if len(chosen) > _SELECTION_ROWS:
            chosen = np.sort(np.random.default_rng([seed, 4]).choice(chosen, _SELECTION_ROWS, replace=False))
        errors = np.zeros(len(tried))
        for part, similarity in cosines.blocks(cosines.train[chosen]):
            similarity[np.equal.outer(groups[chosen[part]], groups)] = -np.inf
            for place, mean in enumerate(_means(similarity, targets, tried)):
                errors[place] += float(((mean - targets[chosen[part]]) ** 2).sum())
        return cls(cosines, targets, tried[int(np.argmin(errors))])

    def predict(self, rows: Ints) -> Floats:
        """(len(rows), M) mean targets of the neighbours."""
        predicted = np.empty((len(rows), self.targets.shape[1]))
        for part, similarity in self.cosines.blocks(rows):
            predicted[part] = _means(similarity, self.targets, [self.k])[0]
        return predicted


def _means(similarity: Rows, targets: Floats, counts: Sequence[int]) -> list[Floats]:
    """Mean target of the k best columns of each row, for each k; columns at -inf do not exist."""
    most = min(max(counts), similarity.shape[1])
    top = _best(similarity, most)
    usable = np.isfinite(np.take_along_axis(similarity, top, axis=1))
    sums = np.cumsum(targets[top] * usable[:, :, None], axis=1)
    number = np.maximum(np.cumsum(usable, axis=1), 1)
    return [sums[:, min(k, most) - 1] / number[:, min(k, most) - 1, None] for k in counts]


def _best(similarity: Rows, most: int) -> Ints:
    """Columns of the ``most`` largest entries of each row, best first."""
    if most < similarity.shape[1]:
        top = np.argpartition(similarity, similarity.shape[1] - most, axis=1)[:, -most:]
    else:
        top = np.broadcast_to(np.arange(most), similarity.shape).copy()
    top.sort(axis=1)
    order = np.argsort(-np.take_along_axis(similarity, top, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(top, order, axis=1), dtype=np.intp)


@dataclass(frozen=True)
class Prototypes:
    """Nearest class mean of one draw: softmax of the cosines to the mean direction of each class.

    Attributes:
        cosines: of the draw. targets: (n, K) one-hot classes. temperature: factor of the cosines.
    """

    cosines: DrawnCosines
    targets: Floats
    temperature: float = PROTOTYPE_TEMPERATURE

    def predict(self, rows: Ints) -> Floats:
        """(len(rows), K) probabilities; a class without training rows gets 0."""
        sizes = self.targets.sum(axis=0)
        share = (self.targets / np.maximum(sizes, 1)).astype(self.cosines.dtype)
        lengths = np.sqrt(np.maximum(np.einsum("nk,nk->k", share, self._to_means(self.cosines.train, share)), 1e-12))
        logits = self._to_means(rows, share) / lengths * self.temperature
        logits[:, sizes == 0] = -np.inf
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def _to_means(self, rows: Ints, share: Rows) -> Floats:
        """(len(rows), K) dot products of unit rows with the class means of unit rows."""
        found = np.empty((len(rows), share.shape[1]))
        for part, similarity in self.cosines.blocks(rows):
            found[part] = similarity @ share
        return found
