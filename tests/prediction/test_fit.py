"""A saved probe says of the study's own test set what the study said, whatever the classifier and the task."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pages import checked_links
from study_cases import gaussian_cases, write_features

import umedfeat
from umedfeat.cli import run
from umedfeat.errors import CohortError, SetupError
from umedfeat.fewshot.cohort.sources import cohort_of, label_items
from umedfeat.fewshot.cohort.table import read_table
from umedfeat.fewshot.files import origin_of, probe_cohort
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction.apply import apply_probe
from umedfeat.prediction.fit import fit_probe
from umedfeat.prediction.saved import SavedProbe
from umedfeat.store import FeatureFile


def _features(path: Path, classes: int = 2, seed: int = 0) -> Path:
    """Three rows an item."""
    cases = gaussian_cases(40, 2, 8, classes=classes, seed=seed)
    noise = np.random.default_rng(seed).normal(size=(len(cases.labels), 3, 8)).astype(np.float32)
    rows = [row + 0.3 * own for row, own in zip(cases.features, noise, strict=True)]
    names = [f"i{k:03}.png" for k in range(len(rows))]
    return write_features(path, rows, names, patients=cases.patients, meta={"label": cases.labels})


def _study(feats: Path, classifier: str, **options: object) -> tuple[SavedProbe, umedfeat.fewshot.ProbeResult]:
    settings = ProbeSettings(fractions=(1.0,), classifiers=(classifier,), bootstrap=100, **options)  # type: ignore[arg-type]
    table = read_table(feats)
    labelled = label_items(table)
    cohort = cohort_of(table, labelled, settings)
    result = probe_cohort(cohort, settings, origin_of(table, "x", labelled.name, ""))
    with FeatureFile(feats) as file:
        return fit_probe(cohort, result, file.header, classifier=classifier), result


@pytest.mark.parametrize("classifier", ["linear", "knn", "prototype"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("options", [{}, {"calibrate": True}, {"unit": "tile"}, {"pool": "max"}, {"scale": "pool"}])
def test_it_says_what_the_study_said(classifier: str, classes: int, options: dict[str, object], tmp_path: Path) -> None:
    feats = _features(tmp_path / "feats.h5", classes)
    probe, result = _study(feats, classifier, **options)
    part = next(p for p in result.predictions if p.classifier == classifier)
    found = apply_probe(SavedProbe.load(probe.save(tmp_path / "model.safetensors")), feats)
    place = {name: k for k, name in enumerate(found.table.ids)}
    rows = [place[name] for name in result.cohort.ids[part.items]]
    np.testing.assert_allclose(found.values[rows], part.values[0], atol=1e-6)
    assert probe.training["where"] == "training pool"
    assert probe.tested["auroc"][0] == pytest.approx(result.estimate(classifier, "100 %", "auroc").value)


@pytest.mark.parametrize(
    ("task", "classifier"),
    [("regression", "linear"), ("regression", "knn"), ("multilabel", "linear"), ("multilabel", "prototype")],
)
def test_values_and_labels(task: str, classifier: str, tmp_path: Path) -> None:
    cases = gaussian_cases(60, 1, 8)
    values = [
        f"{row[0]:.3f}"
        if task == "regression"
        else "|".join(n for n, v in zip("ab", row, strict=False) if v > 0) or "none"
        for row in cases.features
    ]
    names = [f"i{k:03}.png" for k in range(60)]
    rows = [row[None] for row in cases.features]
    feats = write_features(tmp_path / "f.h5", rows, names, patients=cases.patients, meta={"label": values})
    probe, result = _study(feats, classifier, task=task)
    part = next(p for p in result.predictions if p.classifier == classifier)
    found = apply_probe(SavedProbe.load(probe.save(tmp_path / "model.safetensors")), feats)
    rows_of = [found.table.ids.tolist().index(name) for name in result.cohort.ids[part.items]]
    np.testing.assert_allclose(found.values[rows_of], part.values[0], atol=1e-5)


def test_everybody_is_told_and_a_missing_pool_refused(tmp_path: Path) -> None:
    feats = _features(tmp_path / "feats.h5")
    probe, _ = _study(feats, "linear", cv=3)
    assert probe.training["where"] == "all" and probe.tested == {} and probe.training["patients"] == 40
    table = read_table(feats)
    settings = ProbeSettings(fractions=(1.0,), classifiers=("linear",), bootstrap=100, cv=3)
    cohort = cohort_of(table, label_items(table), settings)
    result = probe_cohort(cohort, settings, origin_of(table, "x", "label", ""))
    with FeatureFile(feats) as file, pytest.raises(CohortError, match="training pools"):
        fit_probe(cohort, result, file.header, on="pool")


def test_features_of_other_settings_are_refused(tmp_path: Path) -> None:
    probe, _ = _study(_features(tmp_path / "feats.h5"), "linear")
    cases = gaussian_cases(4, 1, 8)
    other = write_features(tmp_path / "other.h5", [row[None] for row in cases.features], list("abcd"), encoder="other")
    with pytest.raises(SetupError, match=r"encoder\.name: synthetic → other"):
        apply_probe(probe, other)


def test_the_command_writes_table_patients_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feats, new = _features(tmp_path / "feats.h5"), _features(tmp_path / "new.h5", seed=1)
    assert run(["probe", "-f", str(feats), "--fraction", "1", "--classifier", "linear", "--bootstrap", "100"]) == 0
    model = tmp_path / "probe" / "model.safetensors"
    capsys.readouterr()
    out = tmp_path / "predict" / "predictions.csv"
    assert run(["predict", str(new), "--model", str(model), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert told["items"] == len(rows) == 80
    assert told["predictions"][0] == rows[0]
    expected = apply_probe(SavedProbe.load(model), new)
    np.testing.assert_allclose([float(row["p_class1"]) for row in rows], expected.values[:, 1], atol=1e-7)
    patients = list(csv.DictReader(out.with_name("patients.csv").read_text().splitlines()))
    assert len(patients) == 40 and {row["items"] for row in patients} == {"2"}
    page = (tmp_path / "predict" / "index.html").read_text()
    checked_links(page)
    assert "28 patients (56 items, training pool): 14 class0, 14 class1" in page and "built-in" not in page
    assert "AUROC" in page.partition("test patients: ")[2][:200]
    assert rows[int(expected.order[0])]["id"] in page
    assert run(["predict", str(new), "--model", str(model), "--class", "class9"]) == 2
    assert "its classes: class0, class1" in capsys.readouterr().err
