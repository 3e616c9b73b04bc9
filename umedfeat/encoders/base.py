"""What every encoder is: a frozen map from RGB squares to vectors, with settings that identify it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

__all__ = ["Encoder"]


class Encoder(Protocol):
    """A frozen encoder on one device.

    Attributes:
        name: as given to ``--encoder``.
        dim: length D of the embedding.
        image_size: side in pixels that it was made for (default of ``--image-size`` and ``--tile-size``).
        device: where it computes ("cpu", "cuda:0").
        precision: "fp32", "bf16" or "fp16": what it computes in; the output is float32 always.
        settings: JSON-able; everything that decides the numbers (weights sha256, pool order, precision, runtime …).
            Part of the fingerprint of the feature file.
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Embed (N, 3, H, W) float32 RGB in [0, 1], no mean/std applied; N ≥ 0. Returns (N, D) float32 on the CPU.

        Row i depends on image i alone, bit for bit, whatever N and the position (fp32 on one CPU).
        """
        ...
