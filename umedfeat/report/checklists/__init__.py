"""Reporting checklists with the places filled in: TRIPOD+AI (BMJ 2024;385:e078378) and CLAIM (2024 update).

Items are named in short words of our own; the statements themselves are the reference. ``place`` says where the answer
stands ("authors": nobody but the authors can give it), ``here`` what this study has to say about it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping
from importlib.resources import files
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.fewshot.result import ProbeResult
from umedfeat.fewshot.settings import SITE_COLUMNS
from umedfeat.naming import write_csv
from umedfeat.report.answer import classifiers_of, operating_sentence, positive_sentence
from umedfeat.report.headline import headlines
from umedfeat.report.methods import methods_sentences

__all__ = ["CHECKLISTS", "filled", "write_checklists"]

CHECKLISTS = {"tripod_ai.csv": "TRIPOD+AI", "claim.csv": "CLAIM"}
_SAVED = {
    "model_place": "model.safetensors; splits.json",
    "model": "The fitted probe is model.safetensors; the others follow from features and splits.json.",
}
_NOT_HERE = "Images, labels and settings do not tell: the authors state it."
#: What is predicted where it is no probability, and what of.
_OUTPUTS = {"regression": "Predicted values", "survival": "Log hazards"}
_TARGETS = {"regression": "a number", "survival": "time to an event"}
_HEADER = ["item", "section", "topic", "asks", "place", "here"]


def write_checklists(result: ProbeResult, folder: Path, page: str) -> list[Path]:
    """Write ``checklist_tripod_ai.csv`` and ``checklist_claim.csv`` into a folder that is there; ``page`` as below."""
    written, saved = [], (folder / "model.safetensors").is_file()
    for name in CHECKLISTS:
        path = folder / f"checklist_{name}"
        rows = filled(result, name, page, saved)
        with path.open("w", encoding="utf-8", newline="") as stream:
            write_csv(stream, [_HEADER, *([row[column] for column in _HEADER] for row in rows)])
        written.append(path)
    return written


def filled(result: ProbeResult, name: str, page: str, saved: bool = False) -> list[dict[str, str]]:
    """The items of one of CHECKLISTS with their places and what the study says.

    Args:
        page: HTML of the report; places are those of its sections that are there. saved: the probe lies beside it.
    """
    text = files("umedfeat.report.checklists").joinpath(name).read_text(encoding="utf-8")
    anchors = frozenset(re.findall(r'\bid="([^"]+)"', page))
    known = _answers(result, anchors) | (_SAVED if saved else {})
    rows = csv.DictReader(StringIO(text))
    return [
        row | {"place": _places(row["place"].format_map(known), anchors), "here": _said(row, known)} for row in rows
    ]


def _places(text: str, anchors: Collection[str]) -> str:
    """Those that are there; "not applicable" where such a study has none of them."""
    there = [place for place in text.split("; ") if not (anchor := place.partition("#")[2]) or anchor in anchors]
    return "; ".join(there) or "not applicable"


def _said(row: Mapping[str, str], known: Mapping[str, str]) -> str:
    """What the study says about an item, or why it says nothing."""
    return " ".join(row["here"].format_map(known).split()) or _NOT_HERE


def _answers(result: ProbeResult, anchors: Collection[str]) -> dict[str, str]:
    """What the placeholders of the lists stand for."""
    lines = headlines(result)
    values = not result.cohort.classes
    mistakes = "mistakes" in anchors
    return {
        **methods_sentences(result),
        **_facts(result),
        "subgroups_sentence": methods_sentences(result)["subgroups"] or "No subgroup was asked for or found.",
        "headline": " ".join(lines[:1]),
        "operating": operating_sentence(result)
        or ("No class is predicted." if values else "Two classes are needed; see the table of each class."),
        "output": methods_sentences(result)["decision"] or f"{_OUTPUTS[result.task]}; no threshold.",
        "predicted": _OUTPUTS.get(result.task, "Probabilities"),
        "explained": "Map of the features" + "; nearest training items of mistakes" * mistakes,
        "failures": "Most confident mistakes with their nearest training items."
        if mistakes
        else "No mistakes are shown; the predictions of every item are in predictions.csv.",
        "positive": positive_sentence(result),
        "drops": " ".join(line for line in headlines(result) if line.startswith("Left out"))
        or "No centre was left out.",
        "notes": " ".join(result.warnings) or "The study raised no warning.",
        "model_place": "results.csv (hyperparameters); splits.json",
        "model": "The classifiers follow from the features, splits.json and the command.",
    }


def _facts(result: ProbeResult) -> dict[str, str]:
    cohort, settings = result.cohort, result.settings
    tests = {name: patients for fold in result.folds for name, patients in fold.tests.items()}
    known = cohort.patients_known
    sites = [name for name in cohort.meta if name.lower() in SITE_COLUMNS]
    flow = [(step.name, step.items, f", {step.patients} patients" if step.patients else "") for step in result.flow]
    return {
        "encoder": result.encoder or "an encoder",
        "source": result.source or "arrays given in Python",
        "label": result.label or "the labels given",
        "classes": ", ".join(cohort.classes) or _TARGETS[result.task],
        "n_items": str(len(cohort.ids)),
        "n_patients": str(cohort.n_patients),
        "columns": ", ".join(cohort.meta) or "none beside the label",
        "centres": "; ".join(_values(cohort.meta[name], name) for name in sites) or "No column names a centre.",
        "subgroups": ", ".join(settings.subgroups or ()) or "none",
        "budgets": ", ".join(
            f"{b.name} ({b.n_patients} patients, {b.repeats} draw{'s' * (b.repeats != 1)})" for b in result.budgets
        ),
        "tests": _tests(result, tests),
        "flow": "; ".join(f"{name}: {items} items{patients}" for name, items, patients in flow),
        "command": result.command or "run from Python; the settings stand in summary.json",
        "classifier_names": ", ".join(classifiers_of(result)),
        "first_classifier": classifiers_of(result)[0],
        "weights": f" (weights SHA-256 {result.weights})" if result.weights else "",
        "disjoint": "Patients." if known else "Items: no patients were named.",
        "internal": ", ".join(name for name in tests if not name.startswith("external")) or "None in this study.",
        "external": ", ".join(name for name in tests if name.startswith("external")) or "None in this study.",
    }


def _values(column: npt.NDArray[np.str_], name: str) -> str:
    return f"{name}: {', '.join(sorted(set(column.tolist())))}"


def _tests(result: ProbeResult, tests: Mapping[str, npt.NDArray[np.intp]]) -> str:
    if result.settings.cv:
        return f"out of fold, {result.cohort.n_patients} patients"
    return ", ".join(f"{name}, {len(patients)} patients" for name, patients in tests.items())
