"""Channels of TIFF files: alpha of either kind, what is no alpha, colours in floating point."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from test_raster import SIZE, read

from umedfeat.errors import UnsupportedInput


def test_alpha_that_is_multiplied_in_already_is_not_multiplied_twice(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)) / 255
    alpha = np.full((SIZE, SIZE, 1), 0.5)
    for kind, stored in (("unassalpha", colours), ("assocalpha", colours * alpha)):
        pixels = np.rint(np.concatenate([stored, alpha], axis=2) * 65535).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{kind}.tif", pixels, photometric="rgb", extrasamples=[kind])
        _, images = read(tmp_path / f"{kind}.tif")
        np.testing.assert_allclose(images[0], colours / 2 + 0.5, atol=1e-4)


def test_a_further_channel_that_nobody_calls_alpha_is_left_out_and_recorded(tmp_path):
    """An empty fourth channel would otherwise make the picture white."""
    colours = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    pixels = np.concatenate([colours, np.zeros((SIZE, SIZE, 1), np.uint8)], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    plan, images = read(tmp_path / "a.tif")
    np.testing.assert_allclose(images[0], colours / 255, atol=1e-6)
    assert plan.detail["extra_samples_ignored"] == 1


def test_colours_in_floating_point_need_the_range_of_colours(tmp_path):
    colours = np.random.default_rng(0).random((SIZE, SIZE, 3), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    np.testing.assert_allclose(read(tmp_path / "a.tif")[1][0], colours, atol=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", colours * 255, photometric="rgb")
    with pytest.raises(UnsupportedInput, match=r"b\.tif: colours from .* to 25\d.* in floating point") as caught:
        read(tmp_path / "b.tif")
    assert "0 to 1" in caught.value.remedy
