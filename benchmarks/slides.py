"""Reading slides: tiles per core second beside other readers, and the memory that a 100,000-pixel slide takes.

    python benchmarks/slides.py speed --tissue CMU-1-Small-Region.svs
    python benchmarks/slides.py memory --tissue CMU-1-Small-Region.svs

The slides are Aperio-like pyramids whose JPEG tiles are cut from a real one (``--tissue``); the tile table points to
the same few hundred JPEG streams again and again, so that a 100,000 x 100,000 slide is a small file. Readers that are
not installed (slide2vec with hs2p; wsidata, which lazyslide reads through) are left out, and it is said.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openslide
from PIL import Image

from umedfeat.items import RegionUnreadable, Source
from umedfeat.policy import Policy, SlidePolicy
from umedfeat.readers import open_reader

MPP, TILE, EXTENT, JPEG = 0.25, 224, 448, 256
POLICY = Policy(slide=SlidePolicy(tissue="none", mpp=0.5, tile_size=TILE))
DOWNSAMPLES = (1, 4, 16)
Read = Callable[[np.ndarray], int]


def tissue_tiles(path: Path, downsample: int) -> list[bytes]:
    """JPEG tiles of a real slide, shrunk."""
    slide = openslide.OpenSlide(str(path))
    width, height = slide.dimensions
    image = slide.read_region((0, 0), 0, (width, height)).convert("RGB").reduce(downsample)
    columns, rows = max(1, image.width // JPEG), max(1, image.height // JPEG)
    tiles = []
    for k in range(columns * rows):
        x, y = k % columns * JPEG, k // columns * JPEG
        stream = io.BytesIO()
        image.crop((x, y, x + JPEG, y + JPEG)).save(stream, "JPEG", quality=85, subsampling=0)
        tiles.append(stream.getvalue())
    return tiles


def write_slide(path: Path, side: int, tissue: Path) -> Path:
    """An Aperio-like BigTIFF of side x side pixels with levels 1, 4 and 16; few streams, many tiles that show them."""
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8
        for factor in DOWNSAMPLES:
            link = _write_level(stream, link, side // factor, tissue_tiles(tissue, factor), side)
    return path


def _write_level(stream: Any, link: int, side: int, tiles: list[bytes], full: int) -> int:
    places = []
    for tile in tiles:
        places.append((stream.tell(), len(tile)))
        stream.write(tile)
    count = (-(-side // JPEG)) ** 2
    shown = np.array([places[k % len(places)] for k in range(count)], dtype="<u8")
    offsets, sizes = stream.tell(), stream.tell() + 8 * count
    stream.write(shown[:, 0].tobytes() + shown[:, 1].tobytes())
    text = f"Aperio Image Library v11\r\n{full}x{full} [0,0 {full}x{full}] (256x256)|AppMag = 40|MPP = {MPP}\0".encode()
    described = stream.tell()
    stream.write(text)
    short, long, ascii_text, long8 = 3, 4, 2, 16
    entries = [
        (256, long, 1, side),
        (257, long, 1, side),
        (258, short, 3, 8 | 8 << 16 | 8 << 32),
        (259, short, 1, 7),
        (262, short, 1, 6),
        (270, ascii_text, len(text), described),
        (277, short, 1, 3),
        (322, short, 1, JPEG),
        (323, short, 1, JPEG),
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


def umedfeat_reader(path: Path) -> Read:
    reader = open_reader(source_of(path), POLICY)

    def read(regions: np.ndarray) -> int:
        tiles: list[Any] = []
        for first in range(0, len(regions), 64):
            tiles += reader.read(regions[first : first + 64])
        if any(isinstance(tile, RegionUnreadable) for tile in tiles):
            raise RuntimeError("unreadable tiles")
        return len(tiles)

    return read


def plain_reader(path: Path) -> Read:
    slide = openslide.OpenSlide(str(path))

    def read(regions: np.ndarray) -> int:
        for region in regions:
            place = (int(region["x"]), int(region["y"]))
            tile = slide.read_region(place, 0, (EXTENT, EXTENT)).convert("RGB")
            np.asarray(tile.resize((TILE, TILE), Image.Resampling.BILINEAR))
        return len(regions)

    return read


def slide2vec_reader(path: Path) -> Read:
    from slide2vec.data.tile_reader import WSITileReader

    def read(regions: np.ndarray) -> int:
        plan = SimpleNamespace(
            x=regions["x"].astype(np.int64),
            y=regions["y"].astype(np.int64),
            num_tiles=len(regions),
            read_level=0,
            read_tile_size_px=EXTENT,
            requested_tile_size_px=TILE,
            tile_size_lv0=EXTENT,
            step_px_lv0=EXTENT,
            overlap=0.0,
            level_downsamples=[1.0, 4.0, 16.0],
        )
        reader = WSITileReader(path, plan, backend="openslide", use_supertiles=True)  # its own default
        order = reader.ordered_indices
        return sum(len(reader.read_batch(order[k : k + 64])) for k in range(0, len(order), 64))

    return read


def lazyslide_reader(path: Path) -> Read:
    from wsidata._model.tile import TileRequest
    from wsidata.reader.openslide import OpenSlideReader

    reader = OpenSlideReader(str(path))

    def read(regions: np.ndarray) -> int:
        for region in regions:
            request = TileRequest(int(region["x"]), int(region["y"]), 0, EXTENT, EXTENT, (TILE, TILE))
            request.resize(reader.get_region(request.x, request.y, EXTENT, EXTENT, level=0))
        return len(regions)

    return read


READERS = {
    "read_region per tile": plain_reader,
    "umedfeat": umedfeat_reader,
    "slide2vec + hs2p": slide2vec_reader,
    "lazyslide (wsidata)": lazyslide_reader,
}


def usable(path: Path) -> Iterator[tuple[str, Callable[[], Read]]]:
    for name, make in READERS.items():
        try:
            make(path)(open_plan(path)[:2])
        except ImportError as error:
            sys.stderr.write(f"left out: {name} ({error})\n")
            continue
        yield name, lambda make=make: make(path)  # type: ignore[misc]


def open_plan(path: Path) -> np.ndarray:
    return open_reader(source_of(path), POLICY).plan().regions


def speed(tissue: Path, side: int, rows: int, rounds: int) -> dict[str, Any]:
    """Tiles per CPU second of every reader: the same tiles, in turn, a fresh handle and cache each round."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_slide(Path(folder) / "slide.svs", side, tissue)
        regions = open_plan(path)
        regions = regions[regions["y"] < rows * EXTENT]
        readers, rates = dict(usable(path)), {}
        for _ in range(rounds):
            for name, make in readers.items():
                read, start = make(), time.process_time()
                rates.setdefault(name, []).append(read(regions) / (time.process_time() - start))
    return {
        "tiles": len(regions),
        "tiles per core second": {name: statistics.median(values) for name, values in rates.items()},
        "spread": {name: (min(values), max(values)) for name, values in rates.items()},
    }


def memory(tissue: Path, side: int, tiles: int) -> dict[str, Any]:
    """Peak memory of a planning process and of two readers that run at once."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_slide(Path(folder) / "large.svs", side, tissue)
        found: dict[str, Any] = {"file MiB": path.stat().st_size / 2**20}
        found["plan"] = json.loads(_child("plan", path, 0, 1).communicate()[0])
        children = [_child("read", path, part, tiles) for part in (0, 1)]
        found["readers"] = [json.loads(child.communicate()[0]) for child in children]
        found["total MiB"] = found["plan"]["MiB"] + sum(reader["MiB"] for reader in found["readers"])
    return found


def _child(task: str, path: Path, part: int, tiles: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "child", task, str(path), str(part), str(tiles)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def child(task: str, path: Path, part: int, tiles: int) -> dict[str, float]:
    start = time.monotonic()
    chosen = Policy(slide=SlidePolicy(tissue="auto" if task == "plan" else "none"))
    reader = open_reader(source_of(path), chosen)
    regions = reader.plan().regions
    done = len(regions)
    if task == "read":
        mine = regions[part * len(regions) // 2 :][:tiles]
        done = sum(len(reader.read(mine[k : k + 64])) for k in range(0, len(mine), 64))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tiles": done, "seconds": time.monotonic() - start, "MiB": peak}


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        sys.stdout.write(json.dumps(child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--tissue", type=Path, required=True, help="a real slide that OpenSlide reads")
    parser.add_argument("--side", type=int, help="of the slide in pixels (20,480; memory: 100,000)")
    parser.add_argument("--rows", type=int, default=8, help="rows of tiles that are read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=1500, help="that each of the two readers reads")
    asked = parser.parse_args()
    if asked.what == "speed":
        found = speed(asked.tissue, asked.side or 20_480, asked.rows, asked.rounds)
    else:
        found = memory(asked.tissue, asked.side or 100_000, asked.tiles)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
