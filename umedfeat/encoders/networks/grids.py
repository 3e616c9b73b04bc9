"""The last feature map of a network as a grid of tokens, whatever the order of its axes is inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from umedfeat.errors import SetupError

__all__ = ["WithTokens", "grid_of", "vector_and_grid"]


class WithTokens(nn.Module):
    """A network whose rows hold its vector and behind it the grid that the vector was made of, from one pass.

    Args:
        network: has ``dense``: (n, 3, H, W) → vectors (n, D) and grids (n, rows, columns, C); see ``Baseline`` and
            ``Embedder``.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, D + rows · columns · C) float32."""
        vectors, grids = self.network.dense(images)
        return torch.cat([vectors.float(), grids.flatten(1).float()], dim=1)

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """The grids alone."""
        grids: torch.Tensor = self.network.tokens(images)
        return grids

    def wants_float64(self, images: torch.Tensor) -> bool:
        """As the network wants it."""
        wants = getattr(self.network, "wants_float64", None)
        return wants is not None and bool(wants(images))

    def in_float64(self) -> WithTokens:
        """The same with the network in float64."""
        return WithTokens(self.network.in_float64()).eval()


def grid_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(n, 3, H, W) → (n, rows, columns, C): one token per patch, row by row.

    Networks of timm, and others with its ``forward_features``: transformers give (n, tokens, C) with
    ``num_prefix_tokens`` class and register tokens first, which are left out; Swin gives channels last, CNNs first.

    Raises:
        SetupError: the network gives no map.
    """
    return _grid(network, _map_of(network, images), images)


def vector_and_grid(network: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network gives, (n, D), and ``grid_of``; from one pass where it has timm's ``forward_head``.

    Raises:
        SetupError: the network gives no map.
    """
    maps = _map_of(network, images)
    head = getattr(network, "forward_head", None)
    return network(images) if head is None else head(maps), _grid(network, maps, images)


def _map_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    features = getattr(network, "forward_features", None)
    if features is None:
        raise _no_tokens()
    maps: torch.Tensor = features(images)
    return maps


def _no_tokens() -> SetupError:
    return SetupError("this encoder gives no tokens", remedy="a ViT, a Swin or a CNN, e.g. of timm")


def _grid(network: nn.Module, maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    if not isinstance(maps, torch.Tensor) or maps.ndim not in {3, 4}:
        raise _no_tokens()
    if maps.ndim == 3:
        return _of_sequence(network, maps, images)
    return maps if getattr(network, "output_fmt", "NCHW") == "NHWC" else maps.permute(0, 2, 3, 1)


def _of_sequence(network: Any, tokens: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if patch is None:  # a sequence of another kind (a mixer, LeViT)
        raise _no_tokens()
    rows, columns = images.shape[-2] // patch[0], images.shape[-1] // patch[1]
    patches = tokens[:, getattr(network, "num_prefix_tokens", 0) :]
    if patches.shape[1] != rows * columns:
        message = f"this encoder's {patches.shape[1]} tokens are no grid of {rows} × {columns}"
        raise SetupError(message, remedy="images of the encoder's own size")
    return patches.reshape(len(patches), rows, columns, patches.shape[2])
