"""The tables of a study join by their keys, with pandas, with R and with the csv module."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from study_cases import gaussian_cases

import umedfeat
from umedfeat.report.files import KEYS, write_study

ROOT = Path(__file__).resolve().parents[2]
THIRD = 1 / 3
NAMES = ("results", "predictions")


@pytest.fixture(scope="module", params=["fractions", "shots", "classes that look like values"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cases = gaussian_cases(40, 2, 8, classes=3)
    names = {"class0": "TRUE", "class1": "FALSE", "class2": "None"} if "look" in request.param else {}
    budgets = {"shots": (2, 4)} | {"fractions": ()} if request.param == "shots" else {"fractions": (THIRD, 1.0)}
    result = umedfeat.probe(
        cases.features,
        [names.get(label, label) for label in cases.labels],
        cases.patients,
        meta={"sex": ["f" if int(p[1:]) % 4 < 2 else "m" for p in cases.patients]},
        subgroups=("sex",),
        repeats=3,
        bootstrap=100,
        task="multiclass",
        **budgets,
    )
    folder = tmp_path_factory.mktemp("study")
    write_study(result, folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_draw_of_the_results_has_its_predictions(study: Path) -> None:
    tables = [{tuple(row[key] for key in KEYS) for row in rows_of(study / f"{name}.csv")} for name in NAMES]
    assert tables[0] == tables[1]
    assert all(all(cell != "" for cell in key) for key in tables[0])
    summary = json.loads((study / "summary.json").read_text(encoding="utf-8"))
    without_draw = [key for key in KEYS if key != "draw"]
    estimates = {tuple(str(each[key]) for key in without_draw) for each in summary["estimates"]}
    assert estimates == {tuple(row[key] for key in without_draw) for row in rows_of(study / "results.csv")}


def test_a_share_is_read_back_as_it_was(study: Path) -> None:
    fractions = {float(row["fraction"]) for row in rows_of(study / "predictions.csv")}
    assert fractions in ({THIRD, 1.0}, {0.0})


def compared(shown: str, columns: list[int]) -> list[list[float]]:
    lines = [line.split() for line in shown.splitlines() if re.search(r"linear|knn|prototype", line)]
    return [[float(line[column]) for column in columns] for line in lines]


def ran(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_pandas_finds_the_metrics_in_the_predictions(study: Path) -> None:
    pytest.importorskip("pandas")
    rows = compared(ran(sys.executable, str(ROOT / "examples" / "join_results.py"), str(study)), [-3, -2, -1])
    assert len(rows) == 6
    assert all(row == pytest.approx([row[0]] * 3, abs=1e-5) for row in rows)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_r_finds_the_metrics_in_the_predictions(study: Path) -> None:
    rows = compared(ran("Rscript", str(ROOT / "examples" / "join_results.R"), str(study)), [-2, -1])
    assert len(rows) == 6
    assert all(row[0] == pytest.approx(row[1], abs=1e-5) for row in rows)


@pytest.mark.parametrize("task", ["regression", "survival"])
def test_truth_and_predictions_are_read_back_as_they_were(task: str, tmp_path: Path) -> None:
    cases = gaussian_cases(40, 1, 8)
    values = 1234567.0 + cases.features[:, 0].astype(float) / 3
    labels = values if task == "regression" else np.stack([values, np.arange(40) % 2], axis=1)
    result = umedfeat.probe(cases.features, labels, task=task, fractions=(1.0,), classifiers=("linear",), bootstrap=100)
    write_study(result, tmp_path)
    part, rows = result.predictions[0], rows_of(tmp_path / "predictions.csv")
    assert [float(row["truth"].rstrip("+")) for row in rows] == values[part.items].tolist()
    predicted = "predicted" if task == "regression" else "log_hazard"
    assert np.array_equal(np.float32([row[predicted] for row in rows]), part.values[0, :, 0])
