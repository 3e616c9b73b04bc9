"""EfficientNet-Lite0 and umedfeat-open on a CPU: torch against OpenVINO, fp32 and bf16; how fast, how equal.

    python benchmarks/lite0.py --images FOLDER [--count 64] [--rounds 5]

The first images of the folder (any that Pillow reads, names in order), squares of the encoder's own size. All ways in
turn, medians; images per second with all cores, batches of 32. "To float64": largest difference to the same network in
float64. Cosines are the lowest and the median over the images, against float64; centred: the mean embedding removed.
bf16 only where the processor multiplies it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from umedfeat.encoders import load_encoder
from umedfeat.machine import has_bfloat16
from umedfeat.terminal.tables import render_table

BATCH = 32
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".bmp"}
HEADER = ["encoder", "way", "images/s", "× torch", "to float64", "cosine", "median", "centred cosine", "median"]


def pictures(folder: Path, count: int, encoder: Any) -> torch.Tensor:
    """(n, 3, S, S) in [0, 1]."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:count]
    return torch.stack([encoder.transform(Image.open(path)) for path in paths])


def exact(encoder: Any, images: torch.Tensor) -> torch.Tensor:
    """Vectors in float64."""
    with torch.inference_mode():
        network = encoder._network.double()
        vectors: torch.Tensor = torch.cat([network(part.double()) for part in images.split(8)])
        network.float()
    return vectors


def cosines(vectors: torch.Tensor, right: torch.Tensor) -> list[str]:
    """Lowest and median cosine, raw and centred."""
    mean = right.mean(0)
    found = [functional.cosine_similarity(vectors.double() - shift, right - shift) for shift in (0, mean)]
    return [f"{value:.5f}" for cosine in found for value in (float(cosine.min()), float(cosine.median()))]


def rate(encoder: Any, images: torch.Tensor) -> float:
    """Images per second."""
    batch = images[torch.arange(BATCH) % len(images)]
    begin = time.perf_counter()
    encoder(batch)
    return BATCH / (time.perf_counter() - begin)


def rows(name: str, folder: Path, count: int, rounds: int) -> list[list[object]]:
    precisions = ("fp32", "bf16") if has_bfloat16() else ("fp32",)
    ways = {
        f"{runtime}, {precision}": load_encoder(name, device="cpu", runtime=runtime, precision=precision)
        for precision in precisions
        for runtime in ("torch", "openvino")
    }
    images = pictures(folder, count, ways["torch, fp32"])
    right = exact(ways["torch, fp32"], images)
    vectors = {way: encoder(images) for way, encoder in ways.items()}
    figures = [{way: rate(encoder, images) for way, encoder in ways.items()} for _ in range(rounds)]
    table: list[list[object]] = []
    for way in ways:
        speed = statistics.median(figure[way] for figure in figures)
        ratio = statistics.median(figure[way] / figure["torch, fp32"] for figure in figures)
        difference = np.abs(vectors[way].double().numpy() - right.numpy()).max()
        cells = [f"{speed:.0f}", f"{ratio:.2f}", f"{difference:.1e}", *cosines(vectors[way], right)]
        table.append([f"{name}, {images.shape[-1]} px", way, *cells])
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    found = [rows(name, asked.images, asked.count, asked.rounds) for name in ("efficientnet-lite0", "umedfeat-open")]
    print(render_table(HEADER, [row for table in found for row in table]))


if __name__ == "__main__":
    main()
