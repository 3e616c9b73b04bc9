"""A short version of ``benchmarks/probe_calibration.py``: known truth, unbiased estimates, intervals that cover."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from umedfeat.fewshot.coverage import OF_CLASSES
from umedfeat.fewshot.metrics.bootstrap import interval, patient_weights
from umedfeat.fewshot.metrics.metrics import METRICS, Evaluated, measure

STUDIES = 300
PAGES = Path(__file__).parents[2] / "benchmarks"
#: Kind of interval → page, first cells of its rows, column of the share of studies whose interval held the truth.
TABLES = {
    "patients and draws": ("probe.md", r"[0-9]+ test patients, [^|]*\| 10 %", 6),
    "patients": ("probe.md", r"[0-9]+ test patients, [^|]*\| 100 %", 6),
    "drop": ("probe.md", "drop, ", 6),
    "difference": ("probe.md", "difference, ", 6),
    "folds": ("few_labels.md", "[0-9]+:[0-9]+ ", 6),
}


@pytest.mark.parametrize("kind", TABLES)
def test_what_is_said_of_intervals_is_what_the_tables_show(kind):
    """A table that is measured anew takes the sentences along."""
    page, begins, column = TABLES[kind]
    rows = [row.split("|") for row in (PAGES / page).read_text().splitlines() if re.match(rf"\| {begins}", row)]
    shares = [float(row[column].strip().removesuffix("%")) for row in rows]
    told = OF_CLASSES[kind]
    assert len(shares) >= 10
    assert (told.low, told.high) == (round(min(shares)), round(max(shares)))


@pytest.mark.parametrize(
    ("low", "high", "end"),
    [
        (94, 97, "held the truth."),
        (94, 99, "a real difference may hide in them."),
        (92, 97, "some are too narrow."),
        (92, 99, "some are too narrow, others too wide."),
    ],
)
def test_both_ways_to_be_wrong_are_said(low, high, end):
    assert OF_CLASSES["folds"]._replace(low=low, high=high).sentence.endswith(end)


@pytest.mark.parametrize(("patients", "distance"), [(24, 1.5), (20, 2.6), (80, 1.0)])
def test_intervals_cover_the_closed_form_truth(patients, distance):
    """Patients with 1 to 4 items that share half the variance of a Gaussian score."""
    truth = {"auroc": norm.cdf(distance / np.sqrt(2)), "balanced_accuracy": norm.cdf(distance / 2)}
    inside = dict.fromkeys(truth, 0)
    errors = {name: [] for name in truth}
    stratum = np.arange(patients) % 2
    for seed in range(STUDIES):
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
        noise = (rng.normal(size=patients)[patient] + rng.normal(size=len(patient))) / np.sqrt(2)
        chance = 1 / (1 + np.exp(-(noise + distance * (stratum[patient] - 0.5))))
        weights = np.vstack([np.ones((1, patients)), patient_weights(stratum, 200, rng)])
        found = measure(Evaluated("binary", stratum[patient], np.stack([1 - chance, chance], axis=1), patient), weights)
        for name, expected in truth.items():
            value = found[name][0]
            bounds = interval(value, found[name][1:], METRICS[name], stratum, 0.95)
            inside[name] += bounds.low <= expected <= bounds.high
            errors[name].append(value - expected)
    for name in truth:
        assert 0.915 <= inside[name] / STUDIES <= 0.99, name
        assert abs(np.mean(errors[name])) < 4 * np.std(errors[name]) / np.sqrt(STUDIES), name


@pytest.mark.parametrize("name", ["auroc", "auprc", "accuracy"])
def test_perfect_predictions_are_not_certain(name):
    """Rank metrics are summed in float32: resampled values of 0.9999999 are no spread."""
    rng = np.random.default_rng(0)
    stratum, patient = np.arange(14) % 2, np.repeat(np.arange(14), 2)
    chance = 0.1 + 0.2 * rng.random(28) + 0.6 * stratum[patient]
    weights = np.vstack([np.ones((1, 14)), patient_weights(stratum, 500, rng)])
    found = measure(Evaluated("binary", stratum[patient], np.stack([1 - chance, chance], axis=1), patient), weights)
    bounds = interval(found[name][0], found[name][1:], METRICS[name], stratum, 0.95)
    assert bounds.kind == "exact bound"
    assert bounds.low == pytest.approx(0.025 ** (1 / 14), abs=1e-6)
    assert bounds.high == 1


def test_perfect_results_get_an_exact_bound():
    """All 12 + 12 right: [1, 1] would claim certainty."""
    stratum = np.arange(24) % 2
    bounds = interval(1.0, np.ones(200), METRICS["balanced_accuracy"], stratum, 0.95)
    assert bounds.kind == "exact bound"
    assert bounds.low == pytest.approx(0.025 ** (1 / 24), abs=1e-6)
    assert bounds.high == 1.0


def test_the_bound_of_a_perfect_result_hides_errors_in_the_rare_class():
    """3 + 97 patients: three right ones say little about a half of the macro-average."""
    stratum = np.array([0] * 3 + [1] * 97)
    found = 1 - interval(1.0, np.ones(200), METRICS["balanced_accuracy"], stratum, 0.95).low
    rare = np.linspace(0, 1 - 0.025 ** (1 / 3), 2000)  # every split of what is possible between the two classes
    common = 1 - (0.025 / (1 - rare) ** 3) ** (1 / 97)
    assert found == pytest.approx(float(((rare + common) / 2).max()), abs=1e-4)
    assert found > 0.35


def test_r_squared_stays_below_one_and_is_covered():
    """Truth 0.6: value = signal + noise, predicted by the signal itself; 40 patients."""
    inside = 0
    for seed in range(STUDIES):
        rng = np.random.default_rng(seed)
        signal, noise = rng.normal(size=40) * 0.6**0.5, rng.normal(size=40) * 0.4**0.5
        weights = np.vstack([np.ones((1, 40)), patient_weights(np.zeros(40, int), 200, rng)])
        found = measure(Evaluated("regression", signal + noise, signal[:, None], np.arange(40)), weights)["r2"]
        bounds = interval(found[0], found[1:], METRICS["r2"], np.zeros(40, int), 0.95)
        inside += bounds.low <= 0.6 <= bounds.high
    assert 0.9 <= inside / STUDIES <= 0.99
    assert interval(0.99, 0.99 - np.linspace(0, 0.1, 200), METRICS["r2"], np.zeros(9, int), 0.95).high < 1
    for spread in (3.0, 1e6):  # of six patients bounds went down to -1e50, or to minus infinity
        assert interval(0.6, 0.6 - np.linspace(0, spread, 200), METRICS["r2"], np.zeros(6, int), 0.95).kind == ""


def test_no_interval_without_spread_or_patients():
    assert interval(0.7, np.full(200, 0.7), METRICS["accuracy"], np.zeros(9, int), 0.95).kind == ""
    assert interval(float("nan"), np.full(200, np.nan), METRICS["auroc"], np.zeros(9, int), 0.95).kind == ""
    assert interval(0.7, np.linspace(0.6, 0.8, 200), METRICS["auroc"], np.arange(2), 0.95).kind == ""
