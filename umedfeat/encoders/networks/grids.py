"""The last feature map of a network as a grid of tokens, whatever the order of its axes is inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from umedfeat.errors import SetupError

__all__ = ["grid_of"]


def grid_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(n, 3, H, W) → (n, rows, columns, C): one token per patch, row by row.

    Networks of timm, and others with its ``forward_features``: transformers give (n, tokens, C) with
    ``num_prefix_tokens`` class and register tokens first, which are left out; Swin gives channels last, CNNs first.

    Raises:
        SetupError: the network gives no map.
    """
    features = getattr(network, "forward_features", None)
    if features is None:
        raise SetupError("this encoder gives no tokens", remedy="a ViT, a Swin or a CNN, e.g. of timm")
    maps: torch.Tensor = features(images)
    if maps.ndim == 3:
        return _of_sequence(network, maps, images)
    return maps if getattr(network, "output_fmt", "NCHW") == "NHWC" else maps.permute(0, 2, 3, 1)


def _of_sequence(network: Any, tokens: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    patch_rows, patch_columns = network.patch_embed.patch_size
    rows, columns = images.shape[-2] // patch_rows, images.shape[-1] // patch_columns
    patches = tokens[:, network.num_prefix_tokens :]
    if patches.shape[1] != rows * columns:
        message = f"this encoder's {patches.shape[1]} tokens are no grid of {rows} × {columns}"
        raise SetupError(message, remedy="images of the encoder's own size")
    return patches.reshape(len(patches), rows, columns, patches.shape[2])
