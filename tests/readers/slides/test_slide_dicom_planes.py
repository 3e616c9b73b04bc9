"""Whole-slide DICOM with several focal planes or optical paths: counted, chosen, recorded, or the sharpest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dicom_slide
import numpy as np
import pytest
from scipy import ndimage
from slide_factory import tissue_like
from slide_reading import policy

from umedfeat.contract import Plan
from umedfeat.discovery import discover
from umedfeat.errors import UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.readers import open_reader


def read(folder: Path, chosen: Policy) -> tuple[Plan, list[Any]]:
    (source,) = discover([folder], chosen, Pseudonyms(b"k" * 16)).sources
    reader = open_reader(source, chosen)
    try:
        plan = reader.plan()
        return plan, list(reader.read(plan.regions))
    finally:
        reader.close()


def contents(plan: Plan) -> dict[str, Any]:
    told = plan.detail["contents"]
    assert isinstance(told, dict)
    return told


def written(folder: Path, planes: list[np.ndarray], **options: Any) -> Path:
    folder.mkdir()
    series = "1.2.826.0.1.3680043.8.498.1"
    dicom_slide.write_instance(folder / "0.dcm", planes, 0.5, series=series, lossless=True, **options)
    return folder


def half_sharp(sharp: np.ndarray, *, left: bool) -> np.ndarray:
    """In focus on one side only, as thick specimens are."""
    blurred = ndimage.gaussian_filter(sharp, (3, 3, 0))
    middle = sharp.shape[1] // 2
    one, other = (sharp, blurred) if left else (blurred, sharp)
    return np.concatenate([one[:, :middle], other[:, middle:]], axis=1)


def test_focal_planes_of_dicom_are_chosen_or_refused(tmp_path: Path) -> None:
    sharp = tissue_like(512, 512)
    planes = [half_sharp(sharp, left=True), half_sharp(sharp, left=False), np.full_like(sharp, 240)]
    folder = written(tmp_path / "d", planes)
    with pytest.raises(UnsupportedInput, match="3 focal planes, and none was chosen") as caught:
        read(folder, policy(mpp=0.5, tile_size=256))
    assert "--focus" in caught.value.remedy
    for focus, number in (("1", 0), ("middle", 1), ("3", 2)):
        plan, tiles = read(folder, policy(mpp=0.5, tile_size=256, focus=focus))
        assert np.array_equal(tiles[0], planes[number][:256, :256])
        assert contents(plan)["focus"] == f"plane {number + 1} of 3"
        assert (contents(plan)["planes"], contents(plan)["planes_read"]) == (3, 1)


def test_the_sharpest_plane_is_picked_tile_by_tile_and_recorded(tmp_path: Path) -> None:
    sharp = tissue_like(512, 512)
    planes = [half_sharp(sharp, left=True), half_sharp(sharp, left=False)]
    plan, tiles = read(written(tmp_path / "d", planes), policy(mpp=0.5, tile_size=256, focus="sharpest"))
    for region, tile in zip(plan.regions, tiles, strict=True):
        x, y = int(region["x"]), int(region["y"])
        assert np.array_equal(tile, sharp[y : y + 256, x : x + 256])
    assert contents(plan)["focus"] == "the sharpest of 2 planes, tile by tile"
    assert contents(plan)["sharpness"] == "variance of the Laplacian of the mean of the channels"
    assert contents(plan)["planes_read"] == 2


def test_optical_paths_of_dicom_are_chosen_or_refused(tmp_path: Path) -> None:
    pixels = tissue_like(512, 512)
    planes = [pixels[..., 0], 255 - pixels[..., 1]]
    folder = written(tmp_path / "d", planes, paths=2, photometric="MONOCHROME2")
    with pytest.raises(UnsupportedInput, match="2 channels"):
        read(folder, policy(mpp=0.5, tile_size=256))
    plan, tiles = read(folder, policy(mpp=0.5, tile_size=256, channel="2"))
    assert np.array_equal(tiles[0][..., 0], planes[1][:256, :256])
    assert contents(plan)["channels"] == "channel 2 of 2"
