"""What the engine costs: a whole run with an encoder that costs nothing, beside the reading alone.

    python benchmarks/engine.py --tissue CMU-1-Small-Region.svs [--rounds 3] [--radiographs 50000]

"Reading alone" are as many processes as the run has, each with slides of its own, nothing shared and nobody to report
to: what readers can deliver. The run plans and reads the same slides in its pool, moves pixels through shared memory
to the encoder, gathers features and writes them. Both clocks start when the processes have imported everything and end
with the last tile; the run's holds the writing of the file and the end of the processes. All ways in turn, medians: two
runs, of an encoder that takes pixels as they were read (those that OpenVINO computes) and of one that takes tensors
(those of torch). Processor time is that of all processes from their start, imports included; beside other work it says
more than the clock.

``--radiographs`` draws so many PNG images of 512 pixels (10 drawn, the others hard links with names of their own) and
tells what the parent process spends of its time on them: it limits a run when it is busy all the time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from slides import policy, source_of, write_slide

from umedfeat.contract import Source
from umedfeat.engine.device import LocalDevice
from umedfeat.engine.local.pool import WorkerPool, slot_bytes_for
from umedfeat.engine.loop import Engine, EngineSettings
from umedfeat.extraction.sink import StoreSink
from umedfeat.policy import Policy
from umedfeat.readers import open_reader
from umedfeat.store import FeatureStore, Header
from umedfeat.terminal.progress import SilentProgress

if TYPE_CHECKING:
    import torch

BATCH = 32
DIM = 768
WORKERS = 2
COLUMNS = [
    "slides",
    "encoder takes",
    "alone, tiles/s",
    "run, tiles/s",
    "by the clock",
    "by processor time",
    "parent busy",
]


class CostlessOfTensors:
    """The first values of an image: every row depends on its own image, and nothing is computed.

    As any encoder of torch it gets float32 tensors, which the engine makes of 8-bit pixels.
    """

    name = "costless"
    dim = DIM
    image_size = 224
    device = "cpu"
    precision = "fp32"
    settings: ClassVar = {"name": "costless"}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, :16, :16].flatten(1)[:, :DIM].clone()


class CostlessOfArrays(CostlessOfTensors):
    """The same of pixels as they were read, as the encoders get them that OpenVINO computes."""

    def prepare(self, height: int, width: int) -> None:
        """Nothing to compile."""

    def embed(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return pixels[:, :16, :16].reshape(len(pixels), -1)[:, :DIM].astype(np.float32)


def read_alone(slides: Sequence[Path], target: float, barrier: Any, said: Any) -> None:
    """In a process: plan and read slides, batch after batch."""
    barrier.wait()
    tiles = 0
    for slide in slides:
        reader = open_reader(source_of(slide), policy(target))
        regions = reader.plan().regions
        for first in range(0, len(regions), BATCH):
            tiles += len(reader.read(regions[first : first + BATCH]))
        reader.close()
    said.put(tiles)


def readers_alone(slides: Sequence[Path], target: float) -> float:
    """Tiles per second of ``WORKERS`` processes."""
    context = multiprocessing.get_context("spawn")
    barrier, said = context.Barrier(WORKERS + 1), context.Queue()
    shares = [(slides[k::WORKERS], target, barrier, said) for k in range(WORKERS)]
    processes = [context.Process(target=read_alone, args=share) for share in shares]
    for process in processes:
        process.start()
    barrier.wait()
    begin = time.perf_counter()
    tiles = sum(said.get() for _ in processes)
    seconds = time.perf_counter() - begin
    for process in processes:
        process.join()
    return tiles / seconds


def whole_run(
    sources: Sequence[Source], how: Policy, out: Path, encoder: CostlessOfTensors
) -> tuple[float, float, float]:
    """(regions per second, share of its time that this process computed, seconds) of engine and store."""
    pool = WorkerPool(how, workers=WORKERS, slot_bytes=slot_bytes_for(how, BATCH), timeout=600)
    awake(pool)
    device = LocalDevice(encoder)
    settings = EngineSettings(WORKERS, BATCH, spill_dir=out.parent)
    begin, busy = time.perf_counter(), time.process_time()
    with FeatureStore(out, Header({"name": "costless"}, how.to_dict()), dim=DIM) as store:
        sink = StoreSink(store, None, None)
        seconds = Engine(device, pool, settings, sink, SilentProgress(), threading.Event()).run(sources)
        store.finish({})
    spent = time.perf_counter() - begin
    if sink.count != len(sources):
        raise SystemExit(f"{sink.count} of {len(sources)} embedded")
    return seconds.regions / spent, (time.process_time() - busy) / spent, spent


def awake(pool: WorkerPool) -> None:
    """Start every process and wait until it has imported what it needs."""
    for _ in range(WORKERS):
        pool._start().link.poll(120)


def processor_seconds() -> float:
    """Of this process and of all that it started and that ended."""
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in every)


def slides_table(tissue: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        slides = [write_slide(Path(folder) / f"slide{k}.svs", 20_480, tissue) for k in range(2 * WORKERS)]
        print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
        for name, target in (("halved (0.25 → 0.5)", 0.5), ("as scanned (0.25 → 0.25)", 0.25)):
            rows = [one_round(slides, target, Path(folder) / f"{target}-{k}.h5") for k in range(rounds)]
            for way, found in zip(("arrays", "tensors"), zip(*rows, strict=True), strict=True):
                alone, run, clock, processor, busy = (statistics.median(column) for column in zip(*found, strict=True))
                shares = [row[3] for row in found]
                print(
                    f"| {name} | {way} | {alone:,.0f} | {run:,.0f} | {clock:.0f} % | {processor:.0f} % "
                    f"({min(shares):.0f} – {max(shares):.0f}) | {busy:.0f} % |",
                    flush=True,
                )


def one_round(slides: Sequence[Path], target: float, out: Path) -> list[tuple[float, float, float, float, float]]:
    """For each kind of encoder: tiles per second alone and in a run, the run in percent of the readers by clock and by
    processor, and the parent's share."""
    begin = processor_seconds()
    alone = readers_alone(slides, target)
    reading = processor_seconds() - begin
    found = []
    for encoder in (CostlessOfArrays(), CostlessOfTensors()):
        begin = processor_seconds()
        run, busy, _ = whole_run([source_of(slide) for slide in slides], policy(target), out, encoder)
        found.append((alone, run, 100 * run / alone, 100 * reading / (processor_seconds() - begin), 100 * busy))
        out.unlink()
    return found


def radiographs(count: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "images"
        place.mkdir()
        for k in range(10):
            pixels = np.add.outer(np.linspace(0, 120, 512), np.linspace(0, 100, 512)) + rng.normal(0, 9, (512, 512))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"drawn{k}.png")
        for k in range(count):
            (place / f"image{k:06d}.png").hardlink_to(place / f"drawn{k % 10}.png")
        paths = sorted(place.glob("image*.png"))
        sources = [Source(id=path.stem, format="raster", path=path, files=(path,), name=path.name) for path in paths]
        rate, busy, seconds = whole_run(sources, Policy().sized(), Path(folder) / "feats.h5", CostlessOfArrays())
        print(f"\n{count:,} radiographs: {seconds:.0f} s, {rate:,.0f} images/s, the parent busy {100 * busy:.0f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tissue", type=Path, help="a real slide that OpenSlide reads")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--radiographs", type=int, default=0)
    asked = parser.parse_args()
    import torch  # here: reading processes import this file, and know no torch

    torch.set_num_threads(1)
    if asked.tissue:
        slides_table(asked.tissue, asked.rounds)
    if asked.radiographs:
        radiographs(asked.radiographs)


if __name__ == "__main__":
    main()
