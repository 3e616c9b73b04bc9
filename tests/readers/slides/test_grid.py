"""Slide arithmetic: exact, driftless, inside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umedfeat.readers.slides.grid import MicronsPerPixel, choose_level, tile_grid, true_downsamples


def grid(width: int, height: int, mpp: float, target: float = 0.5, tile: int = 224, overlap: int = 0):  # type: ignore[no-untyped-def]
    scale = MicronsPerPixel(mpp)
    return tile_grid(width, height, (scale, scale), MicronsPerPixel(target), tile, overlap)


@pytest.mark.parametrize("mpp", [0.2520, 0.265, 0.4990, 0.5])
def test_a_tile_covers_exactly_112_micrometres(mpp: float) -> None:
    assert grid(50_000, 50_000, mpp).extent_x * mpp == pytest.approx(112.0, abs=1e-9)


@pytest.mark.parametrize(
    ("wanted", "level"), [(1.0, 0), (1.98, 0), (2.0, 1), (3.99, 2), (4.0, 2), (15.0, 2), (17.0, 3), (0.5, 0)]
)
def test_the_coarsest_level_that_is_fine_enough(wanted: float, level: int) -> None:
    assert choose_level([1.0, 2.0001, 4.0003, 16.002], wanted) == level


@given(
    width=st.integers(1, 60_000),
    height=st.integers(1, 1_000),
    mpp=st.floats(0.1, 0.5),
    tile=st.integers(32, 512),
    overlap=st.integers(0, 15),
)
def test_tiles_lie_inside_and_none_is_missing(width: int, height: int, mpp: float, tile: int, overlap: int) -> None:
    g = grid(width, height, mpp, tile=tile, overlap=overlap)
    x, y = g.corners()
    assert len(x) == len(y) == g.rows * g.columns
    if len(x):
        assert x.max() + g.extent_x <= width + 1
        assert y.max() + g.extent_y <= height + 1
    assert g.columns * g.step_x + g.extent_x > width - 0.5 or not g.extent_x <= width
    if len(x):
        assert np.abs(x[: g.columns] - np.arange(g.columns) * g.step_x).max() <= 0.5


def test_row_major_without_drift() -> None:
    g = grid(100_000, 2_000, 0.2520)
    x, y = g.corners()
    assert list(y[: g.columns]) == [0] * g.columns
    assert x[g.columns - 1] == round((g.columns - 1) * 224 * 0.5 / 0.2520)


def test_overlap_brings_neighbours_closer() -> None:
    assert grid(10_000, 10_000, 0.5, overlap=24).step_x == 200


@given(
    width=st.integers(5_000, 200_000),
    height=st.integers(5_000, 200_000),
    factor=st.sampled_from([2, 4]),
    steps=st.integers(1, 4),
    up=st.booleans(),
)
def test_levels_cut_to_whole_pixels_keep_their_whole_factor(
    width: int, height: int, factor: int, steps: int, up: bool
) -> None:
    """Each level is floor (or ceiling) of the one before, as scanners and converters write them."""
    levels = [(width, height)]
    for _ in range(steps):
        levels.append(tuple(-(-side // factor) if up else side // factor for side in levels[-1]))  # type: ignore[arg-type]
    assert min(levels[-1]) > 0
    assert true_downsamples(levels) == tuple(float(factor**k) for k in range(steps + 1))


def test_levels_of_no_whole_factor_keep_their_ratio() -> None:
    assert true_downsamples([(40_000, 30_000), (16_000, 12_000)]) == (1.0, 2.5)
    assert true_downsamples([(1000, 1000), (430, 430)], [1.0, 2.33]) == (1.0, 2.33)
