"""What a cluster costs: one node against this machine without Ray, and the driver's memory over a million inputs.

    python benchmarks/cluster.py overhead     # a cluster of one node is started and ended; needs umedfeat[ray], psutil
    python benchmarks/cluster.py driver       # the driver's loop and the store, with actors that answer at once

``overhead``: the same pictures with the same encoder, local and on a cluster in turn; the ratio of each pair. Starting
processes and loading the encoder are told apart: what counts is the time from the first input to the last. Processor
seconds are those of all processes that this one has started, Ray's own included, over the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "factories"))

PAIRS = 5
PICTURES, ROWS = 40, 24
FILMS = 1500


class Timed(NamedTuple):
    """Seconds until the place was ready, then from the first input to the last; those of processors in that time.

    ``busy``: share of the time between the first batch and the last in which the encoder computed.
    """

    start: float
    wall: float
    processor: float
    busy: float


def overhead(pairs: int, kinds: Sequence[str]) -> None:
    """Print the seconds of every pair, and the medians of their ratios."""
    from ray_cluster import a_cluster

    from umedfeat.encoders.choice import EncoderChoice
    from umedfeat.engine.local.here import Here
    from umedfeat.engine.ray.cluster import RayCluster
    from umedfeat.engine.ray.place import RayPlace
    from umedfeat.engine.ray.settings import ClusterSettings
    from umedfeat.machine import usable_cores

    choice = EncoderChoice("efficientnet-lite0")
    shapes = {"slides": (PICTURES, ROWS), "films": (FILMS, 1)}
    found: dict[str, list[tuple[Timed, Timed]]] = {kind: [] for kind in kinds}
    with a_cluster(cpus=usable_cores()) as cluster:
        settings = ClusterSettings(cluster.address, cpus_per_worker=usable_cores())
        for number in range(pairs):
            for kind in kinds:
                ways = [lambda: Here(choice), lambda: RayPlace(RayCluster(cluster.address), settings, choice)]
                turns = (0, 1) if number % 2 == 0 else (1, 0)
                pair = {turn: embedded(ways[turn], *shapes[kind]) for turn in turns}
                found[kind].append((pair[0], pair[1]))
                print(f"{kind}: {_told('local', pair[0])}; {_told('ray', pair[1])}", flush=True)
    for kind, timed in found.items():
        walls = [ray.wall / alone.wall for alone, ray in timed]
        processors = [ray.processor / alone.processor for alone, ray in timed]
        starts = [statistics.median(pair[turn].start for pair in timed) for turn in (0, 1)]
        print(
            f"{kind}: median ratio {statistics.median(walls):.3f}, of processor seconds "
            f"{statistics.median(processors):.3f}, of {pairs} pairs; "
            f"start {starts[0]:.1f} s, with Ray {starts[1]:.1f} s"
        )


def _told(way: str, timed: Timed) -> str:
    used = f"{timed.processor:.2f} s of processors, encoder busy {timed.busy:.1%}, start {timed.start:.1f} s"
    return f"{way} {timed.wall:.2f} s ({used})"


def embedded(made: Callable[[], Any], count: int, rows: int) -> Timed:
    """One run with a place of its own."""
    from fake_reader import FakePolicy, fake_source
    from fake_sink import Collected

    from umedfeat.engine.messages import Wishes
    from umedfeat.policy import ImagePolicy, SlidePolicy
    from umedfeat.terminal.progress import SilentProgress

    marks: dict[int, tuple[float, float]] = {}

    class Watched(Collected):
        def embedded(self, *args: object) -> None:
            super().embedded(*args)  # type: ignore[arg-type]
            if len(self.features) in (1, count):
                marks[len(self.features)] = time.perf_counter(), processor_seconds()

    sink = Watched()
    policy = FakePolicy(slide=SlidePolicy(tile_size=224), image=ImagePolicy(size=224))
    sources = [fake_source(f"s{k:05d}", rows, side=224) for k in range(count)]
    begin = time.perf_counter()
    with contextlib.closing(made()) as place:
        place.prepare(policy, Wishes())
        ready = time.perf_counter()
        seconds = place.embed(sources, sink, SilentProgress(), threading.Event())
    if len(sink.features) != count:
        raise SystemExit(f"{len(sink.features)} of {count} embedded")
    (first, used), (last, used_then) = marks[1], marks[count]
    return Timed(ready - begin, last - first, used_then - used, seconds.device_busy)


def processor_seconds() -> float:
    """Of this process and all below it, those included that have ended."""
    import psutil

    this = psutil.Process()
    total = 0.0
    for process in [this, *this.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def driver(count: int) -> None:
    """Print memory and processor seconds for ever more inputs, up to ``count``."""
    from fake_cluster import FakeCluster
    from fake_encoder import FakeEncoder
    from fake_reader import FakePolicy, fake_source

    from umedfeat.encoders.choice import EncoderChoice
    from umedfeat.engine.messages import Wishes
    from umedfeat.engine.ray.place import RayPlace
    from umedfeat.engine.ray.settings import ClusterSettings
    from umedfeat.extraction.sink import StoreSink
    from umedfeat.store import FeatureStore, Header
    from umedfeat.terminal.progress import SilentProgress

    sources = [fake_source(f"s{k:07d}") for k in range(count)]
    listed = memory()
    place = RayPlace(FakeCluster(*((f"node{k}", 4, 0) for k in range(16))), ClusterSettings(), EncoderChoice("fake"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "feats.h5")
        with FeatureStore(out, Header({"name": "fake"}, {}), dim=FakeEncoder.dim) as store:

            class Watched(StoreSink):
                def embedded(self, *args: object) -> None:
                    super().embedded(*args)  # type: ignore[arg-type]
                    if self.count in marks:
                        print(row(self.count, listed), flush=True)

            marks = {count // 100, count // 10, count // 2, count}
            sink = Watched(store, None, None)
            place.prepare(FakePolicy(), Wishes())
            place.embed(sources, sink, SilentProgress(), threading.Event())
            print(json.dumps(dict(place.account()["nodes"])), flush=True)
            begin = time.process_time()
            store.finish({})
            print(f"packed in {time.process_time() - begin:.0f} processor seconds, peak {peak():.0f} MB")


def row(count: int, listed: float) -> str:
    return f"| {count:,} | {listed:.0f} | {memory() - listed:+.0f} | {time.process_time():.0f} |"


def memory() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "driver"])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--kinds", nargs="+", default=["slides", "films"])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.what == "overhead":
        overhead(given.pairs, given.kinds)
    else:
        driver(given.inputs)
