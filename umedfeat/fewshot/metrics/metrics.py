"""Metrics as functions of weights on test patients: the estimate, every bootstrap and every jackknife are one call.

From the truth (n,) and the predicted probabilities (n, K) over the full label space, patient weights (B, P) give the
values (B,). Weights of one give the plain metric, equal to scikit-learn's. A
value that is not defined (a class without weight, for instance) is NaN; nothing is imputed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats, Ints
from umedfeat.fewshot.metrics.calibration import by_patient, calibration_slope
from umedfeat.fewshot.metrics.concordance import concordance
from umedfeat.fewshot.metrics.operating import OPERATING, expected_calibration_error, operating_point
from umedfeat.fewshot.metrics.ranking import spearman, sums_within
from umedfeat.fewshot.settings import Task

__all__ = [
    "CLASSES",
    "JOINED",
    "METRICS",
    "PRIMARY",
    "Evaluated",
    "Metric",
    "confusion",
    "from_cells",
    "measure",
    "metrics_of",
    "recalls_of",
]


_CLIP = 1e-15


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    Attributes:
        label: for tables. best: the value of perfect predictions.
        scale: where its error is about normal: "unit" ([0, 1], score interval), "signed" (Fisher's z of [-1, 1]),
            "positive" (logarithm), "below one" (logarithm of what is missing to 1), "real".
        greater_is_better: direction of improvement (closer to ``best`` for the calibration slope).
        varies: False for what describes the test set and not the classifier: no interval, no difference.
    """

    label: str
    best: float
    scale: Literal["unit", "signed", "positive", "below one", "real"]
    greater_is_better: bool = True
    varies: bool = True


METRICS: dict[str, Metric] = {
    "macro_f1": Metric("macro-F1", 1.0, "unit"),
    "balanced_accuracy": Metric("balanced accuracy", 1.0, "unit"),
    "accuracy": Metric("accuracy", 1.0, "unit"),
    "auroc": Metric("AUROC", 1.0, "unit"),
    "auprc": Metric("AUPRC", 1.0, "unit"),
    "prevalence": Metric("prevalence", float("nan"), "unit", varies=False),
    "mcc": Metric("MCC", 1.0, "signed"),
    "quadratic_kappa": Metric("quadratic kappa", 1.0, "signed"),
    "brier": Metric("Brier score", 0.0, "positive", greater_is_better=False),
    "log_loss": Metric("log-loss", 0.0, "positive", greater_is_better=False),
    "calibration_slope": Metric("calibration slope", 1.0, "real"),
    "calibration_intercept": Metric("calibration intercept", 0.0, "real"),  # of fixed models on new patients alone
    "ece": Metric("ECE", 0.0, "unit", greater_is_better=False),
    "sensitivity": Metric("sensitivity", 1.0, "unit"),
    "specificity": Metric("specificity", 1.0, "unit"),
    "ppv": Metric("PPV", 1.0, "unit"),
    "npv": Metric("NPV", 1.0, "unit"),
    "c_index": Metric("C-index", 1.0, "unit"),
    "r2": Metric("R²", 1.0, "below one"),
    "mae": Metric("MAE", 0.0, "positive", greater_is_better=False),
    "spearman": Metric("Spearman", 1.0, "signed"),
}

_CLASSES = (
    "macro_f1",
    "balanced_accuracy",
    "accuracy",
    "auroc",
    "auprc",
    "prevalence",
    "mcc",
    "brier",
    "log_loss",
    "calibration_slope",
    "ece",
)
_OF_TASK: dict[Task, tuple[str, ...]] = {
    "binary": (*_CLASSES, *OPERATING),
    "multiclass": _CLASSES,
    "ordinal": (*_CLASSES, "quadratic_kappa"),
    "multilabel": ("macro_f1", "balanced_accuracy", "auroc", "auprc", "prevalence", "brier", "log_loss"),
    "regression": ("r2", "mae", "spearman"),
    "survival": ("c_index",),
}
#: Tasks whose items carry one class each.
CLASSES: tuple[Task, ...] = ("binary", "multiclass", "ordinal")
PRIMARY: dict[Task, str] = {
    "binary": "macro_f1",
    "multiclass": "macro_f1",
    "ordinal": "quadratic_kappa",
    "multilabel": "auroc",
    "regression": "r2",
    "survival": "c_index",
}


def metrics_of(task: Task) -> tuple[str, ...]:
    """Names of the metrics of a task, in the order of tables."""
    return _OF_TASK[task]


@dataclass(frozen=True)
class Evaluated:
    """Truth and prediction of one draw on one test set.

    Attributes:
        task: kind of target. truth: (n,) classes or values, (n, L) labels, (n, 2) times and events.
        values: (n, K) predictions.
        patient: (n,) number of the test patient, 0 … P - 1.
        threshold: of two classes, the probability above which an item is called positive (for ``OPERATING`` alone).
        fold: (n,) which of several classifiers predicted each item; ranks are compared within one. None: one for all.
    """

    task: Task
    truth: npt.NDArray[np.generic]
    values: Floats
    patient: Ints
    threshold: float = 0.5
    fold: Ints | None = None


def measure(seen: Evaluated, weights: Floats, cells: Floats | None = None) -> dict[str, Floats]:
    """All metrics of the task under (B, P) weights of the test patients: name → (B,).

    ``cells``: the ``confusion`` of classes under the same weights, where it is known already.
    """
    if seen.task == "regression":
        return _regression(seen, weights)
    if seen.task == "survival":
        outcome = np.asarray(seen.truth, dtype=np.float64)
        return {"c_index": concordance(outcome, seen.values[:, 0], seen.patient, weights)}
    if seen.task == "multilabel":
        return _multilabel(seen, weights)
    return _classification(seen, weights, confusion(seen, weights) if cells is None else cells)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(denominator > 0, numerator / denominator, np.nan))


def _classification(seen: Evaluated, weights: Floats, cells: Floats) -> dict[str, Floats]:
    onehot = np.equal.outer(seen.truth, np.arange(seen.values.shape[1])).astype(np.float64)
    found = {name: function(cells) for name, function in _FROM_CONFUSION.items()}
    if seen.task != "ordinal":
        del found["quadratic_kappa"]
    found["auroc"], found["auprc"] = _areas(seen, onehot, weights)
    found["prevalence"] = _prevalence(cells)
    squares = ((seen.values - onehot) ** 2).sum(axis=1) / (2.0 if onehot.shape[1] == 2 else 1.0)
    found["brier"] = _mean(seen, squares, weights)
    found["log_loss"] = _mean(seen, -np.log(np.clip((seen.values * onehot).sum(axis=1), _CLIP, 1.0)), weights)
    found["calibration_slope"] = calibration_slope(seen.values, onehot, seen.patient, weights)
    found["ece"] = expected_calibration_error(seen.values, onehot, seen.patient, weights)
    if seen.task == "binary":
        chance, hit = seen.values[:, 1], onehot[:, 1] > 0
        found |= operating_point(chance, hit, seen.patient, weights, seen.threshold)
    return found


def confusion(seen: Evaluated, weights: Floats) -> Floats:
    """(B, K, K) weighted confusion of classes, truth in rows."""
    width = seen.values.shape[1]
    cells = np.zeros((weights.shape[1], width * width))
    np.add.at(cells, (seen.patient, seen.truth.astype(np.intp) * width + seen.values.argmax(axis=1)), 1.0)
    return np.asarray((weights @ cells).reshape(-1, width, width))


def recalls_of(cells: Floats) -> Floats:
    """(B, K) recall of each class from (B, K, K); NaN where it is absent."""
    return _ratio(np.diagonal(cells, axis1=1, axis2=2), cells.sum(axis=2))


def from_cells(name: str, cells: Floats) -> Floats:
    """(B,) of one metric of ``JOINED`` from (B, K, K)."""
    return _FROM_CONFUSION[name](cells)


def _areas(seen: Evaluated, onehot: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision, macro mean of each class against the rest; of two classes the second alone."""
    columns = [1] if onehot.shape[1] == 2 else range(onehot.shape[1])
    by_patient = np.ascontiguousarray(weights.T, dtype=np.float32)
    each = [
        sums_within(seen.values[:, k], onehot[:, k] > 0, seen.patient, seen.fold, by_patient).areas() for k in columns
    ]
    return np.mean([roc for roc, _ in each], axis=0), np.mean([precision for _, precision in each], axis=0)


def _macro_f1(cells: Floats) -> Floats:
    """Mean over the full label space; NaN while a class is absent from the truth."""
    hits = np.diagonal(cells, axis1=1, axis2=2)
    present = (cells.sum(axis=2) > 0).all(axis=1)
    return np.where(present, _ratio(2 * hits, cells.sum(axis=1) + cells.sum(axis=2)).mean(axis=1), np.nan)


def _balanced_accuracy(cells: Floats) -> Floats:
    return np.asarray(recalls_of(cells).mean(axis=1))


def _accuracy(cells: Floats) -> Floats:
    return _ratio(np.trace(cells, axis1=1, axis2=2), cells.sum(axis=(1, 2)))


def _prevalence(cells: Floats) -> Floats:
    """What AUPRC is by chance: the share of the second of two classes; of more classes the mean share."""
    shares = _ratio(cells.sum(axis=2), cells.sum(axis=(1, 2))[:, None])
    return shares[:, 1] if shares.shape[1] == 2 else np.asarray(shares.mean(axis=1))


def _mcc(cells: Floats) -> Floats:
    """Gorodkin's R_K; 0 where everything is predicted as one class, as scikit-learn has it."""
    truth, guess, total = cells.sum(axis=2), cells.sum(axis=1), cells.sum(axis=(1, 2))
    covariance = np.trace(cells, axis1=1, axis2=2) * total - (truth * guess).sum(axis=1)
    spread = (total**2 - (guess**2).sum(axis=1)) * (total**2 - (truth**2).sum(axis=1))
    safe = spread > 1e-12 * total**4
    return np.where(safe, covariance / np.sqrt(np.where(safe, spread, 1.0)), 0.0)


def _quadratic_kappa(cells: Floats) -> Floats:
    grades = np.arange(cells.shape[1])
    penalty = (grades[:, None] - grades[None]) ** 2.0
    chance = cells.sum(axis=2)[:, :, None] * cells.sum(axis=1)[:, None, :]
    expected = (penalty * chance).sum(axis=(1, 2))
    return 1.0 - _ratio((penalty * cells).sum(axis=(1, 2)) * cells.sum(axis=(1, 2)), expected)


_FROM_CONFUSION: dict[str, Callable[[Floats], Floats]] = {
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
    "accuracy": _accuracy,
    "mcc": _mcc,
    "quadratic_kappa": _quadratic_kappa,
}
#: Metrics whose intervals join those of the recalls (accuracy is one proportion itself).
JOINED = frozenset(_FROM_CONFUSION) - {"accuracy"}


def _mean(seen: Evaluated, losses: Floats, weights: Floats) -> Floats:
    sums, counts = (np.bincount(seen.patient, each, weights.shape[1]) for each in (losses, np.ones_like(losses)))
    return _ratio(weights @ sums, weights @ counts)


def _multilabel(seen: Evaluated, weights: Floats) -> dict[str, Floats]:
    """Mean over the labels of each label's own binary metric; F1 of the label's presence."""
    truth = np.asarray(seen.truth)
    each = []
    for label in range(truth.shape[1]):
        chance = seen.values[:, label]
        both = np.stack([1 - chance, chance], axis=1)
        alone = Evaluated("binary", truth[:, label], both, seen.patient, fold=seen.fold)
        cells = confusion(alone, weights)
        found = _classification(alone, weights, cells)
        found["macro_f1"] = _f1(cells)
        each.append(found)
    return {name: np.mean([found[name] for found in each], axis=0) for name in metrics_of("multilabel")}


def _spearman(seen: Evaluated, truth: Floats, guess: Floats, weights: Floats) -> Floats:
    """Mean over the folds in which it is defined, each by the weight of its items."""
    if seen.fold is None:
        return spearman(truth, guess, seen.patient, weights)
    total, count = np.zeros(len(weights)), np.zeros(len(weights))
    for number in np.unique(seen.fold):
        inside = seen.fold == number
        found = spearman(truth[inside], guess[inside], seen.patient[inside], weights)
        weight = np.where(np.isfinite(found), weights[:, seen.patient[inside]].sum(axis=1), 0.0)
        total, count = total + weight * np.nan_to_num(found), count + weight
    return _ratio(total, count)


def _f1(cells: Floats) -> Floats:
    hits = 2 * cells[:, 1, 1]
    value = _ratio(hits, hits + cells[:, 0, 1] + cells[:, 1, 0])
    return np.where(cells[:, 1].sum(axis=1) > 0, value, np.nan)


def _regression(seen: Evaluated, weights: Floats) -> dict[str, Floats]:
    truth, guess = seen.truth.astype(np.float64), seen.values[:, 0]
    from_mean = truth - truth.mean()
    moments = by_patient(
        np.stack([np.ones_like(truth), from_mean, from_mean**2, (truth - guess) ** 2], axis=1),
        seen.patient,
        weights.shape[1],
    )
    count, first, second, error = (weights @ moments).T
    return {
        "r2": 1.0 - _ratio(error, second - _ratio(first**2, count)),
        "mae": _mean(seen, np.abs(truth - guess), weights),
        "spearman": _spearman(seen, truth, guess, weights),
    }
