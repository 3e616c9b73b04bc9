"""``predictions.csv`` and ``patients.csv``: what a saved probe says, a row per item and per patient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from umedfeat.errors import OutputError
from umedfeat.naming import write_csv
from umedfeat.prediction.apply import Predicted
from umedfeat.prediction.external import Validation
from umedfeat.report.validation_files import forget_table, summary_of_validation

__all__ = ["PATIENT_COLUMNS", "prediction_rows", "summary_of_predictions", "write_predictions"]

PATIENT_COLUMNS = ("patient", "items", "unlike_training_items")


def prediction_rows(found: Predicted, validation: Validation | None = None) -> Iterator[dict[str, str]]:
    """One row per item, in the order of the feature file: id, patient, prediction, a column per class, novelty; the
    label where there is a validation."""
    for item, name in enumerate(found.table.ids):
        yield {
            "id": str(name),
            "source": str(found.table.sources[item]),
            "patient": str(found.table.patients[item]),
            **({} if validation is None else {"label": validation.truth.get(item, "")}),
            "predicted": found.said(item),
            **_chances(found, found.values[item]),
            "unlike_training_p": _number(found.usual[item]),
            "unlike_training": ("yes" if found.flagged[item] else "no") if np.isfinite(found.usual[item]) else "",
        }


def _patient_rows(found: Predicted) -> Iterator[dict[str, str]]:
    """One row per known patient: the mean over the patient's items."""
    names, patient = np.unique(found.table.patients, return_inverse=True)
    for number, name in enumerate(names):
        items = np.flatnonzero(patient == number)
        if name:
            flagged = int(found.flagged[items].sum())
            counts = dict(zip(PATIENT_COLUMNS, (str(name), str(len(items)), str(flagged)), strict=True))
            yield {**counts, **_chances(found, found.values[items].mean(axis=0))}


def _chances(found: Predicted, values: Sequence[float]) -> dict[str, str]:
    names = [f"p_{name}" for name in found.probe.classes] or ["value"]
    return {name: _number(value) for name, value in zip(names, values, strict=True)}


def _number(value: float) -> str:
    return f"{value:.8g}" if np.isfinite(value) else ""


def write_predictions(found: Predicted, path: Path, validation: Validation | None = None) -> list[Path]:
    """Write the items to ``path``, the patients to ``patients.csv`` beside it where patients are known; where none is,
    that of an earlier run goes.

    Raises:
        OutputError: the folder cannot be written.
    """
    files = [
        (path, list(prediction_rows(found, validation))),
        (path.with_name("patients.csv"), list(_patient_rows(found))),
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not files[1][1]:
            forget_table(files[1][0], PATIENT_COLUMNS)
        return [_csv(place, rows) for place, rows in files if rows]
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", remedy="choose another --out") from error


def _csv(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        write_csv(stream, [list(rows[0]), *(list(row.values()) for row in rows)])
    return path


def summary_of_predictions(found: Predicted, validation: Validation | None = None) -> dict[str, object]:
    """The whole for machines: counts by prediction, flags, what was left out, how good it is where that is known."""
    said = [found.said(item) for item in range(len(found.values))] if found.probe.classes else []
    return {
        "items": len(found.values),
        "predicted": _counted(said),
        "unlike_training": int(found.flagged.sum()) if found.probe.novelty is not None else None,
        "without_features": found.table.empty,
        "failed": found.table.failed,
        **({} if validation is None else {"validation": summary_of_validation(validation)}),
    }


def _counted(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items()))
