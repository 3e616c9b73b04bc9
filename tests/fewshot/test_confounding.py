"""What is no picture and tells the label is said; the baseline without pictures shows how much."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_cases import gaussian_cases, write_features

from umedfeat.cli import run
from umedfeat.errors import CohortError
from umedfeat.fewshot import ProbeSettings, probe
from umedfeat.fewshot.cohort.sources import cohort_of, label_items
from umedfeat.fewshot.cohort.table import read_table
from umedfeat.fewshot.files import origin_of, probe_cohort

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


def test_the_command_shows_it(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "-f", str(features), "--fraction", "1", "--baseline", "trivial"]) == 0
    assert "trivial" in capsys.readouterr().out
    page = (features.parent / "probe" / "report.html").read_text(encoding="utf-8")
    assert "<td>trivial</td>" in page and "trivial baseline" in page


def test_arrays_have_no_files() -> None:
    cases = gaussian_cases(20, 1, 4)
    with pytest.raises(CohortError, match="needs a feature file"):
        probe(cases.features, cases.labels, baseline="trivial", **QUICK)
