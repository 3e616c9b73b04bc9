"""Annotations of many objects: one pass over all, in bounded memory, the same pixels as one by one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umedfeat.readers.slides import polygons
from umedfeat.readers.slides.polygons import fill_polygon, fill_polygons


@given(st.integers(0, 2**32 - 1))
def test_all_at_once_is_the_union_of_each(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    many = [
        [rng.uniform(-10, 50, (rng.integers(3, 9), 2)) for _ in range(rng.integers(1, 4))]
        for _ in range(rng.integers(1, 6))
    ]
    union = np.logical_or.reduce([fill_polygon(polygon, shape) for polygon in many])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polygons, "_MOST_CROSSINGS", 20)
        assert np.array_equal(fill_polygons(many, shape), union)


def test_holes_of_one_do_not_cut_into_another() -> None:
    square = np.array([[0.0, 0], [8, 0], [8, 8], [0, 8]])
    hole = np.array([[2.0, 2], [6, 2], [6, 6], [2, 6]])
    assert fill_polygons([[square, hole], [hole]], (8, 8)).all()


def test_a_long_outline_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 points across the whole mask would be 30 million crossings, several GB at once."""
    monkeypatch.setattr(polygons, "_MOST_CROSSINGS", 200_000)
    ring = np.random.default_rng(0).uniform(0, 300, (20_000, 2))
    tracemalloc.start()
    fill_polygon([ring], (300, 300))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
