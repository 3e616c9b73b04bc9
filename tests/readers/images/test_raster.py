"""PNG, JPEG, BMP, WebP, TIFF: every kind of pixel, whole or tiled."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import closing
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_factory import tissue_like

from umedfeat.contract import Found, RegionUnreadable, Source
from umedfeat.errors import EmptyImage, InputError, ScaleError, TooLarge, UnreadableInput, UnsupportedInput
from umedfeat.naming import Pseudonyms
from umedfeat.policy import ImagePolicy, IntensityPolicy, Limits, Policy, SlidePolicy, VolumePolicy
from umedfeat.readers import open_reader
from umedfeat.readers.images import reader as raster

SIZE = 32


def picture(height: int = SIZE, width: int = SIZE, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8)


def policy(limits: Limits | None = None, intensity: IntensityPolicy | None = None, **image) -> Policy:
    return Policy(
        image=ImagePolicy(size=SIZE, **image), limits=limits or Limits(), intensity=intensity or IntensityPolicy()
    )


def source_of(path: Path, **fields) -> Source:
    return Source(path.stem, "raster", path, (path,), path.name, **fields)


def read(path: Path, how: Policy | None = None, **fields):
    """(plan, images) of one file, planned and read by two readers as in a run."""
    assert raster.sniff(path, path.read_bytes()[:4096])
    how = how or policy()
    planning = raster.open_source(source_of(path, **fields), how)
    plan = planning.plan()
    planning.close()
    reading = raster.open_source(source_of(path, **fields), how, plan.prepared)
    images = reading.read(plan.regions)
    reading.close()
    return plan, images


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def unit(values: np.ndarray) -> np.ndarray:
    """What the percentile policy makes of a grey image."""
    low, high = np.percentile(values.astype(np.float64), [2.5, 97.5])
    return np.clip((values - low) / (high - low), 0, 1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_eight_bit_colours_keep_their_values(tmp_path, suffix):
    colours = picture()
    options = {"lossless": True} if suffix == "webp" else {}
    plan, images = read(saved(tmp_path / f"a.{suffix}", Image.fromarray(colours), **options))
    np.testing.assert_allclose(images[0], colours / 255, atol=1e-6)
    assert plan.modality == "photo" and plan.detail["intensity"] == {"window": "full range"}
    assert plan.format == ("tiff" if suffix == "tif" else suffix)


def test_jpeg(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.fromarray(picture()), quality=90)
    np.testing.assert_allclose(read(path)[1][0], np.asarray(Image.open(path)) / 255, atol=1e-6)


def test_greys_get_the_percentile_window_whatever_their_depth(tmp_path):
    eight = picture(channels=1)[..., 0]
    sixteen = eight.astype(np.uint16) * 257
    images = [
        read(saved(tmp_path / "a.png", Image.fromarray(eight))),
        read(saved(tmp_path / "b.png", Image.fromarray(sixteen))),
        read(saved(tmp_path / "c.tif", Image.fromarray(sixteen))),
        read(saved(tmp_path / "d.png", Image.fromarray(np.stack([eight] * 3, -1)))),
    ]
    for plan, (image,) in images:
        np.testing.assert_allclose(image[..., 0], unit(eight), atol=1e-5)
        assert plan.detail["intensity"]["window"] == "p2.5-p97.5" and plan.modality == "unknown"


def test_photographs_and_microscopy_keep_the_full_range_of_greys(tmp_path):
    eight = picture(channels=1)[..., 0] // 4 + 90
    path = saved(tmp_path / "a.png", Image.fromarray(eight))
    for modality in ("photo", "histology"):
        plan, images = read(path, modality=modality)
        np.testing.assert_allclose(images[0][..., 0], eight / 255, atol=1e-6)
        assert plan.modality == modality.upper()


def test_sixteen_bit_greys_keep_more_than_256_levels(tmp_path):
    ramp = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 60
    _, images = read(saved(tmp_path / "a.png", Image.fromarray(ramp)))
    assert len(np.unique(images[0])) > 900


def test_a_declared_range_for_sixteen_bits(tmp_path):
    ramp = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE)
    declared = policy(intensity=IntensityPolicy(window="0,1023"))
    _, images = read(saved(tmp_path / "a.png", Image.fromarray(ramp)), declared)
    np.testing.assert_allclose(images[0][..., 0], ramp / 1023, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bit_colour_png_is_not_cut_to_eight(tmp_path, channels):
    deep = np.random.default_rng(0).integers(0, 65536, (SIZE, SIZE, channels), dtype=np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(deep))
    _, images = read(path)
    values = deep / 65535
    expected = values if channels == 3 else values[..., :-1] * values[..., -1:] + 1 - values[..., -1:]
    if channels == 2:
        expected = unit(expected[..., 0])[..., None]
    np.testing.assert_allclose(images[0], np.broadcast_to(expected, images[0].shape), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16", "uint32", "int8"])
def test_tiff_of_other_types(tmp_path, dtype):
    values = (np.random.default_rng(0).random((SIZE, SIZE)) * 100).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.testing.assert_allclose(read(tmp_path / "a.tif")[1][0][..., 0], unit(values), atol=1e-4)


def test_float_tiff_with_nan_is_counted_and_black(tmp_path):
    values = np.random.default_rng(0).random((SIZE, SIZE)).astype(np.float32) + 1
    values[0, 0] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", values)
    plan, images = read(tmp_path / "a.tif")
    assert plan.detail["intensity"]["nonfinite"] == 1 and (images[0][0, 0] == 0).all()


def test_tiff_colours(tmp_path):
    colours = picture()
    for name, options in {
        "planar": {"photometric": "rgb", "planarconfig": "separate", "data": colours.transpose(2, 0, 1)},
        "deflate": {"photometric": "rgb", "compression": "deflate", "predictor": True, "data": colours},
        "deep": {"photometric": "rgb", "data": colours.astype(np.uint16) * 257},
        "tiled": {"photometric": "rgb", "tile": (16, 16), "data": colours},
        "big": {"photometric": "rgb", "bigtiff": True, "data": colours},
        "motorola": {"photometric": "rgb", "byteorder": ">", "data": colours.astype(np.uint16) * 257},
    }.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", **options)
        np.testing.assert_allclose(read(tmp_path / f"{name}.tif")[1][0], colours / 255, atol=1e-6, err_msg=name)


def test_tiff_with_white_as_zero(tmp_path):
    grey = picture(channels=1)[..., 0]
    for name, values in {"eight": grey, "sixteen": grey.astype(np.uint16) * 257}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="miniswhite")
        image = read(tmp_path / f"{name}.tif")[1][0]
        np.testing.assert_allclose(image[..., 0], unit(255 - grey), atol=1e-5, err_msg=name)


def test_tiff_palette_and_cmyk(tmp_path):
    indexed = Image.fromarray(picture()).quantize(16)
    path = saved(tmp_path / "p.tif", indexed)
    np.testing.assert_allclose(read(path)[1][0], np.asarray(indexed.convert("RGB")) / 255, atol=1e-6)
    cmyk = picture(channels=4)
    tifffile.imwrite(tmp_path / "c.tif", cmyk, photometric="separated")
    expected = (1 - cmyk[..., :3] / 255) * (1 - cmyk[..., 3:] / 255)
    np.testing.assert_allclose(read(tmp_path / "c.tif")[1][0], expected, atol=1e-5)


def test_tiff_of_unknown_channels_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(channels=7), photometric="minisblack", planarconfig="contig")
    with pytest.raises(UnsupportedInput, match=r"a\.tif.*7 samples"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_rotation(tmp_path, orientation, suffix):
    upright = np.zeros((24, 32, 3), np.uint8)
    upright[:8, :12] = [200, 30, 30]
    upright[16:, :6] = [30, 30, 200]
    undo = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
            5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
            8: lambda a: np.rot90(a, -1)}  # fmt: skip
    stored = np.ascontiguousarray(undo[orientation](upright))
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        options = (
            {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
        )
        Image.fromarray(stored).save(path, exif=exif, **options)
    plan, images = read(path)
    assert (plan.width, plan.height) == (32, 24)
    np.testing.assert_allclose(images[0][4:28], upright / 255, atol=0.12 if suffix == "jpg" else 1e-6)


def test_alpha_is_composited_on_white(tmp_path):
    pixels = picture(channels=4)
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] / 255 * alpha + 1 - alpha
    for suffix in ("png", "webp", "tif"):
        options = {"lossless": True, "exact": True} if suffix == "webp" else {}
        path = saved(tmp_path / f"a.{suffix}", Image.fromarray(pixels), **options)
        np.testing.assert_allclose(read(path)[1][0], expected, atol=1 / 255)


def test_palettes_with_and_without_transparency(tmp_path):
    indexed = Image.fromarray(picture()).quantize(8)
    plain = read(saved(tmp_path / "a.png", indexed))[1][0]
    np.testing.assert_allclose(plain, np.asarray(indexed.convert("RGB")) / 255, atol=1e-6)
    clear = read(saved(tmp_path / "b.png", indexed, transparency=0))[1][0]
    hidden = np.asarray(indexed) == 0
    assert (clear[hidden] == 1).all()
    np.testing.assert_array_equal(clear[~hidden], plain[~hidden])


def test_cmyk_jpeg(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.fromarray(picture()).convert("CMYK"))
    np.testing.assert_allclose(read(path)[1][0], np.asarray(Image.open(path).convert("RGB")) / 255, atol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_one_bit_drawings(tmp_path, suffix):
    drawing = picture(channels=1)[..., 0] > 127
    _, images = read(saved(tmp_path / f"a.{suffix}", Image.fromarray(drawing)))
    np.testing.assert_array_equal(images[0][..., 0], drawing)


def test_pages_are_slices_and_thumbnails_are_left_out(tmp_path):
    pages = picture(SIZE, SIZE, 5).transpose(2, 0, 1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for page in pages:
            tiff.write(page)
        tiff.write(pages[0][::2, ::2], subfiletype=1)
    plan, images = read(tmp_path / "a.tif")
    assert list(plan.regions["slice"]) == [0, 1, 2, 3, 4] and plan.detail["pages_left_out"] == 1
    np.testing.assert_allclose(images[3][..., 0], unit(pages)[3], atol=1e-5)  # one window for all pages
    few, _ = read(tmp_path / "a.tif", Policy(image=ImagePolicy(size=SIZE), volume=VolumePolicy(frames="2")))
    assert list(few.regions["slice"]) == [1, 3]


def without_pages(path: Path) -> Path:
    """Cut the link from the first page to the second, as ImageJ writes stacks above 4 GB."""
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].offset
    entries = int.from_bytes(raw[start : start + 2], "little")
    link = start + 2 + 12 * entries
    raw[link : link + 4] = bytes(4)
    path.write_bytes(raw)
    return path


def test_an_imagej_stack_without_pages_is_refused_not_cut_to_its_first_plane(tmp_path):
    planes = np.random.default_rng(0).integers(0, 60000, (5, 40, 50)).astype("<u2")
    tifffile.imwrite(tmp_path / "stack.tif", planes, imagej=True, byteorder="<")
    tifffile.imwrite(tmp_path / "plane.tif", planes[0], imagej=True, byteorder="<")
    assert read_all(tmp_path / "stack.tif") == 5
    without_pages(tmp_path / "stack.tif")
    with pytest.raises(UnsupportedInput, match="ImageJ stack of 5 planes") as caught:
        read_all(tmp_path / "stack.tif")
    assert "page per plane" in caught.value.remedy
    assert read_all(tmp_path / "plane.tif") == 1


def read_all(path: Path) -> int:
    reader = raster.open_source(Source("x", "raster", path, (path,), path.name), Policy(image=ImagePolicy(size=32)))
    try:
        plan = reader.plan()
        return len(reader.read(plan.regions))
    finally:
        reader.close()


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_frames_of_an_animation(tmp_path, suffix):
    frames = [Image.fromarray(picture()[::step]).resize((SIZE, SIZE)) for step in (1, 2, 4)]
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    plan, images = read(path)
    assert len(plan.regions) == 3
    for image, frame in zip(images, frames, strict=True):
        np.testing.assert_allclose(image, np.asarray(frame) / 255, atol=1e-6)


def test_a_bad_page_is_dropped_alone(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(SIZE, SIZE, 3).transpose(2, 0, 1), compression="deflate", photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[1].dataoffsets[0]
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 20] = bytes(20)
    path.write_bytes(raw)
    _, images = read(path)
    assert [isinstance(image, RegionUnreadable) for image in images] == [False, True, False]


def test_pages_that_form_a_loop_fail_at_once(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(SIZE, SIZE, 3).transpose(2, 0, 1), photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[2].offset
    raw = bytearray(path.read_bytes())
    entries = int.from_bytes(raw[last : last + 2], "little")
    raw[last + 2 + 12 * entries : last + 6 + 12 * entries] = first.to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(UnreadableInput, match="loop"):
        read(path)


def test_fit(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(picture(20, 64)))
    padded, squashed, cropped = (read(path, policy(fit=fit))[1][0] for fit in ("pad", "squash", "crop"))
    assert not padded[:10].any() and padded[12:20].any()
    assert squashed[0].any() and cropped[0].any() and not np.array_equal(squashed, cropped)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated_images_fail(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(picture(200, 200)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableInput, match=rf"a\.{suffix}") as caught:
        read(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_flipped_bit_in_png_fails_instead_of_giving_other_pixels(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(picture(200, 200)), compress_level=0)
    raw = bytearray(path.read_bytes())
    raw[5000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UnreadableInput, match=r"a\.png"):
        read(path)


def test_decompression_bombs_are_refused_before_decoding(tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(TooLarge, match="60000x60000"):
        read(path)
    small = saved(tmp_path / "b.png", Image.fromarray(picture()))
    with pytest.raises(TooLarge, match="more than 1000"):
        read(small, policy(limits=Limits(max_pixels=1000)))


def test_pillows_own_limit_is_left_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    read(saved(tmp_path / "a.png", Image.fromarray(picture())))
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("value", [0, 255, 128])
def test_constant_images_are_refused(tmp_path, value):
    for mode, shape in {"L": (20, 30), "RGB": (20, 30, 3)}.items():
        path = saved(tmp_path / f"{mode}.png", Image.fromarray(np.full(shape, value, np.uint8)))
        with pytest.raises(EmptyImage, match=rf"{mode}\.png.*constant"):
            read(path)


def tiling(size: int = SIZE, **slide) -> Policy:
    return Policy(slide=SlidePolicy(tile_size=size, **slide), image=ImagePolicy(size=SIZE, tile=True))


def test_tiles_of_the_image_itself(tmp_path):
    colours = picture(80, 100)
    plan, images = read(saved(tmp_path / "a.png", Image.fromarray(colours)), tiling())
    assert [(r["x"], r["y"]) for r in plan.regions] == [(x, y) for y in (0, 32) for x in (0, 32, 64)]
    assert plan.dtype == "uint8" and plan.tile_extent == SIZE
    for row, image in zip(plan.regions, images, strict=True):
        np.testing.assert_array_equal(image, colours[row["y"] : row["y"] + SIZE, row["x"] : row["x"] + SIZE])


def test_tiles_overlap(tmp_path):
    plan, _ = read(saved(tmp_path / "a.png", Image.fromarray(picture(32, 64))), tiling(overlap=16))
    assert list(plan.regions["x"]) == [0, 16, 32]


def test_tiles_at_a_declared_scale_are_resampled_exactly(tmp_path):
    gradient = np.tile(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], (128, 1, 3))
    gradient[..., 1] = 0
    path = saved(tmp_path / "a.png", Image.fromarray(gradient))
    plan, images = read(path, tiling(mpp=0.5), mpp=0.265)
    assert plan.tile_extent == pytest.approx(32 * 0.5 / 0.265) and plan.mpp == (0.265, 0.265)
    assert list(plan.regions["x"][:4]) == [0, 60, 121, 181]
    centre = plan.regions["x"][1] + plan.tile_extent / 2 - 0.5
    assert images[1][16, 15:17, 0].mean() == pytest.approx(centre, abs=1.5)
    with pytest.raises(ScaleError, match="coarser"):
        read(path, tiling(mpp=0.5), mpp=1.0)
    with pytest.raises(ScaleError, match="cannot be true"):
        read(path, tiling(), mpp=-1.0)


def test_an_image_smaller_than_a_tile_is_one_region(tmp_path):
    plan, images = read(saved(tmp_path / "a.png", Image.fromarray(picture(20, 100))), tiling())
    assert len(plan.regions) == 1 and plan.tile_extent == 0
    assert images[0].shape == (SIZE, SIZE, 3) and images[0].dtype == np.uint8


def test_deep_greys_are_tiled_with_the_window_of_the_whole_image(tmp_path):
    deep = picture(64, 64, 1)[..., 0].astype(np.uint16) * 250
    plan, images = read(saved(tmp_path / "a.png", Image.fromarray(deep)), tiling())
    assert plan.dtype == "float32"
    np.testing.assert_allclose(images[3][..., 0], unit(deep)[32:, 32:], atol=1e-5)


def test_every_file_becomes_one_source(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(picture()))
    found = raster.collect([Found(path, "x/a.png", {})], policy(), Pseudonyms(b"key"))
    assert [s.id for s in found.sources] == ["x/a"]


def test_other_files_are_not_claimed(tmp_path):
    for head in (b"", b"BM is a word", b"RIFF1234WAVE", b"GIF89a", b"II", b"\x89PNG"):
        assert not raster.sniff(tmp_path / "x", head)


def test_garbage_behind_the_magic_fails_with_a_named_error(tmp_path):
    rng = np.random.default_rng(0)
    for magic in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"RIFF\x20\0\0\0WEBP"):
        path = tmp_path / "a.bin"
        path.write_bytes(magic + rng.bytes(300))
        with pytest.raises(InputError, match=r"a\.bin") as caught:
            read(path)
        assert str(tmp_path) not in str(caught.value)


def test_real_images(data_dir):
    for name, modality in {"ihc.png": "photo", "retina.jpg": "photo", "microaneurysms.png": "unknown"}.items():
        plan, images = read(data_dir / "images" / name)
        assert plan.modality == modality and np.isfinite(images[0]).all()


def test_pixels_equal_pillows(tmp_path):
    raw = io.BytesIO()
    Image.fromarray(picture()).save(raw, "PNG")
    (tmp_path / "no-suffix").write_bytes(raw.getvalue())
    np.testing.assert_allclose(read(tmp_path / "no-suffix")[1][0], picture() / 255, atol=1e-6)


@pytest.mark.parametrize("mpp", [0.5, 0.509, 0.511, 1.0, 1.1])
@pytest.mark.parametrize("allow", [False, True])
def test_tiled_images_and_slides_share_the_rules_of_scale(tmp_path: Path, mpp: float, allow: bool) -> None:
    """The same pixels as a slide and as a picture: refused alike, tiled alike, by the manifest or by --source-mpp."""
    pixels = tissue_like(512, 512)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    tifffile.imwrite(tmp_path / "s.tif", pixels, tile=(256, 256), photometric="rgb", metadata=None)
    outcomes = []
    for name, kind in (("s.tif", "slide"), ("p.png", "raster")):
        for facts, flag in (({"mpp": mpp}, None), ({}, mpp)):
            slide = SlidePolicy(tile_size=64, tissue="none", allow_upsample=allow, source_mpp=flag)
            source = Source("x", kind, tmp_path / name, (tmp_path / name,), "x", **facts)
            try:
                with closing(open_reader(source, Policy(slide=slide, image=ImagePolicy(tile=True)))) as reader:
                    plan = reader.plan()
                outcomes.append((len(plan.regions), round(plan.tile_extent, 6), plan.mpp))
            except InputError as error:
                outcomes.append((type(error).__name__, error.message, error.remedy))
    assert outcomes[0] == outcomes[1] == outcomes[2] == outcomes[3]
    assert isinstance(outcomes[0][0], str) == (mpp > 0.51 and not (allow and mpp <= 1.0))
