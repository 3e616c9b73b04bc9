"""k nearest neighbours and nearest class mean on cosines to the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from umedfeat.arrays import Floats, Ints, Rows
from umedfeat.fewshot.classifiers.cosine import CosineSpace, DrawnCosines
from umedfeat.fewshot.settings import KNN_NEIGHBOURS, PROTOTYPE_TEMPERATURE

__all__ = ["Neighbours", "Prototypes", "allowed_neighbours"]


#: Training rows that at most take part in the choice of k, so that a million tiles stay affordable.
_SELECTION_ROWS = 5000
_TINY = 1e-12


def allowed_neighbours(candidates: Sequence[int], n_rows: int) -> list[int]:
    """The candidates up to half of the training rows; 1 where all are above."""
    return [k for k in candidates if k <= n_rows / 2] or [1]


@dataclass(frozen=True)
class Neighbours:
    """kNN of one draw: mean target of the k most similar training rows, drawn a little towards ``prior``.

    Of classes the mean is ``(votes + 1 / K) / (k + 1)``: one more neighbour that knows nothing, so that no probability
    is 0 or 1.

    Attributes:
        cosines: of the draw. targets: (n, M) one-hot classes, 0/1 labels or values. k: chosen.
        prior: (M,) targets of the neighbour that knows nothing; None for a plain mean.
        weights: (n,) how much each row's vote counts.
    """

    cosines: DrawnCosines
    targets: Floats
    k: int
    prior: Floats | None
    weights: Floats

    @classmethod
    def choose(
        cls,
        cosines: DrawnCosines,
        targets: Floats,
        groups: Ints,
        *,
        prior: Floats | None = None,
        weights: Floats | None = None,
        candidates: Sequence[int] = KNN_NEIGHBOURS,
        seed: int = 0,
    ) -> Neighbours:
        """Choose k by the squared error (Brier score) of each training row predicted from the other patients' rows.

        Args:
            groups: (n,) patient of each training row.
        """
        counts = np.ones(len(targets)) if weights is None else weights
        tried = allowed_neighbours(candidates, len(targets))
        model = cls(cosines, targets, tried[0], prior, counts)
        if len(tried) == 1:
            return model
        chosen = np.arange(len(targets))
        if len(chosen) > _SELECTION_ROWS:
            chosen = np.sort(np.random.default_rng([seed, 4]).choice(chosen, _SELECTION_ROWS, replace=False))
        errors = np.zeros(len(tried))
        for part, similarity in cosines.blocks(cosines.train[chosen]):
            similarity[np.equal.outer(groups[chosen[part]], groups)] = -np.inf
            for place, mean in enumerate(model._means(similarity, tried)):
                errors[place] += float(counts[chosen[part]] @ ((mean - targets[chosen[part]]) ** 2).sum(axis=1))
        return replace(model, k=tried[int(np.argmin(errors))])

    def predict(self, rows: Ints) -> Floats:
        """(len(rows), M) mean targets of the neighbours."""
        predicted = np.empty((len(rows), self.targets.shape[1]))
        for part, similarity in self.cosines.blocks(rows):
            predicted[part] = self._means(similarity, [self.k])[0]
        return predicted

    def _means(self, similarity: Rows, counts: Sequence[int]) -> list[Floats]:
        """Mean target of the k best columns of each row, for each k; columns at -inf do not exist."""
        most = min(max(counts), similarity.shape[1])
        top = _best(similarity, most)
        votes = np.isfinite(np.take_along_axis(similarity, top, axis=1)) * self.weights[top]
        sums = np.cumsum(self.targets[top] * votes[:, :, None], axis=1)
        number = np.cumsum(votes, axis=1)[:, :, None]
        if self.prior is not None:
            sums, number = sums + self.prior, number + 1.0
        return [(sums / np.maximum(number, _TINY))[:, min(k, most) - 1] for k in counts]


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

    Rows are centred by the mean of the class means: centred by their own mean, the class with more rows would lie
    nearer to the middle, and the threshold between the classes aside.

    Attributes:
        space: of all rows. centre: (D,) there. share: (n, K) part of each training row in the mean of each class.
        directions: (D, K) mean of the centred training rows of length 1 of each class, brought to length 1.
        temperature: factor of the cosines.
    """

    space: CosineSpace
    centre: Rows
    share: Floats
    directions: Rows
    temperature: float = PROTOTYPE_TEMPERATURE

    @classmethod
    def of(
        cls,
        space: CosineSpace,
        train: Ints,
        targets: Floats,
        weights: Floats | None = None,
        temperature: float = PROTOTYPE_TEMPERATURE,
    ) -> Prototypes:
        """From the drawn rows, their one-hot classes (n, K) and how much each row counts (n,)."""
        counts = targets if weights is None else targets * weights[:, None]
        share = counts / np.maximum(counts.sum(axis=0), _TINY)
        means = space.sums(train, share)
        centre = means.sum(axis=1) / (counts.sum(axis=0) > 0).sum()
        sums = space.sums(train, share, centre)
        lengths = np.maximum(np.linalg.norm(sums, axis=0), 1e-6)
        return cls(space, centre, share, np.asarray(sums / lengths, dtype=space.rows.dtype), temperature)

    def predict(self, rows: Ints) -> Floats:
        """(len(rows), K) probabilities; a class without training rows gets 0."""
        logits = self.space.along(rows, self.centre, self.directions) * self.temperature
        logits[:, ~(self.share > 0).any(axis=0)] = -np.inf
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
