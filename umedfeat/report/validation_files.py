"""``validation.csv``: every metric of one fixed model, or of several, on new patients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from umedfeat.errors import OutputError
from umedfeat.fewshot.result import Estimate
from umedfeat.naming import write_csv
from umedfeat.prediction.external import Validation

__all__ = [
    "ESTIMATE_COLUMNS",
    "VALIDATION_FIGURES",
    "estimate_rows",
    "forget_table",
    "forget_validation",
    "summary_of_validation",
    "write_validation",
]

#: Figures of a validation, as files beside its page.
VALIDATION_FIGURES = ("scatter", "calibration", "roc", "decision_curve")
ESTIMATE_COLUMNS = ("metric", "subgroup", "value", "low", "high", "interval", "patients", "items")


def estimate_rows(estimates: Iterable[Estimate]) -> Iterator[list[str]]:
    """Cells under ``ESTIMATE_COLUMNS``; what is not defined is empty."""
    for row in estimates:
        numbers = [number_text(value) for value in (row.value, row.low, row.high)]
        yield [row.metric, row.subgroup or "all", *numbers, row.interval, str(row.test_patients), str(row.test_items)]


def number_text(value: float) -> str:
    """A number that is read back as it was; "" for none."""
    return repr(float(value)) if math.isfinite(value) else ""


def write_validation(validation: Validation, folder: Path) -> Path:
    """Write ``folder/validation.csv``, with the study's own figures beside those of the new patients.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / "validation.csv"
    lines = [[*ESTIMATE_COLUMNS, "study_value", "study_low", "study_high"]]
    for cells in estimate_rows(validation.estimates):
        then = validation.studied.get(cells[0], (None, None, None)) if cells[1] == "all" else (None, None, None)
        lines.append([*cells, *("" if value is None else repr(float(value)) for value in then)])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as stream:
            write_csv(stream, lines)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", remedy="choose another --out") from error
    return path


def forget_validation(folder: Path) -> None:
    """Remove the table and the figures that an earlier run left: they would be taken for those of this one."""
    if forget_table(folder / "validation.csv", ESTIMATE_COLUMNS):
        for name in VALIDATION_FIGURES:
            for path in (folder / "figures").glob(f"{name}.*"):
                path.unlink(missing_ok=True)


def forget_table(path: Path, columns: Sequence[str]) -> bool:
    """Remove a table of ours, known by its first columns; anything else of that name stays.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            ours = stream.readline().startswith(",".join(columns) + ",")
        if ours:
            path.unlink()
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        return False
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed ({error.strerror})", remedy="choose another --out") from error
    return ours


def summary_of_validation(validation: Validation) -> dict[str, Any]:
    """JSON-able; what is not defined is null."""
    test = validation.significance
    return {
        "label": validation.label,
        "items": len(validation.cohort.ids),
        "patients": validation.cohort.n_patients,
        "patients_known": validation.cohort.patients_known,
        "estimates": [_estimate(row) for row in validation.estimates],
        "study": dict(validation.studied),
        "p_against_chance": None if test is None else test.p,
        "warnings": list(validation.warnings),
    }


def _estimate(row: Estimate) -> Mapping[str, Any]:
    numbers = {name: getattr(row, name) for name in ("value", "low", "high")}
    defined = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
    return {"metric": row.metric, "subgroup": row.subgroup or "all", **defined, "patients": row.test_patients}
