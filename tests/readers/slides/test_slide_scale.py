"""Micrometres: tiles of exact extent, landmarks where they belong at every level, scales that are believed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from rulers import SIDE, centroids, ruled
from slide_factory import tissue_like, write_slide
from slide_reading import all_tiles, planned, policy

from umedfeat.errors import ScaleError
from umedfeat.readers.scale import scale_of
from umedfeat.readers.slides.ome import ome_images


@pytest.mark.parametrize("flavour", ["svs", "ome"])
@pytest.mark.parametrize(
    ("target", "level"), [(0.25, 0), (0.3, 0), (0.45, 0), (0.5, 1), (0.7, 1), (1.0, 2), (1.5, 2), (2.0, 3), (2.6, 3)]
)
def test_landmarks_land_within_half_a_pixel_at_every_level(
    tmp_path: Path, flavour: str, target: float, level: int
) -> None:
    path = write_slide(tmp_path / "s.tif", ruled(0.25), 0.25, levels=4, flavour=flavour, compression=None)
    size = int(SIDE / 2 / target) // 2 * 2
    plan, tiles = all_tiles(path, policy(mpp=target, tile_size=size, overlap=size // 2))
    assert plan.detail["level"] == level
    assert plan.tile_extent * 0.25 == pytest.approx(size * target)
    found = centroids(plan, tiles, 0.25, target)
    assert len(found) >= 5
    for (cx, cy), (x, y) in found.items():
        assert abs(x - cx) < target / 2, (cx, x)
        assert abs(y - cy) < target / 2, (cy, y)


@pytest.mark.parametrize("flavour", ["svs", "ome"])
@pytest.mark.parametrize("target", [0.5, 1.0, 2.0])
def test_landmarks_at_the_far_end_of_odd_levels(tmp_path: Path, flavour: str, target: float) -> None:
    """6007 pixels halved three times are 750: by the ratio of the sizes the last disc would lie 7 pixels off."""
    wide = np.full((1600, 6007, 3), 255, np.uint8)
    begin = 6007 - 1600
    wide[:, begin:] = ruled(0.25)
    path = write_slide(tmp_path / "s.tif", wide, 0.25, levels=4, flavour=flavour, compression=None)
    size = int(SIDE / 2 / target) // 2 * 2
    plan, tiles = all_tiles(path, policy(mpp=target, tile_size=size, overlap=size // 2))
    found = centroids(plan, tiles, 0.25, target, (begin * 0.25, 0.0))
    assert len(found) >= 5
    for (cx, cy), (x, y) in found.items():
        assert abs(x - cx) < target / 2, (cx, x)
        assert abs(y - cy) < target / 2, (cy, y)


@pytest.mark.parametrize("scanned", [0.2520, 0.265, 0.4990, 1.0])
def test_tiles_are_exactly_112_micrometres(tmp_path: Path, scanned: float) -> None:
    path = write_slide(tmp_path / "s.svs", ruled(scanned), scanned, levels=2, flavour="svs", compression=None)
    chosen = policy(mpp=0.5, tile_size=224, overlap=112, allow_upsample=scanned > 0.5)
    if scanned > 0.5:
        with pytest.raises(ScaleError, match="coarser") as caught:
            planned(path, policy(mpp=0.5, tile_size=224))
        assert "--allow-upsample" in caught.value.remedy
    plan, tiles = all_tiles(path, chosen)
    assert plan.tile_extent * scanned == pytest.approx(112.0, abs=1e-9)
    assert {tile.shape for tile in tiles} == {(224, 224, 3)}
    # Distances between discs within one tile, in tile pixels: a magnification bucket would be 0.8 to 5.7 % off.
    found = centroids(plan, tiles, scanned, 0.5)
    assert len(found) >= 4
    for (cx, cy), (x, y) in found.items():
        assert abs(x - cx) < 0.25
        assert abs(y - cy) < 0.25


@pytest.mark.parametrize(
    ("scanned", "target", "tile", "overlap"),
    [(0.4317, 0.7301, 197, 131), (0.4431, 0.8863, 171, 113), (0.5022, 0.5, 333, 222), (0.4213, 2.9, 97, 71)],
)
def test_landmarks_of_awkward_combinations(
    tmp_path: Path, scanned: float, target: float, tile: int, overlap: int
) -> None:
    path = write_slide(tmp_path / "s.svs", ruled(scanned, 1), scanned, levels=5, flavour="svs", compression=None)
    plan, tiles = all_tiles(path, policy(mpp=target, tile_size=tile, overlap=overlap))
    assert plan.tile_extent * scanned == pytest.approx(tile * target)
    found = centroids(plan, tiles, scanned, target)
    assert len(found) >= 4
    for (cx, cy), (x, y) in found.items():
        assert abs(x - cx) < target / 2, (cx, x)
        assert abs(y - cy) < target / 2, (cy, y)


def test_overlap_moves_the_grid_by_the_rest(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.svs", tissue_like(512, 512), 0.25, levels=1, flavour="svs")
    plan = planned(path, policy(mpp=0.5, tile_size=64, overlap=16))
    assert sorted(set(plan.regions["x"].tolist())) == [0, 96, 192, 288, 384]


def generic(path: Path, **options: Any) -> Path:
    tifffile.imwrite(path, tissue_like(512, 512), tile=(256, 256), photometric="rgb", metadata=None, **options)
    return path


@pytest.mark.parametrize(
    ("unit", "per_unit"), [("CENTIMETER", 20_000.0), ("INCH", 50_800.0)], ids=["centimetres", "inches"]
)
def test_tiff_resolution_in_both_units(tmp_path: Path, unit: str, per_unit: float) -> None:
    path = generic(tmp_path / "s.tif", resolution=(per_unit, per_unit), resolutionunit=unit)
    plan = planned(path, policy())
    assert plan.mpp == (pytest.approx(0.5), pytest.approx(0.5))
    assert plan.mpp_source.startswith("header:")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "does not tell"),
        ({"resolution": (20_000, 20_000), "resolutionunit": "NONE"}, "does not tell"),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, "cannot be true"),
        ({"resolution": (20_000, 15_000), "resolutionunit": "CENTIMETER"}, "differ by more than 5 %"),
    ],
    ids=["none", "without unit", "72 dpi", "oblong"],
)
def test_absent_or_absurd_scales_fail_with_the_remedy(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    path = generic(tmp_path / "s.tif", **options)
    with pytest.raises(ScaleError, match=told) as caught:
        planned(path, policy())
    assert "--source-mpp" in caught.value.remedy
    assert "manifest" in caught.value.remedy
    assert planned(path, policy(source_mpp=0.5)).mpp_source == "flag"
    assert planned(path, policy(), mpp=0.5).mpp_source == "manifest"


@pytest.mark.parametrize("text", ["0", "-0.25", "1000000", "nan", "inf", "unknown", ""])
def test_absurd_header_values_are_never_used(text: str) -> None:
    properties = {"openslide.mpp-x": text, "openslide.mpp-y": text}
    with pytest.raises(ScaleError, match=r"s\.svs") as caught:
        scale_of(properties, "s.svs", manifest=None, flag=None)
    assert "--source-mpp" in caught.value.remedy
    assert scale_of(properties, "s.svs", manifest=None, flag=0.5) == (0.5, 0.5, "flag")


@pytest.mark.parametrize("value", [0.0, -1.0, 1e6, float("nan"), float("inf")])
def test_absurd_manifest_values_fail_too(value: float) -> None:
    with pytest.raises(ScaleError, match="manifest"):
        scale_of({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, "s.svs", manifest=value, flag=0.5)


def test_the_manifest_beats_the_header_and_the_header_the_flag() -> None:
    properties = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}
    assert scale_of(properties, "s", manifest=0.4, flag=0.5).source == "manifest"
    assert scale_of(properties, "s", manifest=None, flag=0.5) == (0.25, 0.25, "header:openslide.mpp-x")


def test_of_several_scales_in_a_header_the_first_believable_one_is_taken() -> None:
    """A converter that keeps 72 dpi in the tags does not hide what OME-XML says; without it 72 dpi are refused."""
    tags = {
        "openslide.mpp-x": "352.8",
        "openslide.mpp-y": "352.8",
        "tiff.XResolution": "72",
        "tiff.ResolutionUnit": "inch",
    }
    xml = '<OME xmlns="x"><Image><Pixels PhysicalSizeX="0.25" PhysicalSizeY="0.25"/></Image></OME>'
    told = scale_of({**tags, **ome_images(xml)[0].scale}, "s.tif", manifest=None, flag=None)
    assert told == (0.25, 0.25, "header:ome.PhysicalSizeX")
    with pytest.raises(ScaleError, match=r"352\.8.*header:openslide\.mpp-x.*cannot be true"):
        scale_of(tags, "s.tif", manifest=None, flag=None)
    assert scale_of({"openslide.mpp-x": "0,25"}, "s.svs", manifest=None, flag=None).x == 0.25


@pytest.mark.parametrize(("unit", "value"), [("nm", 250.0), ("mm", 0.00025), ("µm", 0.25), ("furlong", 0.25)])
def test_units_of_ome(tmp_path: Path, unit: str, value: float) -> None:
    path = tmp_path / "s.ome.tif"
    sizes = {"PhysicalSizeX": value, "PhysicalSizeXUnit": unit, "PhysicalSizeY": value, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(
        path, tissue_like(600, 600), tile=(256, 256), photometric="rgb", ome=True, metadata={"axes": "YXS", **sizes}
    )
    if unit == "furlong":
        with pytest.raises(ScaleError):
            planned(path, policy())
    else:
        assert planned(path, policy()).mpp == (pytest.approx(0.25), pytest.approx(0.25))


def test_dicom_scale_is_the_pixel_spacing(data_dir: Path) -> None:
    import pydicom

    path = data_dir / "wsi" / "openslide-fixtures" / "boxes_0.dcm"
    spacing = float(pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0])
    plan = planned(path, policy(mpp=spacing * 1000, tile_size=64))
    assert plan.mpp is not None
    assert plan.mpp[0] == pytest.approx(spacing * 1000)
    assert plan.mpp_source == "header:openslide.mpp-x"


def test_an_orientation_tag_is_recorded_pixels_stay_as_stored(data_dir: Path, tmp_path: Path) -> None:
    """A turned coordinate system would no longer be QuPath's or OpenSlide's."""
    plan = planned(data_dir / "wsi" / "test_orient6.tif", policy(mpp=0.5, tile_size=64, source_mpp=0.5))
    assert plan.detail["orientation"] == "TIFF orientation 6, pixels as stored"
    upright = write_slide(tmp_path / "s.tif", tissue_like(512, 512), 0.5, levels=1)
    assert "orientation" not in planned(upright, policy()).detail
