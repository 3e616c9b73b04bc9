"""The device loop's inner part: pixels to vectors, with back-off where memory runs out, and the time it took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from umedfeat.encoders.base import Encoder

__all__ = ["Embedded", "default_batch_size", "embed"]


@dataclass(frozen=True)
class Embedded:
    """(N, D) float32 features and when they were computed (``time.perf_counter`` seconds)."""

    features: npt.NDArray[np.float32]
    begin: float
    end: float


def default_batch_size(encoder: Encoder) -> int:
    """Images per batch: enough to fill a GPU, small enough on a CPU for a smooth progress bar."""
    if not encoder.device.startswith("cuda"):
        return 32
    free, _ = torch.cuda.mem_get_info(torch.device(encoder.device))
    return 256 if free > (12 << 30) else 64


def embed(encoder: Encoder, pixels: npt.NDArray[Any]) -> Embedded:
    """Embed (N, H, W, 3) pixels, uint8 or float32 in [0, 1].

    A device that runs out of memory is not an error: the batch is halved until it fits.
    """
    begin = time.perf_counter()
    features = _embed(encoder, torch.from_numpy(pixels))
    return Embedded(features.numpy().astype(np.float32, copy=False), begin, time.perf_counter())


def _embed(encoder: Encoder, pixels: torch.Tensor) -> torch.Tensor:
    try:
        return encoder(_to_unit(pixels, encoder.device))
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise
        torch.cuda.empty_cache()
        half = len(pixels) // 2
        return torch.cat([_embed(encoder, pixels[:half]), _embed(encoder, pixels[half:])])


def _to_unit(pixels: torch.Tensor, device: str) -> torch.Tensor:
    """(N, H, W, 3) to (N, 3, H, W) float32 in [0, 1], on the device; 8-bit pixels travel as 8 bits."""
    images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255.0)
    return images.contiguous()
