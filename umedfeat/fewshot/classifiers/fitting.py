"""Classifiers by name: fit on the drawn rows, predict the test rows, over the study's full label space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats, Floats32, Ints, Rows
from umedfeat.fewshot.classifiers.cosine import GRAM_ROWS, CosineSpace
from umedfeat.fewshot.classifiers.cox import CoxProbe
from umedfeat.fewshot.classifiers.forms import Form, LinearForm, NeighboursForm, PrototypeForm, centred_units
from umedfeat.fewshot.classifiers.linear import LinearProbe, weights_of
from umedfeat.fewshot.classifiers.neighbours import Neighbours, Prototypes
from umedfeat.fewshot.classifiers.ridge import RidgeProbe
from umedfeat.fewshot.classifiers.scaling import Standard
from umedfeat.fewshot.classifiers.selecting import inner_folds
from umedfeat.fewshot.classifiers.temperature import fitted_temperature, tempered
from umedfeat.fewshot.cohort.cohort import Bags
from umedfeat.fewshot.settings import INNER_FOLDS, ProbeSettings, Task

if TYPE_CHECKING:
    from umedfeat.fewshot.classifiers.attention import AttentionProbe

__all__ = ["Fitter", "Predicted"]


@dataclass(frozen=True)
class Predicted:
    """(n, K) predictions of one fitted classifier, the hyperparameter it chose, and whether its solver converged."""

    values: Floats
    chosen: str
    converged: bool = True


class _Drawn(NamedTuple):
    """Training rows and how much each counts (None: once), sets of test rows, statistics of the pool."""

    train: Ints
    tests: Sequence[Ints]
    weights: Floats | None
    pool: Standard | None


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
        needs_cosines = {"knn", "prototype"} & set(settings.classifiers) and task != "survival"
        kept = GRAM_ROWS if "knn" in settings.classifiers else 0
        self.space = CosineSpace(rows, gram_rows=kept) if needs_cosines else None

    def predict(
        self, train: Ints, tests: Sequence[Ints], classifiers: Sequence[str], pool: Standard | None = None
    ) -> dict[str, list[Predicted]]:
        """Fit each classifier on the training rows and predict each set of test rows.

        Args:
            pool: statistics of the unlabelled rows that the training rows were drawn from, for ``scale="pool"``.
        """
        weights = weights_of(self.group[train]) if self.settings.weights == "patient" else None
        drawn = _Drawn(train, tests, weights, pool)
        found = {name: self._one(name, drawn) for name in classifiers}
        if self.settings.calibrate and self.task not in ("regression", "survival"):
            return {name: self._calibrated(name, drawn, each) for name, each in found.items()}
        return found

    def _calibrated(self, name: str, drawn: _Drawn, predicted: Sequence[Predicted]) -> list[Predicted]:
        """The same with the temperature that suits the drawn patients; as they are where these are too few."""
        temperature = self._temperature(name, drawn)
        if temperature is None:
            return [replace(each, chosen=_joined(each.chosen, "T=1 (too few patients)")) for each in predicted]
        labels = self.task == "multilabel"
        return [
            replace(
                each,
                values=tempered(each.values, temperature, labels=labels),
                chosen=_joined(each.chosen, f"T={temperature:.3g}"),
            )
            for each in predicted
        ]

    def _temperature(self, name: str, drawn: _Drawn) -> float | None:
        """By predictions of the drawn rows from other drawn patients; None where these are too few."""
        targets = self._targets(drawn.train)
        fold = inner_folds(targets, self.group[drawn.train], INNER_FOLDS, self.settings.seed)
        if fold is None:
            return None
        unseen = np.empty((len(fold), self.width))
        for number in range(int(fold.max()) + 1):
            left = fold == number
            weights = None if drawn.weights is None else drawn.weights[~left]
            inner = _Drawn(drawn.train[~left], [drawn.train[left]], weights, drawn.pool)
            unseen[left] = self._one(name, inner)[0].values
        return fitted_temperature(unseen, targets, labels=self.task == "multilabel")

    def form(self, name: str, train: Ints, pool: Standard | None = None) -> tuple[Form, float]:
        """One classifier fitted on the training rows, as arrays, and its temperature (1 where not calibrated).

        Together they predict any rows as ``predict`` does.

        Args:
            name: "linear", "knn", "prototype", or "abmil" where there are bags.
        """
        weights = weights_of(self.group[train]) if self.settings.weights == "patient" else None
        drawn = _Drawn(train, (), weights, pool)
        calibrate = self.settings.calibrate and self.task != "regression"
        return self._form(name, drawn), (self._temperature(name, drawn) or 1.0) if calibrate else 1.0

    def _form(self, name: str, drawn: _Drawn) -> Form:
        if name == "linear":
            return self._ridge_form(drawn) if self.task == "regression" else self._linear_form(drawn)
        if name == "abmil" and self.bags is not None:
            return self._attention_model(drawn, self.bags).form()
        return self._neighbours_form(drawn) if name == "knn" else self._prototype_form(drawn)

    def _linear_form(self, drawn: _Drawn) -> LinearForm:
        models = self._linear_models(drawn)
        coef = np.concatenate([model.weights_.coef for model in models], axis=1)
        intercept = np.concatenate([model.weights_.intercept for model in models])
        labels = self.task == "multilabel"
        columns = np.empty(0, dtype=np.intp) if labels else np.asarray(models[0].classes_, dtype=np.intp)
        return LinearForm(models[0].scaler_, coef, intercept, columns, 1 if labels else 2, self.width)

    def _ridge_form(self, drawn: _Drawn) -> LinearForm:
        model = self._ridge_model(drawn)
        nothing = np.empty(0, dtype=np.intp)
        return LinearForm(model.scaler_, model.coef_[:, None], np.array([model.intercept_]), nothing, 0, 1)

    def _neighbours_form(self, drawn: _Drawn) -> NeighboursForm:
        rows = self.rows[drawn.train]
        centre = rows.mean(axis=0, dtype=np.float64)
        model = self._neighbours(drawn, self.space or CosineSpace(self.rows))
        prior = np.empty(0) if model.prior is None else model.prior
        return NeighboursForm(centre, centred_units(rows, centre), model.targets, model.weights, prior, model.k)

    def _prototype_form(self, drawn: _Drawn) -> PrototypeForm:
        rows, targets = self.rows[drawn.train], self._targets(drawn.train)
        pairs = [np.stack([1 - column, column], axis=1) for column in targets.T]
        space = self.space or CosineSpace(self.rows)
        models = [
            Prototypes.of(space, drawn.train, one, drawn.weights)
            for one in (pairs if self.task == "multilabel" else [targets])
        ]
        centres, directions = zip(*(_class_means(rows, model.share) for model in models), strict=True)
        present = np.stack([(model.share > 0).any(axis=0) for model in models])
        labels = self.task == "multilabel"
        return PrototypeForm(np.stack(centres), np.stack(directions), present, models[0].temperature, labels)

    def _one(self, name: str, drawn: _Drawn) -> list[Predicted]:
        if name == "linear":
            ways = {"regression": self._ridge, "survival": self._cox}
            return ways.get(self.task, self._linear)(drawn)
        if name == "abmil" and self.bags is not None:
            return self._attention(drawn, self.bags)
        if self.space is None:
            raise ValueError(f"no cosines for {name!r}")
        return self._knn(drawn, self.space) if name == "knn" else self._prototype(drawn, self.space)

    def _targets(self, train: Ints) -> Floats:
        """(n, M): one-hot classes, 0/1 labels, or values in one column."""
        truth = self.truth[train]
        if self.task in ("binary", "multiclass", "ordinal"):
            return np.asarray(np.equal.outer(truth, np.arange(self.width)), dtype=np.float64)
        return np.asarray(truth, dtype=np.float64).reshape(len(train), -1)

    def _linear_models(self, drawn: _Drawn) -> list[LinearProbe]:
        """One model, or one of each label."""
        train, truth = drawn.train, self.truth[drawn.train]
        columns = truth.T if self.task == "multilabel" else [truth]
        return [
            LinearProbe(seed=self.settings.seed, scale=self.settings.scale).fit(
                self.rows[train], column, self.group[train], drawn.weights, drawn.pool
            )
            for column in columns
        ]

    def _linear(self, drawn: _Drawn) -> list[Predicted]:
        models = self._linear_models(drawn)
        chosen = "C=" + "|".join(f"{model.C_:g}" for model in models)
        converged = all(model.converged_ for model in models)
        return [Predicted(self._chances(models, self.rows[test]), chosen, converged) for test in drawn.tests]

    def _chances(self, models: Sequence[LinearProbe], rows: Rows) -> Floats:
        """Columns where their classes stand in the full label space, absent classes 0; of labels their presence."""
        if self.task == "multilabel":
            return np.stack([model.predict_proba(rows)[:, 1] for model in models], axis=1)
        values = np.zeros((len(rows), self.width))
        values[:, models[0].classes_] = models[0].predict_proba(rows)
        return values

    def _cox(self, drawn: _Drawn) -> list[Predicted]:
        train = drawn.train
        model = CoxProbe(seed=self.settings.seed, scale=self.settings.scale).fit(
            self.rows[train], self.truth[train], self.group[train], drawn.weights, drawn.pool
        )
        chosen = f"alpha={model.alpha_:g}"
        return [Predicted(model.predict(self.rows[test])[:, None], chosen, model.converged_) for test in drawn.tests]

    def _ridge_model(self, drawn: _Drawn) -> RidgeProbe:
        train = drawn.train
        return RidgeProbe(seed=self.settings.seed, scale=self.settings.scale).fit(
            self.rows[train], self.truth[train], self.group[train], drawn.weights, drawn.pool
        )

    def _ridge(self, drawn: _Drawn) -> list[Predicted]:
        model = self._ridge_model(drawn)
        return [Predicted(model.predict(self.rows[test])[:, None], f"alpha={model.alpha_:g}") for test in drawn.tests]

    def _attention_model(self, drawn: _Drawn, bags: Bags) -> AttentionProbe:
        from umedfeat.fewshot.classifiers.attention import AttentionProbe  # imports torch, which no other one needs

        return AttentionProbe(self.task, self.settings.seed).fit(bags.pick(drawn.train), self._targets(drawn.train))

    def _attention(self, drawn: _Drawn, bags: Bags) -> list[Predicted]:
        model = self._attention_model(drawn, bags)
        return [Predicted(model.predict(bags.pick(test)), "") for test in drawn.tests]

    def _neighbours(self, drawn: _Drawn, space: CosineSpace) -> Neighbours:
        targets, seed = self._targets(drawn.train), self.settings.seed
        groups = self.group[drawn.train]
        return Neighbours.choose(
            space.draw(drawn.train), targets, groups, prior=self._prior(targets), weights=drawn.weights, seed=seed
        )

    def _knn(self, drawn: _Drawn, space: CosineSpace) -> list[Predicted]:
        model = self._neighbours(drawn, space)
        return [Predicted(model.predict(test), f"k={model.k}") for test in drawn.tests]

    def _prior(self, targets: Floats) -> Floats | None:
        """What a neighbour says that knows nothing: all drawn classes alike, a label as well present as not."""
        if self.task == "regression":
            return None
        if self.task == "multilabel":
            return np.full(targets.shape[1], 0.5)
        present = targets.any(axis=0)
        return np.asarray(present / present.sum())

    def _prototype(self, drawn: _Drawn, space: CosineSpace) -> list[Predicted]:
        targets, train = self._targets(drawn.train), drawn.train
        if self.task != "multilabel":
            model = Prototypes.of(space, train, targets, drawn.weights)
            return [Predicted(model.predict(test), "") for test in drawn.tests]
        both = [np.stack([1 - column, column], axis=1) for column in targets.T]
        pairs = [Prototypes.of(space, train, pair, drawn.weights) for pair in both]
        return [Predicted(np.stack([pair.predict(test)[:, 1] for pair in pairs], axis=1), "") for test in drawn.tests]


def _joined(chosen: str, more: str) -> str:
    return f"{chosen}, {more}" if chosen else more


def _class_means(rows: Rows, share: Floats) -> tuple[Floats, Floats32]:
    """The mean of the class means (D,), and the mean direction of each class around it (D, K), of length 1."""
    centre = share.sum(axis=1) @ rows.astype(np.float64) / (share > 0).any(axis=0).sum()
    directions = centred_units(rows, centre).T.astype(np.float64) @ share
    return centre, (directions / np.maximum(np.linalg.norm(directions, axis=0), 1e-6)).astype(np.float32)
