"""Sentences for the methods section: who was tested and who was labelled."""

from __future__ import annotations

from umedfeat.fewshot.metrics.metrics import METRICS
from umedfeat.fewshot.result import ProbeResult
from umedfeat.terminal.words import counted

__all__ = ["draws_sentence", "saved_sentence", "test_sentence"]

#: What a hold-out and the draws keep the shares of; classes otherwise.
_SHARED = {"regression": "quarter of the target", "survival": "outcome (event or none)", "multilabel": "label"}
#: Out of fold, scores of different classifiers are not ranked against each other.
_RANKED = ("auroc", "auprc", "spearman", "c_index")


def test_sentence(result: ProbeResult) -> str:
    """How the test patients were chosen."""
    settings = result.settings
    if settings.external or settings.loco:
        names = "; ".join(fold.name for fold in result.folds)
        return (
            f"External validation left out whole groups of patients ({names}); {settings.held_out:.0%} of the "
            "remaining patients were held out as the internal test set."
        )
    if settings.cv:
        return _folds(result)
    fold = result.folds[0]
    count = sum(map(len, fold.tests.values()))
    if settings.train:
        return (
            f"Training patients were taken from those with {settings.train}, test patients were the {count} with "
            f"{settings.test}; others took no part."
        )
    if settings.split:
        return f"Training and test patients ({count}) were taken from the column '{settings.split}'."
    return f"A test set of {count} patients was held out{_proportion(result)}; no patient was in training and test."


def _folds(result: ProbeResult) -> str:
    settings = result.settings
    there = {row.metric for row in result.estimates}
    ranked = [METRICS[name].label for name in _RANKED if name in there]
    within = f", for {', '.join(ranked)} of each fold on its own" if ranked else ""
    times = "once" if settings.cv_repeats == 1 else f"repeated {settings.cv_repeats} times"
    return (
        f"Performance was estimated by patient-level {settings.cv}-fold cross-validation with out-of-fold predictions, "
        f"{times}; metrics were computed on the predictions of all folds together{within}."
    )


def _shared(result: ProbeResult) -> str:
    return _SHARED.get(result.task, "class")


def _proportion(result: ProbeResult) -> str:
    """What keeps its share; "" where all patients are alike (nobody censored)."""
    return f", each {_shared(result)} in proportion" if result.cohort.carries.shape[1] > 1 else ""


def saved_sentence(result: ProbeResult) -> str:
    """That the draws are those of an earlier study; "" where they are not."""
    if result.settings.splits is None:
        return ""
    return f"Test patients and draws were those of an earlier study ({result.settings.splits.name})."


def draws_sentence(result: ProbeResult) -> str:
    """How the labelled patients were drawn, and how many."""
    spent = ", ".join(
        f"{b.name} ({_trained(result, place)}, {counted(b.repeats, 'draw')})" for place, b in enumerate(result.budgets)
    )
    return f"Training patients were drawn from the remaining {_pools(result)} {_drawn(result)}: {spent}."


def _trained(result: ProbeResult, place: int) -> str:
    """Patients of a budget; where each centre is left out in turn, of each pool."""
    counts = [result.budgets_of(test_set)[place].n_patients for test_set in result.test_sets]
    *others, last = dict.fromkeys(counts)
    return " or ".join([*map(str, others), counted(last, "patient")])


def _pools(result: ProbeResult) -> str:
    if result.settings.cv:
        return str(result.budgets[0].n_pool)
    return " or ".join(dict.fromkeys(str(len(fold.pool)) for fold in result.folds))


def _drawn(result: ProbeResult) -> str:
    if result.budgets[0].shots:
        return f"at random, so many (shots) of each {_shared(result)}, nested"
    shares = _proportion(result)
    least = " and at least one patient of each" if shares and result.task != "regression" else ""
    return f"at random{shares}{least}, nested"
