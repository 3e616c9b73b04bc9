"""How few labels are enough? Few-shot evaluation of frozen features without leakage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Rows
from umedfeat.errors import CohortError
from umedfeat.fewshot.classifiers.cosine_estimators import KNNProbe, PrototypeProbe
from umedfeat.fewshot.classifiers.linear import LinearProbe
from umedfeat.fewshot.classifiers.ridge import RidgeProbe
from umedfeat.fewshot.cohort.build import build_cohort, in_range, refuse_shapes
from umedfeat.fewshot.cohort.cohort import Cohort, FlowStep
from umedfeat.fewshot.cohort.labels import as_text
from umedfeat.fewshot.cohort.selection import select
from umedfeat.fewshot.compare import MARGIN, compare_cohorts
from umedfeat.fewshot.files import compare_files, probe_cohort, probe_file
from umedfeat.fewshot.result import Comparison, ProbeResult
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.study import Origin

__all__ = [
    "Comparison",
    "KNNProbe",
    "LinearProbe",
    "ProbeResult",
    "ProbeSettings",
    "PrototypeProbe",
    "RidgeProbe",
    "compare",
    "compare_files",
    "probe",
    "probe_file",
]


def probe(
    features: Rows,
    labels: Sequence[object] | npt.NDArray[np.generic],
    groups: Sequence[object] | None = None,
    *,
    ids: Sequence[str] | None = None,
    meta: Mapping[str, Sequence[str]] | None = None,
    encoder: str = "",
    settings: ProbeSettings | None = None,
    **options: Any,
) -> ProbeResult:
    """Evaluate frozen features with few labels.

    Args:
        features: (I, D), one row per item, finite.
        labels: (I,) classes or values, or an (I, L) 0/1 matrix of several labels.
        groups: (I,) patient of each item; None takes every item as its own patient (and says so in the result).
        ids: (I,) names of the items; their numbers by default.
        meta: further columns (centre, sex, split …), each (I,).
        encoder: name for the tables.
        settings: all settings at once; or give single ones as ``options`` (fields of ProbeSettings).

    Returns:
        Everything that was drawn, predicted and measured.

    Raises:
        CohortError: features and labels make no study.
        LeakageError: a patient or identical content would stand in training and in test.
    """
    chosen = _settings(settings, options)
    return probe_cohort(_cohort(features, labels, groups, chosen, ids, meta), chosen, Origin(encoder=encoder))


def compare(
    features: Mapping[str, Rows],
    labels: Sequence[object] | npt.NDArray[np.generic],
    groups: Sequence[object] | None = None,
    *,
    baseline: str = "",
    margin: float = MARGIN,
    ids: Sequence[str] | None = None,
    meta: Mapping[str, Sequence[str]] | None = None,
    settings: ProbeSettings | None = None,
    **options: Any,
) -> Comparison:
    """Compare frozen features of the same items: paired draws, paired test patients.

    Args:
        features: encoder name → (I, D) features; rows in the same order.
        baseline: one of the names; the last by default.
        margin: how much worse than the baseline still counts as equal in "data needed".

    The other arguments and the errors are those of ``probe``.
    """
    if len(features) < 2:
        raise CohortError("a comparison needs the features of two encoders or more")
    chosen = _settings(settings, options)
    cohorts = {name: _cohort(rows, labels, groups, chosen, ids, meta) for name, rows in features.items()}
    if baseline and baseline not in cohorts:
        raise CohortError(f"baseline {baseline!r} is none of {', '.join(cohorts)}")
    return compare_cohorts(cohorts, chosen, baseline=baseline or list(cohorts)[-1], margin=margin)


def _cohort(
    features: Rows,
    labels: Sequence[object] | npt.NDArray[np.generic],
    groups: Sequence[object] | None,
    settings: ProbeSettings,
    ids: Sequence[str] | None,
    meta: Mapping[str, Sequence[str]] | None,
) -> Cohort:
    rows = np.ascontiguousarray(in_range(np.asarray(features)), dtype=np.float32)
    if rows.ndim != 2:
        raise CohortError(f"features of shape {rows.shape}: one row per item is needed")
    names = [str(number) for number in range(len(rows))] if ids is None else list(ids)
    columns = {name: np.asarray(column, dtype=np.str_) for name, column in (meta or {}).items()}
    if len(names) != len(rows):
        raise CohortError(f"{len(names)} ids for {len(rows)} rows of features", remedy="give one for each row")
    refuse_shapes(names, {"labels": labels, "groups": groups, **columns})
    single = np.asarray(labels, dtype=object).ndim == 1
    keep, texts, note = select(as_text(labels) if single else [""] * len(names), columns, settings)
    kept = np.flatnonzero(keep)
    return build_cohort(
        rows[kept],
        np.arange(len(kept)),
        texts if single else np.asarray(labels)[kept],
        settings,
        ids=[names[k] for k in kept],
        patients=None if groups is None else [str(groups[k]) for k in kept.tolist()],
        meta={name: column[kept].tolist() for name, column in columns.items()},
        flow=(FlowStep("rows of features", len(rows), 0), FlowStep("selected", len(kept), 0, note)) if note else (),
    )


def _settings(settings: ProbeSettings | None, options: Mapping[str, Any]) -> ProbeSettings:
    if settings is None:
        return ProbeSettings(**options)
    if options:
        raise CohortError("give settings or single options, not both")
    return settings
