"""Stored values to [0, 1], exact percentiles, squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from umedfeat.errors import EmptyImage, SetupError
from umedfeat.policy import CT_WINDOWS, ImagePolicy, IntensityPolicy, VolumePolicy
from umedfeat.readers.stacks import intensity, percentiles
from umedfeat.readers.stacks.intensity import (
    Range,
    fit_square,
    linear_voi,
    percentile_statistics,
    resample,
    through_voi,
    to_rgb,
    to_unit,
)
from umedfeat.readers.stacks.stack import StackFacts
from umedfeat.readers.stacks.windows import Percentiles, choose_window, parse_window, percentile_range

FLOATS = st.floats(-1e6, 1e6, width=32)
WHOLE = st.integers(-40000, 70000).map(float)


def statistics(*slices: np.ndarray, masks: tuple[np.ndarray | None, ...] = (), percentiles=(2.5, 97.5)):
    masks = masks or (None,) * len(slices)
    return percentile_statistics(lambda: zip(slices, masks, strict=True), percentiles)


@settings(max_examples=60, deadline=None)
@given(st.lists(arrays(np.float32, (3, 4), elements=st.one_of(FLOATS, WHOLE)), min_size=1, max_size=4))
def test_percentiles_equal_numpys_on_any_mixture_of_whole_and_other_values(slices):
    got = statistics(*slices)
    expected = np.percentile(np.stack(slices).astype(np.float64), [2.5, 97.5])
    np.testing.assert_allclose([got.low, got.high], expected, rtol=1e-6, atol=1e-6)
    assert (got.minimum, got.maximum) == (np.min(slices), np.max(slices))


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (4, 5), elements=WHOLE), st.tuples(st.floats(0, 50), st.floats(50, 100)))
def test_whole_numbers_are_counted_exactly(values, percentiles):
    got = statistics(values, percentiles=percentiles)
    np.testing.assert_allclose([got.low, got.high], np.percentile(values.astype(np.float64), percentiles), rtol=1e-9)


def test_padding_and_nonfinite_values_are_left_out_and_counted():
    values = np.array([[1, 2, 3, 4], [np.nan, np.inf, -np.inf, 9999]], np.float32)
    mask = np.zeros(values.shape, bool)
    mask[1, 3] = True
    got = statistics(values, masks=(mask,))
    assert (got.minimum, got.maximum, got.counted, got.nonfinite) == (1, 4, 4, 3)


@pytest.mark.parametrize("kind", ["whole", "wide", "fractions", "fractions later"])
def test_blocks_of_any_size_make_no_difference(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    values = np.rint(rng.normal(scale=2e5 if kind == "wide" else 300, size=(9, 50))).astype(np.float32)
    values[{"fractions": 0, "fractions later": 7}.get(kind, slice(0, 0))] += np.float32(0.25)
    values[rng.random(values.shape) < 0.1] = np.nan
    padding = rng.random(values.shape) < 0.2
    padding[4] = True  # blocks without a value that counts
    kept = values[~padding & np.isfinite(values)].astype(np.float64)
    shown, voi = to_unit(values, Range(-200, 300, ""), padding), through_voi(values, linear_voi(0, 20), padding)
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(percentiles, "_BLOCK", size)
        monkeypatch.setattr(intensity, "_BLOCK", size)
        got = statistics(values, masks=(padding,))
        np.testing.assert_allclose([got.low, got.high], np.percentile(kept, [2.5, 97.5]), rtol=1e-6)
        assert (got.minimum, got.maximum, got.counted) == (kept.min(), kept.max(), kept.size)
        assert got.nonfinite == np.isnan(values[~padding]).sum()
        np.testing.assert_array_equal(to_unit(values, Range(-200, 300, ""), padding), shown)
        np.testing.assert_array_equal(through_voi(values, linear_voi(0, 20), padding), voi)
    plain = np.clip((values - np.float32(-200)) / np.float32(500), 0, 1)
    np.testing.assert_array_equal(shown, np.where(padding | np.isnan(values), 0, plain))


def test_the_second_pass_happens_only_for_values_that_are_not_whole():
    passes = []

    def slices(values):
        passes.append(1)
        return [(values, None)]

    percentile_statistics(lambda: slices(np.arange(12, dtype=np.float32)), (2.5, 97.5))
    assert len(passes) == 1
    percentile_statistics(lambda: slices(np.arange(12, dtype=np.float32) / 7), (2.5, 97.5))
    assert len(passes) == 3


def test_empty_and_constant_images_are_refused_with_the_reason():
    with pytest.raises(EmptyImage, match=r"a\.png.*padding"):
        percentile_range(statistics(np.full((2, 2), np.nan, np.float32)), (2.5, 97.5), "a.png")
    with pytest.raises(EmptyImage, match=r"a\.png.*constant.*7"):
        percentile_range(statistics(np.full((2, 2), 7, np.float32)), (2.5, 97.5), "a.png")


def test_a_tiny_object_on_black_falls_back_to_the_full_range_and_says_so():
    values = np.zeros((100, 100), np.float32)
    values[50, 50] = 80
    limits = percentile_range(statistics(values), (2.5, 97.5), "a")
    assert (limits.low, limits.high) == (0, 80)
    assert "min-max" in limits.how


@pytest.mark.parametrize("name", CT_WINDOWS)
def test_named_windows(name):
    window = parse_window(name)
    assert (window.low, window.high) == CT_WINDOWS[name]


def test_custom_windows():
    assert parse_window("-100,300")[:2] == (-100, 300)
    assert parse_window("percentile") == "percentile"
    assert parse_window("file") == "file"


def window_of(policy: IntensityPolicy, modality: str, **facts: bool) -> tuple[object, str]:
    return choose_window(policy, StackFacts("a", "dicom", modality, 4, 4, 1, **facts))


def test_each_modality_gets_its_window():
    policy = IntensityPolicy(ct_window="bone")
    usual = (Percentiles(2.5, 97.5), "")
    assert window_of(policy, "CT") == (Range(-500, 1300, "bone"), "ct_window")
    assert window_of(policy, "CT", calibrated=False) == window_of(policy, "MR") == usual
    assert window_of(IntensityPolicy(ct_window="file"), "CT", calibrated=False) == ("file", "ct_window")


def test_bright_tails_are_not_clipped_where_they_matter():
    policy = IntensityPolicy()
    assert window_of(policy, "PT", suv=True) == (Range(0, 10, "SUV"), "suv")
    for bright in (window_of(policy, "PT"), window_of(policy, "NM"), window_of(policy, "MR", bolus=True)):
        assert bright == (Percentiles(2.5, 99.9), "")
    assert window_of(policy, "XA") == (Percentiles(0.1, 99.9), "")


def test_a_window_that_was_asked_for_is_used_for_every_grey_modality():
    for modality in ("PT", "NM", "MR", "XA", "DX"):
        asked = window_of(IntensityPolicy(window="5,20"), modality, suv=modality == "PT")
        assert asked == (Range(5, 20, "5,20"), "window")
        assert window_of(IntensityPolicy(window="percentile"), modality) == (Percentiles(2.5, 97.5), "window")


def test_window_ends_become_black_and_white_and_nothing_leaves_the_range():
    values = np.array([[-5000, -160, 40, 240, 5000]], np.float32)
    np.testing.assert_allclose(to_unit(values, Range(-160, 240, "")), [[0, 0, 0.5, 1, 1]])


def test_inversion_comes_after_the_window_and_padding_stays_black():
    values = np.array([[0, 10, 10, np.nan, np.inf]], np.float32)
    padding = np.array([[False, False, True, False, False]])
    np.testing.assert_allclose(to_unit(values, Range(0, 10, ""), padding, invert=True), [[1, 0, 0, 0, 0]])
    shown = through_voi(values, linear_voi(0, 20), padding, invert=True)
    np.testing.assert_allclose(shown, [[1, 0.5, 0, 0, 0]])


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (3, 3), elements=st.floats(width=32)), st.floats(-1e38, 1e38), st.floats(1e-38, 1e38))
def test_any_float_and_any_window_stay_in_the_unit_range(values, low, span):
    if low + span == low:
        return
    shown = to_unit(values, Range(low, low + span, ""))
    assert shown.dtype == np.float32
    assert np.isfinite(shown).all() and shown.min() >= 0 and shown.max() <= 1


def test_sixteen_bits_survive():
    ramp = np.arange(4096, dtype=np.float32).reshape(64, 64) * 16
    shown = fit_square(to_unit(ramp, Range(0, 65535, "")), 64, "pad")
    assert len(np.unique(shown)) == 4096


def test_pad_keeps_the_aspect_ratio_on_black():
    square = fit_square(np.ones((50, 100), np.float32), 64, "pad")
    assert square.shape == (64, 64)
    assert (square[16:48] == 1).all() and not square[:16].any() and not square[48:].any()


def test_square_pixels_come_from_the_spacing():
    flat = fit_square(np.ones((50, 100), np.float32), 64, "pad", spacing=(2.0, 1.0))
    assert (flat == 1).all()
    tall = fit_square(np.ones((50, 100), np.float32), 64, "pad", spacing=(4.0, 1.0))
    assert (tall[:, 16:48] == 1).all() and not tall[:, :16].any()


def test_squash_fills_and_crop_takes_the_centre():
    image = np.zeros((40, 80), np.float32)
    image[:, 20:60] = 1
    assert (fit_square(image, 40, "crop") == 1).all()
    np.testing.assert_allclose(fit_square(image, 40, "squash")[:, 10:30].mean(), 1, atol=0.02)
    with pytest.raises(SetupError, match="stretch"):
        ImagePolicy(fit="stretch")


def test_crop_respects_the_spacing():
    image = np.zeros((40, 80), np.float32)
    image[10:30] = 1
    cropped = fit_square(image, 40, "crop", spacing=(4.0, 1.0))  # 160 mm by 80 mm: the middle 20 rows
    assert cropped[1:-1].min() > 0.99


def test_shrinking_is_antialiased():
    board = (np.indices((256, 256)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(fit_square(board, 32, "pad"), 0.5, atol=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 700), st.integers(1, 300), st.integers(1, 64), st.integers(1, 64), st.integers(0, 2**31))
def test_resampling_in_strips_equals_resampling_at_once(height, width, rows, cols, seed):
    image = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    box = (0.0, 0.0, float(width), float(height))
    whole = Image.fromarray(image).resize((cols, rows), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resample(image, (rows, cols), box), np.clip(np.asarray(whole), 0, 1), atol=2e-6)


def test_eight_bit_images_are_resampled_without_rounding():
    image = np.random.default_rng(0).integers(0, 256, (300, 40, 3), dtype=np.uint8)
    as_float = fit_square(image.astype(np.float32) / 255, 32, "pad")
    np.testing.assert_array_equal(fit_square(image, 32, "pad"), as_float)


def test_extreme_shapes_keep_at_least_one_line():
    assert fit_square(np.ones((1, 5000), np.float32), 64, "pad").sum() == pytest.approx(64)
    assert fit_square(np.ones((5000, 1), np.float32), 64, "crop").shape == (64, 64)


def test_grey_becomes_three_equal_channels():
    grey = np.random.default_rng(0).random((4, 5), dtype=np.float32)
    assert to_rgb(grey).shape == (4, 5, 3)
    assert (to_rgb(grey) == grey[..., None]).all()


@pytest.mark.parametrize("window", ["lungs", "", "5", "5,5", "9,1", "nan,3", "0,inf", "1,2,3"])
def test_a_wrong_window_is_refused_before_any_file_is_opened(window):
    for name, legal in (("ct_window", "soft-tissue"), ("window", "percentile")):
        with pytest.raises(SetupError, match=name) as caught:
            IntensityPolicy(**{name: window})
        assert legal in caught.value.remedy and "LO,HI" in caught.value.remedy


@pytest.mark.parametrize("percentiles", [(5, 5), (-1, 50), (2, 101), (90, 10)])
def test_wrong_percentiles_are_refused(percentiles):
    with pytest.raises(SetupError, match="percentiles"):
        IntensityPolicy(percentiles=percentiles)


@pytest.mark.parametrize(
    ("field", "value", "legal"),
    [
        ("plane", "top", "sagittal"),
        ("slices", "0", "every-K"),
        ("slices", "every-0", "every-K"),
        ("slices", "-3", "every-K"),
        ("frames", "some", "every-K"),
        ("frames", "²", "every-K"),
        ("volume_index", "first", "mean"),
        ("volume_index", "-1", "mean"),
    ],
)
def test_a_wrong_choice_of_slices_is_refused_before_any_file_is_opened(field, value, legal):
    with pytest.raises(SetupError, match=field) as caught:
        VolumePolicy(**{field: value})
    assert legal in caught.value.remedy


def test_a_wrong_fit_is_refused_before_any_file_is_opened():
    with pytest.raises(SetupError, match="stretch") as caught:
        ImagePolicy(fit="stretch")
    assert caught.value.remedy == "one of pad, squash, crop"
