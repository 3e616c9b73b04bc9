"""Whole slides: exact scale, honest refusals, nothing invented."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from slide_factory import halved, tissue_like, write_slide
from slide_reading import all_tiles, planned, policy, source_of

from umedfeat.contract import Found, RegionUnreadable
from umedfeat.discovery import discover
from umedfeat.errors import InputError, ScaleError, TooLarge, UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.readers import open_reader, sniff
from umedfeat.readers.slides import reader as slide_format
from umedfeat.readers.slides.tiff import TiffBackend


def landmarks(side: int, places: list[tuple[float, float]], mpp: float) -> np.ndarray:
    """Dark discs of 6 µm on white, centred at given micrometres."""
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side, 3), 255, dtype=np.uint8)
    for cx, cy in places:
        distance = np.hypot((x + 0.5) * mpp - cx, (y + 0.5) * mpp - cy)
        image[distance < 6] = 0
    return image


@pytest.mark.parametrize("mpp", [0.2520, 0.265, 0.4990])
@pytest.mark.parametrize("levels", [1, 3])
def test_landmarks_at_known_micrometres_land_within_half_a_pixel(tmp_path: Path, mpp: float, levels: int) -> None:
    places = [(30.0, 40.0), (80.0, 75.0), (150.0, 60.0), (190.0, 180.0)]
    pixels = landmarks(round(240 / mpp), places, mpp)
    path = write_slide(tmp_path / "ruler.svs", pixels, mpp, levels=levels, flavour="svs", compression=None)
    plan, tiles = all_tiles(path, policy(mpp=0.5, tile_size=224))
    assert plan.tile_extent * mpp == pytest.approx(112.0)
    for cx, cy in places:
        column, row = int(cx // 112), int(cy // 112)
        tile = 255.0 - tiles[row * 2 + column].mean(axis=2)
        region = plan.regions[row * 2 + column]
        y, x = np.mgrid[:224, :224] + 0.5
        near = np.hypot(x * 0.5 + region["x"] * mpp - cx, y * 0.5 + region["y"] * mpp - cy) < 12
        weight = tile * near
        found = (weight * x).sum() / weight.sum() * 0.5 + region["x"] * mpp
        assert abs(found - cx) < 0.25, (cx, found)
        found = (weight * y).sum() / weight.sum() * 0.5 + region["y"] * mpp
        assert abs(found - cy) < 0.25, (cy, found)


def test_a_coarser_slide_is_not_upsampled_unless_allowed(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "coarse.svs", tissue_like(600, 600), 1.0, levels=1, flavour="svs")
    with pytest.raises(ScaleError, match=r"coarser than the target 0\.5") as caught:
        planned(path, policy())
    assert "--allow-upsample" in caught.value.remedy
    assert planned(path, policy(allow_upsample=True)).tile_extent == 112


@pytest.mark.parametrize(
    ("mpp", "mpp_y", "told"),
    [(None, None, "does not tell"), (352.0, None, "cannot be true"), (0.5, 0.6, "differ by more than 5 %")],
)
def test_missing_or_absurd_scale_is_refused_with_the_remedy(
    tmp_path: Path, mpp: float, mpp_y: float, told: str
) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(512, 512), mpp, mpp_y=mpp_y, levels=2)
    with pytest.raises(ScaleError, match=told) as caught:
        planned(path, policy())
    assert "--source-mpp" in caught.value.remedy
    assert planned(path, policy(source_mpp=0.5)).mpp_source == "flag"
    assert planned(path, policy(), mpp=0.25).mpp_source == "manifest"


@pytest.mark.parametrize(
    ("flavour", "source"), [("svs", "openslide.mpp-x"), ("generic", "tiff.XResolution"), ("ome", "ome")]
)
def test_formats_and_where_their_scale_comes_from(tmp_path: Path, flavour: str, source: str) -> None:
    pixels = tissue_like(700, 800)
    path = write_slide(tmp_path / "s.tif", pixels, 0.25, flavour=flavour, levels=2)
    assert sniff(path, path.read_bytes()[:4096]) == "slide"
    plan, tiles = all_tiles(path, policy(mpp=0.25, tile_size=200))
    assert plan.mpp == (pytest.approx(0.25, rel=1e-4), pytest.approx(0.25, rel=1e-4))
    assert plan.mpp_source.startswith(f"header:{source}")
    assert len(tiles) == 12
    for region, tile in zip(plan.regions, tiles, strict=True):
        expected = pixels[region["y"] : region["y"] + 200, region["x"] : region["x"] + 200]
        assert np.abs(tile.astype(int) - expected).mean() < 6


def test_blocks_and_single_reads_give_the_same_bits(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.svs", tissue_like(900, 1600), 0.265, flavour="svs", levels=2)
    chosen = policy(mpp=0.5, tile_size=100)
    plan, together = all_tiles(path, chosen)
    reader = open_reader(source_of(path), chosen, plan.prepared)
    for k in random.Random(0).sample(range(len(plan.regions)), 12):
        alone = reader.read(plan.regions[k : k + 1])[0]
        assert np.array_equal(alone, together[k])
    reader.close()


def test_an_all_white_slide_has_no_tiles(tmp_path: Path) -> None:
    white = np.full((2048, 2048, 3), 245, dtype=np.uint8)
    path = write_slide(tmp_path / "white.svs", white, 0.5, flavour="svs")
    assert len(planned(path, policy("auto")).regions) == 0


def test_tissue_decides_which_tiles_are_kept(tmp_path: Path) -> None:
    pixels = np.full((2240, 2240, 3), 244, dtype=np.uint8)
    pixels[:1120, :1120] = tissue_like(1120, 1120)
    path = write_slide(tmp_path / "half.svs", pixels, 0.5, flavour="svs")
    plan = planned(path, policy("auto", min_tissue=0.5))
    corners = {(int(r["x"]), int(r["y"])) for r in plan.regions}
    inside = {(x, y) for x in range(0, 1120, 224) for y in range(0, 1120, 224)}
    assert inside <= corners
    assert not any(x >= 1344 or y >= 1344 for x, y in corners)
    assert (plan.regions["tissue"] >= 0.5).all()


def test_a_slide_smaller_than_a_tile_says_so(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "tiny.svs", tissue_like(64, 64), 0.5, levels=1, flavour="svs")
    plan = planned(path, policy())
    assert len(plan.regions) == 0
    assert plan.detail["note"] == "smaller than one tile"


def test_sixteen_bits_are_refused_not_clipped(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "deep.ome.tif"
    pixels = np.zeros((600, 600, 3), dtype=np.uint16)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", ome=True)
    with pytest.raises(UnsupportedInput, match="uint16"):
        planned(path, policy(source_mpp=0.5))


def test_damaged_regions_are_named_and_the_others_survive(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.svs", tissue_like(1024, 1024), 0.5, levels=1, flavour="svs")
    chosen = policy(tile_size=256)
    plan = planned(path, chosen)
    import tifffile

    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[5]
    data = bytearray(path.read_bytes())
    data[place : place + 40] = b"\xff\xd8" + b"\0" * 38
    path.write_bytes(data)
    reader = open_reader(source_of(path), chosen, plan.prepared)
    read = reader.read(plan.regions)
    lost = [k for k, tile in enumerate(read) if isinstance(tile, RegionUnreadable)]
    assert 5 in lost
    assert len(lost) < len(read)
    assert all(tile.min() < 250 for tile in read if not isinstance(tile, RegionUnreadable))
    again = reader.read(plan.regions[:1])[0]
    assert not isinstance(again, RegionUnreadable)
    reader.close()


def test_real_slide_corrupted_at_many_places_never_turns_white(data_dir: Path, tmp_path: Path, seed: int) -> None:
    original = (data_dir / "wsi" / "CMU-1-Small-Region.svs").read_bytes()
    generator = random.Random(seed)
    path = tmp_path / "bad.svs"
    chosen = policy("auto", mpp=0.5, tile_size=448)
    clean = tmp_path / "clean.svs"
    clean.write_bytes(original)
    plan, good = all_tiles(clean, chosen)
    for _ in range(12):
        damaged = bytearray(original)
        start = generator.randrange(len(damaged) - 400)
        damaged[start : start + 300] = generator.randbytes(300)
        path.write_bytes(damaged[: generator.choice([len(damaged), len(damaged), start])])
        try:
            reader = open_reader(source_of(path), chosen, plan.prepared)
        except InputError:
            continue
        for tile, sound in zip(reader.read(plan.regions), good, strict=True):
            if not isinstance(tile, RegionUnreadable) and sound.mean() < 235:
                assert tile.mean() < 250, f"seed {seed}: a tile turned white"
        reader.close()


@pytest.mark.parametrize("content", [b"", b"just text, renamed", b"II*\0\xff\xff\xff\xff"])
def test_files_that_are_no_slides_are_failures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.svs").write_bytes(content)
    found = discover([tmp_path], policy(), Pseudonyms(b"k" * 16))
    if found.sources:
        with pytest.raises(InputError):
            open_reader(found.sources[0], policy())
    else:
        assert [failure.source for failure in found.failures] == ["bad.svs"]


def test_companions_of_mirax_are_no_inputs(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s.mrxs").write_bytes(b"\xff\xd8\xff")
    for name in ("Slidedat.ini", "Data0000.dat"):
        (tmp_path / "s" / name).write_bytes(b"[GENERAL]")
    files = [Found(path, path.relative_to(tmp_path).as_posix(), {}) for path in sorted((tmp_path / "s").iterdir())]
    collected = slide_format.collect(files, policy(), Pseudonyms(b"k" * 16))
    assert [skipped.reason for skipped in collected.skipped] == ["belongs to the slide beside it"] * 2
    assert collected.sources == []


def test_dicom_levels_are_one_slide(data_dir: Path, tmp_path: Path) -> None:
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        shutil.copy(data_dir / "wsi" / "openslide-fixtures" / name, tmp_path / name)
    found = discover([tmp_path], policy(), Pseudonyms(b"k" * 16))
    assert [source.modality for source in found.sources] == ["WSI"]
    assert [skipped.reason for skipped in found.skipped] == ["slide thumbnail, not the tissue"]


def test_series_of_one_folder_are_slides_of_their_own(data_dir: Path, tmp_path: Path) -> None:
    import pydicom
    from pydicom.uid import generate_uid

    level = data_dir / "wsi" / "openslide-fixtures" / "boxes_0.dcm"
    shutil.copy(level, tmp_path / "a.dcm")
    other = pydicom.dcmread(level)
    other.SeriesInstanceUID, other.SOPInstanceUID = generate_uid(), generate_uid()
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    other.save_as(tmp_path / "b.dcm")
    found = discover([tmp_path], policy(), Pseudonyms(b"k" * 16))
    assert len({source.id for source in found.sources}) == 2
    for source in found.sources:
        reader = open_reader(source, policy(mpp=0.5, tile_size=64, source_mpp=0.5))
        assert reader.plan().format == "dicom"
        reader.close()


def test_real_files(data_dir: Path) -> None:
    wsi = data_dir / "wsi"
    for name, mpp in [
        ("CMU-1-Small-Region.svs", 0.499),
        ("test3-DAPI-2-(387).ndpi", 0.228),
        ("OS-1-detail.ome.tif", 0.227),
    ]:
        plan = planned(wsi / name, policy("auto", mpp=0.5))
        assert plan.mpp is not None
        assert plan.mpp[0] == pytest.approx(mpp, abs=0.001)
        assert len(plan.regions) > 0, name


def test_the_same_tissue_at_two_scales_has_the_same_features(tmp_path: Path) -> None:
    import torch

    from umedfeat.encoders import load_encoder

    fine = tissue_like(1000, 1000)
    paths = [
        write_slide(tmp_path / "fine.svs", fine, 0.25, flavour="svs", levels=1, compression=None),
        write_slide(tmp_path / "coarse.svs", halved(fine), 0.5, flavour="svs", levels=1, compression=None),
    ]
    encoder = load_encoder("efficientnet-lite0", device="cpu")
    vectors = []
    for path in paths:
        _, tiles = all_tiles(path, policy(mpp=0.5, tile_size=224))
        vectors.append(encoder(torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 255))
    assert torch.nn.functional.cosine_similarity(*vectors).min() >= 0.99


def test_max_pixels_bounds_one_piece(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.ome.tif", tissue_like(512, 512), 0.5, flavour="ome", levels=1)
    with pytest.raises(TooLarge, match="pixels"):
        TiffBackend(path, path.name, max_pixels=1000)


def test_transparent_pixels_lie_on_white() -> None:
    """MIRAX has no pixels between its fields of view: OpenSlide gives them as wholly or partly transparent."""
    from PIL import Image

    from umedfeat.readers.slides.backends import on_white

    rgba = np.array([[[0, 0, 0, 0], [200, 100, 50, 255], [200, 100, 50, 51]]], dtype=np.uint8)
    assert on_white(Image.fromarray(rgba)).rgb.tolist() == [[[255, 255, 255], [200, 100, 50], [244, 224, 214]]]


def test_icc_is_kept_unless_srgb_is_asked_for(tmp_path: Path) -> None:
    import tifffile
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for content, name in ((srgb, "s.tif"), (profile, "lab.tif")):
        tifffile.imwrite(
            tmp_path / name,
            tissue_like(512, 512),
            tile=(256, 256),
            photometric="rgb",
            resolution=(20_000, 20_000),
            resolutionunit="CENTIMETER",
            iccprofile=content,
        )
    assert planned(tmp_path / "s.tif", policy()).detail["icc"] == "kept"
    plan, tiles = all_tiles(tmp_path / "s.tif", policy(icc="srgb"))
    assert plan.detail["icc"] == "srgb"
    _, kept = all_tiles(tmp_path / "s.tif", policy())
    assert np.abs(tiles[0].astype(int) - kept[0]).max() <= 1
    with pytest.raises(InputError, match="colour profile"):
        planned(tmp_path / "lab.tif", policy(icc="srgb"))
