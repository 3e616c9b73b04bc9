"""The output folder of a study: results.csv, summary.json, predictions.csv, splits.json, methods.txt.

The three tables join by the columns of ``KEYS``: results.csv and predictions.csv by all of them, the estimates of
summary.json (means over the draws) by all but ``draw``. Numbers are written so that they are read back as they were.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from umedfeat.errors import OutputError
from umedfeat.fewshot.coverage import covered_differences, covered_study
from umedfeat.fewshot.draws.saved import splits_of
from umedfeat.fewshot.result import Comparison, DataNeeded, Difference, Estimate, ProbeResult, Score
from umedfeat.naming import write_csv
from umedfeat.prediction.saved import SavedProbe
from umedfeat.report.methods import methods_text

__all__ = ["KEYS", "comparison_summary", "folder_name", "summary_of", "write_comparison", "write_study"]

#: Columns that results.csv, predictions.csv and (but for the draw) the estimates of summary.json share.
KEYS = ("encoder", "classifier", "budget", "fraction", "shots", "draw", "test_set")
#: Cells of a key are never empty, empty ones do not join: a study of arrays without a name, no subgroup.
_UNNAMED = "features"
_EVERYBODY = "all"
_RESULTS = [
    *KEYS,
    "subgroup",
    "metric",
    "value",
    "n_train_patients",
    "n_per_class",
    "hyperparameters",
    "converged",
]


log = logging.getLogger("umedfeat")

#: What `umedfeat predict` takes.
MODEL = "model.safetensors"


def write_study(result: ProbeResult, folder: Path, probe: SavedProbe | None = None) -> list[Path]:
    """Write everything that the result can be recomputed from, and the classifier that outlives the study.

    Without one, that of an earlier study in this folder goes: it would stand beside splits of which it knows nothing.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _csv(folder / "results.csv", _RESULTS, _result_rows(result))
        _json(folder / "summary.json", summary_of(result))
        _csv(folder / "predictions.csv", *_prediction_rows(result))
        _json(folder / "splits.json", splits_of(result))
        (folder / "methods.txt").write_text(methods_text(result), encoding="utf-8")
        if probe is None and (folder / MODEL).is_file():
            (folder / MODEL).unlink()
            log.warning("%s of an earlier study is removed: this one saves none", MODEL)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror})", remedy="choose another folder with --out"
        ) from error
    names = ("results.csv", "summary.json", "predictions.csv", "splits.json", "methods.txt")
    return [*(folder / name for name in names), *([probe.save(folder / MODEL)] if probe else [])]


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write differences.csv, data_needed.csv, summary.json, and each encoder's study in a folder of its own.

    Raises:
        OutputError: the folder cannot be written.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("differences", comparison.differences), ("data_needed", comparison.data_needed)):
            header = [field.name for field in dataclasses.fields(Difference if name == "differences" else DataNeeded)]
            _csv(folder / f"{name}.csv", header, [dataclasses.astuple(row) for row in rows])
            written.append(folder / f"{name}.csv")
        _json(folder / "summary.json", comparison_summary(comparison))
        written.append(folder / "summary.json")
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror})", remedy="choose another folder with --out"
        ) from error
    for name, result in zip(comparison.names, comparison.results, strict=True):
        written += write_study(result, folder / folder_name(name))
    return written


def folder_name(name: str) -> str:
    """The folder of one encoder's study within a comparison."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON-able content; NaN and infinity become null."""
    first = comparison.results[0]
    content = {
        "encoders": list(comparison.names),
        "baseline": comparison.baseline,
        "differences": [dataclasses.asdict(row) for row in comparison.differences],
        "data_needed": [dataclasses.asdict(row) for row in comparison.data_needed],
        "coverage": [kind.described() for kind in covered_differences(comparison.differences, first.task)],
        "warnings": list(comparison.warnings),
        "studies": [summary_of(result) for result in comparison.results],
    }
    cleaned: dict[str, Any] = _without_nan(content)
    return cleaned


def _csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        write_csv(stream, itertools.chain([header], rows))


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _result_rows(result: ProbeResult) -> Iterator[Sequence[object]]:
    for score in result.scores:
        row = _keyed(score) | {"draw": score.repeat, "encoder": score.encoder or _UNNAMED}
        row["n_train_patients"] = f"{score.n_train_patients:g}"
        row["n_per_class"] = "|".join(f"{n:g}" for n in score.n_per_class)
        row["value"] = "" if math.isnan(score.value) else repr(score.value)
        yield [row[name] for name in _RESULTS]


def _keyed(row: Score | Estimate) -> dict[str, Any]:
    """A row with keys that join anywhere: none is empty (no subgroup: "all"; shots: fraction 0)."""
    return dataclasses.asdict(row) | {
        "subgroup": row.subgroup or _EVERYBODY,
        "fraction": _share(row.fraction),
    }


def _share(fraction: float) -> float:
    return 0.0 if math.isnan(fraction) else fraction


def _prediction_rows(result: ProbeResult) -> tuple[list[str], Iterator[Sequence[object]]]:
    names = list(result.cohort.classes) or ["value"]
    header = [*KEYS, "item", "patient", "truth", *(f"p_{n}" for n in names)]
    if result.task in ("regression", "survival"):
        header[-1] = {"regression": "predicted", "survival": "log_hazard"}[result.task]
    return header, _each_prediction(result)


def _each_prediction(result: ProbeResult) -> Iterator[Sequence[object]]:
    truth = _truth_texts(result)
    ids, patients = result.cohort.ids.tolist(), result.cohort.patients.tolist()
    budgets = {budget.name: budget for budget in result.budgets}
    for part in result.predictions:
        budget = budgets[part.budget]
        asked = [result.encoder or _UNNAMED, part.classifier, part.budget, _share(budget.fraction), budget.shots]
        for draw, values in enumerate(part.values):
            for item, row in zip(part.items.tolist(), values.astype(np.str_).tolist(), strict=True):
                yield [*asked, draw, part.test_set, ids[item], patients[item], truth[item], *row]


def _truth_texts(result: ProbeResult) -> list[str]:
    classes, truth = result.cohort.classes, result.cohort.truth
    if result.task == "regression":
        return [_written(value) for value in truth.tolist()]
    if result.task == "survival":  # "12.5", and "12.5+" where the event was not seen, as survival tables have it
        return [_written(time) + "+" * (not seen) for time, seen in truth.tolist()]
    if result.task == "multilabel":
        return ["|".join(n for n, has in zip(classes, row, strict=True) if has) for row in truth.tolist()]
    return [classes[code] for code in truth.tolist()]


def _written(number: float) -> str:
    """All of its digits, "12" for 12.0."""
    return repr(number).removesuffix(".0")


def summary_of(result: ProbeResult) -> dict[str, Any]:
    """The result without predictions and draws, JSON-able; NaN becomes null."""
    content = {
        "encoder": result.encoder,
        "weights": result.weights,
        "features": result.source,
        "fingerprint": result.fingerprint,
        "label": result.label,
        "task": result.task,
        "classes": list(result.cohort.classes),
        "primary": result.primary,
        "patients_known": result.cohort.patients_known,
        "flow": [dataclasses.asdict(step) for step in result.flow],
        "budgets": [dataclasses.asdict(budget) for budget in result.budgets],
        "estimates": [{"encoder": result.encoder or _UNNAMED} | _keyed(each) for each in result.estimates],
        "significance": [dataclasses.asdict(each) for each in result.significance],
        "drops": [dataclasses.asdict(drop) for drop in result.drops],
        "coverage": [kind.described() for kind in covered_study(result)],
        "sanity": [dataclasses.asdict(check) for check in result.sanity],
        "warnings": list(result.warnings),
        "settings": result.settings.described(),
        "command": result.command,
        "versions": dict(result.versions),
        "created": result.created,
        "seconds": round(result.seconds, 2),
    }
    cleaned: dict[str, Any] = _without_nan(content)
    return cleaned


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return value
