"""What a cluster costs: one node against this machine without Ray, and the driver's memory over a million inputs.

    python benchmarks/cluster.py overhead     # a cluster of one node is started and ended; needs umedfeat[ray]
    python benchmarks/cluster.py driver       # the driver's loop and the store, with actors that answer at once

``overhead``: the same pictures with the same encoder, local and on a cluster in turn; the ratio of each pair. Starting
processes and loading the encoder are left out of both: what counts is the time from the first input to the last.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "factories"))

PAIRS = 5
PICTURES, ROWS = 40, 24


def overhead(pairs: int) -> None:
    """Print the seconds of every pair, and the median of their ratios."""
    from ray_cluster import a_cluster

    from umedfeat.encoders.choice import EncoderChoice
    from umedfeat.engine.local.here import Here
    from umedfeat.engine.ray.cluster import RayCluster
    from umedfeat.engine.ray.place import RayPlace
    from umedfeat.engine.ray.settings import ClusterSettings
    from umedfeat.machine import usable_cores

    choice = EncoderChoice("efficientnet-lite0")
    ratios: dict[str, list[float]] = {"slides": [], "films": []}
    with a_cluster(cpus=usable_cores()) as cluster:
        settings = ClusterSettings(cluster.address, cpus_per_worker=usable_cores())
        for _ in range(pairs):
            for kind, (count, rows) in {"slides": (PICTURES, ROWS), "films": (PICTURES * ROWS, 1)}.items():
                alone = embedded(Here(choice), count, rows)
                with_ray = embedded(RayPlace(RayCluster(cluster.address), settings, choice), count, rows)
                ratios[kind].append(with_ray / alone)
                print(f"{kind}: local {alone:.2f} s, ray {with_ray:.2f} s, ratio {with_ray / alone:.3f}", flush=True)
    for kind, found in ratios.items():
        print(f"{kind}: median ratio {statistics.median(found):.3f} of {len(found)} pairs")


def embedded(place: object, count: int, rows: int) -> float:
    """Seconds from the first input to the last."""
    from fake_reader import FakePolicy, fake_source
    from fake_sink import Collected

    from umedfeat.engine.messages import Wishes
    from umedfeat.policy import ImagePolicy, SlidePolicy
    from umedfeat.terminal.progress import SilentProgress

    class First(Collected):
        began = 0.0

        def embedded(self, *args: object) -> None:
            super().embedded(*args)  # type: ignore[arg-type]
            self.began = self.began or time.perf_counter()

    sink = First()
    policy = FakePolicy(slide=SlidePolicy(tile_size=224), image=ImagePolicy(size=224))
    sources = [fake_source(f"s{k:05d}", rows, side=224) for k in range(count)]
    with contextlib.closing(place):  # type: ignore[type-var]
        place.prepare(policy, Wishes())  # type: ignore[attr-defined]
        place.embed(sources, sink, SilentProgress(), threading.Event())  # type: ignore[attr-defined]
        ended = time.perf_counter()
    if len(sink.features) != count:
        raise SystemExit(f"{len(sink.features)} of {count} embedded")
    return ended - sink.began


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
    parser.add_argument("--inputs", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.what == "overhead":
        overhead(given.pairs)
    else:
        driver(given.inputs)
