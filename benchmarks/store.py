"""Packing speed and memory of the feature file, against the disk: ``python benchmarks/store.py [--gigabytes 4]``.

Writes segments as a run does (items finish out of order), and packs them in a process of its own whose peak memory is
measured. For comparison the same segments are copied into one file (``cat`` and a sync) right before: what the disk
does with the same bytes from the same state of the page cache. Verifying is compared with ``sha256sum`` of the file.
Before every timed action free memory is touched once: virtual machines hand it back to their host, and to get it again
costs several times as much as filling it, which would be counted to whatever happens to come first.
"""

from __future__ import annotations

import argparse
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "factories"))
from store_cases import header, item

from umedfeat.store import FeatureStore, Item, merge, shard_path, verify

DIM = 512
BASES: dict[int, Item] = {}


def cohort(gigabytes: float, rows: int) -> tuple[list[str], int]:
    """Names of items of ``rows`` rows that make so many gigabytes."""
    count = max(1, int(gigabytes * 1e9 / (rows * DIM * 4)))
    return [f"s{k:06d}" for k in range(count)], rows


def numbered(name: str, rows: int) -> Item:
    """An item whose values differ from those of the others; drawing random ones would take longer than writing."""
    base = BASES.setdefault(rows, item("s", rows, dim=DIM))
    source = replace(base.source, id=name, name=f"{name}.svs")
    return Item(source, base.plan, base.features + np.float32(int(name[1:])))


def write_segments(out: Path, gigabytes: float, rows: int, spread: int) -> float:
    """Segments as a run leaves them: items arrive in order but for neighbours that overtake each other."""
    names, rows = cohort(gigabytes, rows)
    rng = np.random.default_rng(0)
    order = np.argsort(np.arange(len(names)) + rng.uniform(0, spread, len(names)))
    begin = time.perf_counter()
    try:
        with FeatureStore(out, header(), dim=DIM) as store:
            for place in order:
                store.add(numbered(names[place], rows))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return time.perf_counter() - begin


def in_process(action: str, *paths: Path) -> tuple[float, float]:
    """(seconds, peak MB) of one action in a fresh process."""
    command = [sys.executable, __file__, "--action", action, *map(str, paths)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(found[0]), float(found[1])


def touch_memory(size: int) -> None:
    """Make the machine own the memory that the page cache is about to fill with so many bytes."""
    free = int(Path("/proc/meminfo").read_text().partition("MemFree:")[2].split()[0]) * 1024
    with mmap.mmap(-1, max(4096, int(min(1.5 * size, 0.9 * free)))) as room:
        for place in range(0, len(room), 4096):
            room[place] = 1


def act(action: str, paths: list[Path]) -> None:
    """Run one action here and print seconds and peak memory."""
    touch = [sys.executable, __file__, "--action", "touch", *map(str, paths)]
    subprocess.run(touch, check=True)
    begin = time.perf_counter()
    if action == "pack":
        with FeatureStore(paths[0], header(), dim=DIM) as store:  # looks through what is there, which takes a while
            subprocess.run(touch, check=True)
            begin = time.perf_counter()
            store.finish({})
    elif action == "merge":
        merge(paths[1:], paths[0])
    elif action == "verify":
        verify(paths[0])
    elif action == "import":
        pass
    seconds = time.perf_counter() - begin
    print(seconds, peak_megabytes())


def peak_megabytes() -> float:
    """Largest resident memory of this process (``ru_maxrss`` would count the parent's before exec)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def joined(sources: list[Path], target: Path) -> float:
    """Seconds of copying files into one and a sync of it."""
    touch_memory(sum(source.stat().st_size for source in sources))
    begin = time.perf_counter()
    with target.open("wb") as stream:
        subprocess.run(["cat", *map(str, sources)], check=True, stdout=stream)
        os.fsync(stream.fileno())
    seconds = time.perf_counter() - begin
    target.unlink()
    return seconds


def hashed(source: Path) -> float:
    """Seconds of ``sha256sum``."""
    begin = time.perf_counter()
    subprocess.run(["sha256sum", str(source)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def report(name: str, size: int, seconds: float, peak: float, reference: float) -> None:
    """One line of the table."""
    rate = size / seconds / 1e6
    print(f"| {name} | {size / 1e9:.2f} | {rate:.0f} | {peak:.0f} | {reference / seconds:.2f} |", flush=True)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--action")
    parser.add_argument("paths", nargs="*", type=Path)
    options = parser.parse_args()
    if options.action == "touch":
        found = [f for path in options.paths for f in (path, *path.parent.glob(f"{path.name}.partial/*")) if f.exists()]
        touch_memory(sum(file.stat().st_size for file in found))
        return
    if options.action:
        act(options.action, options.paths)
        return
    folder = Path(tempfile.mkdtemp(dir=options.dir))
    try:
        print(f"idle process with the store imported: {in_process('import')[1]:.0f} MB")
        print("| action | GB | MB/s | peak MB | relative to copying (hashing) |\n|---|---|---|---|---|")
        for rows, spread, name in (
            (4000, 8, "slides (4,000 tiles)"),
            (100, 400, "volumes (100 slices)"),
            (1, 4000, "radiographs"),
        ):
            share = options.gigabytes if rows > 100 else min(1.0, options.gigabytes / 4) * (1 if rows > 1 else 0.2)
            out = folder / "feats.h5"
            write_segments(out, share, rows, spread)
            reference = joined(sorted(folder.glob("feats.h5.partial/*.h5")), folder / "copy")
            seconds, peak = in_process("pack", out)
            report(f"pack segments, {name}", out.stat().st_size, seconds, peak, reference)
            reference = hashed(out)
            seconds, peak = in_process("verify", out)
            report(f"verify, {name}", out.stat().st_size, seconds, peak, reference)
            out.unlink()
        names, rows = cohort(options.gigabytes / 2, 4000)
        out = folder / "feats.h5"
        for shard in range(1, 17):
            with FeatureStore(shard_path(out, (shard, 16)), header(), dim=DIM) as store:
                for name in names[shard - 1 :: 16]:
                    store.add(numbered(name, rows))
                store.finish({})
        shards = sorted((folder / "feats.h5.shards").glob("*.h5"))
        reference = joined(shards, folder / "copy")
        seconds, peak = in_process("merge", out, *shards)
        report("merge 16 shards, slides", out.stat().st_size, seconds, peak, reference)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
