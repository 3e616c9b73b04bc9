"""What stands on top and what a reviewer looks for: every classifier, chance, the positive class, the threshold."""

from __future__ import annotations

import csv
import html
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from study_cases import gaussian_cases

import umedfeat
from umedfeat.fewshot import ProbeSettings
from umedfeat.fewshot.coverage import covered_study
from umedfeat.fewshot.metrics.operating import net_benefit
from umedfeat.fewshot.result import ProbeResult
from umedfeat.report.checklists import CHECKLISTS, filled
from umedfeat.report.figures.axes import Axes
from umedfeat.report.figures.files import standalone
from umedfeat.report.files import summary_of
from umedfeat.report.methods import methods_text
from umedfeat.report.study_page import render_report, write_report
from umedfeat.report.tables import render_study


@pytest.fixture(scope="module")
def result() -> ProbeResult:
    cases = gaussian_cases(80, 2, 8, shift=1.5)
    names = {"class0": "benign", "class1": "malignant"}
    sexes = ["f" if int(p[1:]) % 3 else "m" for p in cases.patients]
    ages = [str(40 + int(p[1:]) % 30) for p in cases.patients]
    return umedfeat.probe(
        cases.features,
        [names[label] for label in cases.labels],
        cases.patients,
        meta={"sex": sexes, "age": ages},
        fractions=(0.2, 1.0),
        repeats=3,
        bootstrap=200,
        threshold=0.7,
    )


def test_the_operating_point_is_that_of_the_stated_threshold(result: ProbeResult) -> None:
    part = next(p for p in result.predictions if (p.classifier, p.budget) == ("linear", "100 %"))
    truth = result.cohort.truth[part.items]
    cleared, alarmed, missed, found = confusion_matrix(truth, part.values[0, :, 1] > 0.7).ravel()
    expected = {
        "sensitivity": found / (found + missed),
        "specificity": cleared / (cleared + alarmed),
        "ppv": found / (found + alarmed),
        "npv": cleared / (cleared + missed),
    }
    for name, value in expected.items():
        row = result.estimate("linear", "100 %", name)
        assert row.value == pytest.approx(value)
        assert row.low <= row.value <= row.high


def test_net_benefit_by_hand() -> None:
    chance, hit = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False])
    assert net_benefit(chance, hit, np.array([0.5, 0.2])) == pytest.approx([1 / 4 - 1 / 4, 2 / 4 - 1 / 4 * 0.25])


def test_page_and_terminal_answer_first(result: ProbeResult) -> None:
    page, shown = render_report(result), " ".join(render_study(result).split())
    answer = page[page.index('id="answer"') : page.index('id="notes"')]
    for classifier in ("linear", "knn", "prototype"):
        assert f"<td>{classifier}</td>" in answer
    for text in (answer, shown):
        assert "Positive means “malignant”, negative “benign”." in text
        assert "above a probability of 0.7 “malignant”" in text
        assert "(chance 0.500)" in text
    assert shown.index("With ") < shown.index("classifier")
    assert "chance 0.5</text>" in page
    assert all(f'id="{place}"' in page for place in ("decision", "operating", "subgroups", "participants"))


def test_participants_are_patients(result: ProbeResult) -> None:
    page = render_report(result)
    table = page[page.index('id="participants"') :].split("</table>")[0]
    pool, test = (len(each) for each in (result.folds[0].pool, result.folds[0].tests["test"]))
    assert f"<td>{pool} ({2 * pool} items)</td><td>{test} ({2 * test} items)</td>" in table
    assert "sex: f" in table and "age, median [quartiles]" in table


def test_subgroups_come_unasked_and_can_be_left_out(result: ProbeResult) -> None:
    assert {row.subgroup for row in result.estimates} == {"", "sex=f", "sex=m"}
    without = umedfeat.probe(
        result.cohort.embedding,
        result.cohort.truth,
        result.cohort.patients,
        meta={"sex": result.cohort.meta["sex"]},
        fractions=(0.2,),
        repeats=1,
        bootstrap=100,
        subgroups=(),
    )
    assert {row.subgroup for row in without.estimates} == {""}


def test_every_figure_is_a_file(result: ProbeResult, tmp_path: Path) -> None:
    write_report(result, tmp_path)
    names = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert {"data_efficiency", "decision_curve", "roc_linear", "calibration_knn", "map_by_label"} <= names
    for path in (tmp_path / "figures").glob("*.svg"):
        root = ET.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not [each for each in root.iter() if "class" in each.attrib], path.name
    pytest.importorskip("svglib")
    assert {path.stem for path in (tmp_path / "figures").glob("*.pdf")} == names


def test_a_file_of_a_figure_has_the_colours_of_the_page_and_its_key() -> None:
    axes = Axes((0, 1), (0, 1), [], [], "x", "y", "a <title>")
    axes.line([(0, 0), (1, 1)], "s1")
    axes.line([(0, 1), (1, 1)], "chance")
    text = standalone(axes.svg(), [("s1", "kNN & co")]).decode()
    assert 'stroke="#d55e00"' in text and "kNN &amp; co" in text and "stroke-dasharray" in text


@pytest.mark.parametrize("name", CHECKLISTS)
def test_checklists_are_filled_in(result: ProbeResult, name: str, tmp_path: Path) -> None:
    page = render_report(result)
    rows = filled(result, name, page)
    assert len(rows) == {"tripod_ai.csv": 52, "claim.csv": 44}[name]
    assert all(row["place"] and row["asks"] and row["here"] for row in rows)
    text = " ".join(row["here"] for row in rows)
    assert "malignant" in text and "sex" in text and not re.search(r"\{[a-z_]+\}", text)
    write_report(result, tmp_path)
    for row in rows:
        for place in row["place"].split(";"):
            where, _, anchor = place.strip().partition("#")
            assert not anchor or f'id="{anchor.strip()}"' in page, row
            if where.endswith((".html", ".csv", ".json")):
                assert where == "report.html" or where in {
                    "results.csv",
                    "predictions.csv",
                    "splits.json",
                    "summary.json",
                }
    with (tmp_path / f"checklist_{name}").open(encoding="utf-8", newline="") as stream:
        assert list(csv.DictReader(stream)) == rows


@pytest.mark.parametrize("task", ["regression", "survival"])
def test_checklists_name_no_section_that_such_a_page_has_not(task: str) -> None:
    cases = gaussian_cases(24, 1, 6)
    labels = np.arange(1.0, 25.0) if task == "regression" else np.stack([np.arange(1.0, 25.0), np.arange(24) % 2], 1)
    result = umedfeat.probe(cases.features, labels, task=task, fractions=(1.0,), bootstrap=100, classifiers=("linear",))
    page = render_report(result)
    for name in CHECKLISTS:
        rows = filled(result, name, page)
        places = [place for row in rows for place in row["place"].split("; ")]
        assert all(f'id="{place.partition("#")[2]}"' in page for place in places if "#" in place)
        said = " ".join(row["here"] for row in rows)
        assert "robabilities" not in said and "the table of each class" not in said and "nearest training" not in said


def test_methods_say_only_what_was_computed(result: ProbeResult) -> None:
    text = " ".join(methods_text(result).split())
    assert "above a probability of 0.7" in text and "research use" in text and "was imputed" in text
    assert "exchange labels between test patients" in text
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 6)).astype(np.float32)
    regression = umedfeat.probe(
        rows, rows[:, 0] + rng.normal(size=40), task="regression", fractions=(1.0,), bootstrap=100, pool="max"
    )
    text = " ".join(methods_text(regression).split())
    for claim in ("exchange labels", "within class", "probability", "spread over draws", "averaged", "Images were"):
        assert claim not in text
    assert "(maximum)" in text and "quarter of the target" in text and "squared error" in text


@pytest.mark.parametrize(
    ("options", "said", "not_said"),
    [
        ({"train": "sex=f", "test": "sex=m"}, "those with sex=f, test patients were the 30 with sex=m", "held out"),
        ({"cv": 3}, "all folds together, for AUROC, AUPRC of each fold on its own", "held out"),
        ({"shots": (2,), "fractions": ()}, "so many (shots) of each class", "in proportion and"),
        ({"fractions": (1.0,)}, "each class in proportion", "mean over draws"),
        ({"fractions": (0.5,)}, "the calibration slope of all draws together", "cross-validation is"),
    ],
    ids=["train and test", "folds", "shots", "one draw", "draws"],
)
def test_methods_say_how_patients_were_chosen(options: dict[str, Any], said: str, not_said: str) -> None:
    settings = ProbeSettings(**{"fractions": (1.0,), "classifiers": ("prototype",), "bootstrap": 100} | options)
    cases = gaussian_cases(60, 1, 6, shift=2.0)
    sex = ["fm"[k % 4 // 2] for k in range(60)]
    study = umedfeat.probe(cases.features, cases.labels, cases.patients, meta={"sex": sex}, settings=settings)
    text = " ".join(methods_text(study).split())
    assert said in text and not_said not in text


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, ["patients and draws", "patients"]),
        ({"fractions": (1.0,)}, ["patients"]),
        ({"cv": 3, "cv_repeats": 2}, ["folds"]),
        ({"external": "sex=m"}, ["patients and draws", "patients", "drop"]),
    ],
    ids=["draws", "one draw", "folds", "external"],
)
def test_how_often_intervals_held_is_said_wherever_they_stand(options: dict[str, Any], kinds: list[str]) -> None:
    """Page, terminal, methods and summary take it from one place, for the kinds of intervals that are there alone."""
    settings = ProbeSettings(**{"fractions": (0.3, 1.0), "repeats": 3, "classifiers": ("prototype",)} | options)
    cases = gaussian_cases(60, 1, 6, shift=2.0)
    sex = ["fm"[k % 4 // 2] for k in range(60)]
    study = umedfeat.probe(cases.features, cases.labels, cases.patients, meta={"sex": sex}, settings=settings)
    found = summary_of(study)["coverage"]
    assert [kind["kind"] for kind in found] == kinds
    page = html.unescape(render_report(study))
    told = [" ".join(text.split()) for text in (render_study(study), methods_text(study))]
    for kind in found:
        assert f"{kind['low']} to {kind['high']} % of 95 % intervals held the truth" in kind["sentence"]
        assert all(kind["sentence"] in text for text in (page, *told))
    assert page.count("% intervals held the truth") == len(kinds) + len(kinds)  # where they stand, and in the methods


def test_where_nothing_was_simulated_that_is_said() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 4)).astype(np.float32)
    study = umedfeat.probe(rows, rows[:, 0] + rng.normal(size=80), fractions=(1.0,), bootstrap=100)
    (kind,) = covered_study(study)
    assert (kind.where, kind.low, kind.high) == ("", 0, 0)
    assert "was not simulated for such a target" in " ".join(methods_text(study).split())


def test_the_methods_say_what_the_intervals_cover(result: ProbeResult) -> None:
    """Several draws: whom one labels is covered; a single draw: it is not."""
    text = methods_text(result)
    covers = {row.covers for row in result.estimates}
    assert ("whoever had been labelled" in " ".join(text.split())) == ("patients and draws" in covers)
    assert ("do not cover the choice of training patients" in " ".join(text.split())) == ("patients" in covers)
    assert "held fixed" not in text
