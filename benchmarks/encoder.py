"""How fast is the encoder? Ours against the original formulation, pairwise in one run; share of the matmul peak.

    python benchmarks/encoder.py --weights encoder-1.0.4.pt.zip     (any Swin V2 file: values do not change speed)
    python benchmarks/encoder.py --weights … --rounds 9 --sizes 224,256

The original formulation is what the original package runs: torchvision's Swin V2 modules and a plain squeezer, with
torch's own threads. Machines are noisy: every round measures all of them one after the other, ratios are of one round,
and medians with quartiles are printed. ``encoder_gpu.py`` is the table of a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision import models

from umedfeat.encoders import load_encoder
from umedfeat.encoders.runtimes.choosing import openvino_is_installed
from umedfeat.encoders.weights.checkpoint import read_checkpoint
from umedfeat.terminal.tables import render_table

GFLOP = {224: 9.91, 256: 11.93}


def original(weights: Path) -> nn.Module:
    """torchvision's modules with the file's tensors, pooling first."""
    checkpoint = read_checkpoint(weights)
    config, tensors = checkpoint.config, checkpoint.tensors
    network = getattr(models, config.variant)(weights=None)
    own = {name.removeprefix("encoder."): value for name, value in tensors.items() if name.startswith("encoder.")}
    network.load_state_dict(own, strict=False)
    width = config.embed_dim * 2 ** (len(config.depths) - 1)
    conv, norm = nn.Conv2d(width, config.dim, 1), nn.GroupNorm(1, config.dim)
    conv.load_state_dict({"weight": tensors["squeezer.conv.weight"], "bias": tensors["squeezer.conv.bias"]})
    norm.load_state_dict({"weight": tensors["squeezer.norm.weight"], "bias": tensors["squeezer.norm.bias"]})
    parts = [network.features, network.permute, nn.AdaptiveAvgPool2d(1), conv, norm, nn.GELU(), nn.Flatten()]
    return nn.Sequential(*parts).eval()


def rate(run: Callable[[], object], images: int) -> float:
    """Images per second of one call."""
    begin = time.perf_counter()
    run()
    return images / (time.perf_counter() - begin)


def matmul_peak() -> float:
    """GFLOP/s of a large fp32 product with all threads: the best of a few."""
    a = torch.rand(2048, 2048)
    a @ a
    return max(rate(lambda: a @ a, 1) for _ in range(5)) * 2 * 2048**3 / 1e9


def measure(weights: Path, size: int, rounds: int) -> list[list[object]]:
    """Rows of the table for one size."""
    images = torch.rand(32, 3, size, size, generator=torch.Generator().manual_seed(0))
    reference = original(weights)
    options = {"weights": weights, "device": "cpu", "precision": "fp32", "pool_order": "pool_first"}
    ours = {"ours, torch": load_encoder("umedpt", runtime="torch", **options)}
    ours["ours, torch compiled"] = load_encoder("umedpt", runtime="torch", compiled=True, **options)
    if openvino_is_installed():
        ours["ours, OpenVINO"] = load_encoder("umedpt", runtime="openvino", **options)
    with torch.inference_mode():
        expected = reference(images[:8])
    runs: dict[str, Callable[[], object]] = {
        "original, batch 8": lambda: reference(images[:8]),
        "original, batch 32": lambda: reference(images),
        **{name: (lambda encoder=encoder: encoder(images)) for name, encoder in ours.items()},
    }
    counts = {name: 8 if name.endswith("batch 8") else 32 for name in runs}
    figures: dict[str, list[float]] = {name: [] for name in runs}
    peaks = []
    with torch.inference_mode():
        for run in runs.values():
            run()
        for _ in range(rounds):
            peaks.append(matmul_peak())
            for name, run in runs.items():
                figures[name].append(rate(run, counts[name]))
    rows: list[list[object]] = []
    for name, values in figures.items():
        difference = float((ours[name](images[:8]) - expected).abs().max()) if name in ours else 0.0
        low, median, high = np.percentile(values, [25, 50, 75])
        against_8 = float(np.median(np.array(values) / figures["original, batch 8"]))
        against_32 = float(np.median(np.array(values) / figures["original, batch 32"]))
        share = float(np.median(np.array(values) * GFLOP.get(size, np.nan) / np.array(peaks)))
        cells = [f"{median:.1f} ({low:.1f}-{high:.1f})", f"{against_8:.2f}", f"{against_32:.2f}", f"{share:.0%}"]
        rows.append([f"{size} px", name, *cells, f"{difference:.0e}" if difference else ""])
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", default="224,256")
    arguments = parser.parse_args()
    rows = [
        row for size in arguments.sizes.split(",") for row in measure(arguments.weights, int(size), arguments.rounds)
    ]
    header = ["size", "formulation", "images/s (quartiles)", "× batch 8", "× batch 32", "of matmul peak", "max |diff|"]
    print(render_table(header, rows))


if __name__ == "__main__":
    main()
