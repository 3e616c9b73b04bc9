"""The linear probe: standardise, L2 logistic regression, C by inner patient-grouped cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from umedfeat.fewshot.arrays import Floats, Ints, Rows
from umedfeat.fewshot.classifiers.logistic import LogisticPaths, Weights, probabilities
from umedfeat.fewshot.classifiers.scaling import Standard
from umedfeat.fewshot.draws.orders import patient_folds
from umedfeat.fewshot.settings import INNER_FOLDS, LOGISTIC_C, LOGISTIC_C_FIXED

__all__ = ["LinearProbe", "inner_folds"]

_SELECT_TOLERANCE = 2e-4
_FINAL_TOLERANCE = 1e-6
#: The walk along C ends after this many strengths in a row whose inner loss is above the best.
_PATIENCE = 2


def inner_folds(
    targets: npt.NDArray[np.generic], groups: npt.NDArray[np.generic], folds: int, seed: int
) -> Ints | None:
    """Deal rows to inner folds, groups kept together; None where a class has fewer than three groups.

    Args:
        targets: (n, C) 0/1: what must occur in every inner training set. groups: (n,).
    """
    _, group = np.unique(groups, return_inverse=True)
    carries = np.zeros((int(group.max()) + 1, targets.shape[1]), dtype=bool)
    np.logical_or.at(carries, group, np.asarray(targets, dtype=bool))
    fewest = int(carries.sum(axis=0).min())
    if fewest < 3:
        return None
    rarity = np.where(carries, carries.sum(axis=0), carries.size)
    fold = patient_folds(carries, rarity.argmin(axis=1), min(folds, fewest), np.random.default_rng([seed, 3]))
    for number in range(int(fold.max()) + 1):
        if not carries[fold != number].any(axis=0).all():
            return None
    return np.asarray(fold[group])


class LinearProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """StandardScaler → L2 logistic regression as one estimator, same predictions as scikit-learn's pipeline.

    Args:
        strengths: values of C tried, ascending. fixed: C where nothing can be selected.
        folds: inner folds. seed: of their draw.

    Attributes:
        C_: the chosen C. converged_: the final fit reached its tolerance. inner_loss_: mean log-loss per C tried.
    """

    def __init__(
        self,
        strengths: Sequence[float] = LOGISTIC_C,
        fixed: float = LOGISTIC_C_FIXED,
        folds: int = INNER_FOLDS,
        seed: int = 0,
    ) -> None:
        self.strengths = strengths
        self.fixed = fixed
        self.folds = folds
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> LinearProbe:
        """Fit on (n, D) rows and (n,) classes; ``groups`` (n,) names the patients (each row its own by default)."""
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, code = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}")
        onehot = np.equal.outer(code, np.arange(len(self.classes_))).astype(np.float64)
        groups = np.arange(len(y)) if groups is None else np.asarray(groups)
        targets = onehot[:, 1:] if len(self.classes_) == 2 else onehot
        self._fit(X, targets, inner_folds(onehot, groups, self.folds, self.seed))
        return self

    def _fit(self, X: Rows, targets: Floats, fold: Ints | None) -> None:
        self.standard_ = Standard.of(X)
        rows = self.standard_.apply(X)
        self.inner_loss_ = [] if fold is None else inner_losses(rows, targets, fold, self.strengths)
        self.C_ = self.fixed if fold is None else self.strengths[int(np.argmin(self.inner_loss_))]
        everything = np.ones((len(targets), 1), dtype=bool)
        path = LogisticPaths(rows, targets, everything, np.ones((1, X.shape[1])))
        self.weights_: Weights = path.fit(self.C_, _FINAL_TOLERANCE)[0]
        self.converged_ = self.weights_.converged

    def _logits(self, X: Any) -> Floats:
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False)
        return np.asarray(self.standard_.apply(rows) @ self.weights_.coef + self.weights_.intercept)

    def predict_proba(self, X: Any) -> Floats:
        """(n, K) probabilities in the order of ``classes_``."""
        return probabilities(self._logits(X))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """(n,) most probable classes."""
        chance = self.predict_proba(X)
        return np.asarray(self.classes_[chance.argmax(axis=1)])

    def decision_function(self, X: Any) -> Floats:
        """(n,) logit of two classes, (n, K) logits of more."""
        logits = self._logits(X)
        return logits[:, 0] if logits.shape[1] == 1 else logits


def inner_losses(rows: Floats, targets: Floats, fold: Ints, strengths: Sequence[float]) -> list[float]:
    """Mean held-out log-loss for each C, from the strongest regularisation until it has risen ``_PATIENCE`` times.

    Each inner training set is standardised on its own: dividing the rows, which the whole draw has standardised, by
    their standard deviation inside the fold comes to the same.
    """
    inside = np.not_equal.outer(fold, np.arange(int(fold.max()) + 1))
    scales = np.stack([Standard.of(rows[part]).scale for part in inside.T])
    paths = LogisticPaths(rows, targets, inside, scales)
    losses: list[float] = []
    for strength in strengths:
        paths.walk(strength, _SELECT_TOLERANCE)
        losses.append(paths.held_out_loss() / len(targets))
        if len(losses) - 1 - int(np.argmin(losses)) >= _PATIENCE:
            break
    return losses
