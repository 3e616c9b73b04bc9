"""Memory of a run from 1,000 to 1,000,000 tiles, with an encoder and a reader that cost nothing.

    python benchmarks/flatness.py

Every case runs engine and store in a process of its own; the proportional set size of that process and of its reading
processes is sampled four times a second. Pages of mapped files (the features of one huge slide wait on disk) are told
apart: the kernel takes them back when somebody else needs memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "factories"))

DIM = 512
CASES: dict[str, tuple[tuple[int, int], ...]] = {
    "slides of 10,000 tiles": ((1, 1_000), (1, 10_000), (10, 10_000), (100, 10_000)),
    "one slide": ((1, 200_000),),
    "radiographs": ((1_000, 1), (10_000, 1), (100_000, 1)),
}


def run(sources: int, rows: int, out: Path) -> None:
    """In the child: embed and pack."""
    import torch
    from fake_encoder import FakeEncoder
    from fake_engine import fake_engine
    from fake_reader import FakePolicy, fake_source

    from umedfeat.engine.device import LocalDevice
    from umedfeat.engine.loop import EngineSettings
    from umedfeat.extraction.sink import StoreSink
    from umedfeat.store import FeatureStore, Header

    class Wide(FakeEncoder):
        dim = DIM

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :DIM].clone()

    policy = FakePolicy()
    every = [fake_source(f"s{k:07d}", rows) for k in range(sources)]
    with FeatureStore(out, Header({"name": "fake"}, policy.to_dict()), dim=DIM) as store:
        settings = EngineSettings(workers=2, batch_size=256, spill_dir=out.parent)
        sink = StoreSink(store, None, None)
        begin = time.perf_counter()
        fake_engine(LocalDevice(Wide()), settings, sink, policy=policy).run(every)
        embedded = time.perf_counter()
        print("packing", flush=True)
        store.finish({})
    if sink.count != sources or sink.failures:
        raise SystemExit(f"{sink.count} of {sources} embedded")
    print(f"{embedded - begin:.1f} {time.perf_counter() - embedded:.1f}", flush=True)


def family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def memory(pid: int) -> tuple[float, float]:
    """(MB of its own, MB of mapped files) of a family."""
    own = mapped = 0
    for member in family(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:  # it ended just now
            continue
        fields = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
        own += fields["Pss_Anon:"] + fields["Pss_Shmem:"]
        mapped += fields["Pss_File:"]
    return own / 1024, mapped / 1024


def measure(sources: int, rows: int) -> None:
    """Print one line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--run", str(sources), str(rows), f"{folder}/feats.h5"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said: list[str] = []
        listener = threading.Thread(target=lambda: said.extend(iter(child.stdout.readline, "")))
        listener.start()
        peaks = {"embed": (0.0, 0.0), "pack": (0.0, 0.0)}
        while child.poll() is None:
            stage = "pack" if said else "embed"
            try:
                found = memory(child.pid)
            except OSError:
                continue
            peaks[stage] = (max(peaks[stage][0], found[0]), max(peaks[stage][1], found[1]))
            time.sleep(0.25)
        listener.join()
        if child.returncode:
            raise SystemExit(f"{sources} x {rows} failed")
    seconds = [float(part) for part in said[-1].split()]
    figures = (peaks["embed"][0], peaks["embed"][1], seconds[0], peaks["pack"][0], seconds[1])
    print(f"| {sources:,} | {rows:,} | {sources * rows:,} |", *(f"{figure:.0f} |" for figure in figures), flush=True)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(int(options.run[0]), int(options.run[1]), Path(options.run[2]))
        return
    print("| inputs | tiles each | tiles | MB, embedding | + mapped files | s | MB, packing | s |")
    print("|---|---|---|---|---|---|---|---|")
    for case in options.case or CASES:
        for sources, rows in CASES[case]:
            measure(sources, rows)


if __name__ == "__main__":
    main()
