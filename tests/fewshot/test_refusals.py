"""What the command refuses, Python refuses; shapes and names that do not go together are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_cases import gaussian_cases, write_features

from umedfeat.cli import run
from umedfeat.errors import CohortError, SetupError
from umedfeat.fewshot import ProbeSettings, probe

CASES = gaussian_cases(12, 1, 4)

BOTH: list[tuple[dict[str, Any], list[str]]] = [
    ({"classifiers": ("svm",)}, ["--classifier", "svm"]),
    ({"shots": (0,)}, ["--shots", "0"]),
    ({"fractions": (1.5,)}, ["--fraction", "1.5"]),
    ({"fractions": (0.0,)}, ["--fraction", "0"]),
    ({"repeats": 0}, ["--repeats", "0"]),
    ({"task": "magic"}, ["--task", "magic"]),
    ({"unit": "cell"}, ["--unit", "cell"]),
    ({"pool": "sum"}, ["--pool", "sum"]),
    ({"test_size": 1.0}, ["--test-size", "1"]),
    ({"threshold": 0.0}, ["--threshold", "0"]),
    ({"cv": 1}, ["--cv", "1"]),
    ({"cv_repeats": 0}, ["--cv-repeats", "0"]),
    ({"bootstrap": 99}, ["--bootstrap", "99"]),
    ({"seed": -1}, ["--seed", "-1"]),
    ({"label_of": "tile"}, ["--label-of", "tile"]),
    ({"on_missing_class": "guess"}, ["--on-missing-class", "guess"]),
    ({"cv": 3, "external": "centre=B"}, ["--cv", "3", "--external", "centre=B"]),
    ({"cv": 3, "test_size": 0.2}, ["--cv", "3", "--test-size", "0.2"]),
    ({"fractions": (0.5,), "shots": (2,)}, ["--fraction", "0.5", "--shots", "2"]),
    ({"train": "centre=A"}, ["--train", "centre=A"]),
]


@pytest.mark.parametrize(("options", "arguments"), BOTH, ids=lambda case: " ".join(map(str, case)))
def test_python_refuses_what_the_command_refuses(
    options: dict[str, Any], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SetupError):
        ProbeSettings(**options)
    monkeypatch.chdir(tmp_path)
    write_features(tmp_path / "feats.h5", list(CASES.features[:, None]), [f"{k}.png" for k in range(12)])
    assert run(["probe", *arguments]) == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": CASES.labels[:-1]}, "11 labels for 12"),
        ({"groups": CASES.patients[:-1]}, "11 groups for 12"),
        ({"ids": ["a"] * 12}, "'a' among them"),
        ({"ids": ["a"]}, "1 ids for 12"),
        ({"meta": {"sex": ["f"] * 3}}, "3 sex for 12"),
    ],
)
def test_columns_that_do_not_go_with_the_rows_are_named(changed: dict[str, Any], said: str) -> None:
    arguments = {"labels": CASES.labels, "groups": CASES.patients} | changed
    with pytest.raises(CohortError, match=said):
        probe(CASES.features, **arguments, settings=ProbeSettings(fractions=(1.0,), bootstrap=100))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_features_of_any_scale_are_studied(scale: float) -> None:
    cases = gaussian_cases(30, 1, 6, shift=3.0)
    settings = ProbeSettings(fractions=(1.0,), bootstrap=100)
    usual = probe(cases.features, cases.labels, cases.patients, settings=settings)
    scaled = probe(
        cases.features.astype(np.float32) * np.float32(scale), cases.labels, cases.patients, settings=settings
    )
    for a, b in zip(usual.predictions, scaled.predictions, strict=True):
        assert np.allclose(a.values, b.values, atol=0.02), a.classifier


def test_shots_alone_are_enough() -> None:
    assert ProbeSettings(shots=(2,)).fractions == ()
