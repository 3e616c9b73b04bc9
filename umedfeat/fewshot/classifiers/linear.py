"""The linear probe: one scale for all features, L2 logistic regression, C by inner patient-grouped cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from umedfeat.arrays import Bools, Floats, Ints, Rows
from umedfeat.fewshot.classifiers.designs import Axes
from umedfeat.fewshot.classifiers.logistic import LogisticPaths, Start, Weights, probabilities
from umedfeat.fewshot.classifiers.scaling import Scaler, Standard
from umedfeat.fewshot.classifiers.selecting import Selecting, inner_folds
from umedfeat.fewshot.settings import LOGISTIC_C, LOGISTIC_C_FIXED

__all__ = ["LinearProbe", "weights_of"]

_SELECT_TOLERANCE = 2e-4
_FINAL_TOLERANCE = 1e-6
#: The walk along C ends after this many strengths in a row whose inner loss is above the best.
_PATIENCE = 2


def _lengths(rows: Floats, counts: Floats) -> Floats:
    """(F, 1) root mean square length around their mean of the rows, which lie around 0, each counted (F, n) times."""
    share = counts / counts.sum(axis=1, keepdims=True)
    squares = share @ np.einsum("nd,nd->n", rows, rows) - ((share @ rows) ** 2).sum(axis=1)
    lengths = np.sqrt(np.maximum(squares, 0.0))
    return np.where(lengths > 0, lengths, 1.0)[:, None]


def weights_of(groups: npt.NDArray[np.generic]) -> Floats:
    """(n,) weights under which every group counts as much as one row."""
    _, group, count = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / count[group])


@dataclass(eq=False, repr=False, kw_only=True)
class LinearProbe(ClassifierMixin, Selecting):  # type: ignore[misc]
    """Scaling (see ``Scaler``) → L2 logistic regression as one estimator; the objective is scikit-learn's.

    Args:
        strengths: values of C tried, ascending. fixed: C where nothing can be selected.
        enough, folds, seed, scale: as of ``Selecting``.

    Attributes:
        C_: the chosen C. converged_: the final fit reached its tolerance. inner_loss_: mean log-loss per C tried.
        scaler_: of the training rows. weights_: coefficients and intercept on scaled rows.
    """

    strengths: Sequence[float] = LOGISTIC_C
    fixed: float = LOGISTIC_C_FIXED

    def fit(
        self, X: Any, y: Any, groups: Any = None, weights: Floats | None = None, pool: Standard | None = None
    ) -> LinearProbe:
        """Fit on (n, D) rows and (n,) classes.

        Args:
            groups: (n,) names of the patients (each row its own by default).
            weights: (n,) how much each row counts (once by default).
            pool: statistics of the unlabelled pool, for ``scale="pool"``.
        """
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, code = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}")
        onehot = np.equal.outer(code, np.arange(len(self.classes_))).astype(np.float64)
        groups = np.arange(len(y)) if groups is None else np.asarray(groups)
        self.scaler_ = Scaler.of(X, self.scale, weights=weights, pool=pool)
        targets = onehot[:, 1:] if len(self.classes_) == 2 else onehot
        fold = inner_folds(onehot, groups, self.folds, self.seed, max(3, self.enough))
        rows = self.scaler_.apply(X)
        del X  # of many tiles it is large, and often the last reference
        self._fit(rows, targets, fold, weights)
        return self

    def _fit(self, rows: Floats, targets: Floats, fold: Ints | None, weights: Floats | None) -> None:
        axes, start = Axes.of(rows), None
        self.C_, self.inner_loss_ = self.fixed, list[float]()
        if fold is not None:
            self.C_, start = self._select(axes, targets, fold, weights)
        everything = np.ones((len(targets), 1), dtype=bool)
        path = LogisticPaths(axes, targets, everything, np.ones((1, 1)), weights, start=start)
        self.weights_: Weights = path.fit(self.C_, _FINAL_TOLERANCE)[0]
        self.converged_ = self.weights_.converged

    def _select(self, axes: Axes, targets: Floats, fold: Ints, weights: Floats | None) -> tuple[float, Start | None]:
        """The C of the smallest mean held-out log-loss, and a start near its solution.

        From the strongest regularisation until the loss has risen enough times. Each inner training set is scaled on
        its own: dividing the rows, which the whole draw has scaled, once more by their scale inside the fold comes to
        the same.
        """
        inside = np.not_equal.outer(fold, np.arange(int(fold.max()) + 1))
        scales = self._scales(axes.rows, inside, weights)
        paths = LogisticPaths(axes, targets, inside, scales, weights, single=True)
        total = len(targets) if weights is None else weights.sum()
        best, start = 0, None
        for number, strength in enumerate(self.strengths):
            paths.walk(strength, _SELECT_TOLERANCE)
            self.inner_loss_.append(paths.held_out_loss() / total)
            if number == 0 or self.inner_loss_[number] < self.inner_loss_[best]:
                best, start = number, paths.middle()
            if number - best >= _PATIENCE:
                break
        return self.strengths[best], start

    def _scales(self, rows: Floats, inside: Bools, weights: Floats | None) -> Floats:
        """(F, 1) lengths, or (F, D) scales of the features, of the rows inside each fold."""
        counts = np.ones(len(rows)) if weights is None else weights
        if self.scale != "standard":
            return _lengths(rows, inside.T * counts)
        found = []
        for part in inside.T:
            standard = Standard.of(rows[part], None if weights is None else weights[part])
            varying = (standard.scale != 1.0).sum()
            found.append(standard.scale * np.sqrt(max(1, varying)))
        return np.stack(found)

    def _logits(self, X: Any) -> Floats:
        check_is_fitted(self)
        rows: Rows = validate_data(self, X, reset=False)
        return self.scaler_.along(rows, self.weights_.coef) + self.weights_.intercept

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
