"""Reading slides: tiles per core second beside other readers.

    python benchmarks/slides.py --tissue CMU-1-Small-Region.svs [--kind halved …]

The slides are Aperio-like pyramids whose tiles are cut from a real one (``--tissue``); the tile table points to the
same few hundred streams again and again, so that a 100,000 x 100,000 slide is a small file. Readers that are not
installed (slide2vec with hs2p; wsidata, which lazyslide reads through) are left out, and it is said.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import openslide
import simplejpeg
import tifffile
from PIL import Image

from umedfeat.contract import RegionUnreadable, Source
from umedfeat.policy import Policy, SlidePolicy
from umedfeat.readers import open_reader

TILE, STORED = 224, 256
DOWNSAMPLES = (1, 4, 16)
Read = Callable[[np.ndarray], int]


class Kind(NamedTuple):
    """A slide of the given scale and codec, read at the target scale; ``mpp`` None: the real slide as it is.

    ``share`` of the tiles are read: JPEG 2000 is slow.
    """

    mpp: float | None
    target: float
    codec: str = "jpeg"
    share: float = 1.0


KINDS = {
    "halved": Kind(0.25, 0.5),
    "fraction": Kind(0.252, 0.5),
    "as scanned": Kind(0.5, 0.5),
    "real, halved": Kind(None, 0.998),
    "real, nearly as scanned": Kind(None, 0.5),
    "JPEG 2000, halved": Kind(0.25, 0.5, "jpeg2000", 0.25),
}


def tissue_tiles(path: Path, downsample: int, codec: str) -> list[bytes]:
    """Compressed tiles of a real slide, shrunk."""
    slide = openslide.OpenSlide(str(path))
    width, height = slide.dimensions
    image = slide.read_region((0, 0), 0, (width, height)).convert("RGB").reduce(downsample)
    columns, rows = max(1, image.width // STORED), max(1, image.height // STORED)
    tiles = []
    for k in range(columns * rows):
        x, y = k % columns * STORED, k // columns * STORED
        tiles.append(compressed(image.crop((x, y, x + STORED, y + STORED)), codec))
    return tiles


def compressed(tile: Image.Image, codec: str) -> bytes:
    if codec == "jpeg2000":
        return bytes(imagecodecs.jpeg2k_encode(np.asarray(tile), level=40, codecformat="j2k", mct=True))
    stream = io.BytesIO()
    tile.save(stream, "JPEG", quality=85, subsampling=0)
    return stream.getvalue()


def write_slide(
    path: Path,
    side: int,
    tissue: Path,
    mpp: float = 0.25,
    codec: str = "jpeg",
    downsamples: tuple[int, ...] = DOWNSAMPLES,
) -> Path:
    """An Aperio-like BigTIFF of side x side pixels; few streams, many tiles that show them."""
    text = f"Aperio Image Library v11\r\n{side}x{side} [0,0 {side}x{side}] (256x256)|AppMag = 40|MPP = {mpp}\0".encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8
        for factor in downsamples:
            link = _write_level(stream, link, side // factor, tissue_tiles(tissue, factor, codec), text)
    return path


def _write_level(stream: Any, link: int, side: int, tiles: list[bytes], text: bytes) -> int:
    places = []
    for tile in tiles:
        places.append((stream.tell(), len(tile)))
        stream.write(tile)
    jpeg = tiles[0][:2] == b"\xff\xd8"
    count = (-(-side // STORED)) ** 2
    shown = np.array([places[k % len(places)] for k in range(count)], dtype="<u8")
    offsets, sizes = stream.tell(), stream.tell() + 8 * count
    stream.write(shown[:, 0].tobytes() + shown[:, 1].tobytes())
    described = stream.tell()
    stream.write(text)
    short, long, ascii_text, long8 = 3, 4, 2, 16
    entries = [
        (256, long, 1, side),
        (257, long, 1, side),
        (258, short, 3, 8 | 8 << 16 | 8 << 32),
        (259, short, 1, 7 if jpeg else 33005),
        (262, short, 1, 6 if jpeg else 2),
        (270, ascii_text, len(text), described),
        (277, short, 1, 3),
        (322, short, 1, STORED),
        (323, short, 1, STORED),
        (324, long8, count, offsets),
        (325, long8, count, sizes),
        (530, short, 2, 1 | 1 << 16),
    ]
    stream.write(b"\0" * (-stream.tell() % 8))
    directory = stream.tell()
    stream.write(struct.pack("<Q", len(entries)))
    for entry in entries:
        stream.write(struct.pack("<HHQQ", *entry))
    end = stream.tell()
    stream.write(struct.pack("<Q", 0))
    stream.seek(link)
    stream.write(struct.pack("<Q", directory))
    stream.seek(0, 2)
    return end


def source_of(path: Path) -> Source:
    return Source(id=path.stem, format="slide", path=path, files=(path,), name=path.name)


def policy(target: float) -> Policy:
    return Policy(slide=SlidePolicy(tissue="none", mpp=target, tile_size=TILE))


def umedfeat_reader(path: Path, target: float, extent: int) -> Read:
    reader = open_reader(source_of(path), policy(target))

    def read(regions: np.ndarray) -> int:
        tiles: list[Any] = []
        for first in range(0, len(regions), 64):
            tiles += reader.read(regions[first : first + 64])
        if any(isinstance(tile, RegionUnreadable) for tile in tiles):
            raise RuntimeError("unreadable tiles")
        return len(tiles)

    return read


def plain_reader(path: Path, target: float, extent: int) -> Read:
    slide = openslide.OpenSlide(str(path))

    def read(regions: np.ndarray) -> int:
        for region in regions:
            place = (int(region["x"]), int(region["y"]))
            tile = slide.read_region(place, 0, (extent, extent)).convert("RGB")
            np.asarray(tile.resize((TILE, TILE), Image.Resampling.BILINEAR))
        return len(regions)

    return read


def slide2vec_reader(path: Path, target: float, extent: int) -> Read:
    from slide2vec.data.tile_reader import WSITileReader

    factors = [float(factor) for factor in openslide.OpenSlide(str(path)).level_downsamples]

    def read(regions: np.ndarray) -> int:
        plan = SimpleNamespace(
            x=regions["x"].astype(np.int64),
            y=regions["y"].astype(np.int64),
            num_tiles=len(regions),
            read_level=0,
            read_tile_size_px=extent,
            requested_tile_size_px=TILE,
            tile_size_lv0=extent,
            step_px_lv0=extent,
            overlap=0.0,
            level_downsamples=factors,
        )
        reader = WSITileReader(path, plan, backend="openslide", use_supertiles=True)  # its own default
        order = reader.ordered_indices
        return sum(len(reader.read_batch(order[k : k + 64])) for k in range(0, len(order), 64))

    return read


def lazyslide_reader(path: Path, target: float, extent: int) -> Read:
    from wsidata._model.tile import TileRequest
    from wsidata.reader.openslide import OpenSlideReader

    reader = OpenSlideReader(str(path))

    def read(regions: np.ndarray) -> int:
        for region in regions:
            request = TileRequest(int(region["x"]), int(region["y"]), 0, extent, extent, (TILE, TILE))
            request.resize(reader.get_region(request.x, request.y, extent, extent, level=0))
        return len(regions)

    return read


def decoding_alone(path: Path, target: float, extent: int) -> Read:
    """No reader but the limit of all: every stream under the tiles decoded once, from memory, and thrown away."""
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        tables = page.tags.get("JPEGTables")
        start = tables.value[:-2] if tables is not None else b""
        streams = []
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.filehandle.seek(offset)
            data = file.filehandle.read(size)
            streams.append(start + data[2:] if start else data)
        width, height, columns = page.tilewidth, page.tilelength, -(-page.imagewidth // page.tilewidth)

    def read(regions: np.ndarray) -> int:
        needed = {
            row * columns + column
            for x, y in zip(regions["x"].tolist(), regions["y"].tolist(), strict=True)
            for row in range(y // height, (y + extent - 1) // height + 1)
            for column in range(x // width, (x + extent - 1) // width + 1)
        }
        for index in needed:
            data = streams[index]
            if data[:2] == b"\xff\xd8":
                simplejpeg.decode_jpeg(data, "RGB")
            else:
                imagecodecs.jpeg2k_decode(data)
        return len(regions)

    return read


READERS = {
    "decoding alone": decoding_alone,
    "umedfeat": umedfeat_reader,
    "lazyslide (wsidata)": lazyslide_reader,
    "read_region per tile": plain_reader,
    "slide2vec + hs2p": slide2vec_reader,
}


def usable(path: Path, target: float, extent: int) -> Iterator[tuple[str, Callable[[], Read]]]:
    for name, make in READERS.items():
        try:
            make(path, target, extent)(open_plan(path, target)[:2])
        except ImportError as error:
            sys.stderr.write(f"left out: {name} ({error})\n")
            continue
        yield name, lambda make=make: make(path, target, extent)  # type: ignore[misc]


def open_plan(path: Path, target: float) -> np.ndarray:
    reader = open_reader(source_of(path), policy(target))
    regions = reader.plan().regions
    reader.close()
    return regions


def speed(tissue: Path, kind: Kind, side: int, tiles: int, rounds: int) -> dict[str, Any]:
    """Tiles per CPU second of every reader: the same tiles, in turn, a fresh handle and cache each round."""
    with tempfile.TemporaryDirectory() as folder:
        path, scale = tissue, kind.mpp
        if scale is None:
            scale = float(openslide.OpenSlide(str(path)).properties["openslide.mpp-x"])
        else:
            path = write_slide(Path(folder) / "slide.svs", side, tissue, scale, kind.codec)
        regions = open_plan(path, kind.target)
        per_row = int((regions["y"] == 0).sum())
        regions = regions[: max(1, int(tiles * kind.share) // per_row) * per_row]
        rates: dict[str, list[float]] = {}
        readers = dict(usable(path, kind.target, round(TILE * kind.target / scale)))
        for _ in range(rounds):
            for name, make in readers.items():
                read, start = make(), time.process_time()
                rates.setdefault(name, []).append(read(regions) / (time.process_time() - start))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "tiles": len(regions),
        "tiles per core second": {name: round(value, 1) for name, value in medians.items()},
        "spread": {name: f"{min(values):.1f} - {max(values):.1f}" for name, values in rates.items()},
        "against read_region": {name: round(v / medians["read_region per tile"], 2) for name, v in medians.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tissue", type=Path, required=True, help="a real slide that OpenSlide reads")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="of slide; all of them otherwise")
    parser.add_argument("--side", type=int, default=20_480, help="of the slide in pixels")
    parser.add_argument("--tiles", type=int, default=360, help="that are read, rounded to whole rows")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    for name in asked.kind or KINDS:
        found = speed(asked.tissue, KINDS[name], asked.side, asked.tiles, asked.rounds)
        sys.stdout.write(json.dumps({name: found}, indent=1) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
