"""Fitted classifiers as plain arrays: what outlives a study, predicts for any rows, and can be written without pickles.

Each form is a few named arrays and a formula that any language can repeat (``docs/saved-probes.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats, Floats32, Ints, Rows
from umedfeat.fewshot.classifiers.attention_form import AttentionForm
from umedfeat.fewshot.classifiers.scaling import Scaler, Standard

__all__ = ["FORMS", "Form", "LinearForm", "NeighboursForm", "PrototypeForm", "centred_units"]

Tensors = Mapping[str, npt.NDArray[Any]]

_TINY = 1e-12
_BLOCK_ROWS = 4096


class Form(Protocol):
    """A fitted classifier.

    Attributes:
        width: K, number of classes, labels, or 1.
        dim: D, length of a row.
    """

    @property
    def width(self) -> int: ...
    @property
    def dim(self) -> int: ...

    def predict(self, rows: Rows) -> Floats:
        """(n, K) probabilities (or one column of values) for (n, D) rows."""
        ...

    def stretched(self, factor: float) -> Form:
        """The same for rows that are ``factor`` times as large."""
        ...

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that it consists of."""
        ...

    @classmethod
    def of(cls, tensors: Tensors) -> Form:
        """Inverse of ``tensors``.

        Raises:
            KeyError, ValueError: an array is missing or has a shape that does not fit the others.
        """
        ...


@dataclass(frozen=True)
class LinearForm:
    """Logistic or ridge regression on scaled rows.

    Attributes:
        scaler: of the training rows.
        coef: (D, M). intercept: (M,). Logits (or values) are ``scaler.apply(rows) @ coef + intercept``.
        columns: (C,) classes that were seen in training, as columns of the full label space; empty for labels and
            values, whose columns are those of ``coef``.
        link: 0 values as they are, 1 a sigmoid of each label, 2 classes (one logit of two, a softmax of more).
        classes: K.
    """

    scaler: Scaler
    coef: Floats
    intercept: Floats
    columns: Ints
    link: int
    classes: int

    @property
    def width(self) -> int:
        return self.classes

    @property
    def dim(self) -> int:
        return len(self.coef)

    def predict(self, rows: Rows) -> Floats:
        logits = self.scaler.along(rows, self.coef) + self.intercept
        if self.link == 0:
            return logits
        if self.link == 1:
            return _sigmoid(logits)
        values = np.zeros((len(rows), self.classes))
        values[:, self.columns] = _softmax(logits) if logits.shape[1] > 1 else _two(_sigmoid(logits))
        return values

    def stretched(self, factor: float) -> LinearForm:
        standard = self.scaler.standard
        if standard is None:  # rows get unit length
            return self
        larger = Standard(standard.mean * factor, standard.scale * factor)
        return replace(self, scaler=replace(self.scaler, standard=larger))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        scaler, standard = self.scaler, self.scaler.standard
        own = {} if standard is None else {"feature_mean": standard.mean, "feature_scale": standard.scale}
        return {
            **own,
            "mean": scaler.mean,
            "length": np.array([scaler.length]),
            "coef": self.coef,
            "intercept": self.intercept,
            "columns": self.columns.astype(np.int64),
            "link": np.array([self.link, self.classes], dtype=np.int64),
        }

    @classmethod
    def of(cls, tensors: Tensors) -> LinearForm:
        standard = None
        if "feature_mean" in tensors:
            standard = Standard(tensors["feature_mean"], tensors["feature_scale"])
        link, classes = (int(value) for value in tensors["link"])
        coef, columns, length = tensors["coef"], tensors["columns"].astype(np.intp), float(tensors["length"][0])
        _fits(coef.ndim == 2 and coef.size > 0 and columns.ndim == 1 and length > 0)
        _fits(tensors["mean"].shape == (len(coef),) and tensors["intercept"].shape == (coef.shape[1],))
        _fits(standard is None or standard.mean.shape == standard.scale.shape == (len(coef),))
        _fits(standard is None or bool((standard.scale > 0).all()))
        seen = 2 if coef.shape[1] == 1 else coef.shape[1]
        _fits(link in (0, 1, 2) and (len(columns) == seen if link == 2 else classes == coef.shape[1]))
        _fits(bool(((columns >= 0) & (columns < classes)).all()) and len(np.unique(columns)) == len(columns))
        scaler = Scaler(standard, tensors["mean"], length)
        return cls(scaler, coef, tensors["intercept"], columns, link, classes)


@dataclass(frozen=True)
class NeighboursForm:
    """k nearest neighbours by the cosine after centring.

    Attributes:
        centre: (D,). unit: (n, D) float32 centred training rows of length 1. targets: (n, K). weights: (n,).
        prior: (K,) targets of one more neighbour that knows nothing; empty for none. k: neighbours.
    """

    centre: Floats
    unit: Floats32
    targets: Floats
    weights: Floats
    prior: Floats
    k: int

    @property
    def width(self) -> int:
        return int(self.targets.shape[1])

    @property
    def dim(self) -> int:
        return int(self.unit.shape[1])

    def predict(self, rows: Rows) -> Floats:
        parts = [self._block(rows[first : first + _BLOCK_ROWS]) for first in range(0, len(rows), _BLOCK_ROWS)]
        return np.concatenate(parts) if parts else np.zeros((0, self.width))

    def _block(self, rows: Rows) -> Floats:
        cosines = centred_units(rows, self.centre) @ self.unit.T
        most = min(self.k, cosines.shape[1])
        top = np.argpartition(cosines, cosines.shape[1] - most, axis=1)[:, -most:]
        votes = self.weights[top]
        sums, number = (self.targets[top] * votes[:, :, None]).sum(axis=1), votes.sum(axis=1)[:, None]
        if len(self.prior):
            sums, number = sums + self.prior, number + 1.0
        return np.asarray(sums / np.maximum(number, _TINY))

    def stretched(self, factor: float) -> NeighboursForm:
        return replace(self, centre=self.centre * factor)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {
            "centre": self.centre,
            "unit": self.unit,
            "targets": self.targets,
            "weights": self.weights,
        }
        return {**arrays, "prior": self.prior, "k": np.array([self.k], dtype=np.int64)}

    @classmethod
    def of(cls, tensors: Tensors) -> NeighboursForm:
        unit, targets, prior, k = tensors["unit"], tensors["targets"], tensors["prior"], int(tensors["k"][0])
        weights = tensors["weights"]
        _fits(unit.ndim == targets.ndim == 2 and len(unit) == len(targets) > 0)
        _fits(weights.shape == (len(unit),) and bool((weights > 0).all()) and prior.ndim == 1)
        _fits(tensors["centre"].shape == unit.shape[1:] and 1 <= k <= len(unit))
        _fits(len(prior) in (0, targets.shape[1]))
        return cls(tensors["centre"], unit, targets, weights, prior, k)


@dataclass(frozen=True)
class PrototypeForm:
    """Nearest class mean: a softmax of cosines to the mean direction of each class; labels have a pair each.

    Attributes:
        centre: (P, D). directions: (P, D, C) float32 of length 1, zeros for absent classes. present: (P, C).
            P is 1 for classes (C = K), or the number of labels (C = 2: without, with).
        temperature: factor of the cosines. of_labels: whether these are labels.
    """

    centre: Floats
    directions: Floats32
    present: npt.NDArray[np.bool_]
    temperature: float
    of_labels: bool = False

    @property
    def width(self) -> int:
        return len(self.directions) if self.of_labels else int(self.directions.shape[2])

    @property
    def dim(self) -> int:
        return int(self.directions.shape[1])

    def predict(self, rows: Rows) -> Floats:
        chances = [self._pair(rows, number) for number in range(len(self.directions))]
        return np.stack([chance[:, 1] for chance in chances], axis=1) if self.of_labels else chances[0]

    def _pair(self, rows: Rows, number: int) -> Floats:
        logits = (centred_units(rows, self.centre[number]) @ self.directions[number]).astype(
            np.float64
        ) * self.temperature
        logits[:, ~self.present[number]] = -np.inf
        return _softmax(logits)

    def stretched(self, factor: float) -> PrototypeForm:
        return replace(self, centre=self.centre * factor)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {
            "centre": self.centre,
            "directions": self.directions,
            "present": self.present.astype(np.uint8),
        }
        single = {"of_labels": np.ones(1, np.uint8)} if self.of_labels and len(self.directions) == 1 else {}
        return {**arrays, **single, "temperature": np.array([self.temperature])}

    @classmethod
    def of(cls, tensors: Tensors) -> PrototypeForm:
        centre, directions, present = tensors["centre"], tensors["directions"], tensors["present"].astype(bool)
        labels = "of_labels" in tensors or len(directions) > 1
        _fits(directions.ndim == 3 and directions.size > 0 and centre.shape == directions.shape[:2])
        _fits(directions.shape[2] == 2 or not labels)
        _fits(present.shape == (directions.shape[0], directions.shape[2]) and bool(present.any(axis=1).all()))
        return cls(centre, directions, present, float(tensors["temperature"][0]), labels)


#: Name of a classifier → its form.
FORMS: dict[str, type[LinearForm] | type[NeighboursForm] | type[PrototypeForm] | type[AttentionForm]] = {
    "linear": LinearForm,
    "knn": NeighboursForm,
    "prototype": PrototypeForm,
    "abmil": AttentionForm,
}


def _fits(condition: bool) -> None:
    if not condition:
        raise ValueError("arrays do not fit each other")


def centred_units(rows: Rows, centre: Floats) -> Floats32:
    """(n, D) float32 rows of length 1 after subtracting a centre (D,); rows at the centre stay zero."""
    centred = rows.astype(np.float64) - centre
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    least = max(_TINY * min(1.0, float(np.linalg.norm(centre))), np.finfo(np.float64).tiny)
    return np.asarray(centred / np.maximum(lengths, least), dtype=np.float32)


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


def _two(chance: Floats) -> Floats:
    return np.hstack([1.0 - chance, chance])


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
