"""Cold start: the whole command on one radiograph, against importing torch. Run by hand on a quiet machine:

    python benchmarks/cold_start.py [--encoder efficientnet-lite0 --encoder umedpt --weights FILE] [--rounds 7]

"NAME:torch" is an encoder on that runtime; ``--weights`` are those of umedpt.
Prints a Markdown table: medians of wall and processor seconds, taken in turns so that a busy minute hits all alike, and
the highest memory of the largest process. The first call has an empty cache of its own, so nothing is compiled yet.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def _radiograph(path: Path) -> None:
    y, x = np.mgrid[-1:1:2048j, -1:1:1800j]
    Image.fromarray((127 + 100 * np.sin(5 * x) * np.cos(3 * y)).astype(np.uint8)).save(path)


def _timed(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds, and the highest resident size in MB of the process."""
    begin = time.perf_counter()
    quiet = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, quiet, 1), (os.POSIX_SPAWN_DUP2, quiet, 2)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    os.close(quiet)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed ({status})")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", action="append", help="default: efficientnet-lite0")
    parser.add_argument("--weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        image, out = Path(place, "chest.png"), Path(place, "f.h5")
        _radiograph(image)
        extract = ["-m", "umedfeat", "extract", "-i", str(image), "-o", str(out), "--overwrite", "--progress", "none"]
        extract += ["--device", options.device]
        rows = {"import torch": [sys.executable, "-c", "import torch"]}
        for wanted in options.encoder or ["efficientnet-lite0"]:
            name, _, runtime = wanted.partition(":")
            own = ["--weights", options.weights] if name == "umedpt" and options.weights else []
            rows[f"extract, {wanted}"] = [
                sys.executable,
                *extract,
                *["--encoder", name, "--runtime", runtime or "auto", *own],
            ]
        figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in rows}
        os.environ["UMEDFEAT_CACHE"] = str(Path(place, "cache"))
        for name, command in rows.items():
            figures[f"{name}, first call"] = [_timed(command)]
        for _ in range(options.rounds):
            for name, command in rows.items():
                figures[name].append(_timed(command))
    base = statistics.median(figure[0] for figure in figures["import torch"])
    print("| command | wall s | × import torch | processor s | peak MB |\n| --- | ---: | ---: | ---: | ---: |")
    for name, taken in figures.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"| {name} | {wall:.2f} | {wall / base:.2f} | {cpu:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
