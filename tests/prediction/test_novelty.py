"""The false-alarm rate of "unlike the training data" holds, and what is unlike is found."""

from __future__ import annotations

import numpy as np
import pytest

from umedfeat.prediction.novelty import Novelty


def _patients(rng: np.random.Generator, count: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """1 to 4 correlated items of each patient, heavy-tailed features."""
    sizes = rng.integers(1, 5, count)
    owner = np.repeat(np.arange(count), sizes)
    centre = rng.standard_t(4, (count, 24))
    rows = centre[owner] + 0.5 * rng.normal(size=(len(owner), 24))
    rows[:, 0] += shift
    return rows.astype(np.float32), owner


@pytest.mark.parametrize("count", [25, 40, 120])
def test_the_false_alarm_rate_holds_whatever_the_distribution(count: int) -> None:
    rng = np.random.default_rng(count)
    flagged = []
    for study in range(150):
        rows, owner = _patients(rng, count + 40)
        training = owner < count
        novelty = Novelty.of(rows[training], owner[training], seed=study)
        assert novelty.can_flag()
        fresh, new_owner = rows[~training], owner[~training]
        first = np.unique(new_owner, return_index=True)[1]
        flagged.append((novelty.p_values(fresh[first]) <= 0.05).mean())
    # 5 %, less the coarseness of 1 / (1 + C); the mean over studies is known to about half a percent
    assert 0.02 < np.mean(flagged) < 0.06


def test_what_is_unlike_is_flagged() -> None:
    rng = np.random.default_rng(0)
    rows, owner = _patients(rng, 100)
    novelty = Novelty.of(rows, owner, seed=0)
    strange = rng.normal(size=(50, 24)) * 0.3
    strange[:, 0] += 40
    assert (novelty.p_values(strange.astype(np.float32)) <= 0.05).mean() > 0.9


def test_few_patients_never_flag() -> None:
    rows, owner = _patients(np.random.default_rng(1), 18)
    novelty = Novelty.of(rows, owner, seed=0)
    assert not novelty.can_flag()
    assert (novelty.p_values(rows * 0 + 1000) > 0.05).all()
