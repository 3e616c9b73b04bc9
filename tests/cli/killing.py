"""Starting ``umedfeat extract`` as a terminal does, ending it at a chosen moment, and what it must not leave behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = ["--encoder", "efficientnet-lite0", "--tile-size", "64", "--image-size", "64", "--batch-size", "4"]
PROGRAM = Path(__file__).with_name("small_segments.py")


def write_inputs(folder: Path, images: int, slide_side: int = 0) -> Path:
    """Flat images, a CT series, radiographs, a real NIfTI and a slide: every reader takes part."""
    from umedfeat.demo import cohort

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(images):
        pixels = rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image{k:03d}.png")
    (folder / "notes.txt").write_text("no image")
    broken = (folder / "image000.png").read_bytes()
    (folder / "broken.png").write_bytes(broken[: len(broken) // 2])
    if slide_side:
        cohort._ct(folder / "ct", rng)
        cohort._slide(folder / "slide", rng)
        cohort._real(folder / "real")
    return folder


def command(source: Path, out: Path, *options: str) -> list[str]:
    return [
        *(sys.executable, str(PROGRAM), "extract", "--input", str(source), "--out", str(out), *SMALL),
        *("--device", "cpu", "--workers", "2", "--progress", "none", "--include-derived", *options),
    ]


def start(arguments: Sequence[str], scratch: Path) -> subprocess.Popen[str]:
    """In a group of its own, temporary files in ``scratch``."""
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def wait_for_lock(process: subprocess.Popen[str], out: Path) -> None:
    """Until the run holds its output (or has ended)."""
    while process.poll() is None and not out.with_name(out.name + ".lock").exists():
        time.sleep(0.01)


def kill(process: subprocess.Popen[str], moments: random.Random, longest: float) -> bool:
    """SIGKILL the parent alone, or the whole group, after a random time; was it still running?"""
    time.sleep(moments.uniform(0, longest))
    running = process.poll() is None
    if moments.random() < 0.5:
        process.kill()
    elif running:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return running


def running_in_group(group: int, patience: float = 5.0) -> list[str]:
    """Names of processes of a group that still run after ``patience`` seconds (without /proc: none)."""
    end = time.monotonic() + patience
    while True:
        running = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = path.read_text().rpartition(")")
            except OSError:  # it ended just now
                continue
            state, _, members_of = rest.split()[:3]
            if int(members_of) == group and state != "Z":
                running.append(name)
        if not running or time.monotonic() > end:
            return running
        time.sleep(0.1)


def left_behind(scratch: Path) -> list[str]:
    """Temporary files and shared memory of a run that is gone."""
    shared = [path for path in Path("/dev/shm").glob("*") if "umedfeat" in path.name or path.name.startswith("psm_")]
    ours = [path for path in scratch.iterdir() if not path.name.startswith("torchinductor")]  # torch's own cache
    return [path.name for path in [*ours, *shared]]
