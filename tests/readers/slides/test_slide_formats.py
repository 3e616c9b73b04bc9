"""Formats beside OpenSlide's and TIFF: OME-Zarr, CZI of every kind, VSI, iSyntax, Sakura, multiplex QPTIFF."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from rulers import centroids, ruled
from slide_factory import halved, tissue_like
from slide_reading import policy
from vendor_slides import write_czi
from vsi_slide import write_vsi

from umedfeat.contract import Plan, RegionUnreadable
from umedfeat.discovery import Discovery, discover
from umedfeat.errors import InputError, ScaleError, UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy
from umedfeat.readers import open_reader

with_zarr = pytest.mark.skipif(sys.version_info < (3, 11), reason="zarr 3 needs Python 3.11")


def found(path: Path, chosen: Policy | None = None) -> Discovery:
    return discover([path], chosen or policy(), Pseudonyms(b"k" * 16))


def read(path: Path, chosen: Policy, number: int = 0) -> tuple[Plan, list[Any]]:
    source = found(path, chosen).sources[number]
    reader = open_reader(source, chosen)
    try:
        plan = reader.plan()
        return plan, list(reader.read(plan.regions))
    finally:
        reader.close()


def first(pixels: np.ndarray) -> np.ndarray:
    """Colours before rows and columns."""
    return np.moveaxis(pixels, -1, 0)


def contents(plan: Plan) -> dict[str, Any]:
    told = plan.detail["contents"]
    assert isinstance(told, dict)
    return told


def agrees(path: Path, pixels: np.ndarray, mpp: float, error: float = 0.0) -> None:
    """Tiles at the slide's own scale and at half of it show the pixels of their place; every level is used."""
    for factor, truth in ((1, pixels), (2, halved(pixels))):
        plan, tiles = read(path, policy(mpp=mpp * factor, tile_size=64))
        assert plan.mpp == (pytest.approx(mpp, rel=1e-6), pytest.approx(mpp, rel=1e-6))
        assert plan.detail["downsample"] == factor
        assert len(tiles) == (pixels.shape[0] // 64 // factor) * (pixels.shape[1] // 64 // factor)
        for region, tile in zip(plan.regions, tiles, strict=True):
            x, y = int(region["x"]) // factor, int(region["y"]) // factor
            assert np.abs(tile.astype(int) - truth[y : y + 64, x : x + 64]).mean() <= error


@with_zarr
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "tczyx"])
def test_an_ome_zarr_store_is_one_slide(tmp_path: Path, version: str, axes: str) -> None:
    from zarr_store import write_picture

    pixels = tissue_like(384, 512)
    planes = first(pixels) if axes == "cyx" else first(pixels)[None, :, None]
    path = write_picture(tmp_path / "in" / "s.ome.zarr", planes, 0.25, version=version, axes=axes)
    seen = found(tmp_path / "in")
    assert [(source.id, source.name, source.format) for source in seen.sources] == [("s", "s.ome.zarr", "slide")]
    assert not seen.skipped
    assert not seen.failures
    assert len(seen.sources[0].files) == sum(file.is_file() for file in path.rglob("*"))
    agrees(path, pixels, 0.25)
    plan, _ = read(path, policy(mpp=0.25, tile_size=64))
    assert contents(plan)["channels"] == "3 planes, read as red, green and blue"
    assert plan.format == "ome-zarr"


@with_zarr
def test_a_store_that_a_manifest_lists(tmp_path: Path) -> None:
    from zarr_store import write_picture

    write_picture(tmp_path / "s.ome.zarr", first(tissue_like(256, 256)), 0.5, unit=None)
    table = tmp_path / "m.csv"
    table.write_text("path,id,mpp,label\ns.ome.zarr,case7,0.25,1\n")
    (source,) = found(table).sources
    assert (source.id, source.mpp, source.meta["label"]) == ("case7", 0.25, "1")
    with pytest.raises(ScaleError, match="does not tell"):  # numbers without a unit are no scale
        read(tmp_path / "s.ome.zarr", policy(mpp=0.5))


@with_zarr
def test_channels_and_focal_planes_of_a_store_are_chosen(tmp_path: Path) -> None:
    from zarr_store import write_picture

    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (2, 3, 128, 128)).astype(np.uint8)
    path = write_picture(tmp_path / "s.zarr", planes, 0.5, axes="czyx", channels=("DAPI", "CD3"))
    with pytest.raises(UnsupportedInput, match=r"2 channels \(DAPI, CD3\)"):
        read(path, policy(mpp=0.5, tile_size=64))
    with pytest.raises(UnsupportedInput, match="3 focal planes"):
        read(path, policy(mpp=0.5, tile_size=64, channel="CD3"))
    plan, tiles = read(path, policy(mpp=0.5, tile_size=64, channel="CD3", focus="3"))
    assert np.array_equal(tiles[0][..., 0], planes[1, 2, :64, :64])
    assert contents(plan)["planes"] == 6
    assert contents(plan)["planes_read"] == 1


@with_zarr
def test_labels_in_a_store_are_never_read_and_equals_are_inputs(tmp_path: Path) -> None:
    from zarr_store import write_series

    pictures = {name: first(tissue_like(256, 256, k)) for k, name in enumerate(("label", "region A", "region B"))}
    path = write_series(tmp_path / "s.zarr", pictures, 0.5)
    seen = found(path)
    assert [source.id for source in seen.sources] == ["s-series1", "s-series2"]
    assert [skipped.reason for skipped in seen.skipped] == ["slide label, not the tissue"]
    for number in (0, 1):
        _, tiles = read(path, policy(mpp=0.5, tile_size=64), number)
        assert np.array_equal(tiles[0], tissue_like(256, 256, number + 1)[:64, :64])


@with_zarr
def test_lost_and_damaged_chunks_are_not_white_tissue(tmp_path: Path) -> None:
    from zarr_store import write_picture

    path = write_picture(tmp_path / "s.zarr", first(tissue_like(512, 512)), 0.5, levels=1)
    (path / "0" / "0" / "0" / "0").write_bytes(b"no chunk")
    (path / "0" / "1" / "3" / "3").unlink()
    plan, tiles = read(path, policy(mpp=0.5, tile_size=128))
    assert isinstance(tiles[0], RegionUnreadable)
    assert (tiles[-1] == 255).all()  # nothing was scanned there
    assert sum(isinstance(tile, RegionUnreadable) for tile in tiles) == 1
    assert len(plan.regions) == 16


@with_zarr
def test_stores_without_a_picture_and_plates_are_named(tmp_path: Path) -> None:
    import zarr

    zarr.open_group(str(tmp_path / "table.zarr"), mode="w", zarr_format=2).attrs["encoding-type"] = "anndata"
    zarr.open_group(str(tmp_path / "plate.zarr"), mode="w", zarr_format=2).attrs["plate"] = {"wells": []}
    (tmp_path / "torn.zarr").mkdir()
    (tmp_path / "torn.zarr" / ".zattrs").write_text('{"multiscales": [')
    (tmp_path / "packed.ome.zarr.zip").write_bytes(b"PK\3\4" + bytes(100))
    seen = found(tmp_path)
    assert not seen.sources
    assert [(skipped.name, skipped.reason) for skipped in seen.skipped] == [
        ("table.zarr", "a Zarr store without a picture")
    ]
    told = {failure.source: failure.message + failure.remedy for failure in seen.failures}
    assert "plate" in told["plate.zarr"]
    assert "damaged" in told["torn.zarr"]
    assert "unpack" in told["packed.ome.zarr.zip"]


def test_what_is_missing_for_a_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "s.zarr"
    (folder / "0").mkdir(parents=True)
    (folder / ".zattrs").write_text('{"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": "0"}]}]}')
    (folder / "0" / ".zarray").write_text('{"shape": [9, 9]}')
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UnsupportedInput, match="needs zarr") as caught:
        read(folder, policy(mpp=0.5))
    assert "umedfeat[zarr]" in caught.value.remedy


@pytest.mark.parametrize("compression", [0, 1, 4, 5, 6])
def test_channels_of_a_fluorescence_czi(tmp_path: Path, compression: int) -> None:
    pixels = tissue_like(512, 640)
    planes = np.stack([pixels[..., 0], 255 - pixels[..., 1]])
    path = write_czi(tmp_path / "s.czi", planes, 0.325, pixel_type=0, compression=compression)
    with pytest.raises(UnsupportedInput, match=r"2 channels \(DAPI, CD3\)"):
        read(path, policy(mpp=0.5))
    for factor, size in ((1, 1), (2, 2)):
        plan, tiles = read(path, policy(mpp=0.325 * factor, tile_size=64, channel="CD3"))
        truth = planes[1] if factor == 1 else halved(np.repeat(planes[1][..., None], 3, axis=2))[..., 0]
        error = 3.0 if compression == 1 else 0.0
        for region, tile in zip(plan.regions, tiles, strict=True):
            x, y = int(region["x"]) // size, int(region["y"]) // size
            assert np.abs(tile[..., 1].astype(int) - truth[y : y + 64, x : x + 64]).mean() <= error
    assert plan.mpp == (pytest.approx(0.325), pytest.approx(0.325))
    assert contents(plan)["channels"] == "channel 2 of 2"
    assert contents(plan)["scenes"] == 1


def test_colours_of_a_czi_have_one_order_in_every_codec(tmp_path: Path) -> None:
    """OpenSlide is asked for the codecs that it knows: both readers must show the same."""
    from umedfeat.readers.slides.czi_backend import CziBackend
    from umedfeat.readers.slides.tiff import Choice

    pixels = tissue_like(512, 512)
    for compression in (0, 1, 4, 5, 6):
        path = write_czi(tmp_path / f"{compression}.czi", pixels, 0.5, compression=compression)
        backend = CziBackend(path, path.name, 10**9, Choice())
        block = backend.read(0, 100, 120, 200, 150)
        backend.close()
        difference = np.abs(block.rgb.astype(int) - pixels[120:270, 100:300]).mean()
        assert difference <= (3.0 if compression == 1 else 0.0), compression


def test_a_damaged_sub_block_of_a_czi_is_unreadable(tmp_path: Path) -> None:
    path = write_czi(tmp_path / "s.czi", tissue_like(512, 512)[None, ..., 0], 0.5, pixel_type=0, compression=5)
    content = bytearray(path.read_bytes())
    place = content.index(b"ZISRAWSUBBLOCK") + 32 + 256
    content[place : place + 200] = bytes(200)
    path.write_bytes(content)
    _, tiles = read(path, policy(mpp=0.5, tile_size=256))
    assert [isinstance(tile, RegionUnreadable) for tile in tiles] == [True, False, False, False]
    path.write_bytes(content[:700])
    with pytest.raises(InputError):
        read(path, policy(mpp=0.5, tile_size=256))


@pytest.mark.parametrize(("compression", "error"), [(0, 0.0), (2, 2.5)])
def test_a_vsi_is_read_from_its_ets(tmp_path: Path, compression: int, error: float) -> None:
    pixels = tissue_like(700, 900)
    path = write_vsi(tmp_path / "s.vsi", pixels, 0.2738765, compression=compression, label=True)
    seen = found(tmp_path)
    assert [(source.id, len(source.files)) for source in seen.sources] == [("s", 3)]
    assert {skipped.reason for skipped in seen.skipped} == {
        "slide overview, not the tissue",
        "belongs to the slide beside it",
    }
    agrees(path, pixels, 0.2738765, error)
    plan, _ = read(path, policy(mpp=0.5))
    assert contents(plan)["left_out"] == {"overview": 1}
    assert (plan.width, plan.height, plan.format) == (900, 700, "olympus")


def test_a_vsi_shows_what_slideio_shows(tmp_path: Path) -> None:
    slideio = pytest.importorskip("slideio")
    path = write_vsi(tmp_path / "s.vsi", tissue_like(700, 900), 0.5)
    theirs = slideio.open_slide(str(path), "VSI").get_scene(0).read_block((0, 0, 896, 640))
    plan, tiles = read(path, policy(mpp=0.5, tile_size=64))
    for region, tile in zip(plan.regions, tiles, strict=True):
        assert np.array_equal(tile, theirs[region["y"] : region["y"] + 64, region["x"] : region["x"] + 64])


def test_a_damaged_vsi_tile_is_unreadable_and_a_lost_folder_named(tmp_path: Path) -> None:
    path = write_vsi(tmp_path / "s.vsi", tissue_like(512, 512), 0.5, levels=1)
    ets = tmp_path / "_s_" / "stack1" / "frame_t.ets"
    content = bytearray(ets.read_bytes())
    content[292 + 700 : 292 + 2000] = bytes(1300)
    ets.write_bytes(content)
    _, tiles = read(path, policy(mpp=0.5, tile_size=256))
    assert [isinstance(tile, RegionUnreadable) for tile in tiles] == [True, False, False, False]
    ets.write_bytes(content[:400])
    (failure,) = found(path).failures
    assert "VSI" in failure.message
    shutil.rmtree(tmp_path / "_s_")
    (failure,) = found(path).failures
    assert "_name_" in failure.message
    assert "bioformats2raw" in failure.remedy


@with_zarr
@pytest.mark.parametrize("kind", ["VSI", "OME-Zarr", "grey CZI"])
@pytest.mark.parametrize(("target", "level"), [(0.3, 0), (0.5, 1), (0.7, 1)])
def test_landmarks_lie_where_they_are(tmp_path: Path, kind: str, target: float, level: int) -> None:
    from zarr_store import write_picture

    pixels = ruled(0.25, 256)
    if kind == "VSI":
        path = write_vsi(tmp_path / "s.vsi", pixels, 0.25, compression=0)
    elif kind == "OME-Zarr":
        path = write_picture(tmp_path / "s.zarr", first(pixels), 0.25)
    else:
        path = write_czi(tmp_path / "s.czi", pixels[None, ..., 1], 0.25, pixel_type=0)
    size = int(200 / target) // 2 * 2
    plan, tiles = read(path, policy(mpp=target, tile_size=size, overlap=size // 2))
    assert plan.detail["level"] == level
    for (cx, cy), (x, y) in centroids(plan, tiles, 0.25, target).items():
        assert abs(x - cx) < target / 2, (cx, x)
        assert abs(y - cy) < target / 2, (cy, y)


class FakeIsyntax:
    """What pyisyntax 0.1.7 offers (the test below compares the names), of given pixels."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._levels = [pixels, halved(pixels)]
        self.level_dimensions = [(level.shape[1], level.shape[0]) for level in self._levels]
        self.level_downsamples = [1, 2]
        self.mpp_x = self.mpp_y = 0.25

    def read_region(self, x: int, y: int, width: int, height: int, level: int = 0) -> np.ndarray:
        part = self._levels[level][y : y + height, x : x + width]
        assert part.shape[:2] == (height, width)
        return np.dstack([part, np.full(part.shape[:2], 255, np.uint8)])

    def read_icc_profile(self) -> None:
        return None

    def close(self) -> None:
        pass


def isyntax_file(path: Path) -> Path:
    path.write_bytes(b'<DataObject ObjectType="DPUfsImport"></DataObject>\x04' + bytes(100))
    return path


def test_isyntax_is_read_through_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = tissue_like(700, 900)
    library = SimpleNamespace(ISyntax=SimpleNamespace(open=lambda path: FakeIsyntax(pixels)))
    monkeypatch.setitem(sys.modules, "isyntax", library)
    agrees(isyntax_file(tmp_path / "s.isyntax"), pixels, 0.25)


def test_the_isyntax_library_has_what_is_asked_of_it(tmp_path: Path) -> None:
    isyntax = pytest.importorskip("isyntax")
    asked = {name for name in vars(FakeIsyntax) if not name.startswith("_")}
    asked |= {"open", "level_dimensions", "level_downsamples", "mpp_x", "mpp_y"}
    assert asked <= set(dir(isyntax.ISyntax))
    with pytest.raises(InputError, match="iSyntax structure is damaged"):
        read(isyntax_file(tmp_path / "s.isyntax"), policy())


def test_what_is_missing_for_isyntax_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isyntax", None)
    with pytest.raises(UnsupportedInput, match="iSyntax slide, which needs pyisyntax") as caught:
        read(isyntax_file(tmp_path / "s.isyntax"), policy())
    assert "umedfeat[isyntax]" in caught.value.remedy


def test_a_philips_tiff_is_no_isyntax(tmp_path: Path) -> None:
    from vendor_slides import write_philips

    path = write_philips(tmp_path / "s.tiff", tissue_like(512, 512), 0.5)
    head = path.read_bytes()
    path.write_bytes(head)
    assert not found(path).failures
    from umedfeat.readers.slides.isyntax_backend import is_isyntax

    assert not is_isyntax(b"II*\0" + b"x" * 100 + b"DPUfsImport")


def qptiff(path: Path, planes: np.ndarray, names: tuple[str, ...], mpp: float) -> Path:
    """As the scanner writes it: a page per channel, a thumbnail, then smaller pages; XML in every one."""
    per_cm = 1e4 / mpp

    def xml(kind: str, name: str) -> str:
        told = f"<Name>{name}</Name>" if name else ""
        return (
            f'<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription><ImageType>{kind}</ImageType>'
            f"{told}</PerkinElmer-QPI-ImageDescription>"
        )

    with tifffile.TiffWriter(path) as writer:
        options: dict[str, Any] = {"tile": (128, 128), "photometric": "minisblack", "metadata": None}
        scale: dict[str, Any] = {"resolution": (per_cm, per_cm), "resolutionunit": 3, "software": "PerkinElmer-QPI"}
        for plane, name in zip(planes, names, strict=True):
            writer.write(plane, description=xml("FullResolution", name), **options, **scale)
        writer.write(
            np.zeros((60, 80, 3), np.uint8), photometric="rgb", description=xml("Thumbnail", ""), metadata=None
        )
        for plane, name in zip(planes, names, strict=True):
            small = halved(np.repeat(plane[..., None], 3, axis=2))[..., 0]
            writer.write(small, description=xml("ReducedResolution", name), subfiletype=1, **options)
        writer.write(np.zeros((50, 60, 3), np.uint8), photometric="rgb", description=xml("Label", ""), metadata=None)
    return path


def test_a_channel_of_a_multiplex_qptiff(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    planes = rng.integers(0, 256, (5, 384, 512)).astype(np.uint8)
    path = qptiff(tmp_path / "s.qptiff", planes, ("DAPI", "Opal 520", "Opal 570", "Opal 690", "AF"), 0.5)
    seen = found(path)
    assert sorted(skipped.reason for skipped in seen.skipped) == [
        "slide label, not the tissue",
        "slide thumbnail, not the tissue",
    ]
    with pytest.raises(UnsupportedInput, match=r"5 channels \(DAPI, Opal 520, Opal 570, Opal 690, AF\)"):
        read(path, policy(mpp=0.5, tile_size=64))
    for factor in (1, 2):
        plan, tiles = read(path, policy(mpp=0.5 * factor, tile_size=64, channel="opal 570"))
        truth = planes[2] if factor == 1 else halved(np.repeat(planes[2][..., None], 3, axis=2))[..., 0]
        assert plan.detail["downsample"] == factor
        assert np.array_equal(tiles[0][..., 0], truth[:64, :64])
        assert contents(plan)["channels"] == "channel 3 of 5"
        assert contents(plan)["planes"] == 5
