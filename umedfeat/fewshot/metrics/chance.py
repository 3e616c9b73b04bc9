"""What a classifier reaches that knows nothing but how frequent the classes are."""

from __future__ import annotations

__all__ = ["chance_level"]

_FIXED = {"auroc": 0.5, "mcc": 0.0, "quadratic_kappa": 0.0, "r2": 0.0, "spearman": 0.0, "c_index": 0.5}


def chance_level(metric: str, n_classes: int) -> float:
    """The expected value of a metric for guesses made as often as each class occurs; NaN where it has no fixed one.

    Guessing class k with its frequency p has an expected recall and precision of p, hence F1 of about p: their mean
    over K classes is 1 / K. (Always naming the most frequent class has a lower macro-F1.)
    """
    if metric in ("balanced_accuracy", "macro_f1") and n_classes > 1:
        return 1.0 / n_classes
    return _FIXED.get(metric, float("nan"))
