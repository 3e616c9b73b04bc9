"""External validation: what a fixed model is worth on labelled patients that it was not trained on.

Nothing is fitted and nothing is chosen. Metrics, intervals and p-values are those of a study's test set
(``umedfeat.fewshot``), so that the two can be laid side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from umedfeat.errors import CohortError, LeakageError
from umedfeat.fewshot.cohort.build import build_known
from umedfeat.fewshot.cohort.cohort import Cohort
from umedfeat.fewshot.cohort.labelled import Labelled, kept_of
from umedfeat.fewshot.cohort.labels import encode_known
from umedfeat.fewshot.cohort.sources import Labelling, flow_of, selected
from umedfeat.fewshot.evaluate import evaluate, stratum_of, test_patients
from umedfeat.fewshot.metrics.bootstrap import interval, patient_weights
from umedfeat.fewshot.metrics.calibration import calibration_intercept
from umedfeat.fewshot.metrics.metrics import METRICS, PRIMARY
from umedfeat.fewshot.metrics.significance import significance_of
from umedfeat.fewshot.result import Budget, Estimate, Predictions, Significance
from umedfeat.fewshot.settings import ProbeSettings, Task
from umedfeat.fewshot.small_tests import small_test_notes
from umedfeat.fewshot.study import NO_PATIENTS
from umedfeat.prediction.apply import Predicted
from umedfeat.prediction.overlap import overlap_of

__all__ = [
    "INTERCEPT",
    "TEST_SET",
    "Known",
    "Validation",
    "estimates_of",
    "has_own_labels",
    "own_column",
    "validate",
    "validate_if_labelled",
]

log = logging.getLogger("umedfeat")

#: What to do with training patients and training images among the new ones.
Known = Literal["stop", "skip"]
#: Keys of the estimates: there is one test set, and one amount of training data.
TEST_SET, _BUDGET = "new patients", "as saved"
INTERCEPT = "calibration_intercept"


@dataclass(frozen=True)
class Validation:
    """A fixed model on labelled patients.

    Attributes:
        label: where the labels come from. settings: of the evaluation.
        cohort: the labelled items, or patients where the model predicts patients.
        truth: label as text by item of ``Predicted.table``.
        part: what the model says of them; one "draw".
        estimates: every metric with its interval over the new patients, on the whole and by subgroup. Beside those of
            a study's test set there is ``INTERCEPT``; its subgroup is the class where there are more than two.
        significance: against chance, where classes can be permuted between patients.
        studied: metric → [value, low, high] on the test patients of the study that made the model.
        warnings: full sentences.
    """

    label: str
    settings: ProbeSettings
    cohort: Cohort
    truth: Mapping[int, str]
    part: Predictions
    estimates: tuple[Estimate, ...]
    significance: Significance | None
    studied: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def task(self) -> Task:
        """Of the model."""
        return self.cohort.task

    @property
    def primary(self) -> str:
        """The metric of the headline."""
        return PRIMARY[self.cohort.task]

    def estimate(self, metric: str, subgroup: str = "") -> Estimate:
        """Look one up.

        Raises:
            KeyError: there is none.
        """
        for row in self.estimates:
            if (row.metric, row.subgroup) == (metric, subgroup):
                return row
        raise KeyError((metric, subgroup))


def validate(
    found: Predicted,
    labelling: Labelling | None = None,
    settings: ProbeSettings | None = None,
    *,
    known: Known = "stop",
    trained: frozenset[str] | None = None,
) -> Validation:
    """Compare predictions with the truth.

    Args:
        found: what a saved probe predicted (``umedfeat.predict``).
        labelling: where truth and patients come from; by default the file's own column (or class folders) of the
            label that the model was trained on.
        settings: where, drop_class, merge, label_of, subgroups, threshold, bootstrap, confidence and seed count; by
            default the threshold is that of the study that made the model.
        known: "skip" leaves training patients and training images out, "stop" refuses them.
        trained: pseudonyms of the training patients, if known (``overlap.trained_patients``).

    Raises:
        CohortError: the labels do not fit the items or the model.
        LeakageError: training patients or training images are among the items.
    """
    probe = found.probe
    chosen = replace(
        settings or ProbeSettings(threshold=probe.threshold), task=probe.task, unit=probe.unit, pool="mean"
    )
    where = labelling or Labelling()
    if where.labels is None and not where.label:
        where = replace(where, label=own_column(found))
    labelled = where.of(found.table)
    labelled, notes = _unseen(found, selected(labelled, chosen), known, trained)
    cohort = _cohort_of(found, labelled, chosen)
    chosen = replace(chosen.settled(cohort.meta), split="")
    part = _predictions_of(found, cohort, labelled, chosen)
    everyone = np.arange(cohort.n_patients)
    unknown = [] if cohort.patients_known else [NO_PATIENTS]
    return Validation(
        label=labelled.name,
        settings=chosen,
        cohort=cohort,
        truth=dict(zip(labelled.items.tolist(), labelled.labels.tolist(), strict=True)),
        part=part,
        estimates=estimates_of(cohort, part, chosen),
        significance=significance_of(cohort, part, chosen),
        studied=probe.tested,
        warnings=(*notes, *unknown, *cohort.warnings, *small_test_notes(cohort, TEST_SET, everyone)),
    )


def validate_if_labelled(
    found: Predicted,
    labelling: Labelling,
    settings: ProbeSettings,
    *,
    known: Known = "stop",
    trained: frozenset[str] | None = None,
) -> Validation | None:
    """``validate`` where labels are asked for, or where the feature file has its own; None where it has none.

    Labels that nobody asked for stop nothing: what is wrong with them is logged.
    """
    if labelling.labels is not None or labelling.label:
        return validate(found, labelling, settings, known=known, trained=trained)
    if not has_own_labels(found):
        return None
    try:
        return validate(found, replace(labelling, unmatched="skip"), settings, known=known, trained=trained)
    except (CohortError, LeakageError) as error:
        log.warning("labels are there, but no performance is reported: %s", error)
        return None


def estimates_of(cohort: Cohort, part: Predictions, settings: ProbeSettings) -> tuple[Estimate, ...]:
    """Every metric of a fixed model with its interval over the test patients, by subgroup too, and ``INTERCEPT``."""
    size = int(part.n_train_patients[0])
    found = evaluate(cohort, part, Budget(_BUDGET, 1.0, 0, size, size, 0, (), 1), "", settings).estimates
    return (*found, *_intercepts(cohort, part, settings, found[0]))


def own_column(found: Predicted) -> str:
    """The column of the feature file that is called like the label the model was trained on, "" if there is none."""
    name = found.probe.label.rpartition(": ")[2]
    return name if name in found.table.meta else "folder" * (name == "class folders")


def has_own_labels(found: Predicted) -> bool:
    """Does the feature file itself say, of some items, what the model predicts?"""
    try:
        labelled = Labelling(label=own_column(found), unmatched="skip").of(found.table)
        encode_known(labelled.labels.tolist(), found.probe.task, found.probe.classes)
    except CohortError:
        return False
    return len(labelled.items) > 0


def _unseen(
    found: Predicted, labelled: Labelled, known: Known, trained: frozenset[str] | None
) -> tuple[Labelled, list[str]]:
    """The items that the model was not trained on, and what is to be said about the others."""
    overlap = overlap_of(found.probe, found.table, labelled.items, trained)
    if known == "stop":
        overlap.refuse()
    notes = [f"Left out: {overlap.told}."] * bool(overlap.told) + [overlap.unchecked] * bool(overlap.unchecked)
    if not len(labelled.items):
        raise CohortError("no item has a label", remedy="fill the label column, or give a table with --labels")
    if overlap.seen.all():
        raise CohortError("nothing is left: the model was trained on all of these items", remedy="give new patients")
    return kept_of(labelled, ~overlap.seen, overlap.told), notes


def _cohort_of(found: Predicted, labelled: Labelled, settings: ProbeSettings) -> Cohort:
    table = found.table
    return build_known(
        table.pooled(labelled.items, found.probe.pool),
        labelled.labels.tolist(),
        found.probe.classes,
        settings,
        ids=table.ids[labelled.items].tolist(),
        patients=None if labelled.patients is None else labelled.patients.tolist(),
        meta={name: values.tolist() for name, values in labelled.meta.items()},
        content=table.content[labelled.items].tolist(),
        flow=flow_of(table, labelled),
    )


def _predictions_of(found: Predicted, cohort: Cohort, labelled: Labelled, settings: ProbeSettings) -> Predictions:
    """Of whole patients what the model says of the mean of their labelled items, as in a study."""
    whole = found.probe.unit == "patient"
    values = found.probe.predict(np.ldexp(cohort.rows, cohort.exponent)) if whole else found.values[labelled.items]
    return Predictions(
        classifier=found.probe.classifier,
        budget=_BUDGET,
        test_set=TEST_SET,
        items=np.arange(len(cohort.ids)),
        values=values[None].astype(np.float32),
        chosen=("",),
        converged=np.ones(1, dtype=bool),
        n_train_patients=np.array([float(found.probe.training["patients"])]),
        n_train_items=np.array([float(found.probe.training["items"])]),
        n_per_class=np.zeros((1, 0)),
        threshold=settings.threshold,
    )


def _intercepts(cohort: Cohort, part: Predictions, settings: ProbeSettings, like: Estimate) -> Iterator[Estimate]:
    """Calibration in the large: of the second of two classes, of each of several classes or labels."""
    patients, place = test_patients(cohort, part.items)
    strata = stratum_of(cohort, patients)
    weights = patient_weights(strata, settings.bootstrap, np.random.default_rng([settings.seed, 5]))
    both = np.vstack([np.ones((1, len(patients))), weights])
    for column in [1] if cohort.task == "binary" else range(len(cohort.classes)):
        chance = part.values[0, :, column].astype(np.float64)
        truth = cohort.truth[part.items]
        hit = truth[:, column] if cohort.task == "multilabel" else truth == column
        values = calibration_intercept(chance, np.asarray(hit, dtype=np.float64), place, both)
        bounds = interval(float(values[0]), values[1:], METRICS[INTERCEPT], strata, settings.confidence)
        of = "" if cohort.task == "binary" else f"class={cohort.classes[column]}"
        yield replace(
            like,
            metric=INTERCEPT,
            subgroup=of,
            value=float(values[0]),
            low=bounds.low,
            high=bounds.high,
            q25=float(values[0]),
            q75=float(values[0]),
            minimum=float(values[0]),
            maximum=float(values[0]),
            interval=bounds.kind,
            covers="patients" if bounds.kind else "",
        )
