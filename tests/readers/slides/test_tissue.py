"""The tissue mask on drawn and real slides, and exact tissue fractions."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from smear_cases import SMEARS
from tissue_cases import CASES, MPP, Case, haematoxylin_eosin, score, white

from umedfeat.readers.slides.tissue import find_tissue, is_dark_field, tissue_fractions, tissue_mask


@pytest.mark.parametrize("draw", (*CASES, *SMEARS), ids=lambda draw: draw.__name__)
def test_drawn_slide(draw: Callable[[], Case]) -> None:
    case = draw()
    mask = tissue_mask(case.image, MPP)
    assert mask.shape == case.image.shape[:2]
    assert mask.dtype == np.bool_
    got = score(mask, case.truth)
    assert got.precision >= case.precision, case.name
    assert got.recall >= case.recall, case.name


@pytest.mark.parametrize("name", ["haematoxylin_eosin", "pale", "silver", "fat"])
def test_grey_tissue_is_told_by_density(name: str) -> None:
    """Scanned in grey: nothing has a colour; precision and recall as asked of the coloured slide."""
    case = next(draw for draw in CASES if draw.__name__ == name)()
    luma = np.rint(case.image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    found = find_tissue(np.repeat(luma[..., None], 3, axis=2), MPP)
    got = score(found.mask, case.truth)
    assert found.by == "density"
    assert got.precision >= case.precision
    assert got.recall >= case.recall


def lone_cells(count: int, radius: float, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Cells strewn over a disc of glass, at MPP, and the disc."""
    generator, fine = np.random.default_rng(0), 4
    side, scale = 240, MPP / fine
    image = np.full((side * fine, side * fine, 3), 240.0)
    reach = int(radius / scale) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cell = np.hypot(x, y) * scale < radius
    for angle, share in zip(generator.uniform(0, 2 * np.pi, count), generator.uniform(0, 1, count), strict=True):
        distance = 0.4 * side * fine * np.sqrt(share)
        cx, cy = (int(side * fine / 2 + distance * turn) for turn in (np.cos(angle), np.sin(angle)))
        image[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1][cell] = colour
    small = image.reshape(side, fine, side, fine, 3).mean(axis=(1, 3)) + generator.normal(0, 1.5, (side, side, 3))
    y, x = np.mgrid[:side, :side] - side / 2
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), np.hypot(x, y) < 0.38 * side


@pytest.mark.parametrize(
    ("count", "radius", "colour"),
    [(900, 8.0, (110, 90, 160)), (900, 8.0, (90, 90, 90)), (6000, 3.5, (205, 120, 130))],
    ids=["cytology", "grey cytology", "blood smear"],
)
def test_lone_cells_are_found(count: int, radius: float, colour: tuple[int, int, int]) -> None:
    image, disc = lone_cells(count, radius, colour)
    mask = tissue_mask(image, MPP)
    assert mask[disc].mean() > 0.6  # not all: between the cells of a sparse field there is glass
    assert mask[:20].mean() < 0.05


def test_tiles_of_lone_cells_are_kept(tmp_path: Path) -> None:
    """A tile of 112 µm that holds a cell of 16 µm has a quarter of its area within the field of the cell."""
    from slide_factory import write_slide
    from slide_reading import planned, policy

    rng = np.random.default_rng(3)
    pixels = np.full((4480, 4480, 3), 240.0)
    places = rng.integers(40, 4440, (60, 2))
    y, x = np.mgrid[-16:17, -16:17]
    for row, column in places:
        pixels[row - 16 : row + 17, column - 16 : column + 17][np.hypot(x, y) <= 16] = (110, 80, 150)
    pixels += rng.normal(0, 2, pixels.shape)
    path = write_slide(tmp_path / "s.svs", np.clip(pixels, 0, 255).astype(np.uint8), 0.5, flavour="svs")
    plan = planned(path, policy(tissue="auto", mpp=0.5, tile_size=224))
    assert plan.detail["tissue"] == "cells"
    assert "lone cells" in plan.hint
    kept = set(zip(plan.regions["x"] // 224, plan.regions["y"] // 224, strict=True))
    assert kept >= {(column // 224, row // 224) for row, column in places}
    assert len(kept) < 0.6 * 400


def test_empty_slide_has_no_tissue_at_all() -> None:
    assert not tissue_mask(white().image, MPP).any()


@pytest.mark.parametrize("mpp", [4.0, 16.0, 32.0])
def test_the_same_slide_at_other_scales(mpp: float) -> None:
    case = haematoxylin_eosin()
    height, width = (round(side * MPP / mpp) for side in case.truth.shape)
    image = np.asarray(Image.fromarray(case.image).resize((width, height), Image.Resampling.BOX))
    found = tissue_mask(image, mpp)
    expected = tissue_mask(case.image, MPP).mean()
    assert found.mean() == pytest.approx(expected, abs=0.02)


def test_turning_the_slide_turns_the_mask() -> None:
    image = haematoxylin_eosin().image
    mask, turned = tissue_mask(image, MPP), tissue_mask(image[::-1, ::-1], MPP)
    assert (mask != turned[::-1, ::-1]).mean() < 0.01


def test_input_is_not_changed_and_result_repeats() -> None:
    image = haematoxylin_eosin().image
    before = image.copy()
    first = tissue_mask(image, MPP)
    assert np.array_equal(first, tissue_mask(image, MPP))
    assert np.array_equal(image, before)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(0, 40),
    width=st.integers(0, 40),
    mpp=st.sampled_from([0.25, 2.0, 7.3, 8.0, 64.0]),
    seed=st.integers(0, 99),
    low=st.sampled_from([0, 100, 240]),
)
def test_any_small_image_gives_a_mask_of_its_shape(height: int, width: int, mpp: float, seed: int, low: int) -> None:
    image = np.random.default_rng(seed).integers(low, 256, (height, width, 3), dtype=np.uint8)
    assert tissue_mask(image, mpp).shape == (height, width)


def test_dark_field_is_told_from_a_black_border() -> None:
    dark = np.zeros((200, 200, 3), np.uint8)
    assert is_dark_field(dark)
    strip = dark.copy()
    strip[60:140, 60:140] = (240, 240, 242)
    assert not is_dark_field(strip)
    dark[60:140, 60:140, 2] = 200
    assert is_dark_field(dark)


def test_real_haematoxylin_eosin(data_dir: Path) -> None:
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(data_dir / "wsi" / "CMU-1-Small-Region.svs") as slide:
        image = slide.read_region((0, 0), 0, slide.dimensions).convert("RGB").reduce(16)
    mask = tissue_mask(np.asarray(image), 8.0)
    assert 0.35 < mask.mean() < 0.50
    assert not mask[:30, :40].any()  # glass above on the left
    assert not mask[140:, :25].any()  # glass below on the left
    assert mask[100:110, 55:60].all()  # dermis


def test_real_fluorescence_with_sparse_nuclei(data_dir: Path) -> None:
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(data_dir / "wsi" / "test3-DAPI-2-(387).ndpi") as slide:
        image = np.asarray(slide.get_thumbnail((139, 139)).convert("RGB"))
    mask = tissue_mask(image, 8.0)
    assert mask[:115].mean() > 0.9
    assert mask[132:].mean() < 0.35  # the dark strip below the section


def test_immunohistochemistry_that_fills_the_image(data_dir: Path) -> None:
    image = np.asarray(Image.open(data_dir / "images" / "ihc.png").convert("RGB"))
    assert tissue_mask(image, 2.0).mean() > 0.95


def test_large_thumbnail_is_fast() -> None:
    case = haematoxylin_eosin()
    image = np.tile(case.image, (4, 3, 1))  # 2048 × 1920
    begin = time.process_time()
    tissue_mask(image, MPP)
    assert time.process_time() - begin < 1.5  # measured: 0.25 s; a slow machine may need a few times that


def test_fractions_of_whole_pixels() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    boxes = [(3, 2, 9, 5), (0, 0, 12, 10), (0, 0, 3, 10), (3, 2, 6, 8)]
    np.testing.assert_allclose(tissue_fractions(mask, boxes), [1.0, 18 / 120, 0.0, 9 / 18], atol=1e-7)


def test_fractions_outside_and_without_area() -> None:
    mask = np.ones((10, 10), bool)
    boxes = [(-5, 0, 5, 10), (8, 8, 12, 12), (20, 20, 30, 30), (3, 3, 3, 8)]
    np.testing.assert_allclose(tissue_fractions(mask, boxes), [0.5, 0.25, 0.0, 0.0], atol=1e-7)
    assert tissue_fractions(mask, np.zeros((0, 4))).shape == (0,)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 999),
    x=st.integers(-20, 60),
    y=st.integers(-20, 60),
    width=st.integers(1, 60),
    height=st.integers(1, 60),
)
def test_fractional_boxes_are_exact(seed: int, x: int, y: int, width: int, height: int) -> None:
    """Corners in quarters of a pixel: compare with counting on a mask enlarged four times."""
    mask = np.random.default_rng(seed).random((9, 11)) < 0.5
    enlarged = np.zeros((200, 200), bool)
    enlarged[40:76, 40:84] = np.repeat(np.repeat(mask, 4, 0), 4, 1)
    counted = enlarged[y + 40 : y + height + 40, x + 40 : x + width + 40].sum() / (width * height)
    box = np.array([x, y, x + width, y + height]) / 4
    assert tissue_fractions(mask, [box])[0] == pytest.approx(counted, abs=1e-6)


@pytest.mark.parametrize(
    "module", ["umedfeat.readers.slides.tissue", "umedfeat.readers.slides.annotations", "umedfeat.report.preview"]
)
def test_reading_processes_stay_free_of_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("side", [2, 8, 16, 24])
def test_glass_smaller_than_a_hole_is_glass(side: int) -> None:
    assert not tissue_mask(np.full((side, side, 3), 243, np.uint8), 8.0).any()
