"""Survival: the objective, the concordance and the curves are scikit-survival's; a study finds what is there."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_cases import write_features

from umedfeat.cli import run
from umedfeat.errors import CohortError
from umedfeat.fewshot import probe
from umedfeat.fewshot.classifiers.cox import CoxProbe
from umedfeat.fewshot.cohort.labels import encode
from umedfeat.fewshot.metrics.concordance import concordance, kaplan_meier
from umedfeat.report.methods import methods_text
from umedfeat.report.study_page import render_report


def cases(n: int = 120, dim: int = 10, strength: float = 1.5, seed: int = 0) -> tuple[Any, Any]:
    """(n, D) features whose first one drives the hazard; (n, 2) times (with ties) and events."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, dim)).astype(np.float32)
    times = rng.exponential(np.exp(-strength * rows[:, 0]))
    censored = rng.exponential(2.0, size=n)
    seen = times <= censored
    return rows, np.stack([np.ceil(np.minimum(times, censored) * 20) / 20, seen], axis=1)


@pytest.mark.parametrize("dim", [5, 60])
def test_coefficients_are_those_of_scikit_survival(dim: int) -> None:
    linear_model = pytest.importorskip("sksurv.linear_model")
    from sksurv.util import Surv

    rows, outcome = cases(40, dim)
    model = CoxProbe(penalties=(0.5,), fixed=0.5).fit(rows, outcome)
    scaled = model.scaler_.apply(rows)
    oracle = linear_model.CoxPHSurvivalAnalysis(alpha=0.5, ties="breslow", tol=1e-12)
    oracle.fit(scaled, Surv.from_arrays(outcome[:, 1] > 0, outcome[:, 0]))
    assert model.coef_ == pytest.approx(oracle.coef_, abs=2e-3)


def test_concordance_is_that_of_scikit_survival() -> None:
    metrics = pytest.importorskip("sksurv.metrics")
    rng = np.random.default_rng(1)
    for _ in range(20):
        _, outcome = cases(30, seed=int(rng.integers(1e6)))
        risk = np.round(rng.normal(size=30), 1)
        expected = metrics.concordance_index_censored(outcome[:, 1] > 0, outcome[:, 0], risk)[0]
        assert concordance(outcome, risk, np.arange(30), np.ones((1, 30)))[0] == pytest.approx(expected)


def test_weights_are_copies_of_patients() -> None:
    _, outcome = cases(12)
    risk = np.random.default_rng(2).normal(size=12)
    counts = np.array([3, 1, 0, 2, 1, 1, 1, 2, 0, 1, 1, 1])
    copied = np.repeat(np.arange(12), counts)
    expected = concordance(outcome[copied], risk[copied], np.arange(len(copied)), np.ones((1, len(copied))))
    # a copy of a patient is no pair with itself: same time, both seen or both not
    assert concordance(outcome, risk, np.arange(12), counts[None].astype(float))[0] == pytest.approx(expected[0])
    by_patient = concordance(outcome[copied], risk[copied], copied, np.ones((1, 12)))
    assert by_patient[0] == pytest.approx(expected[0])


def test_kaplan_meier_is_that_of_scikit_survival() -> None:
    nonparametric = pytest.importorskip("sksurv.nonparametric")
    _, outcome = cases(50)
    at, share = kaplan_meier(outcome[:, 0], outcome[:, 1] > 0)
    times, expected = nonparametric.kaplan_meier_estimator(outcome[:, 1] > 0, outcome[:, 0])
    assert at[1:] == pytest.approx(times) and share[1:] == pytest.approx(expected)


def test_a_study_finds_the_risk_and_noise_stays_at_chance() -> None:
    rows, outcome = cases(160)
    result = probe(rows, outcome, task="survival", fractions=(0.1, 1.0), repeats=3, bootstrap=200, sanity=5)
    row = result.estimate("linear", "100 %", "c_index")
    assert row.value > 0.65 and row.low < row.value < row.high
    assert result.sanity[0].chance == 0.5 and result.sanity[0].passed
    assert any("knn, prototype" in warning for warning in result.warnings)
    noise = probe(
        np.random.default_rng(3).normal(size=(160, 10)), outcome, task="survival", fractions=(1.0,), bootstrap=200
    )
    row = noise.estimate("linear", "100 %", "c_index")
    assert row.low < 0.5 < row.high
    page = render_report(result)
    assert "Kaplan-Meier" in page and "higher predicted risk" in page and "with event" in page
    assert "Cox regression" in methods_text(result) and "chance 0.5" in page


def test_files_name_time_and_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, outcome = cases(60)
    meta = {
        "months": [f"{time:g}" for time in outcome[:, 0]],
        "dead": ["yes" if seen else "no" for seen in outcome[:, 1]],
    }
    names = [f"{k}.png" for k in range(60)]
    path = write_features(
        tmp_path / "f.h5", list(rows[:, None]), names, meta=meta, patients=[f"p{k}" for k in range(60)]
    )
    arguments = [
        "probe",
        "-f",
        str(path),
        "--label",
        "months",
        "--event",
        "dead",
        "--fraction",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert run(arguments) == 0
    assert "C-index" in capsys.readouterr().out
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert {"log_hazard", "truth"} <= set(found[0]) and any(row["truth"].endswith("+") for row in found)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (np.array([[0.0, 1.0]] * 8), "above 0"),
        (np.array([[1.0, 2.0]] * 8), "1 \\(seen\\) or 0"),
        (np.array([[1.0, 0.0]] * 8), "'with event' has 0 patients"),
        (np.ones((8, 3)), "shape"),
    ],
)
def test_outcomes_that_are_none_are_refused(outcome: Any, said: str) -> None:
    with pytest.raises(CohortError, match=said):
        probe(np.random.default_rng(0).normal(size=(8, 3)), outcome, task="survival", fractions=(1.0,))


def test_one_patient_has_one_outcome() -> None:
    rows, outcome = cases(20)
    with pytest.raises(CohortError, match="different times or events"):
        probe(rows, outcome, [f"p{k // 2}" for k in range(20)], task="survival", fractions=(1.0,))


@pytest.mark.parametrize("censored", [0, 1])
def test_nobody_need_be_censored(censored: int) -> None:
    rows, outcome = cases(40)
    outcome[:, 1] = 1
    outcome[:censored, 1] = 0
    result = probe(rows, outcome, task="survival", fractions=(0.01, 1.0), repeats=2, bootstrap=100)
    assert result.estimate("linear", "100 %", "c_index").value > 0.6
    assert result.budgets[0].n_patients == 2


def test_events_may_be_written_as_numbers() -> None:
    texts = [f"{k + 1};{event}" for k, event in enumerate(["1.0", "0.0", "1", "yes"])]
    assert encode(texts, "survival").truth[:, 1].tolist() == [1, 0, 1, 1]
