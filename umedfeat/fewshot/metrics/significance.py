"""Is it better than chance? Labels exchanged between test patients, predictions kept."""

from __future__ import annotations

import numpy as np

from umedfeat.arrays import Floats, Ints
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.result import Predictions, Significance
from umedfeat.fewshot.settings import ProbeSettings

__all__ = ["PERMUTATIONS", "permutable", "significance_of"]

PERMUTATIONS = 1999
#: Values that differ by less are one.
_ROUNDING = 1e-9


def significance_of(cohort: Cohort, predictions: Predictions, settings: ProbeSettings) -> Significance | None:
    """Permutation p-value of the balanced accuracy, averaged over the draws; p = (1 + b) / (1 + B).

    Whole patients exchange labels, so that many items of one patient count once. Of equal balanced accuracies the mean
    probability of the true class decides: with few test patients most permutations would be ties, and p too large. None
    where labels belong to items, for targets without classes, and where the test patients are all of one class.
    """
    if not permutable(cohort):
        return None
    patients, place = np.unique(cohort.patient[predictions.items], return_inverse=True)
    votes, chances = _votes(predictions, place, len(patients))
    truth = cohort.stratum[patients]
    if len(np.unique(truth)) < 2:
        return None
    rng = np.random.default_rng([settings.seed, 6])
    orders = np.stack([np.arange(len(truth)), *(rng.permutation(len(truth)) for _ in range(PERMUTATIONS))])
    values, certainty = (_class_means(each, truth[orders], cohort.n_classes) for each in (votes, chances))
    above, equal = values[1:] > values[0] + _ROUNDING, np.abs(values[1:] - values[0]) <= _ROUNDING
    better = int((above | equal & (certainty[1:] >= certainty[0] - _ROUNDING)).sum())
    return Significance(
        classifier=predictions.classifier,
        budget=predictions.budget,
        test_set=predictions.test_set,
        metric="balanced_accuracy",
        value=float(values[0]),
        chance=1.0 / len(np.unique(truth)),
        p=(1 + better) / (1 + PERMUTATIONS),
        permutations=PERMUTATIONS,
    )


def permutable(cohort: Cohort) -> bool:
    """Whether whole patients have one class each, which they can exchange."""
    return cohort.task not in ("multilabel", "regression", "survival") and not (cohort.carries.sum(axis=1) > 1).any()


def _votes(predictions: Predictions, place: Ints, n_patients: int) -> tuple[Floats, Floats]:
    """(P, K) how many of a patient's items are called each class, and the sum of their probabilities of each; means
    over the draws (of draws, no vote)."""
    called = predictions.values.argmax(axis=2)
    votes, chances = np.zeros((2, n_patients, predictions.values.shape[2]))
    for draw in called:
        np.add.at(votes, (place, draw), 1.0 / len(called))
    np.add.at(chances, place, predictions.values.mean(axis=0, dtype=np.float64))
    return votes, chances


def _class_means(amounts: Floats, truth: Ints, n_classes: int) -> Floats:
    """(B,) for (B, P) labellings of the patients: mean over the classes present of what the true class has, an item.

    Args:
        amounts: (P, K) of each patient, whose sum is the number of the patient's items.
    """
    items = amounts.sum(axis=1)
    means = []
    for label in range(n_classes):
        is_label = (truth == label).astype(np.float64)
        count = is_label @ items
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(np.where(count > 0, (is_label @ amounts[:, label]) / count, np.nan))
    return np.asarray(np.nanmean(means, axis=0))
