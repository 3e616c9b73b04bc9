"""How fast is the encoder on a GPU, how near to the matmul peak, and how far do half precisions agree? One table.

    python benchmarks/encoder_gpu.py --weights encoder-1.0.4.pt.zip
    python benchmarks/encoder_gpu.py --weights … --device cpu --sizes 64 --batches 2,3 --precisions fp32,bf16 --rounds 1

The second line rehearses the script where there is no GPU; its figures mean nothing. Every cell is a median of rounds.

- "eager", "compiled" (``--compile``), "CUDA graph" (the plain network captured once and replayed) and "compiled +
  graphs" (``mode="reduce-overhead"``) compute images that lie on the device.
- "as extract does" takes 8-bit pixels from host memory and brings vectors back: upload, network and download.
- "of peak" relates the arithmetic of the network, counted by torch, to a large matrix product in the same precision,
  measured in the same run.
- "cosine" and "centred cosine" (the mean embedding removed) are the lowest of all images, against eager fp32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from umedfeat.encoders import load_encoder
from umedfeat.encoders.umedpt import build_network
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.engine.embed import Embedder, Uploader
from umedfeat.terminal.tables import render_table

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
HEADER = ["size", "precision", "way", "batch", "images/s", "× eager", "of peak", "cosine", "centred cosine", "MiB"]
Run = Callable[[], torch.Tensor]


def pictures(count: int, size: int) -> torch.Tensor:
    """Smooth colours with some noise, of 8 bits: nearer to tissue than noise alone, whose embeddings are all alike."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    fine = torch.rand(count, 3, size, size, generator=generator)
    smooth = functional.interpolate(coarse, size, mode="bicubic", align_corners=False)
    return (0.85 * smooth + 0.15 * fine).clamp(0, 1).mul(255).round().div(255)


class Bench:
    """One device; times calls on it and remembers its matmul peaks."""

    def __init__(self, device: str, rounds: int) -> None:
        self.device = torch.device(device)
        self._rounds = rounds
        self._peaks: dict[str, float] = {}

    def seconds(self, run: Callable[[], object], least: float = 0.3) -> float:
        """Median seconds of one call; each round repeats it until the clock's grain does not matter."""
        for _ in range(3):
            run()
        repeats = max(1, int(least / max(1e-6, self._timed(run, 1))))
        return statistics.median(self._timed(run, repeats) for _ in range(self._rounds))

    def peak(self, precision: str) -> float:
        """FLOP/s of a large square product."""
        if precision not in self._peaks:
            side = 8192 if self.device.type == "cuda" else 512
            a, b = (torch.rand(side, side, device=self.device, dtype=DTYPES[precision]) for _ in range(2))
            self._peaks[precision] = 2 * side**3 / self.seconds(lambda: a @ b)
        return self._peaks[precision]

    def memory(self, run: Run) -> float:
        """MiB that a call needs at most; NaN where nobody counts."""
        if self.device.type != "cuda":
            return float("nan")
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        return torch.cuda.max_memory_allocated(self.device) / 2**20

    def _timed(self, run: Callable[[], object], repeats: int) -> float:
        self._finish()
        begin = time.perf_counter()
        for _ in range(repeats):
            run()
        self._finish()
        return (time.perf_counter() - begin) / repeats

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def computed(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, precision: str) -> torch.Tensor:
    """(N, D) float32 on the device, as the encoder computes it."""
    kind = images.device.type
    with torch.inference_mode(), torch.autocast(kind, dtype=DTYPES[precision], enabled=precision != "fp32"):
        return network(images).float()


def captured(network: nn.Module, images: torch.Tensor, precision: str) -> Run:
    """The network as one CUDA graph over fixed memory."""
    side = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(side):  # caches and workspaces are made before the capture
        for _ in range(3):
            computed(network, images, precision)
    torch.cuda.current_stream(images.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = computed(network, images, precision)

    def replay() -> torch.Tensor:
        graph.replay()
        return out

    return replay


def ways(network: nn.Module, images: torch.Tensor, precision: str, weights: Path) -> dict[str, Callable[[], Run]]:
    """Name → what makes the run (compiling or capturing on the way)."""

    def of(module: Callable[[torch.Tensor], torch.Tensor]) -> Run:
        return lambda: computed(module, images, precision)

    def extracted() -> Run:
        encoder = load_encoder("umedpt", weights=weights, device=str(images.device), precision=precision)
        upload, embed = Uploader(encoder.device), Embedder(encoder)
        pixels = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return lambda: torch.from_numpy(embed(upload(np.ascontiguousarray(pixels))).features)

    found = {"eager": lambda: of(network), "compiled": lambda: of(torch.compile(network, dynamic=False))}
    if images.device.type == "cuda":
        found["CUDA graph"] = lambda: captured(network, images, precision)
        found["compiled + graphs"] = lambda: of(torch.compile(network, dynamic=False, mode="reduce-overhead"))
    return {**found, "as extract does": extracted}


def agreement(vectors: torch.Tensor, exact: torch.Tensor) -> list[str]:
    """Lowest raw and centred cosine."""
    mean = exact.mean(0)
    raw = functional.cosine_similarity(vectors, exact).min()
    centred = functional.cosine_similarity(vectors - mean, exact - mean).min()
    return [f"{raw:.6f}", f"{centred:.6f}" if len(exact) > 2 else ""]


def rows(bench: Bench, weights: Path, size: int, batch: int, precision: str) -> list[list[object]]:
    """Every way of one size, batch and precision."""
    checkpoint = read_checkpoint(weights)
    network = build_network(checkpoint, checkpoint.config.pool_order or "pool_first").to(bench.device)
    images = pictures(batch, size).to(bench.device, memory_format=torch.channels_last)
    exact = computed(network, images, "fp32").cpu()
    with FlopCounterMode(display=False) as counter:
        computed(network, images[:1], "bf16")
    work = counter.get_total_flops()
    found: list[list[object]] = []
    eager = float("nan")
    for way, make in ways(network, images, precision, weights).items():
        place: list[object] = [f"{size} px", precision, way, batch]
        try:
            run = make()
            rate = batch / bench.seconds(run)
            agreed, memory = agreement(run().cpu(), exact), bench.memory(run)
        except Exception as error:  # noqa: BLE001 - a way that fails is a line of the table, not its end
            found.append([*place, type(error).__name__, *[""] * 5])
            continue
        eager = rate if way == "eager" else eager
        share = rate * work / bench.peak(precision)
        found.append([*place, f"{rate:.0f}", f"{rate / eager:.2f}", f"{share:.0%}", *agreed, f"{memory:.0f}"])
    torch.compiler.reset()
    return found


def listed(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="any Swin V2 file: values do not change speed")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=listed, default=["224", "256"])
    parser.add_argument("--batches", type=listed, default=["1", "8", "32", "128", "256"])
    parser.add_argument("--precisions", type=listed, default=["bf16", "fp16", "fp32"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("GPU: none here, nothing measured.")
        return
    bench = Bench(options.device, options.rounds)
    if bench.device.type == "cuda":
        print(f"{torch.cuda.get_device_name(bench.device)}, torch {torch.__version__}")
    peaks = ", ".join(f"{name} {bench.peak(name) / 1e12:.1f} TFLOP/s" for name in options.precisions)
    print(f"matrix products: {peaks}\n")
    table: list[list[object]] = []
    for size in options.sizes:
        for precision in options.precisions:
            for batch in options.batches:
                table += rows(bench, options.weights, int(size), int(batch), precision)
    print(render_table(HEADER, table))


if __name__ == "__main__":
    main()
