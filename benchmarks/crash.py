"""Kill a run at 100 random moments, resume each time, compare with an undisturbed one.

    python benchmarks/crash.py store      the writer of the feature file alone
    python benchmarks/crash.py command    ``umedfeat extract`` on slide, CT, NIfTI, DICOM and flat images

SIGKILL hits the store while it embeds, closes a segment, packs or removes the segments. The whole command is killed as
its parent process alone or as its whole group; after every kill no process, no shared memory and no temporary file may
be left. ``--device cpu,cpu`` adds device processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import timm  # noqa: F401  (imported once, before the forks)
import torchvision  # noqa: F401

import umedfeat.cli
import umedfeat.extraction.run

FACTORIES = Path(__file__).resolve().parents[1] / "tests" / "factories"
sys.path.insert(0, str(FACTORIES))
import killing  # noqa: E402

WRITER = FACTORIES / "crash_writer.py"


def start_writer(out: Path) -> subprocess.Popen[bytes]:
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
    if list(out.parent.glob(f".{out.name}.*.tmp")):
        return "while packing"
    if any(folder.glob(".*.tmp")):
        return "while closing a segment"
    return "between segments" if folder.exists() else "before the first segment"


def kill_store(folder: Path, kills: int, moments: random.Random) -> tuple[Counter[str], int, int]:
    """(kills by phase, runs, files that differ) of the store alone."""
    begin = time.perf_counter()
    start_writer(folder / "undisturbed.h5").wait()
    duration = time.perf_counter() - begin
    expected = (folder / "undisturbed.h5").read_bytes()
    phases: Counter[str] = Counter()
    runs = different = 0
    while phases.total() < kills:
        runs += 1
        out = folder / f"{runs}" / "feats.h5"
        out.parent.mkdir()
        for attempt in range(6):
            process = start_writer(out)
            if attempt < 5:
                time.sleep(moments.uniform(0, duration * 0.6))
                process.send_signal(signal.SIGKILL)
            process.wait()
            if process.returncode == 0:
                break
            phases[phase(out)] += 1
        different += out.read_bytes() != expected
        shutil.rmtree(out.parent)
    return phases, runs, different


def command_process(arguments: list[str], scratch: Path) -> Any:
    """``umedfeat`` in a process and group of its own; forked, because importing torch takes longer than the run."""
    process = multiprocessing.get_context("fork").Process(target=_command, args=(arguments, scratch))
    process.start()
    return process


def _command(arguments: list[str], scratch: Path) -> None:
    from umedfeat.store import segment

    os.setsid()
    os.environ["TMPDIR"] = str(scratch)
    tempfile.tempdir = None
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    segment._SEGMENT_BYTES, segment._ITEM_BYTES = killing.SEGMENT_BYTES, 0
    umedfeat.cli.main(arguments)


def run_undisturbed(source: Path, out: Path, scratch: Path, device: str) -> float:
    """Seconds that a whole run takes."""
    begin = time.perf_counter()
    process = command_process(killing.arguments(source, out, "--device", device), scratch)
    process.join()
    duration = time.perf_counter() - begin
    print(f"undisturbed on {device}: exit {process.exitcode}, {duration:.1f} s", flush=True)
    return duration


def kill_command(folder: Path, kills: int, moments: random.Random, device: str) -> tuple[Counter[str], int, int]:
    """(kills by phase, runs, faults) of the whole command."""
    source, scratch = killing.write_inputs(folder / "in", 120, every_reader=True), folder / "scratch"
    scratch.mkdir()
    undisturbed = folder / "undisturbed.h5"
    run_undisturbed(source, undisturbed, scratch, "cpu")
    expected = undisturbed.read_bytes()
    duration = run_undisturbed(source, folder / "again.h5", scratch, device)
    phases: Counter[str] = Counter()
    runs = faults = 0
    while phases.total() < kills:
        runs += 1
        out = folder / f"{runs}" / "feats.h5"
        out.parent.mkdir()
        exit_code = None
        while exit_code != 1:  # broken.png failed, all others are embedded
            process = command_process(killing.arguments(source, out, "--device", device), scratch)
            killing.wait_for_lock(out, process.is_alive)  # once: a killed run's lock is still there for the next
            killing.kill(process.pid, moments, duration * 1.2)
            process.join()
            exit_code = process.exitcode
            if exit_code == -signal.SIGKILL:
                phases[phase(out)] += 1
            elif exit_code != 1:
                raise SystemExit(f"run {runs} ended with {exit_code}")
            orphans, left = killing.running_in_group(process.pid), killing.left_behind(scratch)
            if orphans or left:
                faults += 1
                print(f"left behind: {orphans} {left}", flush=True)
        if out.read_bytes() != expected or sorted(p.name for p in out.parent.iterdir()) != killing.RESULT:
            faults += 1
            print(f"run {runs} ended otherwise: {sorted(p.name for p in out.parent.iterdir())}", flush=True)
        print(f"run {runs}: {phases.total()} kills", flush=True)
        shutil.rmtree(out.parent)
    return phases, runs, faults


def main() -> None:
    """Print how many kills in which phase, and whether every file was the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["store", "command"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.what == "store":
            phases, runs, faults = kill_store(folder, options.kills, moments)
        else:
            phases, runs, faults = kill_command(folder, options.kills, moments, options.device)
    print(
        f"{phases.total()} kills in {runs} runs, {faults} files differ from the undisturbed one or something was left"
    )
    for name, count in sorted(phases.items()):
        print(f"  {count:3d} {name}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
