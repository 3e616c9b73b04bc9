"""What is no picture and tells the label is said; the baseline without pictures shows how much."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from study_cases import gaussian_cases, write_features

from umedfeat.cli import run
from umedfeat.contract import Source
from umedfeat.engine.local.worker import plan_source
from umedfeat.engine.messages import Job
from umedfeat.errors import CohortError
from umedfeat.fewshot import ProbeSettings, probe
from umedfeat.fewshot.cohort.sources import cohort_of, label_items
from umedfeat.fewshot.cohort.table import read_table
from umedfeat.fewshot.files import origin_of, probe_cohort, probe_file
from umedfeat.policy import ImagePolicy, Policy
from umedfeat.report.methods import methods_text

QUICK: dict[str, Any] = {"fractions": (1.0,), "bootstrap": 100, "classifiers": ("prototype",)}


def noted(column: list[str]) -> list[str]:
    cases = gaussian_cases(80, 1, 6)
    result = probe(cases.features, cases.labels, cases.patients, meta={"machine": column}, subgroups=(), **QUICK)
    return [warning for warning in result.warnings if "goes with the label" in warning]


def test_a_column_that_tells_the_label_is_pointed_out() -> None:
    labels = gaussian_cases(80, 1, 6).codes
    rng = np.random.default_rng(0)
    mostly = np.where(rng.random(80) < 0.9, labels, 1 - labels)
    assert "machine goes with the label" in noted([f"scanner {k}" for k in mostly])[0]
    assert noted([f"{2000 + 10 * k + rng.random():.3f}" for k in labels])


def test_a_column_that_does_not_is_not() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(20):
        alarms += bool(noted([f"scanner {k}" for k in rng.integers(0, 4, 80)]))
        alarms += bool(noted([f"{value:.4f}" for value in rng.normal(size=80)]))
    assert alarms <= 1
    assert not noted([f"name {k}" for k in range(80)])


@pytest.fixture
def features(tmp_path: Path) -> Path:
    cases = gaussian_cases(60, 1, 8, shift=2.0)
    names = [f"{label}/{k}.png" for k, label in enumerate(cases.labels)]
    return write_features(tmp_path / "feats.h5", list(cases.features[:, None]), names, patients=cases.patients)


def test_the_baseline_finds_what_sizes_tell_and_shares_draws(features: Path) -> None:
    settings = ProbeSettings(fractions=(0.5, 1.0), repeats=3, bootstrap=100, baseline="trivial")
    table = read_table(features)
    labelled = label_items(table)
    plain = cohort_of(table, labelled, settings)
    told = np.where(np.asarray(plain.truth) == 1, "512", "256")
    for facts, low, high in ((plain.facts, 0.5, 0.5), ({**plain.facts, "image width": told}, 1.0, 1.0)):
        cohort = dataclasses.replace(plain, facts=facts)
        result = probe_cohort(cohort, settings, origin_of(table, table.encoder, labelled.name, ""))
        row = result.estimate("trivial", "100 %", "balanced_accuracy")
        assert low <= row.value <= high
        assert {part.classifier for part in result.predictions} == {"linear", "knn", "prototype", "trivial"}
        parts = {part.classifier: part for part in result.predictions if part.budget == "50 %"}
        assert np.array_equal(parts["linear"].items, parts["trivial"].items)
        assert np.array_equal(parts["linear"].n_train_patients, parts["trivial"].n_train_patients)
    assert any("image width goes with the label" in warning for warning in result.warnings)


def test_the_baseline_finds_what_brightness_tells_and_it_is_no_note(tmp_path: Path) -> None:
    """A darker class: no encoder is needed to tell it, and a film that is darker may be what the label is about."""
    cases = gaussian_cases(60, 1, 8)
    names = [f"{label}/{k}.png" for k, label in enumerate(cases.labels)]
    tones = [(0.3 + 0.2 * code + 0.01 * (k % 7), 0.2) for k, code in enumerate(cases.codes)]
    rows = list(cases.features[:, None])
    path = write_features(tmp_path / "feats.h5", rows, names, patients=cases.patients, tones=tones)
    settings = ProbeSettings(fractions=(1.0,), bootstrap=100, baseline="trivial")
    result = probe_file(path, settings=settings)
    assert result.estimate("trivial", "100 %", "balanced_accuracy").value == 1.0
    assert not [warning for warning in result.warnings if "goes with the label" in warning]
    assert "mean intensity, contrast" in methods_text(result)


def test_brightness_is_noted_where_each_item_is_one_picture(tmp_path: Path) -> None:
    """Mean and standard deviation of what the encoder sees, from 0 to 1."""
    found = []
    for black in (20, 10):
        path = tmp_path / f"{black}.png"
        Image.fromarray(np.repeat(np.where(np.arange(40) < black, 0, 255), 40).reshape(40, 40).astype(np.uint8)).save(
            path
        )
        source = Source(path.stem, "raster", path, (path,), path.name)
        plan = plan_source(Job(0, source, read=True), Policy(image=ImagePolicy(size=40))).plan
        assert plan is not None
        found.append(plan.detail["tone"])
    assert found == [{"mean": 0.5, "contrast": 0.5}, {"mean": 0.75, "contrast": 0.433}]


def test_the_command_shows_it(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "-f", str(features), "--fraction", "1", "--baseline", "trivial"]) == 0
    assert "trivial" in capsys.readouterr().out
    page = (features.parent / "probe" / "report.html").read_text(encoding="utf-8")
    assert "<td>trivial</td>" in page and "trivial baseline" in page


def test_arrays_have_no_files() -> None:
    cases = gaussian_cases(20, 1, 4)
    with pytest.raises(CohortError, match="needs a feature file"):
        probe(cases.features, cases.labels, baseline="trivial", **QUICK)
