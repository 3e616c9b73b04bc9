"""Kill a writing process at 100 random moments, resume each time, compare: ``python benchmarks/crash.py``.

Every run of the store ends byte-identical to an undisturbed one; the moments cover embedding, closing a segment,
packing and the removal of the segments.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WRITER = Path(__file__).resolve().parents[1] / "tests" / "store" / "crash_writer.py"


def start(out: Path) -> subprocess.Popen[bytes]:
    """A writer that has taken the lock."""
    process = subprocess.Popen([sys.executable, str(WRITER), str(out), "0.002"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def phase(out: Path) -> str:
    """What a killed run left."""
    folder = out.with_name(out.name + ".partial")
    if out.exists():
        return "after packing" if folder.exists() else "after all"
    temporary = list(out.parent.glob(f".{out.name}.*.tmp"))
    if temporary:
        return "while packing"
    if any(folder.glob(".*.tmp")):
        return "while closing a segment"
    return "between segments"


def main() -> None:
    """Print how many kills in which phase, and whether every file was the same."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp())
    begin = time.perf_counter()
    start(folder / "undisturbed.h5").wait()
    duration = time.perf_counter() - begin
    expected = (folder / "undisturbed.h5").read_bytes()
    phases: dict[str, int] = {}
    kills = rounds = different = 0
    while kills < options.kills:
        rounds += 1
        out = folder / f"{rounds}" / "feats.h5"
        out.parent.mkdir()
        for attempt in range(6):
            process = start(out)
            if attempt < 5:
                time.sleep(moments.uniform(0, duration * 0.6))
                process.send_signal(signal.SIGKILL)
            process.wait()
            if process.returncode == 0:
                break
            kills += 1
            phases[phase(out)] = phases.get(phase(out), 0) + 1
        different += out.read_bytes() != expected
        shutil.rmtree(out.parent)
    shutil.rmtree(folder)
    print(f"{kills} kills in {rounds} runs, {different} files differ from the undisturbed one")
    for name, count in sorted(phases.items()):
        print(f"  {count:3d} {name}")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
