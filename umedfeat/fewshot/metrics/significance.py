"""Is it better than chance? Labels exchanged between test patients, predictions kept."""

from __future__ import annotations

import numpy as np

from umedfeat.arrays import Floats, Ints
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.result import Predictions, Significance
from umedfeat.fewshot.settings import ProbeSettings

__all__ = ["PERMUTATIONS", "permutable", "significance_of"]

PERMUTATIONS = 1999


def significance_of(cohort: Cohort, predictions: Predictions, settings: ProbeSettings) -> Significance | None:
    """Permutation p-value of the balanced accuracy, averaged over the draws; p = (1 + b) / (1 + B).

    Whole patients exchange labels, so that many items of one patient count once. None where labels belong to items,
    for targets without classes, and where the test patients are all of one class.
    """
    if not permutable(cohort):
        return None
    patients, place = np.unique(cohort.patient[predictions.items], return_inverse=True)
    votes = _votes(predictions, place, len(patients))
    truth = cohort.stratum[patients]
    if len(np.unique(truth)) < 2:
        return None
    rng = np.random.default_rng([settings.seed, 6])
    orders = np.stack([np.arange(len(truth)), *(rng.permutation(len(truth)) for _ in range(PERMUTATIONS))])
    values = _balanced_accuracies(votes, truth[orders], cohort.n_classes)
    better = int((values[1:] >= values[0] - 1e-12).sum())
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


def _votes(predictions: Predictions, place: Ints, n_patients: int) -> Floats:
    """(P, K) how many of a patient's items are called each class, mean over the draws (a mean of draws, no vote)."""
    called = predictions.values.argmax(axis=2)
    votes = np.zeros((n_patients, predictions.values.shape[2]))
    for draw in called:
        np.add.at(votes, (place, draw), 1.0 / len(called))
    return votes


def _balanced_accuracies(votes: Floats, truth: Ints, n_classes: int) -> Floats:
    """(B,) for (B, P) labellings of the patients: mean over the classes present of hits / items."""
    items = votes.sum(axis=1)
    recalls = []
    for label in range(n_classes):
        is_label = (truth == label).astype(np.float64)
        count = is_label @ items
        with np.errstate(invalid="ignore", divide="ignore"):
            recalls.append(np.where(count > 0, (is_label @ votes[:, label]) / count, np.nan))
    return np.asarray(np.nanmean(recalls, axis=0))
