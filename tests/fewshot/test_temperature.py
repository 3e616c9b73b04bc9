"""Temperature scaling: the best one is found, ranks stay, and it is chosen without the test."""

from __future__ import annotations

import numpy as np
import pytest
from study_cases import gaussian_cases

from umedfeat.fewshot import probe
from umedfeat.fewshot.classifiers.temperature import fitted_temperature, tempered

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_them_is_found(true: float, labels: bool) -> None:
    odds = RNG.normal(size=(20_000, 3)) * 2
    if labels:
        chances = 1 / (1 + np.exp(-odds))
        targets = (RNG.random(chances.shape) < tempered(chances, true, labels=True)).astype(np.float64)
    else:
        chances = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        right = tempered(chances, true)
        targets = np.eye(3)[(RNG.random(len(right))[:, None] > right.cumsum(axis=1)).sum(axis=1)]
    assert fitted_temperature(chances, targets, labels=labels) == pytest.approx(true, rel=0.06)


def test_tempered_chances_are_chances_and_absent_classes_stay_absent() -> None:
    chances = np.array([[0.0, 0.2, 0.8], [0.0, 1.0, 0.0], [0.0, 1e-300, 1.0]])
    for temperature in (0.02, 1.0, 50.0):
        found = tempered(chances, temperature)
        assert np.isfinite(found).all() and found.sum(axis=1) == pytest.approx([1, 1, 1])
        assert (found[:, 0] == 0).all()
    assert tempered(chances, 1.0)[:2] == pytest.approx(chances[:2])


def test_calibrated_probabilities_lose_less_and_rank_the_same() -> None:
    cases = gaussian_cases(240, 1, 20, shift=1.0, seed=3)
    options = {"fractions": (1.0,), "bootstrap": 100}
    plain = probe(cases.features, cases.labels, cases.patients, **options)  # type: ignore[arg-type]
    tempered_ = probe(cases.features, cases.labels, cases.patients, calibrate=True, **options)  # type: ignore[arg-type]
    for name in ("linear", "knn", "prototype"):
        before, after = (result.estimate(name, "100 %", "auroc").value for result in (plain, tempered_))
        assert after == pytest.approx(before, abs=1e-3)
    losses = [result.estimate("prototype", "100 %", "log_loss").value for result in (plain, tempered_)]
    assert losses[1] < losses[0]
    assert "T=" in tempered_.predictions[0].chosen[0]


def test_too_few_patients_are_left_as_they_are() -> None:
    cases = gaussian_cases(40, 1, 6)
    options = {"shots": (2,), "repeats": 2, "bootstrap": 100, "classifiers": ("linear",)}
    plain = probe(cases.features, cases.labels, cases.patients, **options)  # type: ignore[arg-type]
    asked = probe(cases.features, cases.labels, cases.patients, calibrate=True, **options)  # type: ignore[arg-type]
    assert np.array_equal(plain.predictions[0].values, asked.predictions[0].values)
    assert "too few" in asked.predictions[0].chosen[0]


def test_ece_by_hand() -> None:
    from umedfeat.fewshot.metrics.operating import expected_calibration_error

    chance = np.repeat([0.1, 0.9], 10)
    hit = np.r_[np.ones(3), np.zeros(7), np.ones(9), 0]
    both = np.stack([1 - chance, chance], axis=1)
    found = expected_calibration_error(both, np.stack([1 - hit, hit], axis=1), np.arange(20), np.ones((1, 20)))
    assert found[0] == pytest.approx(0.5 * 0.2 + 0.5 * 0.0)
