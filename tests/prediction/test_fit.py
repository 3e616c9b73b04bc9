"""A saved probe says of the study's own test set what the study said, whatever the classifier and the task."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from pages import checked_links
from study_cases import gaussian_cases, write_features

import umedfeat
from umedfeat.cli import run
from umedfeat.errors import CohortError, SetupError
from umedfeat.fewshot.classifiers import attention
from umedfeat.fewshot.cohort.sources import Labelling
from umedfeat.fewshot.files import read_subject
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction import fit
from umedfeat.prediction.apply import apply_probe
from umedfeat.prediction.fit import Saving, study_and_fit
from umedfeat.prediction.saved import SavedProbe
from umedfeat.report.prediction_page import write_prediction_page


def _features(path: Path, classes: int = 2, seed: int = 0) -> Path:
    """Three rows an item."""
    cases = gaussian_cases(40, 2, 8, classes=classes, seed=seed)
    noise = np.random.default_rng(seed).normal(size=(len(cases.labels), 3, 8)).astype(np.float32)
    rows = [row + 0.3 * own for row, own in zip(cases.features, noise, strict=True)]
    names = [f"i{k:03}.png" for k in range(len(rows))]
    return write_features(path, rows, names, patients=cases.patients, meta={"label": cases.labels})


def _values_file(path: Path, *, labels: bool = False) -> Path:
    """Of each item a value, or the names of its labels."""
    cases = gaussian_cases(60, 1, 8)
    values = [
        "|".join(n for n, v in zip("ab", row, strict=False) if v > 0) or "none" if labels else f"{row[0]:.3f}"
        for row in cases.features
    ]
    names = [f"i{k:03}.png" for k in range(60)]
    rows = [row[None] for row in cases.features]
    return write_features(path, rows, names, patients=cases.patients, meta={"label": values})


def _study(feats: Path, classifier: str, **options: object) -> tuple[SavedProbe, umedfeat.fewshot.ProbeResult]:
    settings = ProbeSettings(fractions=(1.0,), classifiers=(classifier,), bootstrap=100, **options)  # type: ignore[arg-type]
    result, probe = study_and_fit(read_subject(feats, settings), Saving(classifier))
    assert probe is not None
    return probe, result


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


@pytest.mark.parametrize("scale", [1e30, 1e-30])
@pytest.mark.parametrize(
    ("classifier", "options"),
    [("linear", {"scale": "standard"}), ("knn", {}), ("prototype", {}), ("knn", {"unit": "patient"})],
)
def test_features_of_any_scale(classifier: str, options: dict[str, object], scale: float, tmp_path: Path) -> None:
    cases = gaussian_cases(24, 2, 8)
    names, meta = [f"i{k:03}.png" for k in range(48)], {"label": cases.labels}
    rows = [row[None] * np.float32(scale) for row in cases.features]
    feats = write_features(tmp_path / "feats.h5", rows, names, patients=cases.patients, meta=meta)
    probe, result = _study(feats, classifier, **options)
    part, found = result.predictions[0], apply_probe(probe, feats)
    ids = found.table.patients if "unit" in options else found.table.ids
    place = {name: k for k, name in enumerate(ids)}
    tested = [place[name] for name in result.cohort.ids[part.items]]
    np.testing.assert_allclose(found.values[tested], part.values[0], atol=1e-6)
    assert not found.flagged.all() and np.ptp(found.usual) > 0.2


@pytest.mark.parametrize("classes", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_attention_says_what_the_study_said(classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "ATTENTION", attention.ATTENTION._replace(steps=60))  # both are trained the same
    feats = _features(tmp_path / "feats.h5", classes)
    settings = ProbeSettings(fractions=(1.0,), classifiers=("linear",), bootstrap=100, pool="abmil", calibrate=True)
    result, probe = study_and_fit(read_subject(feats, settings), Saving("abmil"))
    assert probe is not None and probe.described()["format"] == 2
    part = next(p for p in result.predictions if p.classifier == "abmil")
    found = apply_probe(SavedProbe.load(probe.save(tmp_path / "model.safetensors")), feats)
    place = {name: k for k, name in enumerate(found.table.ids)}
    rows = [place[name] for name in result.cohort.ids[part.items]]
    np.testing.assert_allclose(found.values[rows], part.values[0], atol=1e-6)
    assert probe.tested["auroc"][0] == pytest.approx(result.estimate("abmil", "100 %", "auroc").value)


def test_attention_that_was_not_trained_cannot_be_saved(tmp_path: Path) -> None:
    settings = ProbeSettings(fractions=(1.0,), classifiers=("linear",), bootstrap=100)
    with pytest.raises(CohortError, match="no attention was trained"):
        study_and_fit(read_subject(_features(tmp_path / "feats.h5"), settings), Saving("abmil"))


@pytest.mark.parametrize(
    ("task", "classifier"),
    [("regression", "linear"), ("regression", "knn"), ("multilabel", "linear"), ("multilabel", "prototype")],
)
def test_values_and_labels(task: str, classifier: str, tmp_path: Path) -> None:
    feats = _values_file(tmp_path / "f.h5", labels=task == "multilabel")
    probe, result = _study(feats, classifier, task=task)
    part = next(p for p in result.predictions if p.classifier == classifier)
    found = apply_probe(SavedProbe.load(probe.save(tmp_path / "model.safetensors")), feats)
    rows_of = [found.table.ids.tolist().index(name) for name in result.cohort.ids[part.items]]
    np.testing.assert_allclose(found.values[rows_of], part.values[0], atol=1e-5)


def test_everybody_is_told_and_a_missing_pool_refused(tmp_path: Path) -> None:
    feats = _features(tmp_path / "feats.h5")
    probe, _ = _study(feats, "linear", cv=3)
    assert probe.training["where"] == "all" and probe.tested == {} and probe.training["patients"] == 40


def _none_is_fitted(*_: object) -> None:
    raise AssertionError("fitted before it was refused")


def test_what_cannot_be_saved_is_refused_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "probe_cohort", _none_is_fitted)
    feats = _features(tmp_path / "feats.h5")
    subject = read_subject(feats, ProbeSettings(fractions=(1.0,), bootstrap=100, cv=3))
    with pytest.raises(CohortError, match="training pools"):
        study_and_fit(subject, Saving(on="pool"))
    values = _values_file(tmp_path / "values.h5")
    with pytest.raises(CohortError, match="it needs classes"):
        study_and_fit(read_subject(values, ProbeSettings(task="regression", bootstrap=100)), Saving("prototype"))


def test_of_many_classes_the_page_shows_the_most_probable(tmp_path: Path) -> None:
    names = ["x" * 300, *(f"class {k:02}" for k in range(29))]
    rng = np.random.default_rng(0)
    rows = [row[None] for row in (np.eye(30, dtype=np.float32)[np.arange(90) % 30] + rng.normal(0, 0.1, (90, 30)))]
    rows = [row.astype(np.float32) for row in rows]
    meta = {"label": [names[k % 30] for k in range(90)]}
    feats = write_features(tmp_path / "f.h5", rows, [f"{k}.png" for k in range(90)], meta=meta)
    probe, _ = _study(feats, "prototype", task="multiclass")
    found = apply_probe(probe, feats)
    page = write_prediction_page(found, tmp_path / "out", {}).read_text()
    checked_links(page)
    assert page.count('class="bar') == 8 * 90 and "22 others, each at most" in page and "and 10 other classes" in page


def test_features_that_are_no_numbers_are_told_with_their_item(tmp_path: Path) -> None:
    feats = _features(tmp_path / "feats.h5")
    probe, _ = _study(feats, "linear")
    with h5py.File(feats, "r+") as file:
        file["items/embedding"][7] = np.nan
    with pytest.raises(CohortError, match=r"feats\.h5: i007: its features hold NaN"):
        apply_probe(probe, feats)


def test_survival_leaves_no_model_and_the_command_says_what_the_function_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    names = [f"i{k:03}.png" for k in range(40)]
    meta = {"time": [f"{v:.2f}" for v in rng.uniform(1, 9, 40)], "dead": [str(k % 2) for k in range(40)]}
    rows = [row[None] for row in rng.normal(size=(40, 8)).astype(np.float32)]
    feats = write_features(tmp_path / "feats.h5", rows, names, patients=names, meta=meta)
    settings = ProbeSettings(task="survival", fractions=(1.0,), bootstrap=100)
    _, probe = study_and_fit(read_subject(feats, settings, Labelling("time", event="dead")), Saving())
    assert probe is None
    shown = ["--label", "time", "--event", "dead", "--fraction", "1", "--bootstrap", "100"]
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe/model.safetensors").write_text("of an earlier study, whose splits.json goes")
    assert run(["probe", "-f", str(feats), *shown]) == 0
    assert "no model is saved: survival" in caplog.text and "an earlier study is removed" in caplog.text
    assert not (tmp_path / "probe/model.safetensors").exists()
    assert (tmp_path / "probe/results.csv").is_file()


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
