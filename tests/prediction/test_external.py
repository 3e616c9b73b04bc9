"""External validation: figures of a fixed model are a study's figures, and its own patients are kept out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import checked_links
from study_cases import Cases, gaussian_cases, write_features

from umedfeat.cli import run
from umedfeat.errors import CohortError, LeakageError
from umedfeat.fewshot.cohort.sources import Labelling
from umedfeat.fewshot.files import read_subject
from umedfeat.fewshot.metrics.calibration import calibration_intercept
from umedfeat.fewshot.result import ProbeResult
from umedfeat.fewshot.settings import ProbeSettings
from umedfeat.prediction.apply import Predicted, apply_probe
from umedfeat.prediction.external import INTERCEPT, Validation, has_own_labels, validate
from umedfeat.prediction.fit import Saving, study_and_fit
from umedfeat.prediction.overlap import trained_patients
from umedfeat.prediction.saved import SavedProbe
from umedfeat.report.files import write_study
from umedfeat.report.prediction_page import write_prediction_page
from umedfeat.report.validation_section import calibration_sentences, validation_headline

FAST = ProbeSettings(fractions=(1.0,), classifiers=("linear",), bootstrap=200)


def _written(path: Path, cases: Cases, labels: list[str] | None = None, *, prefix: str = "") -> Path:
    rows = [row[None] for row in cases.features]
    names = [f"{prefix}i{k:03}.png" for k in range(len(rows))]
    patients = [prefix + name for name in cases.patients]
    content = [f"{prefix}{k:063x}" for k in range(len(rows))]
    meta = {"label": cases.labels if labels is None else labels}
    return write_features(path, rows, names, patients=patients, meta=meta, content=content)


def _study(feats: Path, folder: Path, **options: object) -> tuple[SavedProbe, ProbeResult]:
    settings = replace(FAST, **options)  # type: ignore[arg-type]
    result, probe = study_and_fit(read_subject(feats, settings), Saving())
    assert probe is not None
    write_study(result, folder, probe)
    return probe, result


@pytest.mark.parametrize("unit", ["item", "tile", "patient"])
@pytest.mark.parametrize("classes", [2, 3])
def test_on_the_test_set_of_the_study_it_says_what_the_study_said(unit: str, classes: int, tmp_path: Path) -> None:
    feats = _written(tmp_path / "feats.h5", gaussian_cases(60, 2, 8, classes=classes))
    probe, result = _study(feats, tmp_path / "probe", unit=unit)
    trained = trained_patients(probe, tmp_path / "probe" / "model.safetensors")
    found = validate(apply_probe(probe, feats), settings=FAST, known="skip", trained=trained)
    assert len(found.cohort.names) == len(result.folds[0].tests["test"])
    ours = {row.metric: (row.value, row.low, row.high) for row in found.estimates if row.metric != INTERCEPT}
    theirs = {row.metric: (row.value, row.low, row.high) for row in result.estimates if row.budget == "100 %"}
    assert ours.keys() == theirs.keys()
    for metric, expected in theirs.items():
        np.testing.assert_allclose(ours[metric], expected, atol=1e-6, err_msg=metric)
    assert found.significance is not None and found.significance.p == result.significance[0].p


def test_training_patients_and_images_are_refused_and_named(tmp_path: Path) -> None:
    feats = _written(tmp_path / "feats.h5", gaussian_cases(40, 2, 8))
    probe, _ = _study(feats, tmp_path / "probe")
    trained = trained_patients(probe, tmp_path / "probe" / "model.safetensors")
    assert trained is not None and len(trained) == 28
    found = apply_probe(probe, feats)
    with pytest.raises(LeakageError, match=r"28 patients stand in training and in the new cohort: p\d+.*56 items are"):
        validate(found, settings=FAST, trained=trained)
    with pytest.raises(LeakageError, match=r"56 items are images of the training data"):
        validate(found, settings=FAST)
    silent = replace(found, probe=replace(probe, novelty=None))
    notes = validate(silent, settings=FAST).warnings
    assert any("no splits.json" in note and "keeps no features" in note for note in notes)
    others = apply_probe(probe, _written(tmp_path / "new.h5", gaussian_cases(40, 2, 8, seed=5), prefix="new-"))
    assert not any(
        "not looked for" in note.lower() for note in validate(others, settings=FAST, trained=trained).warnings
    )


def test_a_model_names_no_patient(tmp_path: Path) -> None:
    feats = _written(tmp_path / "feats.h5", gaussian_cases(40, 2, 8), prefix="SECRET")
    _study(feats, tmp_path / "probe")
    assert b"SECRET" not in (tmp_path / "probe" / "model.safetensors").read_bytes()


def _found(tmp_path: Path, labels: list[str] | None = None) -> Predicted:
    feats = _written(tmp_path / "feats.h5", gaussian_cases(40, 2, 8))
    probe, _ = _study(feats, tmp_path / "probe")
    cases = gaussian_cases(40, 2, 8, seed=5)
    return apply_probe(probe, _written(tmp_path / "new.h5", cases, labels, prefix="new-"))


def _validated(
    tmp_path: Path, labels: list[str] | None = None, labelling: Labelling | None = None, **options: object
) -> Validation:
    settings = replace(FAST, **options)  # type: ignore[arg-type]
    return validate(_found(tmp_path, labels), labelling, settings, trained=frozenset())


def test_a_class_that_nobody_carries_stays_a_class(tmp_path: Path) -> None:
    found = _validated(tmp_path, ["class0"] * 80)
    assert found.cohort.classes == ("class0", "class1")
    assert np.isnan(found.estimate("auroc").value) and found.estimate("specificity").value > 0.5
    assert np.isnan(found.estimate(INTERCEPT).value) and found.significance is None
    assert any("no patient of 'class1'" in note for note in found.warnings)


def test_an_unknown_class_is_refused_and_can_be_merged_or_left_out(tmp_path: Path) -> None:
    labels = ["grade 3" if k < 4 else name for k, name in enumerate(gaussian_cases(40, 2, 8, seed=5).labels)]
    with pytest.raises(CohortError, match=r"'grade 3' among them.*class0, class1"):
        _validated(tmp_path, labels)
    assert len(_validated(tmp_path, labels, drop_class=("grade 3",)).cohort.ids) == 76
    merged = _validated(tmp_path, labels, merge=("grade 3+class1=class1",), label_of="item")
    assert len(merged.cohort.ids) == 80


def test_own_labels_are_seen(tmp_path: Path) -> None:
    feats = _written(tmp_path / "feats.h5", gaussian_cases(40, 2, 8))
    probe, _ = _study(feats, tmp_path / "probe")
    cases = gaussian_cases(10, 2, 8, seed=5)
    for labels, seen in ((cases.labels, True), ([""] * 20, False), (["other"] * 20, False)):
        path = _written(tmp_path / f"new{seen}.h5", cases, labels, prefix="new-")
        assert has_own_labels(apply_probe(probe, path)) is seen
        path.unlink()


def test_the_intercept_is_what_a_logistic_regression_with_an_offset_finds() -> None:
    rng = np.random.default_rng(3)
    odds = rng.normal(0, 2, 4000)
    hit = (rng.random(4000) < 1 / (1 + np.exp(-(odds - 0.7)))).astype(float)
    chance = 1 / (1 + np.exp(-odds))
    weights = np.vstack([np.ones(4000), rng.multinomial(4000, np.full(4000, 1 / 4000), size=200)])
    found = calibration_intercept(chance, hit, np.arange(4000), weights)
    assert found[0] == pytest.approx(-0.7, abs=0.1)
    assert (1 / (1 + np.exp(-(odds + found[0])))).sum() == pytest.approx(hit.sum(), rel=1e-9)
    assert found[1:].std() == pytest.approx(0.045, rel=0.3)  # 1 / sqrt(sum p (1 - p))


def test_the_command_writes_figures_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feats = _written(tmp_path / "feats.h5", gaussian_cases(40, 2, 8))
    _study(feats, tmp_path / "probe")
    cases = gaussian_cases(40, 2, 8, seed=5)
    new = _written(tmp_path / "new.h5", cases, prefix="new-")
    table = tmp_path / "truth.csv"
    table.write_text("id,label\n" + "".join(f"new-i{k:03},{name}\n" for k, name in enumerate(cases.labels)))
    model, out = str(tmp_path / "probe" / "model.safetensors"), tmp_path / "predict" / "predictions.csv"
    told = {}
    for options in ([], ["--labels", str(table)]):
        assert run(["predict", str(new), "--model", model, "--out", str(out), "--json", *options]) == 0
        told = json.loads(capsys.readouterr().out)["validation"]
        assert told["patients"] == 40 and told["items"] == 80
    rows = list(csv.DictReader((tmp_path / "predict" / "validation.csv").read_text().splitlines()))
    assert {row["metric"] for row in rows} >= {"macro_f1", "auroc", "calibration_slope", "calibration_intercept", "ppv"}
    auroc = next(row for row in rows if row["metric"] == "auroc")
    assert 0.5 < float(auroc["low"]) < float(auroc["value"]) < float(auroc["high"]) < 1 and auroc["study_value"]
    page = (tmp_path / "predict" / "index.html").read_text()
    checked_links(page)
    assert "On 40 patients (80 items) that it was not trained on" in page and "calibration intercept" in page
    assert (tmp_path / "predict" / "figures" / "calibration.svg").is_file()
    items = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["label"] for row in items] == cases.labels
    assert run(["predict", str(new), "--model", model, "--out", str(out)]) == 0
    assert "in the study" in capsys.readouterr().out
    assert run(["predict", str(feats), "--model", model, "--out", str(out), "--label", "label"]) == 3
    assert "28 patients stand in training and in the new cohort" in capsys.readouterr().err
    assert run(["predict", str(feats), "--model", model, "--out", str(out), "--label", "label", "--known", "skip"]) == 0


@pytest.mark.parametrize("only", ["class0", "class1"])
def test_of_one_class_there_is_a_page_too_and_nothing_is_concluded(only: str, tmp_path: Path) -> None:
    page = write_prediction_page(_found(tmp_path), tmp_path / "out", {}, _validated(tmp_path, [only] * 80)).read_text()
    checked_links(page)
    assert "accuracy is the recall of what is there" in page and "as often as predicted" not in page


def test_without_an_interval_calibration_is_not_called_right(tmp_path: Path) -> None:
    names = gaussian_cases(40, 2, 8, seed=5).labels
    few = ["" if k // 2 > 2 else name for k, name in enumerate(names)]
    found = _validated(tmp_path, few, labelling=Labelling(label="label", unmatched="skip"))
    told = calibration_sentences(found)
    assert told and all("too few patients to tell" in line for line in told)
    assert "On 3 patients" in validation_headline(found)


def test_the_threshold_of_the_study_goes_with_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _study(_written(tmp_path / "feats.h5", gaussian_cases(40, 2, 8)), tmp_path / "probe", threshold=0.2)
    model = str(tmp_path / "probe" / "model.safetensors")
    new = _written(tmp_path / "new.h5", gaussian_cases(20, 2, 8, seed=5), prefix="new-")
    found = apply_probe(SavedProbe.load(model), new)
    positive = found.values[:, 1] > 0.2
    assert 0 < (found.values[:, 1] > 0.5).sum() < positive.sum() < len(positive)
    told = {}
    for asked, threshold in (([], 0.2), (["--threshold", "0.5"], 0.5)):
        assert run(["predict", str(new), "--model", model, "-o", str(tmp_path / "out"), "--json", *asked]) == 0
        told = json.loads(capsys.readouterr().out)
        expected = ["class1" if p > threshold else "class0" for p in found.values[:, 1]]
        assert [row["predicted"] for row in told["predictions"]] == expected
        shown = {row["metric"]: row["value"] for row in told["validation"]["estimates"] if row["subgroup"] == "all"}
        assert shown["sensitivity"] == _sensitivity(found, threshold)
    assert validate(found, trained=frozenset()).settings.threshold == 0.2


def _sensitivity(found: Predicted, threshold: float) -> float:
    truth = np.asarray([name == "class1" for name in found.table.meta["label"]])
    return float((found.values[truth, 1] > threshold).mean())


def test_what_an_earlier_run_left_is_not_taken_for_this_one(tmp_path: Path) -> None:
    _study(_written(tmp_path / "feats.h5", gaussian_cases(40, 2, 8)), tmp_path / "probe")
    cases, out = gaussian_cases(10, 2, 8, seed=5), tmp_path / "out"
    labelled = _written(tmp_path / "labelled.h5", cases, prefix="new-")
    others = write_features(tmp_path / "others.h5", [row[None] for row in cases.features], [f"{k}" for k in range(20)])
    model = str(tmp_path / "probe" / "model.safetensors")
    for path in (labelled, others):
        assert run(["predict", str(path), "--model", model, "-o", str(out)]) == 0
    assert sorted(path.name for path in out.rglob("*.*")) == ["index.html", "predictions.csv"]
    (out / "patients.csv").write_text("name,phone\n")
    assert run(["predict", str(others), "--model", model, "-o", str(out)]) == 2
    assert (out / "patients.csv").read_text() == "name,phone\n"


def test_a_class_column_of_a_multiclass_model_has_an_intercept_each(tmp_path: Path) -> None:
    feats = _written(tmp_path / "feats.h5", gaussian_cases(60, 2, 8, classes=3))
    probe, _ = _study(feats, tmp_path / "probe")
    new = _written(tmp_path / "new.h5", gaussian_cases(60, 2, 8, classes=3, seed=5), prefix="new-")
    found = validate(apply_probe(probe, new), settings=FAST)
    assert [row.subgroup for row in found.estimates if row.metric == INTERCEPT] == [f"class=class{k}" for k in range(3)]
