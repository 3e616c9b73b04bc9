"""Classifiers by name: fit on the drawn rows, predict the test rows, over the study's full label space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umedfeat.fewshot.arrays import Floats, Floats32, Ints
from umedfeat.fewshot.classifiers.cosine import CosineSpace, DrawnCosines
from umedfeat.fewshot.classifiers.linear import LinearProbe
from umedfeat.fewshot.classifiers.neighbours import Neighbours, Prototypes
from umedfeat.fewshot.classifiers.ridge import RidgeProbe
from umedfeat.fewshot.cohort.cohort import Bags
from umedfeat.fewshot.settings import ProbeSettings, Task

__all__ = ["Fitter", "Predicted"]


@dataclass(frozen=True)
class Predicted:
    """(n, K) predictions of one fitted classifier, the hyperparameter it chose, and whether its solver converged."""

    values: Floats
    chosen: str
    converged: bool = True


class Fitter:
    """Fits any classifier on any draw; what the draws share is computed once.

    Args:
        rows: (N, D) features. truth: (N,) or (N, L) target of each row. group: (N,) patient of each row.
        width: K, the size of the label space.
        settings: which classifiers.
        bags: the tiles of each row, for attention pooling.
    """

    def __init__(
        self,
        rows: Floats32,
        truth: npt.NDArray[np.generic],
        group: Ints,
        task: Task,
        width: int,
        settings: ProbeSettings,
        bags: Bags | None = None,
    ) -> None:
        self.rows, self.truth, self.group = rows, truth, group
        self.task, self.width, self.settings, self.bags = task, width, settings, bags
        needs_cosines = {"knn", "prototype"} & set(settings.classifiers)
        self.space = CosineSpace(rows) if needs_cosines else None

    def predict(self, train: Ints, tests: Sequence[Ints], classifiers: Sequence[str]) -> dict[str, list[Predicted]]:
        """Fit each classifier on the training rows and predict each set of test rows."""
        cosines = self.space.draw(train) if self.space is not None else None
        return {name: self._one(name, train, tests, cosines) for name in classifiers}

    def _one(self, name: str, train: Ints, tests: Sequence[Ints], cosines: DrawnCosines | None) -> list[Predicted]:
        if name == "linear":
            return self._ridge(train, tests) if self.task == "regression" else self._linear(train, tests)
        if name == "abmil" and self.bags is not None:
            return self._attention(train, tests, self.bags)
        if cosines is None:
            raise ValueError(f"no cosines for {name!r}")
        if name == "knn":
            return self._knn(train, tests, cosines)
        return self._prototype(train, tests, cosines)

    def _targets(self, train: Ints) -> Floats:
        """(n, M): one-hot classes, 0/1 labels, or values in one column."""
        truth = self.truth[train]
        if self.task in ("binary", "multiclass", "ordinal"):
            return np.asarray(np.equal.outer(truth, np.arange(self.width)), dtype=np.float64)
        return np.asarray(truth, dtype=np.float64).reshape(len(train), -1)

    def _linear(self, train: Ints, tests: Sequence[Ints]) -> list[Predicted]:
        if self.task != "multilabel":
            model = LinearProbe(seed=self.settings.seed).fit(self.rows[train], self.truth[train], self.group[train])
            return [
                Predicted(self._widen(model, self.rows[test]), f"C={model.C_:g}", model.converged_) for test in tests
            ]
        models = [
            LinearProbe(seed=self.settings.seed).fit(self.rows[train], column, self.group[train])
            for column in self.truth[train].T
        ]
        chosen = "C=" + "|".join(f"{model.C_:g}" for model in models)
        converged = all(model.converged_ for model in models)
        return [
            Predicted(np.stack([m.predict_proba(self.rows[test])[:, 1] for m in models], axis=1), chosen, converged)
            for test in tests
        ]

    def _widen(self, model: LinearProbe, rows: Floats32) -> Floats:
        """Put the model's columns where their classes stand in the full label space; absent classes get 0."""
        values = np.zeros((len(rows), self.width))
        values[:, model.classes_] = model.predict_proba(rows)
        return values

    def _ridge(self, train: Ints, tests: Sequence[Ints]) -> list[Predicted]:
        model = RidgeProbe(seed=self.settings.seed).fit(self.rows[train], self.truth[train], self.group[train])
        return [Predicted(model.predict(self.rows[test])[:, None], f"alpha={model.alpha_:g}") for test in tests]

    def _attention(self, train: Ints, tests: Sequence[Ints], bags: Bags) -> list[Predicted]:
        from umedfeat.fewshot.classifiers.attention import AttentionProbe  # imports torch, which no other one needs

        model = AttentionProbe(self.task, self.settings.seed).fit(bags.pick(train), self._targets(train))
        return [Predicted(model.predict(bags.pick(test)), "") for test in tests]

    def _knn(self, train: Ints, tests: Sequence[Ints], cosines: DrawnCosines) -> list[Predicted]:
        model = Neighbours.choose(cosines, self._targets(train), self.group[train], seed=self.settings.seed)
        return [Predicted(model.predict(test), f"k={model.k}") for test in tests]

    def _prototype(self, train: Ints, tests: Sequence[Ints], cosines: DrawnCosines) -> list[Predicted]:
        targets = self._targets(train)
        if self.task != "multilabel":
            model = Prototypes(cosines, targets)
            return [Predicted(model.predict(test), "") for test in tests]
        pairs = [Prototypes(cosines, np.stack([1 - column, column], axis=1)) for column in targets.T]
        return [Predicted(np.stack([pair.predict(test)[:, 1] for pair in pairs], axis=1), "") for test in tests]
