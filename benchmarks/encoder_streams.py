"""UMedPT on OpenVINO by streams × threads: images per second, and the share of a matrix product's peak.

    python benchmarks/encoder_streams.py --weights <a Swin V2 file> [--sizes 224,256] [--rounds 5]
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python benchmarks/encoder_streams.py …      (with huge pages, where "madvise")
    ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell python benchmarks/encoder_streams.py …

One image per request, as many requests at once as streams. Every round measures the peak (a 2048³ fp32 product of
numpy with all threads) and each arrangement once, in turn; medians, quartiles in brackets. A share relates the
arithmetic of the network (9.91 GFLOP an image at 224 px, 11.93 at 256) to the peak of all cores, or of as many cores as
the arrangement uses. The kinds of kernels that OpenVINO chose are named below the table: they tell which instructions
it used.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from encoder import GFLOP
from openvino import properties

from umedfeat.encoders.runtimes.openvino_networks import SwinNetwork
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.machine import usable_cores
from umedfeat.terminal.tables import render_table

IMAGES = 24
HEADER = ["size", "streams × threads", "images/s", "of the peak", "of the peak of its cores"]


def compiled(network: SwinNetwork, size: int, streams: int, threads: int) -> Any:
    """A graph of one size in an arrangement."""
    options = {
        properties.hint.inference_precision(): openvino.Type.f32,
        properties.num_streams(): streams,
        properties.inference_num_threads(): streams * threads,
    }
    return openvino.Core().compile_model(network.graph(size, size, "fp32"), "CPU", options)


def rate(graph: Any, streams: int, size: int) -> float:
    """Images per second, every stream busy."""
    requests = [graph.create_infer_request() for _ in range(streams)]
    image = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)

    def work(request: Any) -> None:
        for _ in range(IMAGES // streams):
            request.infer({0: image})

    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(lambda request: request.infer({0: image}), requests))
        begin = time.perf_counter()
        list(pool.map(work, requests))
        return IMAGES // streams * streams / (time.perf_counter() - begin)


def peak() -> float:
    """GFLOP/s of a large product with all threads: the best of a few."""
    matrix = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - begin)
    return 2 * 2048**3 / 1e9 / min(seconds)


def kernels(network: SwinNetwork, size: int) -> str:
    """How often each kind of kernel was run for one image."""
    options = {
        properties.hint.inference_precision(): openvino.Type.f32,
        properties.num_streams(): 1,
        properties.enable_profiling(): True,
    }
    request = openvino.Core().compile_model(network.graph(size, size, "fp32"), "CPU", options).create_infer_request()
    request.infer({0: np.zeros((1, 3, size, size), np.float32)})
    found = Counter(step.exec_type for step in request.get_profiling_info() if step.real_time)
    return ", ".join(f"{kind} {count}" for kind, count in found.most_common())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--sizes", default="224,256")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    network = SwinNetwork(read_checkpoint(asked.weights), "pool_first")
    cores = usable_cores()
    arrangements = sorted({(1, 1), (1, cores), (cores, 1)})
    rows: list[list[object]] = []
    for size in map(int, asked.sizes.split(",")):
        graphs = {pair: compiled(network, size, *pair) for pair in arrangements}
        rounds = [(peak(), [rate(graphs[pair], pair[0], size) for pair in arrangements]) for _ in range(asked.rounds)]
        for place, (streams, threads) in enumerate(arrangements):
            speeds = np.array([speeds[place] for _, speeds in rounds])
            shares = 100 * speeds * GFLOP[size] / np.array([found for found, _ in rounds])
            low, middle, high = np.percentile(speeds, [25, 50, 75])
            own = np.median(shares) * cores / (streams * threads)
            speed = f"{middle:.1f} ({low:.1f}-{high:.1f})"
            rows.append([f"{size} px", f"{streams} × {threads}", speed, f"{np.median(shares):.0f} %", f"{own:.0f} %"])
    print(render_table(HEADER, rows))
    print(f"peak {np.median([found for found, _ in rounds]):.0f} GFLOP/s; kernels: {kernels(network, 224)}")


if __name__ == "__main__":
    main()
