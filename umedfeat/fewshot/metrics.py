"""Metrics as functions of weights on test patients: the estimate, every bootstrap and every jackknife are one call.

A metric of one draw is prepared from the truth (n,) and the predicted probabilities (n, K) over the full label space;
it then maps patient weights (B, P) to values (B,). Weights of one give the plain metric, equal to scikit-learn's. A
value that is not defined (a class without weight, for instance) is NaN; nothing is imputed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from umedfeat.fewshot.settings import Task

__all__ = ["METRICS", "Evaluated", "Metric", "metrics_of", "prepare"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Weigh = Callable[[Floats], Floats]

_CLIP = 1e-15


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    Attributes:
        label: for tables. best: the value of perfect predictions.
        scale: where its error is about normal: "unit" (logit of [0, 1]), "signed" (Fisher's z of [-1, 1]),
            "positive" (logarithm), "real".
        greater_is_better: direction of improvement (closer to ``best`` for the calibration slope).
    """

    label: str
    best: float
    scale: Literal["unit", "signed", "positive", "real"]
    greater_is_better: bool = True


METRICS: dict[str, Metric] = {
    "macro_f1": Metric("macro-F1", 1.0, "unit"),
    "balanced_accuracy": Metric("balanced accuracy", 1.0, "unit"),
    "accuracy": Metric("accuracy", 1.0, "unit"),
    "auroc": Metric("AUROC", 1.0, "unit"),
    "auprc": Metric("AUPRC", 1.0, "unit"),
    "mcc": Metric("MCC", 1.0, "signed"),
    "quadratic_kappa": Metric("quadratic kappa", 1.0, "signed"),
    "brier": Metric("Brier score", 0.0, "positive", greater_is_better=False),
    "log_loss": Metric("log-loss", 0.0, "positive", greater_is_better=False),
    "calibration_slope": Metric("calibration slope", 1.0, "real"),
    "r2": Metric("R²", 1.0, "real"),
    "mae": Metric("MAE", 0.0, "positive", greater_is_better=False),
    "spearman": Metric("Spearman", 1.0, "signed"),
}

_CLASSES = (
    "macro_f1",
    "balanced_accuracy",
    "accuracy",
    "auroc",
    "auprc",
    "mcc",
    "brier",
    "log_loss",
    "calibration_slope",
)
_OF_TASK: dict[Task, tuple[str, ...]] = {
    "binary": _CLASSES,
    "multiclass": _CLASSES,
    "ordinal": (*_CLASSES, "quadratic_kappa"),
    "multilabel": ("macro_f1", "balanced_accuracy", "auroc", "auprc", "brier", "log_loss"),
    "regression": ("r2", "mae", "spearman"),
}
PRIMARY: dict[Task, str] = {
    "binary": "macro_f1",
    "multiclass": "macro_f1",
    "ordinal": "quadratic_kappa",
    "multilabel": "auroc",
    "regression": "r2",
}


def metrics_of(task: Task) -> tuple[str, ...]:
    """Names of the metrics of a task, in the order of tables."""
    return _OF_TASK[task]


@dataclass(frozen=True)
class Evaluated:
    """Truth and prediction of one draw on one test set.

    Attributes:
        task: kind of target. truth: (n,) classes or values, (n, L) labels. values: (n, K) predictions.
        patient: (n,) number of the test patient, 0 … P - 1. n_patients: P.
    """

    task: Task
    truth: npt.NDArray[np.generic]
    values: Floats
    patient: Ints
    n_patients: int

    def by_patient(self, per_item: Floats) -> Floats:
        """Sum (n, …) over each patient's items: (P, …)."""
        sums = np.zeros((self.n_patients, *per_item.shape[1:]))
        np.add.at(sums, self.patient, per_item)
        return sums


def prepare(seen: Evaluated) -> Mapping[str, Weigh]:
    """All metrics of the task as functions of (B, P) weights."""
    if seen.task == "regression":
        return _regression(seen)
    if seen.task == "multilabel":
        return _multilabel(seen)
    return _classification(seen)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(denominator > 0, numerator / denominator, np.nan))


def _classification(seen: Evaluated) -> Mapping[str, Weigh]:
    onehot = np.equal.outer(seen.truth, np.arange(seen.values.shape[1])).astype(np.float64)
    confusion = _confusion(seen, onehot)
    found: dict[str, Weigh] = {
        name: (lambda weights, f=function: f(confusion(weights)))  # type: ignore[misc]
        for name, function in _FROM_CONFUSION.items()
        if name != "quadratic_kappa" or seen.task == "ordinal"
    }
    found["auroc"] = _one_against_rest(seen, onehot, _auroc)
    found["auprc"] = _one_against_rest(seen, onehot, _average_precision)
    found["brier"] = _mean(seen, ((seen.values - onehot) ** 2).sum(axis=1) / (2.0 if onehot.shape[1] == 2 else 1.0))
    found["log_loss"] = _mean(seen, -np.log(np.clip((seen.values * onehot).sum(axis=1), _CLIP, 1.0)))
    found["calibration_slope"] = _calibration_slope(seen, onehot)
    return found


def _confusion(seen: Evaluated, onehot: Floats) -> Callable[[Floats], Floats]:
    """(B, P) weights → (B, K, K) weighted confusion, truth in rows."""
    guess = np.equal.outer(seen.values.argmax(axis=1), np.arange(onehot.shape[1])).astype(np.float64)
    cells = seen.by_patient(np.einsum("nk,nj->nkj", onehot, guess))
    shape = cells.shape[1:]
    flat = cells.reshape(seen.n_patients, -1)
    return lambda weights: (weights @ flat).reshape(len(weights), *shape)


def _macro_f1(cells: Floats) -> Floats:
    """Mean over the full label space; NaN while a class is absent from the truth."""
    hits = np.diagonal(cells, axis1=1, axis2=2)
    present = (cells.sum(axis=2) > 0).all(axis=1)
    return np.where(present, _ratio(2 * hits, cells.sum(axis=1) + cells.sum(axis=2)).mean(axis=1), np.nan)


def _balanced_accuracy(cells: Floats) -> Floats:
    return np.asarray(_ratio(np.diagonal(cells, axis1=1, axis2=2), cells.sum(axis=2)).mean(axis=1))


def _accuracy(cells: Floats) -> Floats:
    return _ratio(np.trace(cells, axis1=1, axis2=2), cells.sum(axis=(1, 2)))


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


def _mean(seen: Evaluated, losses: Floats) -> Weigh:
    sums, counts = seen.by_patient(losses), np.bincount(seen.patient, minlength=seen.n_patients)
    return lambda weights: _ratio(weights @ sums, weights @ counts)


Ranked = Callable[[Floats, Floats, Floats], Weigh]


def _one_against_rest(seen: Evaluated, onehot: Floats, curve: Callable[..., Weigh]) -> Weigh:
    """Macro mean over the classes; of two classes the second alone."""
    columns = [1] if onehot.shape[1] == 2 else range(onehot.shape[1])
    each = [curve(seen.values[:, k], onehot[:, k], seen.patient) for k in columns]
    return lambda weights: np.mean([area(weights) for area in each], axis=0)


@dataclass(frozen=True)
class _Ranking:
    """Items sorted by falling score, ties together."""

    positive: Floats
    patient: Ints
    starts: Ints

    @classmethod
    def of(cls, scores: Floats, positive: Floats, patient: Ints) -> _Ranking:
        order = np.argsort(-scores, kind="stable")
        falling = scores[order]
        starts = np.flatnonzero(np.r_[True, falling[1:] != falling[:-1]])
        return cls(positive[order], patient[order], starts)

    def weighed(self, weights: Floats) -> tuple[Floats, Floats]:
        """(U, B) weight of positives and of negatives at each distinct score."""
        of_items = np.ascontiguousarray(weights.T)[self.patient]
        positives = of_items * self.positive[:, None]
        up = np.add.reduceat(positives, self.starts, axis=0)
        return up, np.add.reduceat(of_items - positives, self.starts, axis=0)


def _auroc(scores: Floats, positive: Floats, patient: Ints) -> Weigh:
    """Area under the ROC curve with ties counted half."""
    ranking = _Ranking.of(scores, positive, patient)

    def area(weights: Floats) -> Floats:
        up, down = ranking.weighed(weights)
        below = down.sum(axis=0) - np.cumsum(down, axis=0) + 0.5 * down
        return _ratio((up * below).sum(axis=0), up.sum(axis=0) * down.sum(axis=0))

    return area


def _average_precision(scores: Floats, positive: Floats, patient: Ints) -> Weigh:
    """Average precision (step-wise area under the precision-recall curve)."""
    ranking = _Ranking.of(scores, positive, patient)

    def area(weights: Floats) -> Floats:
        up, down = ranking.weighed(weights)
        hits = np.cumsum(up, axis=0)
        called = hits + np.cumsum(down, axis=0)
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        return np.where(down.sum(axis=0) > 0, _ratio((up * precision).sum(axis=0), up.sum(axis=0)), np.nan)

    return area


def _calibration_slope(seen: Evaluated, onehot: Floats) -> Weigh:
    """Slope of the logistic recalibration of the log-odds (classes pooled one against the rest); 1 is calibrated.

    Weightings other than one take a single Newton step from the fitted slope: gradient and curvature are then sums
    over patients, and the resampled slope is right to first order.
    """
    chance = np.clip(seen.values, 1e-6, 1 - 1e-6)
    columns = [1] if onehot.shape[1] == 2 else list(range(onehot.shape[1]))
    odds = np.log(chance / (1 - chance))[:, columns]
    hit = onehot[:, columns]
    beta, fitted = _recalibrate(odds.ravel(), hit.ravel())
    fitted = fitted.reshape(hit.shape)
    x = np.stack([np.ones_like(odds), odds])
    gradient = seen.by_patient((x * (hit - fitted)).sum(axis=2).T)
    curvature = seen.by_patient(np.einsum("ink,jnk,nk->nij", x, x, fitted * (1 - fitted)).reshape(len(odds), 4))

    def slope(weights: Floats) -> Floats:
        (g0, g1), (a, b, _, d) = (weights @ gradient).T, (weights @ curvature).T
        return np.asarray(beta[1] + _ratio(a * g1 - b * g0, a * d - b * b))

    return slope


def _recalibrate(odds: Floats, hit: Floats) -> tuple[Floats, Floats]:
    """Maximum-likelihood intercept and slope of hit on odds, and the fitted chances; NaN under separation."""
    spread = odds.std()
    nothing = np.full(2, np.nan), np.full_like(odds, np.nan)
    if spread == 0 or not 0 < hit.mean() < 1:
        return nothing
    x = np.stack([np.ones_like(odds), odds / spread])
    beta = np.zeros(2)
    for _ in range(50):
        fitted = 1.0 / (1.0 + np.exp(-np.clip(beta @ x, -50, 50)))
        curvature = (x * (fitted * (1 - fitted))) @ x.T
        if np.linalg.cond(curvature) > 1e12:
            return nothing
        step = np.linalg.solve(curvature, x @ (hit - fitted))
        if np.abs(step).max() < 1e-10:
            return beta / np.array([1.0, spread]), fitted
        beta = beta + step * min(1.0, 5.0 / float(np.abs(step).max()))
    return nothing


def _multilabel(seen: Evaluated) -> Mapping[str, Weigh]:
    """Mean over the labels of each label's own binary metric."""
    truth = np.asarray(seen.truth)
    each = []
    for label in range(truth.shape[1]):
        chance = seen.values[:, label]
        pair = np.stack([1 - chance, chance], axis=1)
        each.append(_binary(Evaluated("binary", truth[:, label], pair, seen.patient, seen.n_patients)))
    names = metrics_of("multilabel")
    return {name: (lambda w, n=name: np.mean([label[n](w) for label in each], axis=0)) for name in names}  # type: ignore[misc]


def _binary(seen: Evaluated) -> Mapping[str, Weigh]:
    found = dict(_classification(seen))
    onehot = np.equal.outer(seen.truth, np.arange(2)).astype(np.float64)
    confusion = _confusion(seen, onehot)

    def f1(weights: Floats) -> Floats:
        cells = confusion(weights)
        hits = cells[:, 1, 1]
        value = _ratio(2 * hits, 2 * hits + cells[:, 0, 1] + cells[:, 1, 0])
        return np.where(cells[:, 1].sum(axis=1) > 0, value, np.nan)

    found["macro_f1"] = f1
    return found


def _regression(seen: Evaluated) -> Mapping[str, Weigh]:
    truth, guess = seen.truth.astype(np.float64), seen.values[:, 0]
    shift = truth.mean()
    moments = seen.by_patient(
        np.stack([np.ones_like(truth), truth - shift, (truth - shift) ** 2, (truth - guess) ** 2], axis=1)
    )

    def r2(weights: Floats) -> Floats:
        count, first, second, error = (weights @ moments).T
        return 1.0 - _ratio(error, second - _ratio(first**2, count))

    return {"r2": r2, "mae": _mean(seen, np.abs(truth - guess)), "spearman": _spearman(truth, guess, seen.patient)}


def _spearman(truth: Floats, guess: Floats, patient: Ints) -> Weigh:
    """Correlation of weighted mid-ranks."""

    def rho(weights: Floats) -> Floats:
        of_items = np.ascontiguousarray(weights.T)[patient]
        a, b = _mid_ranks(truth, of_items), _mid_ranks(guess, of_items)
        total = of_items.sum(axis=0)
        a -= (of_items * a).sum(axis=0) / total
        b -= (of_items * b).sum(axis=0) / total
        covariance = (of_items * a * b).sum(axis=0)
        spread = (of_items * a * a).sum(axis=0) * (of_items * b * b).sum(axis=0)
        return _ratio(covariance, np.sqrt(spread))

    return rho


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
