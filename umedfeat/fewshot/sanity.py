"""The whole study on permuted labels: whatever it then finds, it found in the protocol and not in the images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_1samp

from umedfeat.errors import LeakageError
from umedfeat.fewshot.cohort.build import relabelled
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.evaluate import measured, test_patients
from umedfeat.fewshot.metrics.chance import chance_level
from umedfeat.fewshot.result import Sanity
from umedfeat.fewshot.settings import ProbeSettings, Task
from umedfeat.fewshot.study import Study, predict

__all__ = ["LEVEL", "check_sanity", "permuted_labels", "refuse_failed"]

#: The check fails where chance is this improbable.
LEVEL = 0.001
_METRIC: dict[Task, str] = {
    "binary": "balanced_accuracy",
    "multiclass": "balanced_accuracy",
    "ordinal": "balanced_accuracy",
    "multilabel": "balanced_accuracy",
    "regression": "spearman",
    "survival": "c_index",
}


def check_sanity(cohort: Cohort, settings: ProbeSettings, jobs: int = 1) -> tuple[Sanity, ...]:
    """Permute labels between patients ``settings.sanity`` times and run the largest budget once on each.

    Returns:
        One check per classifier.
    """
    once = replace(
        settings,
        shots=settings.shots[-1:],
        fractions=settings.fractions[-1:],
        repeats=1,
        cv_repeats=1,
        subgroups=(),
        splits=None,
    )
    metric = _METRIC[cohort.task]
    found: dict[str, list[float]] = {}
    for number in range(settings.sanity):
        rng = np.random.default_rng([settings.seed, 8, number])
        shuffled = relabelled(cohort, permuted_labels(cohort, rng))
        study = Study.plan(shuffled, replace(once, seed=settings.seed + number), twins=True)
        for part in predict(study, jobs=jobs):
            patients, _ = test_patients(shuffled, part.items)
            values = measured(shuffled, part, np.ones((1, len(patients)))).per_draw[metric]
            found.setdefault(part.classifier, []).extend(values[np.isfinite(values)].tolist())
    chance = chance_level(metric, 2 if cohort.task == "multilabel" else cohort.n_classes)
    return tuple(_judge(name, metric, chance, values) for name, values in found.items())


def _judge(classifier: str, metric: str, chance: float, values: list[float]) -> Sanity:
    if np.ptp(values) < 1e-12:  # always the same answer: at chance, or certainly not
        p = 1.0 if abs(values[0] - chance) < 1e-9 else 0.0
    else:
        p = float(ttest_1samp(values, chance).pvalue)
    return Sanity(classifier, metric, chance, tuple(values), p, p >= LEVEL)


def permuted_labels(cohort: Cohort, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    """Labels exchanged between whole patients: a patient's items take those of another patient's items in turn."""
    truth = cohort.truth
    items = [np.flatnonzero(cohort.patient == patient) for patient in range(cohort.n_patients)]
    shuffled = truth.copy()
    for own, other in zip(items, rng.permutation(cohort.n_patients), strict=True):
        shuffled[own] = truth[items[other][np.arange(len(own)) % len(items[other])]]
    return np.asarray(shuffled)


def refuse_failed(checks: tuple[Sanity, ...]) -> None:
    """Stop with the exit code of leakage where a check failed.

    Raises:
        LeakageError: naming the classifier and what it reached.
    """
    for check in checks:
        if not check.passed:
            raise LeakageError(
                f"sanity check failed: {check.classifier} reaches {check.metric} {np.mean(check.values):.3f} on "
                f"permuted labels, chance is {check.chance:.3f} (p = {check.p:.2g})",
                remedy="test labels reach the training: do not use these results, report the command",
            )
