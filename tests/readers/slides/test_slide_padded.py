"""Levels that are filled up to whole tiles: places and scales stay true at every level and factor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dicom_slide
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from rulers import SIDE, centroids, ruled
from slide_factory import halved
from slide_reading import policy

from umedfeat.contract import Plan
from umedfeat.discovery import discover
from umedfeat.naming import Pseudonyms
from umedfeat.readers import open_reader
from umedfeat.readers.slides.grid import believed_factors

MPP = 0.25


def padded(image: np.ndarray, unit: int) -> np.ndarray:
    return np.pad(image, ((0, -image.shape[0] % unit), (0, -image.shape[1] % unit), (0, 0)), constant_values=255)


def pyramid(height: int, width: int, *, unit: int) -> list[np.ndarray]:
    """Discs at the far end of a white slide; its levels filled up to whole tiles, each made of the one before."""
    slide = np.full((height, width, 3), 255, np.uint8)
    ruler = ruled(MPP)
    slide[-ruler.shape[0] :, -ruler.shape[1] :] = ruler
    levels = [slide]
    for _ in range(2):
        levels.append(padded(halved(levels[-1]), unit) if unit else halved(levels[-1]))
    return levels


def write_ome(path: Path, levels: list[np.ndarray]) -> None:
    sizes = {"PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
    with tifffile.TiffWriter(path, ome=True) as writer:
        options: dict[str, Any] = {"tile": (512, 512), "photometric": "rgb", "compression": "deflate"}
        writer.write(levels[0], subifds=len(levels) - 1, metadata={"axes": "YXS", **sizes}, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **options)


def write_generic(path: Path, levels: list[np.ndarray], *, own: bool = False) -> None:
    """``own``: every level declares its own resolution, else all that of the first."""
    with tifffile.TiffWriter(path) as writer:
        for number, level in enumerate(levels):
            per_cm = 1e4 / (MPP * (2**number if own else 1))
            writer.write(
                level,
                tile=(512, 512),
                photometric="rgb",
                compression="deflate",
                subfiletype=int(number > 0),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def written(folder: Path, kind: str, levels: list[np.ndarray]) -> Path:
    if kind == "dicom":
        dicom_slide.write_pyramid(folder / "d", [(level, MPP * 2**k) for k, level in enumerate(levels)], lossless=True)
        return folder / "d"
    path = folder / ("s.ome.tif" if kind == "ome" else "s.tif")
    if kind == "ome":
        write_ome(path, levels)
    else:
        write_generic(path, levels, own=kind == "generic, own scales")
    return path


def tiles_of(path: Path, target: float) -> tuple[Plan, list[Any]]:
    size = int(SIDE / 2 / target) // 2 * 2
    chosen = policy(mpp=target, tile_size=size, overlap=size // 2)
    (source,) = discover([path], chosen, Pseudonyms(b"k" * 16)).sources
    reader = open_reader(source, chosen)
    plan = reader.plan()
    tiles = list(reader.read(plan.regions))
    reader.close()
    return plan, tiles


KINDS = ("ome", "generic", "generic, own scales", "dicom")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [0.25, 0.4, 0.5, 0.9, 1.0, 1.7])
@pytest.mark.parametrize("size", [(1700, 2000), (2000, 2000)], ids=["oblong", "square"])
def test_padded_levels_show_the_right_places(tmp_path: Path, kind: str, target: float, size: tuple[int, int]) -> None:
    path = written(tmp_path, kind, pyramid(*size, unit=512))
    plan, tiles = tiles_of(path, target)
    found = centroids(plan, tiles, MPP, target, ((size[1] - 1600) * MPP, (size[0] - 1600) * MPP))
    assert len(found) >= 4
    for (cx, cy), (x, y) in found.items():
        assert abs(x - cx) < target / 2, (cx, x)
        assert abs(y - cy) < target / 2, (cy, y)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_without_padding_are_used(tmp_path: Path, kind: str) -> None:
    plan, tiles = tiles_of(written(tmp_path, kind, pyramid(1700, 2000, unit=0)), 1.0)
    assert plan.detail["level"] == 2
    assert plan.detail["downsample"] == 4
    found = centroids(plan, tiles, MPP, 1.0, (400 * MPP, 100 * MPP))
    assert len(found) >= 4
    assert all(abs(x - cx) < 0.5 and abs(y - cy) < 0.5 for (cx, cy), (x, y) in found.items())


@pytest.mark.parametrize("kind", ["generic, own scales", "dicom"])
def test_padded_levels_that_declare_their_scale_are_used(tmp_path: Path, kind: str) -> None:
    plan, _ = tiles_of(written(tmp_path, kind, pyramid(2000, 2000, unit=512)), 0.5)
    assert (plan.detail["level"], plan.detail["downsample"]) == (1, 2)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    plan, _ = tiles_of(written(tmp_path, "ome", pyramid(1700, 2000, unit=512)), 1.0)
    contents = plan.detail["contents"]
    assert isinstance(contents, dict)
    assert (contents["levels"], contents["levels_read"]) == (3, 1)


def test_a_wrong_declaration_is_not_believed() -> None:
    assert believed_factors([(4000, 3000), (2000, 1500)], [None, 4.0]) == (1.0, None)
    assert believed_factors([(4000, 3000), (2000, 1500)], [None, 2.003]) == (1.0, 2.0)


@given(
    width=st.integers(600, 100_000),
    height=st.integers(600, 100_000),
    unit=st.sampled_from([128, 256, 512, 1024]),
    steps=st.integers(1, 5),
    chained=st.booleans(),
)
def test_no_padding_passes_for_a_scale(width: int, height: int, unit: int, steps: int, chained: bool) -> None:
    """Whatever is believed is right at the far end to a pixel of the level."""
    levels, side = [(width, height)], (width, height)
    for step in range(1, steps + 1):
        side = (side[0] // 2, side[1] // 2) if chained else (width // 2**step, height // 2**step)
        side = (-(-side[0] // unit) * unit, -(-side[1] // unit) * unit)
        levels.append(side)
    kept = [level for k, level in enumerate(levels) if level not in levels[:k]]
    for step, (level, factor) in enumerate(zip(kept, believed_factors(kept, piece=(unit, unit)), strict=True)):
        if factor is not None and step:
            assert abs(width / factor - width / 2 ** levels.index(level)) <= 1
