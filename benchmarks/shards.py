"""What dividing a national archive costs: bytes a source, seconds to divide, and how even the parts are.

    python benchmarks/shards.py [--sources 1000000] [--parts 256]

The sources are made up (no file is touched); sizes are log-normal, as those of slides are, with a factor of 2.7 between
the middle and the 84th percentile.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from umedfeat.contract import Source
from umedfeat.extraction.shards import balanced


def main() -> None:
    """One line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=256)
    wish = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sources = [made_up(number) for number in range(wish.sources)]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{wish.sources:,} sources: {grown / len(sources):,.0f} bytes each")
    sizes = (1e9 * np.random.default_rng(0).lognormal(0, 1, len(sources))).astype(np.int64).tolist()
    begin = time.process_time()
    parts = np.array(balanced(sizes, wish.parts))
    print(f"divided into {wish.parts} in {time.process_time() - begin:.1f} processor seconds")
    print(f"by size:    fullest part {fullest(parts, sizes, wish.parts):.4f} of the mean")
    every_nth = np.arange(len(sizes)) % wish.parts
    print(f"every n-th: fullest part {fullest(every_nth, sizes, wish.parts):.4f} of the mean")


def made_up(number: int) -> Source:
    """A slide in a folder of its patient."""
    name = f"centre-{number % 50:02d}/patient-{number // 3:07d}/slide-{number:07d}.svs"
    path = Path("/archive", name)
    return Source(name[:-4], "slide", path, (path,), name)


def fullest(parts: np.ndarray, sizes: list[int], count: int) -> float:
    """The fullest part against the mean."""
    loads = np.bincount(parts, weights=sizes, minlength=count)
    return float(loads.max() / loads.mean())


if __name__ == "__main__":
    main()
