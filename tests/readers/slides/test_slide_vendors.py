"""Scanners' own formats: the right pixels at the right micrometres, companions and transparency, named refusals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import vendor_slides
from rulers import centroids, ruled
from slide_factory import tissue_like
from slide_reading import all_tiles, planned, policy

from umedfeat.contract import RegionUnreadable
from umedfeat.discovery import discover
from umedfeat.errors import InputError, ScaleError, UnsupportedInput
from umedfeat.naming import Pseudonyms, content_sha256
from umedfeat.readers import open_reader, sniff

Writer = Callable[..., Path]

#: File name, writer, vendor, and the largest mean error of a pixel (JPEG of a VMS; the others are lossless).
VENDORS: dict[str, tuple[str, Writer, str, float]] = {
    "MIRAX": ("s.mrxs", vendor_slides.write_mrxs, "mirax", 0.0),
    "Hamamatsu VMS": ("s.vms", vendor_slides.write_vms, "hamamatsu", 2.5),
    "Leica SCN": ("s.scn", vendor_slides.write_scn, "leica", 0.0),
    "Ventana BIF": ("s.bif", vendor_slides.write_bif, "ventana", 0.0),
    "Philips TIFF": ("s.tiff", vendor_slides.write_philips, "philips", 0.0),
    "Zeiss CZI": ("s.czi", vendor_slides.write_czi, "zeiss", 0.0),
    "Sakura SVSLIDE": ("s.svslide", vendor_slides.write_sakura, "sakura", 2.5),
}
every_vendor = pytest.mark.parametrize("vendor", list(VENDORS))


def written(folder: Path, vendor: str, pixels: Any, mpp: float, **options: Any) -> Path:
    name, write, _, _ = VENDORS[vendor]
    return write(folder / name, pixels, mpp, **options)


def found_in(folder: Path) -> Any:
    return discover([folder], policy(), Pseudonyms(b"k" * 16))


@every_vendor
def test_pixels_and_scale_come_through(tmp_path: Path, vendor: str) -> None:
    pixels = tissue_like(768, 1024)
    path = written(tmp_path, vendor, pixels, 0.25)
    assert sniff(path, path.read_bytes()[:4096]) == "slide"
    plan, tiles = all_tiles(path, policy(mpp=0.25, tile_size=128))
    assert plan.format == VENDORS[vendor][2]
    assert plan.mpp == (pytest.approx(0.25), pytest.approx(0.25))
    assert plan.mpp_source == "header:openslide.mpp-x"
    inside = [k for k, r in enumerate(plan.regions) if r["x"] + 128 <= 1024 and r["y"] + 128 <= 768]
    assert len(inside) == 48
    for k in inside:
        x, y = int(plan.regions["x"][k]), int(plan.regions["y"][k])
        assert np.abs(tiles[k].astype(int) - pixels[y : y + 128, x : x + 128]).mean() <= VENDORS[vendor][3]


@every_vendor
@pytest.mark.parametrize(("target", "level"), [(0.3, 0), (0.5, 1), (0.7, 1)])
def test_landmarks_lie_where_they_are(tmp_path: Path, vendor: str, target: float, level: int) -> None:
    path = written(tmp_path, vendor, ruled(0.25, 256), 0.25)
    size = int(200 / target) // 2 * 2
    plan, tiles = all_tiles(path, policy(mpp=target, tile_size=size, overlap=size // 2))
    assert plan.detail["level"] == level
    assert plan.tile_extent * 0.25 == pytest.approx(size * target)
    found = centroids(plan, tiles, 0.25, target)
    assert len(found) == 6
    for (cx, cy), (x, y) in found.items():
        assert abs(x - cx) < target / 2, (cx, x)
        assert abs(y - cy) < target / 2, (cy, y)


@pytest.mark.parametrize("offset", [(256, 512), (101, 203), (98, 7)])
@pytest.mark.parametrize("target", [0.25, 0.5, 1.0, 2.0])
def test_scanned_areas_anywhere_on_a_leica_slide(tmp_path: Path, offset: tuple[int, int], target: float) -> None:
    path = written(tmp_path, "Leica SCN", ruled(0.25, 256), 0.25, offset=offset, levels=4)
    size = int(200 / target) // 2 * 2
    plan, tiles = all_tiles(path, policy(mpp=target, tile_size=size, overlap=size // 2))
    found = centroids(plan, tiles, 0.25, target, (offset[0] * 0.25, offset[1] * 0.25))
    assert len(found) == 6
    for (cx, cy), (x, y) in found.items():
        assert abs(x - cx) < target / 2, (cx, x)
        assert abs(y - cy) < target / 2, (cy, y)


@every_vendor
def test_an_absurd_scale_is_refused(tmp_path: Path, vendor: str) -> None:
    path = written(tmp_path, vendor, tissue_like(512, 512), 250.0)
    with pytest.raises(ScaleError, match="cannot be true") as caught:
        planned(path, policy())
    assert "--source-mpp" in caught.value.remedy
    assert planned(path, policy(source_mpp=0.5)).mpp_source == "flag"


@pytest.mark.parametrize("dark", [False, True], ids=["brightfield", "fluorescence"])
def test_transparent_parts_of_mirax_are_white_and_background(tmp_path: Path, dark: bool) -> None:
    pixels = tissue_like(1024, 1024)
    if dark:
        light = np.random.default_rng(0).integers(3, 8, (1024, 1024, 3), dtype=np.uint8)
        light[:512, :512, 2] += 200 - pixels[:512, :512, 1] // 2
        pixels = light
    missing = frozenset((x, y) for x in (2, 3) for y in (2, 3))
    path = written(tmp_path, "MIRAX", pixels, 2.0, missing=missing)
    plan, tiles = all_tiles(path, policy(mpp=2.0, tile_size=256))
    for region, tile in zip(plan.regions, tiles, strict=True):
        x, y = int(region["x"]), int(region["y"])
        expected = pixels[y : y + 256, x : x + 256]
        assert np.array_equal(tile, np.full_like(tile, 255) if (x // 256, y // 256) in missing else expected)
    kept = planned(path, policy("auto", mpp=2.0, tile_size=256))
    corners = {(int(r["x"]) // 256, int(r["y"]) // 256) for r in kept.regions}
    lit = {(x, y) for x in range(2 if dark else 4) for y in range(2 if dark else 4)}
    assert corners == lit - missing


def test_an_area_that_no_level_holds_is_not_white_tissue(tmp_path: Path) -> None:
    """The overview shows tissue where the level that is read has nothing: dropped and recorded, never white."""
    pixels = tissue_like(1024, 1024)
    path = written(tmp_path, "Philips TIFF", pixels, 0.25, levels=2)
    import tifffile

    with tifffile.TiffFile(path) as file:
        sizes = file.pages[0].tags["TileByteCounts"]
    data = bytearray(path.read_bytes())
    data[sizes.valueoffset + 5 * 4 : sizes.valueoffset + 6 * 4] = bytes(4)
    path.write_bytes(data)
    plan, tiles = all_tiles(path, policy("auto", mpp=0.25, tile_size=256))
    lost = [k for k, tile in enumerate(tiles) if isinstance(tile, RegionUnreadable)]
    assert lost == [5]
    assert "the file holds 0% of it" in str(tiles[5])
    assert len(plan.regions) == 16


def test_companions_are_part_of_their_slide(tmp_path: Path) -> None:
    """They are no inputs of their own, and a slide with other companions is another slide."""
    contents = {}
    for vendor in ("MIRAX", "Hamamatsu VMS"):
        for seed in (0, 1):
            folder = tmp_path / vendor / str(seed)
            folder.mkdir(parents=True)
            pixels = tissue_like(512, 512, seed)
            pixels[::8, ::8] = 200  # the picture in a .mrxs shows but few pixels of the slide
            written(folder, vendor, pixels, 0.25)
            found = found_in(folder)
            assert [source.format for source in found.sources] == ["slide"]
            assert found.failures == ()
            assert {skip.reason for skip in found.skipped} == {"belongs to the slide beside it"}
            assert len(found.skipped) == (4 if vendor == "MIRAX" else 3)
            contents[vendor, seed] = content_sha256(found.sources[0].files)
    assert len(set(contents.values())) == 4


@pytest.mark.parametrize(
    ("vendor", "lost"),
    [
        ("MIRAX", "s/Data0000.dat"),
        ("MIRAX", "s/Data0001.dat"),
        ("MIRAX", "s/Index.dat"),
        ("MIRAX", "s/Slidedat.ini"),
        ("MIRAX", "s"),
        ("Hamamatsu VMS", "s-image.jpg"),
        ("Hamamatsu VMS", "s-map.jpg"),
    ],
)
def test_a_missing_companion_is_named(tmp_path: Path, vendor: str, lost: str) -> None:
    path = written(tmp_path, vendor, tissue_like(512, 512), 0.25)
    gone = tmp_path / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    found = found_in(tmp_path)
    (source,) = found.sources
    with pytest.raises(InputError) as caught:
        open_reader(source, policy())
    assert path.name in caught.value.message
    assert lost.rpartition("/")[2] in caught.value.message
    assert "copy" in caught.value.remedy


def test_a_mirax_slide_in_capital_letters_is_told_to_be_renamed(tmp_path: Path) -> None:
    path = written(tmp_path, "MIRAX", tissue_like(512, 512), 0.25)
    path.rename(tmp_path / "s.MRXS")
    found = found_in(tmp_path)
    assert len(found.skipped) == 4
    with pytest.raises(InputError) as caught:
        open_reader(found.sources[0], policy())
    assert caught.value.remedy == "rename it to s.mrxs"


def test_deep_pixels_of_a_czi_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path, "Zeiss CZI", tissue_like(512, 512), 0.25, pixel_type=4)
    with pytest.raises(UnsupportedInput, match="uint16") as caught:
        planned(path, policy())
    assert "export" in caught.value.remedy


def test_focal_planes_that_openslide_does_not_show_are_counted(tmp_path: Path) -> None:
    """Planes of an Aperio slide look like levels of one size, those of a Ventana stand in its XML."""
    pixels = tissue_like(512, 512)
    aperio = tmp_path / "a.svs"
    description = "Aperio Image Library v11\r\n512x512 [0,0 512x512] (256x256)|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(aperio) as writer:
        for plane in (pixels, 255 - pixels, pixels):
            writer.write(plane, tile=(256, 256), photometric="rgb", metadata=None, description=description)
    ventana = vendor_slides.write_bif(tmp_path / "v.bif", pixels, 0.5)
    ventana.write_bytes(ventana.read_bytes().replace(b'Z-layers="1"', b'Z-layers="3"'))
    with pytest.raises(UnsupportedInput, match="3 planes of one size, and none was chosen"):
        planned(aperio, policy(mpp=0.5))
    _, tiles = all_tiles(aperio, policy(mpp=0.5, tile_size=256, focus="2"))
    assert np.array_equal(tiles[0], 255 - pixels[:256, :256])
    with pytest.raises(UnsupportedInput, match="3 focal planes") as caught:
        planned(ventana, policy(mpp=0.5))
    assert "--focus middle" in caught.value.remedy
    told = planned(ventana, policy(mpp=0.5, focus="middle")).detail["contents"]
    assert isinstance(told, dict)
    assert (told["planes"], told["planes_read"], told["focus"]) == (3, 1, "the scanner's own of 3 planes")
    sakura = vendor_slides.write_sakura(tmp_path / "s.svslide", pixels, 0.5, planes=3)
    with pytest.raises(UnsupportedInput, match="3 focal planes"):
        planned(sakura, policy(mpp=0.5))
    philips = vendor_slides.write_philips(tmp_path / "p.tiff", pixels, 0.5)
    assert "--focus chose nothing" in planned(philips, policy(mpp=0.5, focus="2")).hint


def test_scanned_areas_are_counted(tmp_path: Path) -> None:
    path = vendor_slides.write_scn(tmp_path / "s.scn", tissue_like(512, 512), 0.5)
    told = planned(path, policy(mpp=0.5)).detail["contents"]
    assert isinstance(told, dict)
    assert (told["scenes"], told["scenes_read"]) == (1, 1)
