"""The overlay of a slide: colours, grid, scale bar."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umedfeat.contract import Plan, make_regions
from umedfeat.report.preview.drawing import BLUE, GREEN, ORANGE, SKY, font, scale_bar
from umedfeat.report.preview.overlay import Grid, draw_overlay, grid_of, rejected_tiles, with_legend


def _plan(**detail: object) -> Plan:
    return Plan(make_regions(0, 0), (224, 224), "uint8", "aperio", "WSI", 4000, 3000, tile_extent=400.0, detail=detail)  # type: ignore[arg-type]


def test_kept_tiles_stay_in_colour_and_the_rest_is_washed_out() -> None:
    thumbnail = np.full((100, 200, 3), (200, 120, 170), np.uint8)
    picture = np.asarray(draw_overlay(thumbnail, 10.0, np.array([[500.0, 200.0]]), 400.0))
    assert picture.shape == thumbnail.shape
    assert (picture[25:55, 55:85] == thumbnail[25:55, 55:85]).all()
    outside = picture[70:, 120:].astype(int)
    assert (np.ptp(outside, axis=2) < 40).all()
    assert (outside.mean(axis=2) > 200).all()
    border = picture[20, 50:90].astype(int) - thumbnail[20, 50:90]
    assert (np.abs(border).sum(axis=1) > 60).all()


def test_tiles_of_oblong_pixels_are_drawn_as_they_are() -> None:
    """Pixels twice as high as wide: a tile of 400 of them is 200 high."""
    thumbnail = np.full((100, 200, 3), (200, 120, 170), np.uint8)
    picture = np.asarray(draw_overlay(thumbnail, 10.0, np.array([[500.0, 200.0]]), 400.0, aspect=2.0))
    assert (picture[25:35, 55:85] == thumbnail[25:35, 55:85]).all()
    assert (picture[45:55, 55:85] != thumbnail[45:55, 55:85]).any(axis=2).all()
    grid = Grid(extent=100.0, step=100.0, columns=2, rows=2, aspect=2.0)
    assert grid.corners().tolist() == [[0, 0], [100, 0], [0, 50], [100, 50]]
    mask = np.ones((10, 20), bool)
    assert rejected_tiles(grid, np.array([[0.0, 50.0]]), mask, 10.0).tolist() == [[0, 0], [100, 0], [100, 50]]


def test_dark_slides_are_washed_towards_dark_and_get_light_borders() -> None:
    thumbnail = np.full((100, 200, 3), (0, 0, 60), np.uint8)
    picture = np.asarray(draw_overlay(thumbnail, 10.0, np.array([[500.0, 200.0]]), 400.0))
    assert picture[90, 190].max() < 60
    assert picture[20, 60, 2] > 140
    blend = np.array(thumbnail[20, 60]) * 0.4 + np.array(SKY) * 0.6
    np.testing.assert_allclose(picture[20, 60], blend, atol=1)


def test_tissue_outline_and_rejected_tiles_have_their_colours() -> None:
    thumbnail = np.full((100, 200, 3), 240, np.uint8)
    mask = np.zeros((50, 100), bool)
    mask[10:40, 60:90] = True
    picture = np.asarray(
        draw_overlay(thumbnail, 10.0, np.zeros((0, 2)), 400.0, mask=mask, rejected=np.array([[0.0, 0.0]]))
    )
    assert (picture == GREEN).all(axis=2).sum() > 100
    assert not (picture[40:60, 140:160] == GREEN).all(axis=2).any()
    np.testing.assert_allclose(picture[0, 20], np.array(ORANGE) * 0.8 + picture[10, 10] * 0.2, atol=3)


def test_tissue_that_fills_the_picture_is_outlined_too() -> None:
    thumbnail = np.full((100, 200, 3), (200, 120, 170), np.uint8)
    picture = np.asarray(draw_overlay(thumbnail, 10.0, np.zeros((0, 2)), 400.0, mask=np.ones((50, 100), bool)))
    rim = (picture == GREEN).all(axis=2)
    assert rim[0].all() and rim[-1].all() and rim[:, 0].all() and rim[:, -1].all()
    assert not rim[5:-5, 5:-5].any()


def test_tiny_tiles_get_one_border_together() -> None:
    thumbnail = np.full((120, 120, 3), 255, np.uint8)
    x, y = np.meshgrid(np.arange(10, 60, 5), np.arange(10, 60, 5))
    corners = np.column_stack([x.ravel(), y.ravel()]) * 1.0
    picture = np.asarray(draw_overlay(thumbnail, 1.0, corners, 5.0)).astype(int)
    inner = picture[15:55, 15:55]
    assert (inner == 255).all()
    assert (picture[10, 12:58] < 255).any(axis=1).all()


def test_rejected_tiles_touch_tissue_and_are_not_kept() -> None:
    grid = Grid(extent=100.0, step=100.0, columns=4, rows=2)
    mask = np.zeros((20, 40), bool)
    mask[0:10, 0:15] = True
    kept = np.array([[0.0, 0.0]])
    assert rejected_tiles(grid, kept, mask, 10.0).tolist() == [[100.0, 0.0]]


def test_rejected_tiles_of_a_fractional_grid_whose_corners_were_rounded() -> None:
    grid = Grid(extent=224.45, step=224.45, columns=30, rows=30)
    mask = np.ones((700, 700), bool)
    kept = np.rint(grid.corners())[::2]
    left = rejected_tiles(grid, kept, mask, 10.0)
    assert len(left) == 450
    np.testing.assert_allclose(left, grid.corners()[1::2])


def test_grid_comes_from_the_plan() -> None:
    grid = grid_of(_plan(grid={"step": 350.5, "columns": 3, "rows": 2, "kept": 1}))
    assert grid is not None
    assert grid.corners()[-1].tolist() == [701.0, 350.5]
    assert grid_of(_plan()) is None
    assert grid_of(_plan(grid={"step": 350.5})) is None


@given(mpp=st.floats(0.05, 500), width=st.integers(50, 5000))
def test_scale_bar_is_a_round_length_of_about_a_fifth(mpp: float, width: int) -> None:
    bar = scale_bar(mpp, width)
    assert width / 5 / 2.51 <= bar.pixels <= width / 5 * 1.0001
    number, unit = bar.label.split()
    micrometres = float(number) * (1000 if unit == "mm" else 1)
    assert bar.pixels * mpp == pytest.approx(micrometres, rel=1e-4)
    assert number.replace(".", "").strip("0") in {"1", "2", "5"}


def test_legend_names_what_was_drawn_and_draws_the_bar_to_scale() -> None:
    picture = draw_overlay(np.full((300, 600, 3), 250, np.uint8), 10.0, np.zeros((0, 2)), 100.0)
    sheet = np.asarray(with_legend(picture, 5.0, tissue=True, rejected=False))
    strip = sheet[300:]
    assert sheet.shape[1] == 600
    dark = (strip.max(axis=2) < 60)[strip.shape[0] // 2]
    runs = np.flatnonzero(np.diff(np.concatenate([[0], dark.astype(int), [0]])))
    longest = int(max(runs[1::2] - runs[::2]))
    assert longest == pytest.approx(scale_bar(5.0, 600).pixels, abs=2)  # 500 µm are 100 pixels
    assert (strip == BLUE).all(axis=2).any()
    assert (strip == GREEN).all(axis=2).any()
    assert not (strip == ORANGE).all(axis=2).any()


def test_legend_of_a_slide_without_scale_has_no_bar() -> None:
    picture = draw_overlay(np.full((300, 600, 3), 250, np.uint8), 10.0, np.zeros((0, 2)), 100.0)
    strip = np.asarray(with_legend(picture, None, tissue=False, rejected=True))[300:]
    assert not (strip.max(axis=2) < 60).any()
    assert (strip == ORANGE).all(axis=2).any()


def test_typeface_knows_the_micro_sign() -> None:
    missing = font(20).getmask("\uffff").getbbox()
    assert bytes(font(20).getmask("µ")) != bytes(font(20).getmask("\uffff"))
    assert missing is not None
