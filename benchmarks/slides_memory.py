"""Memory of a whole ``umedfeat extract`` with two workers on one slide of 100,000 x 100,000 pixels.

    python benchmarks/slides_memory.py --tissue CMU-1-Small-Region.svs [--levels 1]

The slide is the one of ``slides.py``, with levels 1, 4 and 16, then one with the first alone. The proportional set size
of the command and of everything that it starts is summed five times a second: pages that several share count once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slides import DOWNSAMPLES, write_slide


def family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def held_mib(pid: int) -> float:
    """Proportional set size; 0 for a process that ended just now."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def memory(tissue: Path, side: int, levels: int, min_tissue: float) -> dict[str, Any]:
    """Run the command and watch it."""
    with tempfile.TemporaryDirectory() as folder:
        slide, out = Path(folder) / "large.svs", Path(folder) / "feats.h5"
        write_slide(slide, side, tissue, downsamples=DOWNSAMPLES[:levels])
        command = [sys.executable, "-m", "umedfeat", "extract", "-i", str(slide), "-o", str(out), "--json"]
        command += ["--encoder", "efficientnet-lite0", "--workers", "2", "--device", "cpu", "--quiet"]
        command += ["--min-tissue", str(min_tissue)]
        start, sums, peaks = time.monotonic(), [], dict[int, float]()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while process.poll() is None:
            held = {pid: held_mib(pid) for pid in family(process.pid)}
            peaks = {pid: max(peaks.get(pid, 0.0), held.get(pid, 0.0)) for pid in {*peaks, *held}}
            sums.append(sum(held.values()))
            time.sleep(0.2)
        quarters = [sums[len(sums) * k // 4 : len(sums) * (k + 1) // 4] for k in range(4)]
        return {
            "slide MiB": round(slide.stat().st_size / 2**20, 1),
            "seconds": round(time.monotonic() - start, 1),
            "exit code": process.returncode,
            "summary": json.loads(process.communicate()[0] or "null"),
            "peak of the sum MiB": round(max(sums)),
            "highest sum of each quarter MiB": [round(max(part)) for part in quarters],
            "peak of each process MiB": sorted((round(peak) for peak in peaks.values()), reverse=True),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tissue", type=Path, required=True, help="a real slide that OpenSlide reads")
    parser.add_argument("--side", type=int, default=100_000, help="of the slide in pixels")
    parser.add_argument("--levels", type=int, action="append", choices=[1, 2, 3], help="3, then 1 otherwise")
    parser.add_argument("--min-tissue", type=float, default=0.99, help="of a kept tile: fewer tiles, shorter run")
    asked = parser.parse_args()
    for levels in asked.levels or [3, 1]:
        found = memory(asked.tissue, asked.side, levels, asked.min_tissue)
        sys.stdout.write(json.dumps({f"{levels} levels": found}, indent=1) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
