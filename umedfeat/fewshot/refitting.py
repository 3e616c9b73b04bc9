"""Is a cross-validated result better than chance? Labels exchanged between patients before anything is fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from umedfeat.fewshot.cohort.build import relabelled
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.evaluate import measured, test_patients
from umedfeat.fewshot.metrics.significance import permutable
from umedfeat.fewshot.result import Significance
from umedfeat.fewshot.sanity import permuted_labels
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.study import Study, predict

__all__ = ["refitted_significance"]

_METRIC = "balanced_accuracy"


def refitted_significance(cohort: Cohort, settings: ProbeSettings, jobs: int = 1) -> tuple[Significance, ...]:
    """Permutation p-values of a cross-validated study; p = (1 + b) / (1 + B), B being ``settings.permutations``.

    Out-of-fold predictions that are kept while labels are exchanged give p-values that are too small, since each
    patient has trained the classifiers of the others. So every permutation draws and fits anew, a single draw a fold of
    one partition; the real labels are treated alike. Of equal balanced accuracies the AUROC decides: with few patients
    every other value would be a tie.

    Returns:
        One test per classifier and budget; none where labels belong to items, and for targets without classes.
    """
    if not permutable(cohort):
        return ()
    once = replace(settings, repeats=1, cv_repeats=1, subgroups=(), splits=None, on_missing_class="skip")
    real = _values(cohort, once, jobs)
    beaten = dict.fromkeys(real, 0)
    for number in range(settings.permutations):
        rng = np.random.default_rng([settings.seed, 6, number])
        shuffled = _values(relabelled(cohort, permuted_labels(cohort, rng)), once, jobs)
        for key, value in real.items():
            beaten[key] += shuffled.get(key, value) >= value
    total = 1 + settings.permutations
    return tuple(
        Significance(*key, _METRIC, value[0], 1 / cohort.n_classes, (1 + beaten[key]) / total, settings.permutations)
        for key, value in real.items()
    )


def _values(cohort: Cohort, once: ProbeSettings, jobs: int) -> dict[tuple[str, str, str], tuple[float, float]]:
    """(classifier, budget, test set) → balanced accuracy and AUROC, rounded to what single precision holds."""
    found = {}
    for part in predict(Study.plan(cohort, once, twins=True), jobs=jobs):
        patients, _ = test_patients(cohort, part.items)
        value = measured(cohort, part, np.ones((1, len(patients)))).value
        found[part.classifier, part.budget, part.test_set] = (round(value[_METRIC], 9), round(value["auroc"], 6))
    return found
