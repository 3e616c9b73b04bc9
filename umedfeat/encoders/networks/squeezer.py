"""The squeezer: the deepest feature map to one vector. And the network that joins an encoder with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from umedfeat.encoders.config import EncoderConfig, PoolOrder
from umedfeat.encoders.networks.windows import wants_float64

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
        weight, bias = tensors.get("squeezer.conv.weight"), tensors.get("squeezer.conv.bias")
        self.weight = None if weight is None else _float64(weight)
        self.bias = None if bias is None else _float64(bias)
        self.norm_weight = _float64(tensors["squeezer.norm.weight"])
        self.norm_bias = _float64(tensors["squeezer.norm.bias"])

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = maps.double()  # costs nothing here, and leaves the vector with the encoder's rounding alone
        if self.order == "pool_first":
            maps = maps.mean((2, 3), keepdim=True)
        if self.weight is not None:
            maps = functional.conv2d(maps, self.weight, self.bias)
        maps = functional.gelu(functional.group_norm(maps, 1, self.norm_weight, self.norm_bias, _EPS))
        return maps.mean((2, 3)).float()


def _float64(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.double(), requires_grad=False)


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

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors (n, D), and the deepest map (n, rows, columns, C) that they are made of."""
        deepest: torch.Tensor = self.encoder(images)[-1]
        return self.squeezer(deepest), deepest.permute(0, 2, 3, 1)

    def wants_float64(self, images: torch.Tensor) -> bool:
        """Are these images so small that only float64 keeps the error below that of the original?"""
        return wants_float64(images.shape[-2], images.shape[-1])

    def in_float64(self) -> Embedder:
        """A copy that computes in float64 and still takes and gives float32."""
        return _Float64(copy.deepcopy(self.encoder).double(), copy.deepcopy(self.squeezer)).eval()

    def pyramid(self, images: torch.Tensor) -> Any:
        """Feature maps (n, C, h, w) of every stage, strides 4, 8, 16, 32."""
        return self.encoder(images)

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """The deepest feature map (n, rows, columns, C), before the squeezer."""
        deepest: torch.Tensor = self.encoder(images)[-1]
        return deepest.permute(0, 2, 3, 1)


class _Float64(Embedder):
    """An Embedder in float64."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.double())

    def dense(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().dense(images.double())
