"""kNN and prototypes as scikit-learn estimators; a study computes the same numbers from one shared Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from umedfeat.arrays import Floats, Ints
from umedfeat.fewshot.classifiers.cosine import CosineSpace
from umedfeat.fewshot.classifiers.neighbours import Neighbours, Prototypes
from umedfeat.fewshot.settings import KNN_NEIGHBOURS, PROTOTYPE_TEMPERATURE

__all__ = ["KNNProbe", "PrototypeProbe"]


class _CosineClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Keeps the training rows; predicts from cosines after centring."""

    def _keep(self, X: Any, y: Any) -> Floats:
        rows, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, code = np.unique(y, return_inverse=True)
        self.rows_ = rows
        self.targets_ = np.equal.outer(code, np.arange(len(self.classes_))).astype(np.float64)
        return np.asarray(self.targets_)

    def _space(self, X: Any) -> tuple[CosineSpace, Ints, Ints]:
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False)
        everything = np.vstack([self.rows_, rows])
        numbers = np.arange(len(everything))
        return (
            CosineSpace(everything, gram_rows=0, dtype=np.float64),
            numbers[: len(self.rows_)],
            numbers[len(self.rows_) :],
        )

    def predict_proba(self, X: Any) -> Floats:
        """(n, K) probabilities in the order of ``classes_``."""
        raise NotImplementedError

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """(n,) most probable classes; the first of equally probable ones."""
        chance = self.predict_proba(X)
        return np.asarray(self.classes_[chance.argmax(axis=1)])


class KNNProbe(_CosineClassifier):
    """k nearest neighbours by cosine after centring by the training mean; k by the leave-one-patient-out Brier score.

    Args:
        neighbours: values of k tried; those above half of the rows are left out.
        seed: of the subset of rows that chooses k where there are very many.

    Attributes:
        k_: the chosen k.
    """

    def __init__(self, neighbours: Sequence[int] = KNN_NEIGHBOURS, seed: int = 0) -> None:
        self.neighbours = neighbours
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> KNNProbe:
        """Fit on (n, D) rows and (n,) classes; ``groups`` (n,) names the patients (each row its own by default)."""
        targets = self._keep(X, y)
        names = np.arange(len(targets)) if groups is None else np.asarray(groups)
        group = np.unique(names, return_inverse=True)[1]
        space = CosineSpace(self.rows_, gram_rows=0, dtype=np.float64).draw(np.arange(len(targets)))
        self.k_ = Neighbours.choose(
            space, targets, group, prior=self._prior(), candidates=self.neighbours, seed=self.seed
        ).k
        return self

    def _prior(self) -> Floats:
        return np.full(len(self.classes_), 1.0 / len(self.classes_))

    def predict_proba(self, X: Any) -> Floats:
        space, train, rows = self._space(X)
        return Neighbours(space.draw(train), self.targets_, self.k_, self._prior(), np.ones(len(train))).predict(rows)


class PrototypeProbe(_CosineClassifier):
    """Nearest class mean by cosine after centring by the mean of the class means.

    Args:
        temperature: factor of the cosines in the softmax.
    """

    def __init__(self, temperature: float = PROTOTYPE_TEMPERATURE) -> None:
        self.temperature = temperature

    def fit(self, X: Any, y: Any, groups: Any = None) -> PrototypeProbe:
        """Fit on (n, D) rows and (n,) classes; groups do not matter here."""
        self._keep(X, y)
        return self

    def predict_proba(self, X: Any) -> Floats:
        space, train, rows = self._space(X)
        return Prototypes.of(space, train, self.targets_, temperature=self.temperature).predict(rows)
