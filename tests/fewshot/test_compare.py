"""Comparisons are paired: same draws, same test patients, the right sign, honest p-values."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from study_cases import gaussian_cases

from umedfeat.errors import CohortError
from umedfeat.fewshot import compare
from umedfeat.fewshot.compare import holm, sign_flip
from umedfeat.fewshot.coverage import covered_differences
from umedfeat.fewshot.metrics.bootstrap import NOTHING, Spread, drawn_variance
from umedfeat.fewshot.metrics.needed import crossing, data_needed
from umedfeat.report.files import comparison_summary, write_comparison
from umedfeat.report.tables import data_needed_sentence, render_comparison

QUICK = {"fractions": (0.1, 0.5, 1.0), "repeats": 5, "classifiers": ("prototype",), "bootstrap": 300}


@pytest.fixture(scope="module")
def comparison():
    cases = gaussian_cases(160, 1, 24, shift=1.6)
    noise = np.random.default_rng(5).normal(size=cases.features.shape).astype(np.float32)
    return compare(
        {"good": cases.features, "poor": cases.features + 1.5 * noise}, cases.labels, cases.patients, **QUICK
    )


def test_draws_and_test_patients_are_the_same(comparison):
    good, poor = comparison.results
    assert good.draws == poor.draws
    for a, b in zip(good.predictions, poor.predictions, strict=True):
        np.testing.assert_array_equal(a.items, b.items)


def test_differences_are_those_of_the_estimates(comparison):
    good, poor = comparison.results
    for row in comparison.differences:
        expected = (
            good.estimate(row.classifier, row.budget, row.metric).value
            - poor.estimate(row.classifier, row.budget, row.metric).value
        )
        assert row.value == pytest.approx(expected, abs=1e-9)
        assert row.low <= row.value <= row.high
        assert row.p_holm >= row.p
    best = next(r for r in comparison.differences if r.metric == "auroc" and r.budget == "50 %")
    assert best.low > 0
    assert best.p < 0.05


def test_what_few_patients_bias_is_not_compared(comparison):
    """ECE and the calibration slope have a difference, but no p that is small by chance as often as it says."""
    metrics = {row.metric for row in comparison.differences}
    assert {"brier", "log_loss"} <= metrics and not metrics & {"ece", "calibration_slope"}
    assert "ece" in {estimate.metric for estimate in comparison.results[0].estimates}


def test_pairing_narrows_the_interval(comparison):
    """Against the interval of two independent samples of test patients."""
    good, poor = comparison.results
    row = next(r for r in comparison.differences if r.metric == "auroc" and r.budget == "10 %")
    widths = [r.estimate("prototype", "10 %", "auroc") for r in (good, poor)]
    alone = np.hypot(*(e.high - e.low for e in widths))
    assert row.high - row.low < alone


def test_an_encoder_against_itself_differs_by_nothing():
    cases = gaussian_cases(40, 1, 6)
    found = compare({"a": cases.features, "b": cases.features.copy()}, cases.labels, cases.patients, **QUICK)
    assert {row.value for row in found.differences} == {0.0}
    assert {row.p for row in found.differences} == {1.0}
    needed = found.data_needed[0]
    assert needed.share <= 1.0
    assert needed.budget in ("10 %", "50 %", "100 %")


def test_how_often_intervals_of_differences_held_is_said_below_them(comparison):
    text = " ".join(render_comparison(comparison).split())
    (kind,) = covered_differences(comparison.differences, "binary")
    assert text.index("Difference to poor") < text.index(kind.sentence)
    assert comparison_summary(comparison)["coverage"] == [kind.described()]


def test_the_verdict_comes_before_the_point_estimate(comparison):
    """Where no budget is surely not worse, a reader of the first words must not take the crossing for the answer."""
    unsure = replace(comparison.data_needed[0], budget="", n_patients=0)
    assert data_needed_sentence(unsure).startswith("good, prototype, test: no budget is surely not worse than poor")


def test_data_needed_is_told(comparison):
    needed = comparison.data_needed[0]
    assert (needed.encoder, needed.baseline, needed.target_budget) == ("good", "poor", "100 %")
    assert needed.low <= needed.share <= needed.high
    assert needed.share < 1
    assert needed.budget in ("10 %", "50 %", "100 %")
    text = render_comparison(comparison)
    verdict = (
        f"good, prototype, test: {needed.budget} ({needed.n_patients} patients) is the smallest budget that is surely"
    )
    assert verdict in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "Difference to poor" in text


def test_output_folder(comparison, tmp_path):
    write_comparison(comparison, tmp_path / "out")
    with (tmp_path / "out" / "differences.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(comparison.differences)
    assert float(rows[0]["value"]) == comparison.differences[0].value
    for name in ("data_needed.csv", "summary.json", "good/results.csv", "poor/methods.txt"):
        assert (tmp_path / "out" / name).is_file()


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_sign_flip_is_uniform_under_the_null_and_never_zero():
    found = [sign_flip(np.random.default_rng(k).normal(size=25), np.random.default_rng(k + 999)) for k in range(300)]
    for level in (0.05, 0.25, 0.5, 0.75):
        assert abs(np.mean(np.asarray(found) <= level) - level) < 0.08
    assert sign_flip(np.full(30, 1.0), np.random.default_rng(0)) == 1 / 2000


def test_p_of_a_difference_counts_whom_one_labels():
    """The mean of eight draws is off by the draws: without that, noise had p ≤ 0.05 far too often, beside an interval
    that held no difference."""
    rng, alone, both = np.random.default_rng(0), 0, 0
    for _ in range(400):
        draws = rng.normal(0, 0.5, 8)
        pseudo = rng.normal(0, 1, 40) + draws.mean()
        alone += sign_flip(pseudo, rng) <= 0.05
        both += sign_flip(pseudo, rng, drawn_variance(draws)) <= 0.05
    assert alone > 36
    assert 8 <= both <= 34  # 20 expected


def test_crossing_is_linear_in_the_logarithm():
    shares, values = np.array([0.01, 0.1, 1.0]), np.array([0.5, 0.7, 0.8])
    assert crossing(shares, values, 0.6) == pytest.approx(10**-1.5)
    assert crossing(shares, values, 0.4) == 0.01
    assert crossing(shares, values, 0.9) == float("inf")


def test_not_worse_needs_the_whole_interval():
    rng = np.random.default_rng(0)
    noise = 0.03 * rng.normal(size=500)
    values, patients = np.array([0.70, 0.76, 0.80]), np.array([2.0, 20.0, 100.0])
    spreads = [Spread(float(np.var(noise - noise[::-1])), 198.0)] * 3
    found = data_needed(values, values[:, None] + noise, 0.75, 0.75 + noise[::-1], patients, 0.02, 0.95, spreads)
    assert found.place is None  # 0.80 ± 0.083 against 0.73: not sure
    paired = data_needed(values, values[:, None] + noise, 0.75, 0.75 + noise, patients, 0.02, 0.95, [NOTHING] * 3)
    assert paired.place == 1
    assert 0.02 < paired.share < 0.2


def test_wrong_names():
    cases = gaussian_cases(20, 1, 6)
    with pytest.raises(CohortError, match="two encoders or more"):
        compare({"a": cases.features}, cases.labels)
    with pytest.raises(CohortError, match="baseline 'c' is none of a, b"):
        compare({"a": cases.features, "b": cases.features}, cases.labels, baseline="c")
