"""Contact sheets show what the reader returns, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umedfeat.contract import RegionUnreadable
from umedfeat.report.preview.contact import Letters, evenly, sheet
from umedfeat.report.preview.drawing import ORANGE, to_rgb8


def _tiles(count: int, side: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def test_tiles_are_shown_in_their_own_pixels() -> None:
    tiles = _tiles(5)
    page = np.asarray(sheet(tiles, [""] * 5, columns=3))
    assert page.shape == (2 * 60 + 6, 3 * 60 + 12, 3)
    for k, tile in enumerate(tiles):
        row, column = divmod(k, 3)
        assert np.array_equal(page[row * 66 : row * 66 + 60, column * 66 : column * 66 + 60], tile)


def test_white_glass_does_not_run_into_the_paper() -> None:
    white = np.full((60, 60, 3), 255, np.uint8)
    page = np.asarray(sheet([white] * 4, [""] * 4, columns=2))
    assert (page[60:66] < 230).all()
    assert (page[:60, 60:66] < 230).all()


def test_float_regions_are_rounded_to_eight_bits_only_for_the_eye() -> None:
    values = np.array([[-0.1, 0.0, 0.5, 1.0, 1.2, 0.00196]], np.float32)[..., None].repeat(3, axis=2)
    assert to_rgb8(values)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]


def test_unreadable_region_is_crossed_out_and_never_painted_like_an_image() -> None:
    page = np.asarray(sheet([_tiles(1)[0], RegionUnreadable("bad jpeg")], ["a", "b"]))
    right = page[:60, 66:126]
    assert (right[0] == ORANGE).all()
    assert (right == 255).all(axis=2).mean() > 0.4


def test_only_unreadable_regions_make_a_sheet() -> None:
    assert sheet([RegionUnreadable("x")], [""]).size == (224, 224)


def test_captions_and_letters_are_drawn() -> None:
    black = [np.zeros((80, 80, 3), np.uint8)]
    bare = np.asarray(sheet(black, [""]))
    lettered = np.asarray(sheet(black, ["1 of 9"], letters=Letters("R", "L", "A", "P")))
    assert not bare.any()
    assert lettered.shape[0] > bare.shape[0]
    assert (lettered[80:] < 100).any()
    for part in (np.s_[30:50, :20], np.s_[30:50, 60:80], np.s_[:20, 30:50], np.s_[60:80, 30:50]):
        assert (lettered[:80][part] > 200).any()


@given(count=st.integers(1, 3000), wanted=st.integers(1, 40))
def test_evenly_spread_with_both_ends(count: int, wanted: int) -> None:
    chosen = evenly(count, wanted)
    assert len(chosen) == min(count, wanted)
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < count
    if wanted > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
    if len(chosen) > 2 and wanted < count:
        assert np.ptp(np.diff(chosen)) <= 1


def test_nothing_to_spread() -> None:
    assert len(evenly(0, 12)) == 0
    assert evenly(9, 1).tolist() == [4]


def test_sheet_refuses_mismatched_captions() -> None:
    with pytest.raises(ValueError, match="zip"):
        sheet(_tiles(2), ["a"])
