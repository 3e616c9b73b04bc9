"""Items far from the others: distances to other patients alone, and few false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from umedfeat.prediction import outliers
from umedfeat.prediction.outliers import far_out, loneliness


def test_an_item_is_compared_with_other_patients_only() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 8)).astype(np.float32)
    patients = np.array([f"p{k // 2}" for k in range(60)])
    rows[:6] = rows[0] + 50 + rng.normal(size=(6, 8), scale=0.01)  # six copies far away: of one patient, or of nobody
    patients[:6] = "p0"
    assert far_out(loneliness(rows, patients))[:6].all() and far_out(loneliness(rows, patients)).sum() == 6
    patients[:6] = ""
    assert not far_out(loneliness(rows, patients)).any()


def test_distances_are_exact_and_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 3)).astype(np.float32) + 100
    patients = np.array([f"p{k % 7}" for k in range(40)])
    expected = [
        np.sort([np.linalg.norm(rows[k] - rows[j]) for j in range(40) if patients[j] != patients[k]])[:5].mean()
        for k in range(40)
    ]
    assert np.allclose(loneliness(rows, patients), expected, atol=1e-4)
    monkeypatch.setattr(outliers, "_BLOCK_ROWS", 7)
    assert np.allclose(loneliness(rows, patients), expected, atol=1e-4)


def test_ordinary_cohorts_hold_few() -> None:
    """Of Gaussian items, in any number of dimensions, hardly any is called far out; of few items none."""
    rng = np.random.default_rng(2)
    for dim in (4, 64, 512):
        rows = rng.normal(size=(1500, dim)).astype(np.float32)
        patients = np.array([f"p{k}" for k in range(1500)])
        assert far_out(loneliness(rows, patients)).mean() < 0.002
    assert not far_out(np.array([1.0] * 18 + [1000.0])).any()
