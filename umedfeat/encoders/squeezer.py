"""The squeezer: the deepest feature map to one vector. And the network that joins an encoder with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from umedfeat.encoders.config import EncoderConfig, PoolOrder

__all__ = ["Embedder", "Squeezer"]

_EPS = 1e-5


class Squeezer(nn.Module):
    """(n, C, h, w) → (n, D): average pool, 1×1 convolution, GroupNorm(1), exact GELU, in one of two orders.

    "pool_first": pool → conv → norm → GELU (up to version 1.0.4 of the original package).
    "pool_last": conv → norm → GELU → pool (1.6.3). The same weights give different vectors (cosine about 0.998).
    """

    def __init__(self, config: EncoderConfig, tensors: Mapping[str, torch.Tensor], order: PoolOrder) -> None:
        super().__init__()
        self.order = order
        weight = tensors.get("squeezer.conv.weight")
        self.weight = None if weight is None else nn.Parameter(weight, requires_grad=False)
        bias = tensors.get("squeezer.conv.bias")
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.norm_weight = nn.Parameter(tensors["squeezer.norm.weight"], requires_grad=False)
        self.norm_bias = nn.Parameter(tensors["squeezer.norm.bias"], requires_grad=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = maps.double()  # costs nothing here, and leaves the vector with the encoder's rounding alone
        if self.order == "pool_first":
            maps = maps.mean((2, 3), keepdim=True)
        if self.weight is not None:
            bias = None if self.bias is None else self.bias.double()
            maps = functional.conv2d(maps, self.weight.double(), bias)
        weight, bias = self.norm_weight.double(), self.norm_bias.double()
        maps = functional.gelu(functional.group_norm(maps, 1, weight, bias, _EPS))
        return maps.mean((2, 3)).float()


class Embedder(nn.Module):
    """Encoder and squeezer as one network: (n, 3, H, W) → (n, D).

    Args:
        encoder: images → list of feature maps, deepest last.
        squeezer: deepest map → vectors.
    """

    def __init__(self, encoder: nn.Module, squeezer: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.squeezer = squeezer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors, computed from the deepest map."""
        vectors: torch.Tensor = self.squeezer(self.encoder(images)[-1])
        return vectors

    def pyramid(self, images: torch.Tensor) -> Any:
        """Feature maps (n, C, h, w) of every stage, strides 4, 8, 16, 32."""
        return self.encoder(images)
