"""How few labels are enough? Few-shot evaluation of frozen features without leakage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.errors import CohortError
from umedfeat.fewshot.cohort import build_cohort
from umedfeat.fewshot.result import ProbeResult
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.fewshot.sources import cohort_of, label_items
from umedfeat.fewshot.study import Origin, Progress, run_study
from umedfeat.fewshot.table import read_table
from umedfeat.fewshot.write import write_study

__all__ = ["ProbeResult", "ProbeSettings", "probe", "probe_file", "write_study"]


def probe(
    features: npt.NDArray[np.floating[Any]],
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
    rows = np.ascontiguousarray(features, dtype=np.float32)
    if rows.ndim != 2:
        raise CohortError(f"features of shape {rows.shape}: one row per item is needed")
    cohort = build_cohort(
        rows,
        np.arange(len(rows)),
        labels,
        chosen := _settings(settings, options),
        ids=[str(i) for i in range(len(rows))] if ids is None else ids,
        patients=None if groups is None else [str(group) for group in groups],
        meta=meta,
    )
    return run_study(cohort, chosen, Origin(encoder=encoder))


def _settings(settings: ProbeSettings | None, options: Mapping[str, Any]) -> ProbeSettings:
    if settings is None:
        return ProbeSettings(**options)
    if options:
        raise CohortError("give settings or single options, not both")
    return settings


def probe_file(
    path: Path,
    *,
    label: str = "",
    labels: Path | None = None,
    patient: str = "",
    unmatched: str = "stop",
    settings: ProbeSettings | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> ProbeResult:
    """Evaluate a feature file; see ``label_items`` for how labels and patients are found.

    Raises:
        CohortError: features and labels make no study.
        LeakageError: a patient or identical content would stand in training and in test.
        SetupError: not a feature file.
    """
    chosen = settings or ProbeSettings()
    table = read_table(path)
    labelled = label_items(table, label=label, labels=labels, patient=patient, unmatched=unmatched)
    origin = Origin(table.encoder, path.name, table.fingerprint, labelled.name, command)
    return run_study(cohort_of(table, labelled, chosen), chosen, origin, progress)
