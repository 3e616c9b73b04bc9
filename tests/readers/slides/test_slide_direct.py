"""JPEG tiles read without OpenSlide: its pixels, its errors, and no file that it should be asked about."""

from __future__ import annotations

import gc
import os
import random
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from slide_factory import halved, tissue_like
from slide_reading import all_tiles, planned, policy

from umedfeat.contract import RegionUnreadable
from umedfeat.readers.slides import direct as slide_direct
from umedfeat.readers.slides import mosaic as slide_mosaic
from umedfeat.readers.slides import pixels as slide_pixels
from umedfeat.readers.slides import streams as slide_streams
from umedfeat.readers.slides.backends import Block
from umedfeat.readers.slides.openslide import OpenSlideBackend
from umedfeat.readers.slides.tiff import TiffBackend

SVS = "CMU-1-Small-Region.svs"


def jpeg_slide(
    path: Path,
    pixels: np.ndarray,
    *,
    levels: int = 1,
    subsampling: tuple[int, int] = (1, 1),
    tile: tuple[int, int] = (128, 160),
    quality: int = 90,
    compression: str = "jpeg",
) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for _ in range(levels):
            height, width = pixels.shape[:2]
            description = f"Aperio Image Library v11\r\n{width}x{height} [0,0 {width}x{height}] (128x160)|MPP = 0.25"
            writer.write(
                pixels,
                tile=tile,
                photometric="rgb",
                compression=compression,
                compressionargs={"level": quality} if compression == "jpeg" else None,
                subsampling=subsampling if compression == "jpeg" else None,
                description=description,
                metadata=None,
            )
            pixels = halved(pixels)
    return path


def opened(path: Path) -> OpenSlideBackend:
    return OpenSlideBackend(path, path.name)


def painted(backend: OpenSlideBackend, *box: int) -> Block | str:
    """What OpenSlide alone makes of a box."""
    try:
        return backend._painted(0, *box)
    except RegionUnreadable as fault:
        return str(fault)


def read(backend: OpenSlideBackend, *box: int) -> Block | str:
    try:
        return backend.read(0, *box)
    except RegionUnreadable as fault:
        return str(fault)


def same(one: Block | str, other: Block | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and one == other
    return slide_direct._alike(one, other)


def boxes(width: int, height: int, count: int) -> list[tuple[int, int, int, int]]:
    """Of any size, also across the edges and wholly outside."""
    generator = np.random.default_rng(0)
    corners = generator.integers((-80, -80), (width + 60, height + 60), (count, 2))
    sizes = generator.integers(1, 400, (count, 2))
    return [(int(x), int(y), int(w), int(h)) for (x, y), (w, h) in zip(corners, sizes, strict=True)]


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_pixels_are_those_of_openslide(tmp_path: Path, subsampling: tuple[int, int]) -> None:
    backend = opened(jpeg_slide(tmp_path / "s.svs", tissue_like(700, 900), subsampling=subsampling))
    assert backend.decoder(0) == "libjpeg-turbo"
    for box in boxes(900, 700, 40):
        assert same(backend.read(0, *box), backend._painted(0, *box)), box
    backend.close()


def test_pixels_of_a_real_slide_are_those_of_openslide(data_dir: Path) -> None:
    """RGB inside the JPEG streams, tables shared by all of them, chroma at half the size."""
    backend = opened(data_dir / "wsi" / SVS)
    assert backend.decoder(0) == "libjpeg-turbo"
    for box in boxes(*backend.levels[0], 60):
        assert same(backend.read(0, *box), backend._painted(0, *box)), box
    backend.close()


def jpeg2000_slide(path: Path, pixels: np.ndarray) -> Path:
    """Aperio's own way: bare codestreams of RGB."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % 128), (0, -width % 160), (0, 0)), mode="edge")
    places = [(y, x) for y in range(0, height, 128) for x in range(0, width, 160)]
    options = {"level": 40, "codecformat": "j2k", "mct": True}
    streams = [bytes(imagecodecs.jpeg2k_encode(padded[y : y + 128, x : x + 160], **options)) for y, x in places]
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter(streams),
            shape=pixels.shape,
            dtype=np.uint8,
            tile=(128, 160),
            photometric="rgb",
            compression=33005,
            description=f"Aperio Image Library v11\r\n{width}x{height} [0,0 {width}x{height}] (128x160)|MPP = 0.25",
            metadata=None,
        )
    return path


def test_jpeg_2000_gives_the_pixels_and_the_errors_of_openslide(tmp_path: Path) -> None:
    path = jpeg2000_slide(tmp_path / "s.svs", tissue_like(700, 900))
    backend = opened(path)
    assert backend.decoder(0) == "openjpeg"
    for box in boxes(900, 700, 30):
        assert same(backend.read(0, *box), backend._painted(0, *box)), box
    backend.close()
    with tifffile.TiffFile(path) as file:
        starts = file.pages[0].dataoffsets
    original = path.read_bytes()
    generator = random.Random(0)
    for number in range(24):
        data = bytearray(original)
        start = starts[8] + (2 * number if number < 12 else generator.randrange(100, 3000))
        data[start : start + 30] = generator.randbytes(30)
        path.write_bytes(data)
        backend = opened(path)
        for box in ((330, 140, 140, 100), (500, 140, 140, 100)):
            assert same(read(backend, *box), painted(backend, *box)), (number, box)
        backend.close()


def test_a_level_of_no_whole_factor_is_not_blended(tmp_path: Path) -> None:
    """OpenSlide shifts by parts of a pixel there; the level's own pixels are read."""
    path = jpeg_slide(tmp_path / "s.svs", tissue_like(1025, 1283), levels=3)
    backend = opened(path)
    with tifffile.TiffFile(path) as file:
        stored = [page.asarray() for page in file.pages]
    assert not backend.aligned[2]
    for level in (1, 2):
        assert backend.decoder(level) == "libjpeg-turbo"
        assert np.array_equal(backend.read(level, 101, 67, 90, 80).rgb, stored[level][67:147, 101:191])
    backend.close()


@pytest.mark.parametrize("kind", ["deflate", "a missing tile", "progressive", "another codec's pixels"])
def test_what_is_not_plain_is_left_to_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = jpeg_slide(tmp_path / "s.svs", tissue_like(512, 640), compression="deflate" if kind == "deflate" else "jpeg")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        counts = file.pages[0].tags["TileByteCounts"]
        starts = file.pages[0].dataoffsets
    if kind == "a missing tile":
        data[counts.valueoffset + 12 : counts.valueoffset + 16] = bytes(4)
    if kind == "progressive":
        for start in starts:
            place = data.index(b"\xff\xc0", start)
            data[place + 1] = 0xC2
    path.write_bytes(data)
    if kind == "another codec's pixels":
        whole = slide_streams.simplejpeg.decode_jpeg
        monkeypatch.setattr(slide_streams.simplejpeg, "decode_jpeg", lambda *a, **k: whole(*a, **k) ^ 1)
    backend = opened(path)
    assert backend.decoder(0) == "openslide"
    assert same(read(backend, 3, 5, 200, 200), painted(backend, 3, 5, 200, 200))
    backend.close()


def test_the_plan_records_what_decodes(tmp_path: Path) -> None:
    jpeg = jpeg_slide(tmp_path / "j.svs", tissue_like(512, 512))
    other = jpeg_slide(tmp_path / "d.svs", tissue_like(512, 512), compression="deflate")
    assert planned(jpeg, policy()).detail["decoder"] == "libjpeg-turbo"
    assert planned(other, policy()).detail["decoder"] == "openslide"


def test_damage_is_told_as_openslide_tells_it(data_dir: Path, tmp_path: Path, seed: int) -> None:
    """Bytes of the real slide are changed; every tile has OpenSlide's pixels, or its error."""
    original = (data_dir / "wsi" / SVS).read_bytes()
    generator, path, seen = random.Random(seed), tmp_path / SVS, Counter[str]()
    for kind in ("noise", "zeros", "ones") * 2:
        start = generator.randrange(10_000, 1_200_000)
        filling = {"noise": generator.randbytes(60), "zeros": bytes(60), "ones": b"\xff" * 60}[kind]
        path.write_bytes(original[:start] + filling + original[start + 60 :])
        backend = opened(path)
        for number in range(35):
            box = (480 * (number % 5), 480 * (number // 5), 480, 480)
            found = read(backend, *box)
            seen[f"{type(found).__name__} {backend.decoder(0)}"] += 1
            assert same(found, painted(backend, *box)), f"seed {seed}, {kind} at {start}, tile {number}"
        backend.close()
    assert seen["Block libjpeg-turbo"] > 30


def test_a_stream_of_another_size_or_place_is_an_error(tmp_path: Path) -> None:
    """What a hostile table or stream claims is never believed."""
    path = jpeg_slide(tmp_path / "s.svs", tissue_like(640, 800), levels=2)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        starts, offsets, counts = page.dataoffsets, page.tags["TileOffsets"], page.tags["TileByteCounts"]
    frame = data.index(b"\xff\xc0", starts[3])
    data[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"  # 65,500 pixels on a side
    data[offsets.valueoffset + 4 * 9 : offsets.valueoffset + 4 * 10] = (2**31 - 5).to_bytes(4, "little")
    data[counts.valueoffset + 4 * 15 : counts.valueoffset + 4 * 16] = (40).to_bytes(4, "little")
    path.write_bytes(data)
    backend = opened(path)
    assert backend.decoder(0) == "libjpeg-turbo"
    faulty = []
    for number in range(25):
        box = (160 * (number % 5), 128 * (number // 5), 160, 128)
        found = read(backend, *box)
        assert same(found, painted(backend, *box))
        if isinstance(found, str):
            faulty.append(number)
    assert faulty == [3, 9, 15]
    backend.close()


def test_rows_of_tiles_decode_each_stream_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is smaller than a row, and still keeps what the next row begins with."""
    path = jpeg_slide(tmp_path / "s.svs", tissue_like(1280, 1600))
    monkeypatch.setattr(slide_mosaic, "CACHE_BYTES", 18 * 3 * 128 * 160)
    monkeypatch.setattr(slide_pixels, "_BLOCK_PIXELS", 1)
    decoded: list[int] = []
    decode = slide_direct._decode

    def counted(file: Any, table: Any, index: int) -> Block:
        decoded.append(index)
        return decode(file, table, index)

    chosen = policy(mpp=0.5, tile_size=100)
    monkeypatch.setattr(slide_direct, "_decode", counted)
    _, tiles = all_tiles(path, chosen)
    assert len(tiles) == 8 * 6
    probes = 14  # two openings
    assert len(decoded) <= 100 + probes
    assert set(decoded) == set(range(100))


def test_the_cache_is_bounded_and_threads_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_mosaic, "CACHE_BYTES", 5 * 3 * 128 * 160)
    backend = opened(jpeg_slide(tmp_path / "s.svs", tissue_like(700, 900)))
    assert backend.decoder(0) == "libjpeg-turbo"
    asked = boxes(900, 700, 30)
    expected = [backend._painted(0, *box) for box in asked]
    wrong: list[Any] = []

    def work() -> None:
        wrong.extend(box for box, pixels in zip(asked, expected, strict=True) if not same(read(backend, *box), pixels))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    direct = backend._direct[0]
    assert direct is not None
    assert len(direct._mosaic._cache) <= 5
    backend.close()


def test_where_files_have_one_position_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no pread."""
    monkeypatch.delattr(os, "pread", raising=False)
    backend = opened(jpeg_slide(tmp_path / "s.svs", tissue_like(400, 500)))
    assert backend.decoder(0) == "libjpeg-turbo"
    for box in boxes(500, 400, 10):
        assert same(backend.read(0, *box), backend._painted(0, *box)), box
    backend.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where the system lists them")
def test_no_file_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jpeg_slide(tmp_path / "s.svs", tissue_like(400, 400))
    before = open_files()
    for agrees in (True, False):
        monkeypatch.setattr(slide_direct.np, "array_equal", lambda a, b, agrees=agrees: agrees)
        backend = opened(path)
        assert (backend.decoder(0) == "libjpeg-turbo") is agrees
        backend.close()
    assert open_files() == before


def test_damage_in_an_ome_tiff_is_told_too(tmp_path: Path) -> None:
    """Zeros amid a stream leave its end in place; a lenient decoder would go on in other colours."""
    path = tmp_path / "s.ome.tif"
    pixels = tissue_like(600, 700)
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, tile=(256, 256), photometric="rgb", compression="jpeg", metadata={"axes": "YXS"})
    backend = TiffBackend(path, path.name, 10**9)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        assert np.array_equal(backend.read(0, 0, 0, 700, 600).rgb, page.asarray())
        middle = page.dataoffsets[4] + page.databytecounts[4] // 2
    backend.close()
    data = bytearray(path.read_bytes())
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(data)
    backend = TiffBackend(path, path.name, 10**9)
    backend.read(0, 0, 0, 256, 256)
    with pytest.raises(RegionUnreadable, match="piece 4 is damaged"):
        backend.read(0, 300, 300, 50, 50)
    backend.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its open file
def test_a_reader_that_nobody_holds_gives_its_decoded_tiles_back(tmp_path: Path) -> None:
    """By counting references alone: 128 MB a slide must not wait for the garbage collector."""
    backend = opened(jpeg_slide(tmp_path / "a.svs", tissue_like(400, 400)))
    backend.read(0, 0, 0, 300, 300)
    level = weakref.ref(next(one for one in backend._direct.values() if one is not None))
    gc.disable()
    try:
        del backend
        assert level() is None
    finally:
        gc.enable()
