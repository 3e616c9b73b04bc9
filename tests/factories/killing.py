"""Starting ``umedfeat extract`` as a terminal does, ending it at a chosen moment, and what it must not leave behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SMALL = ["--encoder", "efficientnet-lite0", "--tile-size", "64", "--image-size", "64", "--mpp", "2"]
SMALL += ["--batch-size", "4", "--slices", "12"]
#: So that a run of seconds has many segments.
SEGMENT_BYTES = 40_000
#: What a finished run of ``write_inputs`` leaves in its folder.
RESULT = ["feats.h5", "feats.h5.failures.csv", "feats.h5.run.json"]


def write_inputs(folder: Path, images: int, *, every_reader: bool) -> Path:
    """Flat images and one that is damaged; with ``every_reader`` a slide, a CT series, NIfTI and DICOM images too."""
    from umedfeat.demo import cohort

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(images):
        pixels = rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image{k:03d}.png")
    (folder / "notes.txt").write_text("no image")
    broken = (folder / "image000.png").read_bytes()
    (folder / "broken.png").write_bytes(broken[: len(broken) // 2])
    if every_reader:
        cohort._ct(folder / "ct", rng)
        cohort._slide(folder / "slide", rng, side=2048)
        cohort._real(folder / "real")
    return folder


def arguments(source: Path, out: Path, *options: str) -> list[str]:
    """Of ``umedfeat``."""
    return [
        *("extract", "--input", str(source), "--out", str(out), *SMALL),
        *("--device", "cpu", "--workers", "2", "--progress", "none", "--include-derived", *options),
    ]


def start(given: Sequence[str], scratch: Path) -> subprocess.Popen[str]:
    """``umedfeat`` with small segments, in a group of its own, temporary files in ``scratch``."""
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)}
    command = [sys.executable, __file__, *given]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def wait_for_lock(out: Path, is_running: Callable[[], bool]) -> None:
    """Until the run holds its output (or has ended)."""
    while is_running() and not out.with_name(out.name + ".lock").exists():
        time.sleep(0.01)


def kill(pid: int, moments: random.Random, longest: float) -> None:
    """SIGKILL a parent alone, or its whole group, after a random time (if it still runs)."""
    time.sleep(moments.uniform(0, longest))
    with contextlib.suppress(ProcessLookupError):
        if moments.random() < 0.5:
            os.kill(pid, signal.SIGKILL)
        else:
            os.killpg(pid, signal.SIGKILL)


def running_in_group(group: int, patience: float = 30.0) -> list[str]:
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


if __name__ == "__main__":
    from umedfeat.cli import main
    from umedfeat.store import segment

    segment._SEGMENT_BYTES, segment._ITEM_BYTES = SEGMENT_BYTES, 0
    main()
