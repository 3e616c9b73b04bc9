"""Everything that a TIFF holds is accounted for: planes, series, labels, colours, codecs, scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slide_layouts
import tifffile
from slide_factory import halved, tissue_like, write_slide
from slide_reading import policy

from umedfeat.contract import Plan
from umedfeat.discovery import Discovery, discover
from umedfeat.errors import InputError, ScaleError, TooLarge, UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Limits, Policy
from umedfeat.readers import open_reader


def found(path: Path, chosen: Policy | None = None) -> Discovery:
    return discover([path], chosen or policy(), Pseudonyms(b"k" * 16))


def read(path: Path, chosen: Policy | None = None) -> tuple[Plan, list[Any]]:
    chosen = chosen or policy(mpp=0.5, tile_size=64)
    (source,) = found(path, chosen).sources
    reader = open_reader(source, chosen)
    try:
        plan = reader.plan()
        return plan, list(reader.read(plan.regions))
    finally:
        reader.close()


def colours(path: Path, chosen: Policy | None = None) -> list[int]:
    _, tiles = read(path, chosen)
    return np.rint(np.mean([tile.reshape(-1, 3).mean(axis=0) for tile in tiles], axis=0)).astype(int).tolist()


def planes_ome(path: Path, planes: np.ndarray, axes: str, **metadata: Any) -> Path:
    photometric = "rgb" if axes.endswith("S") else "minisblack"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(planes, tile=(128, 128), photometric=photometric, metadata={"axes": axes, **sizes, **metadata})
    return path


@pytest.mark.parametrize("seed", range(4))
def test_random_layouts_are_read_rightly_or_refused(tmp_path: Path, seed: int) -> None:
    outcomes = slide_layouts.tried(tmp_path, seed, 50)
    assert not [kind for kind in outcomes if kind.startswith("WRONG")]
    assert outcomes["read"] >= 30


def test_three_planes_without_names_are_red_green_and_blue(tmp_path: Path) -> None:
    pixels = tissue_like(300, 400)
    path = planes_ome(tmp_path / "s.ome.tif", np.moveaxis(pixels, -1, 0), "CYX")
    plan, tiles = read(path)
    assert plan.detail["contents"]["channels"] == "3 planes, read as red, green and blue"  # type: ignore[index,call-overload]
    assert np.array_equal(tiles[0], pixels[:64, :64])


def test_named_colours_are_sorted_and_dyes_are_not_colours(tmp_path: Path) -> None:
    pixels = tissue_like(300, 400)
    turned = np.moveaxis(pixels[..., ::-1], -1, 0)
    path = planes_ome(tmp_path / "s.ome.tif", turned, "CYX", Channel={"Name": ["Blue", "Green", "Red"]})
    assert np.array_equal(read(path)[1][0], pixels[:64, :64])
    path = planes_ome(tmp_path / "d.ome.tif", turned, "CYX", Channel={"Name": ["DAPI", "FITC", "Cy5"]})
    with pytest.raises(UnsupportedInput, match=r"3 channels \(DAPI, FITC, Cy5\)") as caught:
        read(path)
    assert "--channel" in caught.value.remedy
    plan, tiles = read(path, policy(mpp=0.5, tile_size=64, channel="fitc"))
    assert np.array_equal(tiles[0][..., 0], pixels[:64, :64, 1])
    assert plan.detail["contents"]["channels"] == "channel 2 of 3"  # type: ignore[index,call-overload]
    assert np.array_equal(
        read(path, policy(mpp=0.5, tile_size=64, channel="rgb"))[1][0], turned.transpose(1, 2, 0)[:64, :64]
    )
    with pytest.raises(UnsupportedInput, match="no channel 'CD3'"):
        read(path, policy(mpp=0.5, tile_size=64, channel="CD3"))


@pytest.mark.parametrize("ome", [True, False])
def test_focal_planes_are_chosen_or_refused(tmp_path: Path, ome: bool) -> None:
    from scipy import ndimage

    sharp = tissue_like(256, 256)
    blurred = ndimage.gaussian_filter(sharp, (3, 3, 0))
    planes = np.stack([blurred, sharp, np.full_like(sharp, 240)])
    path = tmp_path / ("s.ome.tif" if ome else "s.tif")
    if ome:
        planes_ome(path, planes, "ZYXS")
    else:
        tifffile.imwrite(
            path, planes, tile=(128, 128), photometric="rgb", metadata=None, resolution=(2e4, 2e4), resolutionunit=3
        )
    with pytest.raises(UnsupportedInput, match=r"3 .*planes.*none was chosen") as caught:
        read(path)
    assert "--focus" in caught.value.remedy
    for focus, plane in (("1", 0), ("middle", 1), ("3", 2), ("sharpest", 1)):
        plan, tiles = read(path, policy(mpp=0.5, tile_size=64, focus=focus))
        assert len(tiles) == 16
        assert np.array_equal(tiles[5], planes[plane][64:128, 64:128]), focus
        contents = plan.detail["contents"]
        assert isinstance(contents, dict)
        assert contents["planes"] == 3
        assert contents["planes_read"] == (3 if focus == "sharpest" else 1)
        assert contents["focus"] == (
            "the sharpest of 3 planes, tile by tile" if focus == "sharpest" else f"plane {plane + 1} of 3"
        )
    with pytest.raises(UnsupportedInput, match="--focus 4"):
        read(path, policy(mpp=0.5, tile_size=64, focus="4"))


@pytest.mark.parametrize("name", ["label", "Macro image", "Slide overview", "THUMBNAIL"])
def test_labels_are_never_read(tmp_path: Path, name: str) -> None:
    pixels = tissue_like(300, 400)
    path = tmp_path / "s.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image, called in ((np.zeros((900, 900, 3), np.uint8), name), (pixels, "scan")):
            writer.write(image, tile=(128, 128), photometric="rgb", metadata={"axes": "YXS", "Name": called, **sizes})
    seen = found(path)
    assert len(seen.sources) == 1
    assert [skipped.reason for skipped in seen.skipped] == [
        f"slide {name.split()[-1].lower().replace('image', 'macro')}, not the tissue"
    ]
    plan, tiles = read(path)
    assert (plan.width, plan.height) == (400, 300)
    assert np.array_equal(tiles[0], pixels[:64, :64])


def test_series_of_like_size_are_inputs_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "s.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    pictures = [tissue_like(300, 400, 1), tissue_like(320, 380, 2), tissue_like(100, 100, 3)]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number, image in enumerate(pictures):
            metadata = {"axes": "YXS", "Name": f"region {number}", **sizes}
            writer.write(image, tile=(128, 128), photometric="rgb", metadata=metadata)
    chosen = policy(mpp=0.5, tile_size=64)
    sources = found(path, chosen).sources
    assert [source.id for source in sources] == ["s-series1", "s-series2"]
    for source, picture in zip(sources, pictures, strict=False):
        reader = open_reader(source, chosen)
        plan = reader.plan()
        assert np.array_equal(reader.read(plan.regions)[0], picture[:64, :64])
        assert plan.detail["contents"]["left_out"] == {"smaller picture": 1}  # type: ignore[index,call-overload]
        reader.close()


def test_planes_in_several_files_come_from_their_own(tmp_path: Path) -> None:
    """Each file of an OME-TIFF set names the planes of the others; the set is one input."""
    pixels = tissue_like(256, 256)
    names = ["set_a.ome.tif", "set_b.ome.tif"]
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{k}" for k in range(2)]
    data = "".join(
        f'<TiffData FirstZ="{k}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for k, (name, uuid) in enumerate(zip(names, uuids, strict=True))
    )
    for k, name in enumerate(names):
        xml = (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[k]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '
            f'SizeX="256" SizeY="256" SizeC="3" SizeZ="2" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="3"/>{data}</Pixels></Image></OME>'
        )
        plane = pixels if k else 255 - pixels
        tifffile.imwrite(
            tmp_path / name, plane, tile=(128, 128), photometric="rgb", description=xml.encode(), metadata=None
        )
    seen = found(tmp_path)
    assert [len(source.files) for source in seen.sources] == [2]
    assert [skipped.reason for skipped in seen.skipped] == ["belongs to the slide beside it"]
    for focus, plane in (("1", 255 - pixels), ("2", pixels)):
        _, tiles = read(tmp_path, policy(mpp=0.5, tile_size=64, focus=focus))
        assert np.array_equal(tiles[0], plane[:64, :64])
    (tmp_path / names[1]).unlink()
    with pytest.raises(InputError):
        read(tmp_path, policy(mpp=0.5, tile_size=64, focus="2"))


def ycbcr_jpeg_called_rgb(path: Path, pixels: np.ndarray, *, aperio: bool) -> Path:
    """JPEG streams with a JFIF marker in a TIFF that calls them RGB."""
    from vendor_slides import jpeg

    tiles = [
        jpeg(pixels[y : y + 128, x : x + 128])
        for y in range(0, pixels.shape[0], 128)
        for x in range(0, pixels.shape[1], 128)
    ]
    height, width = pixels.shape[:2]
    description = f"Aperio Image Library v11\r\n{width}x{height} [0,0 {width}x{height}] (128x128)|MPP = 0.5"
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter(tiles),
            shape=pixels.shape,
            dtype=np.uint8,
            tile=(128, 128),
            photometric="rgb",
            compression="jpeg",
            metadata=None,
            description=description if aperio else None,
            resolution=(2e4, 2e4),
            resolutionunit="CENTIMETER",
        )
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(2)
    return path


@pytest.mark.parametrize("aperio", [False, True])
def test_the_jpeg_marker_beats_the_tiff(tmp_path: Path, aperio: bool) -> None:
    pixels = tissue_like(256, 384)
    path = ycbcr_jpeg_called_rgb(tmp_path / "s.svs", pixels, aperio=aperio)
    plan, tiles = read(path, policy(mpp=0.5, tile_size=128))
    assert np.abs(tiles[0].astype(int) - pixels[:128, :128]).mean() < 3
    assert plan.detail["contents"]["colours"] == "the JPEG streams are YCbCr, the TIFF says RGB"  # type: ignore[index,call-overload]


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "webp", "lerc"])
def test_codecs_that_openslide_lacks_are_read_by_the_tiff_reader(tmp_path: Path, compression: str) -> None:
    pixels = tissue_like(512, 512)
    path = tmp_path / "s.svs"
    description = "Aperio Image Library v11\r\n512x512 [0,0 512x512] (256x256)|AppMag = 20|MPP = 0.5"
    options: dict[str, Any] = {"compressionargs": {"lossless": True}} if compression in ("webp", "jpegxl") else {}
    tifffile.imwrite(
        path,
        pixels,
        tile=(256, 256),
        photometric="rgb",
        compression=compression,
        description=description,
        metadata=None,
        **options,
    )
    plan, tiles = read(path, policy(mpp=0.5, tile_size=256))
    assert plan.mpp == (0.5, 0.5)
    assert np.abs(tiles[0].astype(int) - pixels[:256, :256]).max() <= 1


def test_what_is_deeper_than_eight_bits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    pixels = np.zeros((512, 512), np.uint16)
    tifffile.imwrite(path, pixels, tile=(256, 256), resolution=(2e4, 2e4), resolutionunit=3, metadata=None)
    with pytest.raises(UnsupportedInput, match="uint16 pixels"):
        read(path)


def test_a_dpi_is_no_scale_and_says_so_when_it_is_overridden(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(
        path, tissue_like(512, 512), tile=(256, 256), photometric="rgb", resolution=(300, 300), resolutionunit=2
    )
    assert [source.format for source in found(path).sources] == ["raster"]
    plan, _ = read(path, policy(mpp=0.5, source_mpp=0.5, tile_size=64))
    assert (plan.mpp, plan.mpp_source) == ((0.5, 0.5), "flag")
    assert "overridden by --source-mpp" in plan.hint
    upright = write_slide(tmp_path / "k.svs", tissue_like(512, 512), 0.5, flavour="svs", levels=1)
    plan, _ = read(upright, policy(mpp=0.5, source_mpp=0.25, tile_size=64))
    assert plan.mpp_source.startswith("header")
    assert "--source-mpp changed nothing" in plan.hint


def test_absurd_upsampling_is_refused_with_its_number_of_tiles(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.svs", tissue_like(512, 512), 4.0, flavour="svs", levels=1)
    chosen = policy(mpp=0.5, allow_upsample=True, tile_size=64)
    with pytest.raises(ScaleError, match="blown up 8 times, to 4,096 tiles") as caught:
        read(path, chosen)
    assert "--max-upsample" in caught.value.remedy
    more = Policy(slide=chosen.slide, limits=Limits(max_upsample=8))
    assert read(path, more)[0].tile_extent == 8


def test_an_absurd_grid_is_refused_before_any_work(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.svs", np.full((5000, 5000, 3), 200, np.uint8), 0.25, flavour="svs", levels=1)
    with pytest.raises(TooLarge, match=r"the grid has 24,\d{3},\d{3} tiles") as caught:
        read(path, policy(mpp=0.25, tile_size=64, overlap=63))
    assert "--overlap" in caught.value.remedy


def test_a_flat_stack_with_levels_in_sub_directories_is_a_slide(tmp_path: Path) -> None:
    """In strips, without a tile and without a reduced page at the top: it was taken for a stack of pictures."""
    path = tmp_path / "s.tif"
    pixels = tissue_like(400, 400)
    with tifffile.TiffWriter(path) as writer:
        options = {"photometric": "rgb", "metadata": None, "rowsperstrip": 64}
        writer.write(np.stack([pixels] * 2), subifds=1, resolution=(2e4, 2e4), resolutionunit=3, **options)
        writer.write(np.stack([halved(pixels)] * 2), subfiletype=1, **options)
    assert [source.format for source in found(path).sources] == ["slide"]
    with pytest.raises(UnsupportedInput, match="2 planes of one size"):
        read(path)


def test_a_tiff_is_a_slide_by_its_scale(tmp_path: Path) -> None:
    for name, options, kind in (
        ("scaled", {"resolution": (2e4, 2e4), "resolutionunit": 3}, "slide"),
        ("plain", {}, "raster"),
        ("printed", {"resolution": (96, 96), "resolutionunit": 2}, "raster"),
    ):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, tissue_like(500, 500), photometric="rgb", metadata=None, **options)
        assert [source.format for source in found(path).sources] == [kind], name
    large = tmp_path / "large.tif"
    tifffile.imwrite(large, np.zeros((40, 6000, 3), np.uint8), photometric="rgb", metadata=None)
    assert [source.format for source in found(large).sources] == ["raster"]
    pyramid = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(pyramid) as writer:
        pixels = tissue_like(600, 600)
        writer.write(pixels, tile=(256, 256), photometric="rgb", metadata=None)
        writer.write(halved(pixels), tile=(256, 256), photometric="rgb", subfiletype=1, metadata=None)
    with pytest.raises(ScaleError, match="does not tell"):
        read(pyramid)


def test_slides_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "_scan_" / "stack1"
    folder.mkdir(parents=True)
    (folder / "frame_t.ets").write_bytes(b"SIS\0" + bytes(100))
    tifffile.imwrite(tmp_path / "scan.vsi", tissue_like(300, 300), photometric="rgb")
    (tmp_path / "a.isyntax").write_bytes(b'<DataObject ObjectType="DPUfsImport">\n' + bytes(100))
    (tmp_path / "b.sdpc").write_bytes(b"SQ" + bytes(1000))
    seen = found(tmp_path)
    assert not seen.sources
    assert {failure.source for failure in seen.failures} >= {"a.isyntax", "b.sdpc", "scan.vsi"}
    assert all(failure.remedy for failure in seen.failures)


def case(shared_dir: Path, name: str) -> Path:
    path = shared_dir / "cases" / "slides" / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return path


@pytest.mark.parametrize("name", ["rgb_as_3_planes.ome.tif", "label_first.ome.tif", "jpeg_ybr_said_rgb"])
def test_cases_of_colours(shared_dir: Path, name: str) -> None:
    assert colours(case(shared_dir, name), policy(mpp=0.5, tile_size=224)) == [206, 153, 190]


def test_case_of_a_padded_ramp(shared_dir: Path) -> None:
    plan, tiles = read(case(shared_dir, "ramp_padded.ome.tif"), policy(mpp=0.5, tile_size=224))
    with tifffile.TiffFile(case(shared_dir, "ramp_padded.ome.tif")) as file:
        truth = file.pages[0].asarray()
    for region, tile in zip(plan.regions, tiles, strict=True):
        x, y = int(region["x"]), int(region["y"])
        inner = truth[y + 8 : y + 440, x + 8 : x + 440].reshape(-1, 3).mean(axis=0)
        assert np.abs(tile[4:220, 4:220].reshape(-1, 3).mean(axis=0) - inner).max() < 0.1


def test_cases_that_are_refused_by_name(shared_dir: Path) -> None:
    with pytest.raises(UnsupportedInput, match="3 focal planes"):
        read(case(shared_dir, "z3_first_blank.ome.tif"))
    seen = found(case(shared_dir, "08_vsi"))
    assert not seen.sources
    assert "VSI" in seen.failures[0].message
    with pytest.raises(InputError, match="OpenSlide"):
        read(case(shared_dir, "sakura.svslide"))
    plan, _ = read(case(shared_dir, "07_dpi300.tif"), policy(mpp=0.5, source_mpp=0.5, tile_size=224))
    assert plan.mpp_source == "flag"
