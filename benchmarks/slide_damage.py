"""Damage real slides at random places and compare every tile with the sound one.

    python benchmarks/slide_damage.py SLIDE [SLIDE ...] --mutations 300 --seed 1

Each mutation cuts the file or overwrites 1 to 300 bytes (noise, zeros, ones, one flipped bit), a third of them in the
first 2 kB, where the directories lie. A damaged file is planned and read like any other. Every tile ends as

    equal      the sound tile, bit by bit
    dropped    recorded as unreadable
    failed     the whole slide is refused by name
    changed    other pixels: the codec decoded the damaged bytes without noticing
    white      changed, and more than 5 % of it turned white that was not
    grey       changed, and more than 5 % of it turned the flat grey or black of missing data
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Plan, RegionUnreadable, Source
from umedfeat.errors import InputError
from umedfeat.policy import Policy, SlidePolicy
from umedfeat.readers import open_reader

KINDS = ("cut", "noise", "zeros", "ones", "bit")
ENDS = ("equal", "dropped", "failed", "changed", "white", "grey")
Tile = npt.NDArray[np.generic] | RegionUnreadable


def main() -> None:
    """Print one table row per slide and kind of damage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", nargs="+", type=Path)
    parser.add_argument("--mutations", type=int, default=300, help="of each slide")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tile-size", type=int, default=224)
    arguments = parser.parse_args()
    write = sys.stdout.write
    write("| slide | damage | files | " + " | ".join(ENDS) + " |\n|---|---|---|" + "---|" * len(ENDS) + "\n")
    for slide in arguments.slides:
        counts = campaign(slide, arguments.mutations, arguments.seed, arguments.tile_size)
        for kind in KINDS:
            row = [str(counts[kind, end]) for end in ("files", *ENDS)]
            write(f"| {slide.name} | {kind} | {' | '.join(row)} |\n")


def campaign(slide: Path, mutations: int, seed: int, tile_size: int) -> Counter[tuple[str, str]]:
    """(kind of damage, end) → number of tiles; (kind, "files") → number of mutations."""
    policy = Policy(slide=SlidePolicy(mpp=0.5, tile_size=tile_size, tissue="none", source_mpp=0.5))
    plan, sound = read_all(slide, policy)
    original, generator = slide.read_bytes(), random.Random(seed)
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / slide.name
        for number in range(mutations):
            kind = KINDS[number % len(KINDS)]
            path.write_bytes(damaged(original, generator, kind))
            counts[kind, "files"] += 1
            try:
                found, tiles = read_all(path, policy)
            except InputError:
                counts[kind, "failed"] += len(sound)
                continue
            if found.regions.tobytes() != plan.regions.tobytes():
                counts[kind, "changed"] += len(sound)  # the size or scale itself was overwritten
                continue
            counts.update((kind, end_of(tile, expected)) for tile, expected in zip(tiles, sound, strict=True))
    return counts


def damaged(data: bytes, generator: random.Random, kind: str) -> bytes:
    """The bytes of a slide with one damage."""
    start = generator.randrange(8, 2000 if generator.random() < 1 / 3 else len(data) - 400)
    if kind == "cut":
        return data[:start]
    if kind == "bit":
        return data[:start] + bytes([data[start] ^ 1 << generator.randrange(8)]) + data[start + 1 :]
    count = generator.randint(1, 300)
    filling = {"noise": generator.randbytes(count), "zeros": bytes(count), "ones": b"\xff" * count}[kind]
    return data[:start] + filling + data[start + count :]


def read_all(path: Path, policy: Policy) -> tuple[Plan, list[Any]]:
    """Plan and every tile."""
    source = Source(id=path.stem, format="slide", path=path, files=(path,), name=path.name)
    with contextlib.closing(open_reader(source, policy)) as reader:
        plan = reader.plan()
        return plan, list(reader.read(plan.regions))


def end_of(tile: Tile, sound: npt.NDArray[np.uint8]) -> str:
    """What became of one tile."""
    if isinstance(tile, RegionUnreadable):
        return "dropped"
    if np.array_equal(tile, sound):
        return "equal"
    pixels = np.asarray(tile, np.int16)
    turned = np.abs(pixels - sound).max(axis=2) > 12
    flat = pixels.max(axis=2) - pixels.min(axis=2) <= 3
    if (turned & (pixels.min(axis=2) > 250)).mean() > 0.05:
        return "white"
    if (turned & flat & ((np.abs(pixels[..., 0] - 128) <= 2) | (pixels.max(axis=2) == 0))).mean() > 0.05:
        return "grey"
    return "changed"


if __name__ == "__main__":
    main()
