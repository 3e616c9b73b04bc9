"""The resampling of tiles: Pillow's numbers, whatever the factor, the place and the anisotropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from umedfeat.readers.slides.resample import hamming


def by_pillow(pixels: np.ndarray, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.HAMMING, box=box))


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.3719])
@pytest.mark.parametrize("factor", [0.5, 0.998, 1.0, 0.5 / 0.499, 1.1, 0.5 / 0.265, 0.5 / 0.252, 2.0, 3.96, 4.0])
def test_it_gives_the_numbers_of_pillow(factor: float, fraction: float) -> None:
    generator = np.random.default_rng(0)
    for size in (64, 150):
        reach = math.ceil(max(1.0, factor))
        left, top = reach + fraction, reach + fraction / 2
        right, bottom = left + size * factor, top + size * factor * 1.01
        width, height = math.ceil(right) + reach, math.ceil(bottom) + reach
        noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for pixels in (noise, (noise > 127).astype(np.uint8) * 255):
            box = (left, top, right, bottom)
            assert np.array_equal(hamming(pixels, box, size), by_pillow(pixels, box, size))


def test_a_part_of_a_block_is_resampled_as_the_part_alone() -> None:
    block = np.random.default_rng(0).integers(0, 256, (132, 400, 3), dtype=np.uint8)
    part, box = block[:, 130:262], (2.0, 2.0, 130.0, 130.0)
    assert np.array_equal(hamming(part, box, 64), hamming(np.ascontiguousarray(part), box, 64))
    assert np.array_equal(hamming(part, box, 64), by_pillow(np.ascontiguousarray(part), box, 64))


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_flat_colours_stay_as_they_are(value: int) -> None:
    pixels = np.full((80, 80, 3), value, dtype=np.uint8)
    assert (hamming(pixels, (1.3, 1.3, 77.7, 77.7), 33) == value).all()
