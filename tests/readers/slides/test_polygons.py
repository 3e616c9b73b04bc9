"""Polygons and masks turn into each other without loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from umedfeat.readers.slides.polygons import fill_polygon, trace_polygons


def _area(ring: npt.NDArray[np.float64]) -> float:
    x, y = ring.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def test_rectangle_with_fractional_corners_takes_the_pixels_whose_centre_it_holds() -> None:
    mask = fill_polygon([np.array([[1.4, 0.6], [4.6, 0.6], [4.6, 2.4], [1.4, 2.4]])], (4, 6))
    assert np.argwhere(mask).tolist() == [[1, 1], [1, 2], [1, 3], [1, 4]]


def test_hole_is_left_out() -> None:
    outer = np.array([[0, 0], [8, 0], [8, 8], [0, 8]], float)
    hole = np.array([[2, 2], [6, 2], [6, 6], [2, 6]], float)
    assert fill_polygon([outer, hole], (8, 8)).sum() == 64 - 16


def test_direction_and_start_of_a_ring_do_not_matter() -> None:
    ring = np.array([[1, 1], [9.3, 2.2], [7.1, 8.8], [3, 6]], float)
    mask = fill_polygon([ring], (12, 12))
    assert mask.any()
    assert np.array_equal(mask, fill_polygon([ring[::-1]], (12, 12)))
    assert np.array_equal(mask, fill_polygon([np.roll(ring, 2, axis=0)], (12, 12)))
    assert np.array_equal(mask, fill_polygon([np.vstack([ring, ring[:1]])], (12, 12)))


def test_what_lies_outside_is_cut_off() -> None:
    ring = np.array([[-100, -100], [5, -100], [5, 100], [-100, 100]], float)
    mask = fill_polygon([ring], (6, 8))
    assert mask[:, :5].all()
    assert not mask[:, 5:].any()


def test_disc_has_the_area_of_a_disc() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ring = np.column_stack([50.3 + 30 * np.cos(angle), 49.6 + 30 * np.sin(angle)])
    assert fill_polygon([ring], (100, 100)).sum() == pytest.approx(np.pi * 900, rel=0.01)


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 14), width=st.integers(1, 14), share=st.floats(0, 1), seed=st.integers(0, 9999))
def test_tracing_then_filling_gives_the_mask_again(height: int, width: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    polygons = trace_polygons(mask)
    assert len(polygons) == ndimage.label(mask)[1]
    again = np.zeros_like(mask)
    for polygon in polygons:
        part = fill_polygon(polygon, mask.shape)
        assert not (part & again).any()
        assert part.sum() == _area(polygon[0]) - sum(_area(hole) for hole in polygon[1:])
        again |= part
    assert np.array_equal(again, mask)


def test_outline_keeps_corners_only() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 1:8] = True
    ((ring,),) = trace_polygons(mask)
    assert sorted(map(tuple, ring.tolist())) == [(1, 2), (1, 7), (8, 2), (8, 7)]
